"""gocp/conformal beside TorchCP and MAPIE: calibrate and predict on float32 logits; and full
conformal prediction with a ridge head beside refits. One run makes all tables.

Each party is a process of its own with the logits in its memory. They take turns, round by round, in
an order that changes; a time is calibration and prediction together, taken inside the process, per
row. Ratios are medians over rounds of the peer's time over gocp's in the same round, with the
smallest and the largest. TorchCP runs with each number of threads, on all its rows in one call and in
batches, and its fastest form is kept for each score. gocp sees all rows, TorchCP and MAPIE the first
--peer-rows (--hps-rows with hps) and --mapie-rows: their times are a constant per row, and TorchCP's
sorted scores of a million rows of 1,000 labels would take more memory than most machines have. Peaks
of memory are the largest resident sets (VmHWM). The streamed part runs the command on an .npy file.

Logits: standard normal, a Gamma(2, 1.5) and ½·ln K added to the true one. Coverage 0.9; APS and RAPS
with u = 1, RAPS with λ = 0.01 and k_reg = 5 (MAPIE: its APS; its RAPS chooses both itself).
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))


def logits(folder, rows, classes, seed):
    """Writes z.npy and y.npy block by block, unless they are there, and returns where z's data begin."""
    name = os.path.join(folder, "z.npy")
    if os.path.exists(name):
        z = np.load(name, mmap_mode="r")
        if z.shape != (rows, classes) or z.dtype != np.float32:
            sys.exit(f"{name} is there and has {z.shape} {z.dtype}")
        return z.offset
    r = np.random.default_rng(seed)
    y = r.integers(classes, size=rows)
    np.save(os.path.join(folder, "y.npy"), y)
    z = np.lib.format.open_memmap(name, mode="w+", dtype=np.float32, shape=(rows, classes))
    for a in range(0, rows, 20000):
        n = min(20000, rows - a)
        b = r.standard_normal((n, classes), dtype=np.float32)
        b[np.arange(n), y[a:a + n]] += (r.gamma(2.0, 1.5, size=n) + np.log(classes) / 2).astype(np.float32)
        z[a:a + n] = b
    z.flush()
    return z.offset


def peak():
    """The largest resident set so far. (A child's ru_maxrss begins with that of its parent.)"""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


class Party:
    """A process that answers a line with a score by one with its seconds, mean size and peak."""

    def __init__(self, name, rows, command):
        self.name, self.rows, self.peak = name, rows, 0
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended early")
        r = json.loads(line)
        self.peak = max(self.peak, r["peak"])
        return (r["calibrate"] + r["predict"]) / r.get("rows", self.rows), r["size"]

    def turn(self, line):
        """The median of a third of a second of runs, so that short ones do not only show their start."""
        runs, end = [self.ask(line)], time.perf_counter() + 0.3
        while time.perf_counter() < end:
            runs.append(self.ask(line))
        return statistics.median(r[0] for r in runs), runs[-1][1]

    def close(self):
        self.p.stdin.close()
        self.p.wait()


class TorchCP:
    """Serves `SCORE THREADS BATCH ROWS`; a batch of 0 is one call on the rows, as its documentation has it."""

    def __init__(self, z, y):
        import torch
        from torchcp.classification.predictor import SplitPredictor
        from torchcp.classification.score import APS, LAC, RAPS

        self.torch, self.predictor = torch, SplitPredictor
        self.z, self.y = torch.from_numpy(z), torch.from_numpy(y)
        self.make = {"hps": LAC(), "aps": APS(randomized=False), "raps": RAPS(randomized=False, penalty=0.01, kreg=5)}

    def run(self, score, threads, batch, rows):
        self.torch.set_num_threads(int(threads))
        s, batch, z, y = self.make[score], int(batch), self.z[:int(rows)], self.y[:int(rows)]
        p = self.predictor(s, alpha=0.1)
        start = time.perf_counter()
        if batch == 0:
            p.calculate_threshold(z, y, 0.1)
            middle = time.perf_counter()
            sets = [p.predict_with_logits(z)]
        else:
            scores = self.torch.cat([s(a, b) for a, b in zip(z.split(batch), y.split(batch))])
            p.q_hat = p._calculate_conformal_value(scores, 0.1)
            middle = time.perf_counter()
            sets = [p.predict_with_logits(a) for a in z.split(batch)]
        end = time.perf_counter()
        return middle - start, end - middle, float(sum(float(a.sum()) for a in sets)) / len(y), len(y)


