"""gocp/conformal beside TorchCP and MAPIE: calibrate and predict on float32 logits; and full
conformal prediction with a ridge head beside refits. One run makes both tables.

All parties have the logits in memory and take turns, round by round, in an order that changes; a
time is calibration and prediction together, per row. Ratios are medians over rounds of the peer's
time over gocp's in the same round, with the smallest and the largest. TorchCP runs with each number
of threads, on all rows in one call and in batches, and its fastest form is kept by score (--quick:
batches of 1,000 only). TorchCP and MAPIE see the first --peer-rows and --mapie-rows rows only, and
their times per row are compared: TorchCP's sorted scores of a million rows of 1,000 labels would
take more memory than most machines have. The streamed part runs the command on an .npy file.

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
    """Writes z.npy, z.f32 (the same without its header) and y.npy, block by block."""
    r = np.random.default_rng(seed)
    y = r.integers(classes, size=rows)
    np.save(os.path.join(folder, "y.npy"), y)
    z = np.lib.format.open_memmap(os.path.join(folder, "z.npy"), mode="w+", dtype=np.float32, shape=(rows, classes))
    offset = z.offset
    for a in range(0, rows, 20000):
        n = min(20000, rows - a)
        b = r.standard_normal((n, classes), dtype=np.float32)
        b[np.arange(n), y[a:a + n]] += (r.gamma(2.0, 1.5, size=n) + np.log(classes) / 2).astype(np.float32)
        z[a:a + n] = b
    z.flush()
    del z
    return offset, y


class Gocp:
    name = "gocp"

    def __init__(self, binary, folder, offset, rows, classes, workers):
        self.rows = rows
        self.p = subprocess.Popen([binary, os.path.join(folder, "z.npy"), str(offset), os.path.join(folder, "y.npy"), str(rows),
                                   str(classes), str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.peak = 0

    def time(self, score):
        self.p.stdin.write(score + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            sys.exit("conformalspeed ended early")
        r = json.loads(line)
        self.peak = max(self.peak, r["peak"])
        return (r["calibrate"] + r["predict"]) / self.rows, r["size"]

    def close(self):
        self.p.stdin.close()
        self.p.wait()


class TorchCP:
    name = "TorchCP"

    def __init__(self, z, y, quick):
        import torch
        from torchcp.classification.predictor import SplitPredictor
        from torchcp.classification.score import APS, LAC, RAPS

        self.torch, self.predictor = torch, SplitPredictor
        self.z, self.y = torch.from_numpy(z), torch.from_numpy(y)
        self.make = {"hps": LAC(), "aps": APS(randomized=False), "raps": RAPS(randomized=False, penalty=0.01, kreg=5)}
        self.rows, self.form = len(z), {}
        self.forms = [(os.cpu_count(), 1000)] if quick else [(t, b) for t in range(1, os.cpu_count() + 1) for b in (300, 1000, len(z))]

    def once(self, score, threads, batch):
        self.torch.set_num_threads(threads)
        s = self.make[score]
        p = self.predictor(s, alpha=0.1)
        start = time.perf_counter()
        if batch == self.rows:  # as its documentation has it
            p.calculate_threshold(self.z, self.y, 0.1)
            sets = [p.predict_with_logits(self.z)]
        else:
            scores = self.torch.cat([s(a, b) for a, b in zip(self.z.split(batch), self.y.split(batch))])
            p.q_hat = p._calculate_conformal_value(scores, 0.1)
            sets = [p.predict_with_logits(a) for a in self.z.split(batch)]
        took = (time.perf_counter() - start) / self.rows
        return took, float(sum(float(a.sum()) for a in sets)) / self.rows

    def time(self, score):
        if score not in self.form:
            self.form[score] = min(self.forms, key=lambda f: turn(lambda s: self.once(s, *f), score)[0])
        return self.once(score, *self.form[score])

    def whole(self, score):
        """One call on all rows, on all cores."""
        return self.once(score, os.cpu_count(), self.rows)

    def note(self, score):
        t, b = self.form[score]
        return f"{t} threads, {'one call' if b == self.rows else f'batches of {b}'}"


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
    name = "MAPIE"

    def __init__(self, z, y):
        from mapie.classification import SplitConformalClassifier

        keep = np.bincount(y)[y] > 1  # its RAPS sets a stratified part aside
        self.make, self.z, self.y, self.rows = SplitConformalClassifier, z[keep], y[keep], int(keep.sum())

    def time(self, score):
        m = self.make(estimator=Fixed(self.z.shape[1]), confidence_level=0.9, conformity_score={"hps": "lac"}.get(score, score),
                      prefit=True, random_state=0)
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            m.conformalize(self.z, self.y)
            _, sets = m.predict_set(self.z)
        return (time.perf_counter() - start) / self.rows, float(sets.sum()) / self.rows

    def note(self, _):
        return ""


def turn(f, score):
    """The median of a third of a second of runs, so that short ones do not only show their start."""
    runs, end = [f(score)], time.perf_counter() + 0.3
    while time.perf_counter() < end:
        runs.append(f(score))
    return statistics.median(r[0] for r in runs), runs[-1][1]


def spread(ratios):
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"


def split(a, folder):
    offset, y = logits(folder, a.rows, a.classes, a.seed)
    ours = Gocp(a.speed, folder, offset, a.rows, a.classes, a.workers)
    z = np.load(os.path.join(folder, "z.npy"), mmap_mode="r")
    peers = []
    if "torchcp" in a.only:
        n = min(a.rows, a.peer_rows)
        peers.append(TorchCP(np.array(z[:n]), y[:n], a.quick))
    if "mapie" in a.only:
        n = min(a.rows, a.mapie_rows)
        peers.append(Mapie(np.array(z[:n]), y[:n]))
    print(f"{a.rows} rows of {a.classes} labels, float32; {', '.join(f'{p.name} on {p.rows}' for p in peers)}; {a.rounds} rounds\n")
    print("| score | library | µs per row | gocp is faster by (least–most) | mean size | form |\n|---|---|---|---|---|---|")
    for score in a.scores.split(","):
        mine, theirs, size = [], {}, {}
        ours.time(score)
        for p in peers:
            p.time(score)  # warms up, and chooses TorchCP's form
        for number in range(a.rounds):
            turns = [(ours.name, ours.time)] + [(p.name, p.time) for p in peers]
            if "torchcp" in a.only and not a.quick:
                turns.append(("TorchCP, one call", peers[0].whole))
            if number % 2:
                turns.reverse()
            for name, f in turns:
                took, size[name] = turn(f, score)
                (mine if name == ours.name else theirs.setdefault(name, [])).append(took)
        print(f"| {score} | gocp | {statistics.median(mine) * 1e6:.2f} | | {size['gocp']:.3f} | {a.workers or os.cpu_count()} workers |")
        for name, times in theirs.items():
            note = next((p.note(score) for p in peers if p.name == name), "")
            ratios = [t / m for t, m in zip(times, mine)]
            print(f"| {score} | {name} | {statistics.median(times) * 1e6:.2f} | {spread(ratios)} | {size[name]:.3f} | {note} |", flush=True)
    ours.close()
    data = a.rows * a.classes * 4
    print(f"\nLoaded: gocp's peak is {ours.peak / 2**20:.0f} MiB, {ours.peak / data:.2f} × the input, sets of all rows included.\n")
    print("| streamed, score | calibrate s | predict s | µs per row | peak MiB |\n|---|---|---|---|---|")
    for score in a.scores.split(","):
        args = {"hps": [], "aps": [], "raps": ["--lambda", "0.01", "--k-reg", "5"]}[score]
        thr, sets = os.path.join(folder, "t.json"), os.path.join(folder, "s.npy")
        took, peak = [], 0
        for command in (["calibrate", "--labels", os.path.join(folder, "y.npy"), "--score", score, "--out", thr] + args,
                        ["predict", "--threshold", thr, "--out", sets]):
            start = time.perf_counter()
            p = subprocess.Popen([a.gocp, "conformal", command[0], "--logits", os.path.join(folder, "z.npy"), "--quiet", *command[1:]], stdout=subprocess.DEVNULL)
            while p.poll() is None:  # a child's ru_maxrss begins with that of its parent, so ask Linux
                with contextlib.suppress(OSError), open(f"/proc/{p.pid}/status") as f:
                    peak = max([peak] + [int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")])
                time.sleep(0.005)
            took.append(time.perf_counter() - start)
            if p.returncode:
                sys.exit(f"gocp conformal {command[0]} failed")
        print(f"| {score} | {took[0]:.2f} | {took[1]:.2f} | {sum(took) / a.rows * 1e6:.2f} | {peak / 2**20:.0f} |", flush=True)
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
    p.add_argument("--mapie-rows", type=int, default=11000)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--workers", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only", default="torchcp,mapie,full")
    p.add_argument("--scores", default="hps,aps,raps")
    p.add_argument("--full-n", type=int, default=2000)
    p.add_argument("--full-d", type=int, default=512)
    p.add_argument("--full-test", type=int, default=500)
    p.add_argument("--full-refit", type=int, default=2, help="test samples that the refits see; their time is scaled")
    p.add_argument("--folder", help="where the data go; removed afterwards")
    a = p.parse_args()
    a.gocp, a.speed = os.path.abspath(a.gocp), os.path.abspath(a.speed)
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        if a.only != "full":
            split(a, folder)
        if "full" in a.only:
            full(a, folder)


main()
