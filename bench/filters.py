"""Holds gocp defend against the definitions in NumPy (float64) and against scikit-learn, says where ART and
faiss differ, and times nearest neighbours beside scikit-learn and faiss. Called by bench/filters.sh."""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import faiss
import numpy as np
from art.defences.detector.poison import SpectralSignatureDefense
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors


def data(n, d, classes, poisons, offset, seed):
    """Non-negative features around a centre for each class; the poisons have the features of another one."""
    r = np.random.default_rng(seed)
    centres = 1.2 * r.normal(size=(classes, d))
    labels = np.arange(n) % classes
    at = np.sort(r.choice(n, poisons, replace=False))
    of = labels.copy()
    of[at] = (of[at] + 1) % classes
    features = np.maximum(0, centres[of] + r.normal(size=(n, d))) + offset
    return features.astype("f4"), labels, at


def gocp(program, folder, method, features, labels, budget, *more):
    np.save(folder / "f.npy", features)
    np.save(folder / "y.npy", labels)
    out = folder / "flagged.csv"
    out.unlink(missing_ok=True)
    r = subprocess.run([program, "defend", "filter", "--features", folder / "f.npy", "--labels", folder / "y.npy", "--method", method, "--budget", budget,
                        "--out", out, "--json", "--quiet", *more], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return {f["sample"] for f in json.loads(r.stdout)["methods"][0]["flagged"]}


def nearest64(features, k):
    x = features.astype("f8")
    out = np.empty((len(x), k), int)
    for i, row in enumerate(x):
        d = ((x - row) ** 2).sum(1)
        d[i] = np.inf
        out[i] = np.argsort(d, kind="stable")[:k]
    return out


def voted(neighbours, labels):
    """The samples whose label is not the most frequent among their neighbours."""
    out = set()
    for i, near in enumerate(neighbours):
        votes = np.bincount(labels[near], minlength=labels.max() + 1)
        if votes.max() > votes[labels[i]]:
            out.add(i)
    return out


def spectral64(features, labels, n):
    out = set()
    for y in np.unique(labels):
        rows = np.flatnonzero(labels == y)
        x = features[rows].astype("f8")
        x -= x.mean(0)
        score = (x @ np.linalg.svd(x, full_matrices=False)[2][0]) ** 2
        out |= set(rows[np.argsort(-score, kind="stable")[:n]].tolist())
    return out


def clustered(features, labels, share):
    out = set()
    for y in np.unique(labels):
        rows = np.flatnonzero(labels == y)
        of = KMeans(2, n_init=200, random_state=0).fit_predict(PCA(10).fit_transform(features[rows].astype("f8")))
        sizes = np.bincount(of, minlength=2)
        if sizes.min() <= share * len(rows) and sizes[0] != sizes[1]:
            out |= set(rows[of == sizes.argmin()].tolist())
    return out


def faiss_neighbours(features, k):
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    _, near = index.search(features, k + 1)
    return np.array([row[row != i][:k] for i, row in enumerate(near)])


def right(args, folder):
    failed = 0
    for offset in (0, 100):
        features, labels, at = data(args.samples, args.columns, 10, args.samples // 50, offset, 1)
        poisons = math.ceil(args.samples / 50)
        print(f"\n{args.samples} samples of {args.columns} features + {offset}, {len(at)} of them with the features of another class")
        truth = nearest64(features, 2 * poisons)
        wanted = {"deep-knn": voted(truth, labels), "spectral": spectral64(features, labels, (3 * poisons + 1) // 2), "activation-clustering": clustered(features, labels, 0.35)}
        for method, want in wanted.items():
            got = gocp(args.gocp, folder, method, features, labels, "0.02")
            failed += got != want
            print(f"  {method:22} gocp drops {len(got)}, the definition in float64 {len(want)}: {'equal' if got == want else f'{len(got ^ want)} DIFFER'}; {len(got & set(at.tolist()))} poisons")
        near = faiss_neighbours(features, 2 * poisons)
        wrong = np.mean([len(set(a) - set(b)) / len(b) for a, b in zip(near, truth)])
        print(f"  faiss IndexFlatL2      {100 * wrong:.2f} % of its neighbours are others; deep-knn by them drops {len(voted(near, labels))}")
        rows = np.flatnonzero(labels == 0)
        art = set(rows[np.argsort(-SpectralSignatureDefense.spectral_signature_scores(features[rows]).ravel())[: (3 * poisons + 1) // 2]].tolist())
        ours = {i for i in wanted["spectral"] if labels[i] == 0}
        print(f"  ART's spectral score   shares {len(art & ours)} of {len(ours)} with the centred one, in class 0")
    return failed


def speed(args, folder):
    features, labels, _ = data(args.rows, 512, 10, args.rows // 100, args.offset, 2)
    k = args.neighbours
    np.save(folder / "f.npy", features)
    np.save(folder / "y.npy", labels)

    memory = []

    def ours():
        out = folder / "flagged.csv"
        out.unlink(missing_ok=True)
        r = subprocess.run([sys.executable, "-c", MEASURED, args.gocp, "defend", "filter", "--features", folder / "f.npy", "--labels", folder / "y.npy", "--method", "deep-knn",
                            "--neighbours", str(k), "--out", out, "--quiet"], check=True, capture_output=True, text=True)
        memory.append(int(r.stdout))

    peers = {
        "gocp": ours,
        "scikit-learn": lambda: NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=-1).fit(features).kneighbors(),
        "faiss": lambda: faiss_search(features, k),
    }
    print(f"\nnearest {k} of {args.rows} x 512 float32, all cores; gocp as a whole process with its files and votes")
    times = {name: [] for name in peers}
    for i in range(args.rounds):
        for name, run in peers.items():
            before = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - before)
        print("  round", i + 1, {name: round(t[-1], 2) for name, t in times.items()}, flush=True)
    for name in ("scikit-learn", "faiss"):
        ratios = sorted(a / b for a, b in zip(times[name], times["gocp"]))
        print(f"  {name} / gocp: {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"  gocp's peak memory: {max(memory) >> 10} MiB, of which features {features.nbytes >> 20}")


# A process between, for a child begins with the memory of the process that made it.
MEASURED = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def faiss_search(features, k):
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    return index.search(features, k + 1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--gocp", required=True)
    a.add_argument("--samples", type=int, default=2000)
    a.add_argument("--columns", type=int, default=64)
    a.add_argument("--rows", type=int, default=0, help="time nearest neighbours of so many samples")
    a.add_argument("--neighbours", type=int, default=100)
    a.add_argument("--offset", type=float, default=0)
    a.add_argument("--rounds", type=int, default=3)
    args = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        failed = right(args, folder)
        if args.rows:
            speed(args, folder)
    if failed:
        sys.exit(f"{failed} differ")


if __name__ == "__main__":
    main()