class Fixed:
    """A scikit-learn classifier that is a softmax."""

    _estimator_type = "classifier"

    def __init__(self, k):
        self.classes_, self.n_features_in_, self.fitted_ = np.arange(k), k, True

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def predict(self, x):
        return np.asarray(x).argmax(1)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        from sklearn.base import BaseEstimator, ClassifierMixin

        class C(ClassifierMixin, BaseEstimator):
            pass

        return C().__sklearn_tags__()


class Mapie:
    """Serves `SCORE`."""

    def __init__(self, z, y):
        from mapie.classification import SplitConformalClassifier

        self.make, self.z, self.y = SplitConformalClassifier, z, y

    def run(self, score):
        m = self.make(estimator=Fixed(self.z.shape[1]), confidence_level=0.9, conformity_score={"hps": "lac"}.get(score, score),
                      prefit=True, random_state=0)
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            m.conformalize(self.z, self.y)
            middle = time.perf_counter()
            _, sets = m.predict_set(self.z)
        return middle - start, time.perf_counter() - middle, float(sets.sum()) / len(self.y), len(self.y)


def mapie_rows(y):
    """Its RAPS sets a stratified part aside, for which a label needs two rows."""
    return np.flatnonzero(np.bincount(y)[y] > 1)


def serve(a):
    """A peer's process: `--serve NAME` with the data's folder and the number of its rows."""
    y = np.load(os.path.join(a.data, "y.npy"))[:a.peer_rows]
    z = np.empty((len(y), a.classes), np.float32)
    m = np.load(os.path.join(a.data, "z.npy"), mmap_mode="r")
    for first in range(0, len(y), 10000):
        z[first:first + 10000] = m[first:first + 10000][:len(y) - first]
    del m
    if a.serve == "mapie":
        keep = mapie_rows(y)
        z, y = z[keep], y[keep]
    peer = {"torchcp": TorchCP, "mapie": Mapie}[a.serve](z, y)
    for line in sys.stdin:
        calibrate, predict, size, rows = peer.run(*line.split())
        print(json.dumps({"calibrate": calibrate, "predict": predict, "size": size, "rows": rows, "peak": peak()}), flush=True)


def spread(ratios):
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"


def loaded(a, folder, offset, scores, peer):
    cores = os.cpu_count()
    ours = Party("gocp", a.rows, [a.speed, os.path.join(folder, "z.npy"), str(offset), os.path.join(folder, "y.npy"), str(a.rows), str(a.classes), str(a.workers)])
    torch_rows = {v: min(a.rows, a.hps_rows if v == "hps" else a.peer_rows) for v in scores}
    torchcp = peer("torchcp", max(torch_rows.values())) if "torchcp" in a.only else None
    mapie = peer("mapie", min(a.rows, a.mapie_rows)) if "mapie" in a.only else None
    peers = [p for p in (torchcp, mapie) if p]
    print(f"{a.rows} rows of {a.classes} labels, float32; {a.rounds} rounds, {cores} threads\n")
    print("| score | library | rows | µs per row | gocp is faster by (least–most) | mean size | form |\n|---|---|---|---|---|---|---|")
    for score in scores:
        turns = [("gocp", ours, score, a.rows, f"{a.workers or cores} workers")]
        ours.ask(score)
        if torchcp:
            n = torch_rows[score]
            forms = [(t, b) for t in range(1, cores + 1) for b in (300, 1000)]
            line = lambda form: f"{score} {form[0]} {form[1]} {n}"
            if a.forms:
                forms = [tuple(int(v) for v in form.split("x")) for form in a.forms.split(",")]
            else:
                forms = [min(forms, key=lambda form: torchcp.turn(line(form))[0])]
                if n <= 100000:  # one call holds several copies
                    forms.append((cores, 0))
            for form in forms:
                turns.append(("TorchCP", torchcp, line(form), n, f"{form[0]} threads, {f'batches of {form[1]}' if form[1] else 'one call'}"))
        if mapie and (score != "raps" or mapie.rows >= 10 * a.classes):  # it sets aside a fifth, with every label in it
            mapie.ask(score)
            turns.append(("MAPIE", mapie, score, mapie.rows, ""))
        times, size = [[] for _ in turns], {}
        for number in range(a.rounds):
            for i in (range(len(turns)) if number % 2 == 0 else reversed(range(len(turns)))):
                took, size[i] = turns[i][1].turn(turns[i][2])
                times[i].append(took)
        for i, (name, _, _, n, note) in enumerate(turns):
            ratio = spread([t / m for t, m in zip(times[i], times[0])]) if i else ""
            print(f"| {score} | {name} | {n} | {statistics.median(times[i]) * 1e6:.2f} | {ratio} | {size[i]:.3f} | {note} |", flush=True)
    data = a.classes * 4
    print("\n| loaded | rows | peak MiB | of its input |\n|---|---|---|---|")
    for p in [ours] + peers:
        print(f"| {p.name} | {p.rows} | {p.peak / 2**20:.0f} | {p.peak / data / p.rows:.2f} |")
        p.close()


def split(a, folder):
    offset = logits(folder, a.rows, a.classes, a.seed)

    def peer(name, rows):
        if name == "mapie":
            seen = len(mapie_rows(np.load(os.path.join(folder, "y.npy"))[:rows]))
        else:
            seen = rows
        return Party({"torchcp": "TorchCP", "mapie": "MAPIE"}[name], seen,
                     [sys.executable, "-u", __file__, "--serve", name, "--data", folder, "--classes", str(a.classes), "--peer-rows", str(rows)])

    scores = [v for v in a.scores.split(",") if v]
    if scores:
        loaded(a, folder, offset, scores, peer)
    if not a.streamed:
        return
    print("\n| streamed, score | calibrate s | predict s | µs per row | peak MiB |\n|---|---|---|---|---|")
    for score in [v for v in a.streamed.split(",") if v]:
        args = {"hps": [], "aps": [], "raps": ["--lambda", "0.01", "--k-reg", "5"]}[score]
        thr, sets = os.path.join(folder, "t.json"), os.path.join(folder, "s.npy")
        took, most = [], 0
        for command in (["calibrate", "--labels", os.path.join(folder, "y.npy"), "--score", score, "--out", thr] + args,
                        ["predict", "--threshold", thr, "--out", sets]):
            start = time.perf_counter()
            p = subprocess.Popen([a.gocp, "conformal", command[0], "--logits", os.path.join(folder, "z.npy"), "--quiet", *command[1:]], stdout=subprocess.DEVNULL)
            while p.poll() is None:
                with contextlib.suppress(OSError), open(f"/proc/{p.pid}/status") as f:
                    most = max([most] + [int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")])
                time.sleep(0.005)
            took.append(time.perf_counter() - start)
            if p.returncode:
                sys.exit(f"gocp conformal {command[0]} failed")
        print(f"| {score} | {took[0]:.2f} | {took[1]:.2f} | {sum(took) / a.rows * 1e6:.2f} | {most / 2**20:.0f} |", flush=True)
        os.remove(sets)
    print("\nStreamed times include reading, hashing the input (calibrate) and writing the sets as bytes (predict).")


def refit(x, y, test, classes, lam, level):
    """Full conformal prediction by refits: a ridge head for every test sample and candidate label,
    leave-one-out residuals by its hat matrix, as gocp's residual score."""
    n, d = x.shape
    sets = np.zeros((len(test), classes), bool)
    onehot = np.eye(classes)
    xs, ys = np.concatenate([x, x[:1]]), np.concatenate([onehot[y], onehot[:1]])
    labels = np.concatenate([y, [0]])
    for i, t in enumerate(test):
        xs[n] = t
        for c in range(classes):
            ys[n], labels[n] = onehot[c], c
            gram = np.linalg.inv(xs.T @ xs + lam * np.eye(d))
            w = gram @ (xs.T @ ys)
            h = np.einsum("ij,jk,ik->i", xs, gram, xs, optimize=True)
            loo = (xs @ w - h[:, None] * ys) / (1 - h[:, None])
            s = 1 - loo[np.arange(n + 1), labels]
            sets[i, c] = (s >= s[n] - 1e-9).sum() > level * (n + 1)
    return sets


def full(a, folder):
    n, d, classes, m = a.full_n, a.full_d, 10, a.full_test
    r = np.random.default_rng(a.seed)
    centres = r.standard_normal((classes, d)) * 2 / np.sqrt(d)
    y = r.integers(classes, size=n + m)
    x = centres[y] + r.standard_normal((n + m, d)) / np.sqrt(d) * 1.5
    for name, part in (("x", x[:n]), ("y", y[:n]), ("tx", x[n:])):
        np.save(os.path.join(folder, name + ".npy"), part)

    def ours():
        start = time.perf_counter()
        subprocess.run([a.gocp, "conformal", "full", "--features", "x.npy", "--labels", "y.npy", "--test-features", "tx.npy", "--classes", str(classes),
                        "--out", "full.npy", "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    few = a.full_refit
    rows = [("numpy, a refit for each candidate", lambda: refit(x[:n], y[:n], x[n:n + few], classes, 1.0, 0.1))]
    rows.append(("nonconformist, TcpClassifier", nonconformist(x[:n], y[:n], x[n:n + few])))
    ours()
    print(f"\nFull conformal prediction, ridge head: n = {n}, d = {d}, {classes} labels, {m} test samples; the peers on {few} of them, scaled.\n")
    print("| way | seconds | gocp is faster by (least–most) | sets that differ |\n|---|---|---|---|")
    mine, theirs = [], {name: [] for name, _ in rows}
    wrong = {}
    for _ in range(a.rounds):
        mine.append(ours())
        for name, f in rows:
            start = time.perf_counter()
            sets = f()
            theirs[name].append((time.perf_counter() - start) * m / few)
            if sets is not None:
                wrong[name] = int((sets != np.load(os.path.join(folder, "full.npy"))[:few].astype(bool)).any(1).sum())
    print(f"| gocp conformal full | {statistics.median(mine):.2f} | | |")
    for name, times in theirs.items():
        print(f"| {name} | {statistics.median(times):.1f} | {spread([t / o for t, o in zip(times, mine)])} | {wrong.get(name, 'another score')} |")


def nonconformist(x, y, test):
    from nonconformist.base import ClassifierAdapter
    from nonconformist.cp import TcpClassifier
    from nonconformist.nc import ClassifierNc, MarginErrFunc

    class Ridge:
        def fit(self, x, y):
            self.w = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ np.eye(10)[y])

        def predict_proba(self, x):
            return x @ self.w

        predict = predict_proba

    class Adapter(ClassifierAdapter):
        def __init__(self):
            super().__init__(Ridge())

        def _underlying_predict(self, x):
            return self.model.predict_proba(x)

    def run():
        t = TcpClassifier(ClassifierNc(Adapter(), MarginErrFunc()), smoothing=False)
        t.fit(x, y)
        t.predict(test, significance=0.1)

    t = TcpClassifier(ClassifierNc(Adapter(), MarginErrFunc()), smoothing=False)
    t.fit(x[:50], y[:50])
    t.predict(test[:1], significance=0.1)
    return run


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--gocp", default=os.path.join(HERE, "../bin/gocp"))
    p.add_argument("--speed", default=os.path.join(HERE, "../bin/conformalspeed"))
    p.add_argument("--rows", type=int, default=100000)
    p.add_argument("--classes", type=int, default=1000)
    p.add_argument("--peer-rows", type=int, default=20000)
    p.add_argument("--hps-rows", type=int, default=500000)
    p.add_argument("--mapie-rows", type=int, default=11000)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--workers", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--forms", help="TorchCP's threads and batch, such as 1x1000,2x0, instead of trying")
    p.add_argument("--only", default="torchcp,mapie,full")
    p.add_argument("--scores", default="hps,aps,raps", help="in memory")
    p.add_argument("--streamed", default="hps,aps,raps", help="from the file")
    p.add_argument("--full-n", type=int, default=2000)
    p.add_argument("--full-d", type=int, default=512)
    p.add_argument("--full-test", type=int, default=500)
    p.add_argument("--full-refit", type=int, default=2, help="test samples that the refits see; their time is scaled")
    p.add_argument("--data", help="folder for the logits, kept for another run; a temporary one if not given")
    p.add_argument("--serve", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.gocp, a.speed = os.path.abspath(a.gocp), os.path.abspath(a.speed)
    if a.serve:
        serve(a)
        return
    with tempfile.TemporaryDirectory() as folder:
        if a.data:
            os.makedirs(a.data, exist_ok=True)
        if a.scores or a.streamed:
            split(a, a.data or folder)
        if "full" in a.only:
            full(a, folder)


main()
