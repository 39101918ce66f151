"""gocp conformal beside other libraries on the same logits: thresholds and sets.

Each row of the table names a library and a score, the relative difference of the thresholds, and
the number of test rows whose sets differ. Where definitions differ, a second row applies gocp's
definition to the peer's numbers, so that the difference is explained by that alone. The exit status
is 1 if a row that must agree does not.

Data: --logits and --labels (.npy, float64 or float32, integers), halved into calibration and test
rows; or --cifar, the logits of a model that gocp trains on its sample of CIFAR-10, for the sample's
2,000 test images; or else synthetic logits: standard normal, plus a Gamma(2, 1.5) and half of ln K on
the true label.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np

warnings.filterwarnings("ignore")

AGREE = 1e-12
MAPIE_EPSILON = 1e-7  # it compares sums, and probabilities with the last one inside, with a tolerance


def synthetic(n, k, seed):
    r = np.random.default_rng(seed)
    z = r.standard_normal((n, k))
    y = r.integers(k, size=n)
    z[np.arange(n), y] += r.gamma(2.0, 1.5, size=n) + np.log(k) / 2
    return z, y


def cifar(binary, epochs):
    """Logits of a model of ours on real images: gocp data export, train, compute logits."""
    with tempfile.TemporaryDirectory() as folder:
        def run(*args):
            subprocess.run([os.path.abspath(binary), *args], cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run("data", "export", "cifar10-sample", "--out", "d.npz")
        with np.load(os.path.join(folder, "d.npz")) as d:
            x, y = d["test_images"].transpose(0, 3, 1, 2).astype("<f4") / 255, d["test_labels"]
        run("train", "--epochs", str(epochs), "--shift", "2", "--flip", "--out", "m.safetensors", "--quiet")
        x = np.ascontiguousarray(x, "<f4")
        header = json.dumps({"x": {"dtype": "F32", "shape": x.shape, "data_offsets": [0, x.nbytes]}}).encode()
        with open(os.path.join(folder, "in.safetensors"), "wb") as f:
            f.write(len(header).to_bytes(8, "little") + header + x.tobytes())
        run("compute", "logits", "--model", "m.safetensors", "--in", "in.safetensors", "--out", "out.safetensors")
        with open(os.path.join(folder, "out.safetensors"), "rb") as f:
            b = f.read()
        n = int.from_bytes(b[:8], "little")
        t = json.loads(b[8:8 + n])["logits"]
        z = np.frombuffer(b[8 + n:][slice(*t["data_offsets"])], {"F32": "<f4", "F64": "<f8"}[t["dtype"]]).reshape(t["shape"])
    print(f"a ConvNet of {epochs} epochs on CIFAR-10's sample, accuracy {float((z.argmax(1) == y).mean()):.3f}")
    return z.astype(np.float64), y


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


class Gocp:
    """Runs the command line on files in a folder of its own."""

    def __init__(self, binary, folder, cal, cal_y, test):
        self.binary, self.folder = os.path.abspath(binary), folder
        for name, array in (("cal", cal), ("cal_y", cal_y), ("test", test)):
            np.save(os.path.join(folder, name + ".npy"), array)

    def run(self, *args):
        out = subprocess.run([self.binary, "conformal", *args, "--quiet", "--json"], cwd=self.folder,
                             capture_output=True, text=True)
        if out.returncode:
            sys.exit(out.stderr)
        return json.loads(out.stdout)

    def sets(self, alpha, *score):
        thr = self.run("calibrate", "--logits", "cal.npy", "--labels", "cal_y.npy", "--miscoverage", alpha,
                       "--out", "thr.json", *score)
        self.run("predict", "--threshold", "thr.json", "--logits", "test.npy", "--out", "sets.npy")
        tau = thr["thresholds"]["all"]["tau"]
        return float(tau), np.load(os.path.join(self.folder, "sets.npy")).astype(bool), thr


class Table:
    def __init__(self):
        self.failed = False
        print("| library | score | threshold, relative difference | differing sets | of | note |")
        print("|---|---|---|---|---|---|")

    def row(self, library, score, tau, peer_tau, sets, peer_sets, note="", agree=True):
        difference = abs(tau - peer_tau) / max(abs(tau), 1e-300) if peer_tau is not None else float("nan")
        wrong = int((sets != peer_sets).any(1).sum()) if peer_sets is not None else -1
        if agree and not (difference <= AGREE or np.isnan(difference)) or agree and wrong != 0:
            self.failed = True
            note = "**MUST AGREE** " + note
        shown = "–" if peer_tau is None else f"{difference:.1e}"
        print(f"| {library} | {score} | {shown} | {wrong} | {len(sets)} | {note} |")


def torchcp(table, gocp, alpha, cal, cal_y, test):
    import torch
    from torchcp.classification.predictor import SplitPredictor
    from torchcp.classification.score import APS, LAC, RAPS, SAPS, Margin

    torch.set_num_threads(2)
    t = {k: torch.from_numpy(v) for k, v in dict(cal=cal, y=cal_y, test=test).items()}

    def peer(score):
        p = SplitPredictor(score, alpha=float(alpha))
        p.calculate_threshold(t["cal"].clone(), t["y"], float(alpha))
        return float(p.q_hat), p.predict_with_logits(t["test"].clone()).numpy().astype(bool)

    for name, score, args, note, agree in (
        ("hps", LAC(), ("--score", "hps"), "", True),
        ("margin", Margin(), ("--score", "margin"), "", True),
        ("aps, u = 1", APS(randomized=False), ("--score", "aps"), "sums in another order", True),
        ("raps 0.125, 2, u = 1", RAPS(randomized=False, penalty=0.125, kreg=2),
         ("--score", "raps", "--lambda", "0.125", "--k-reg", "2"), "sums in another order", True),
        ("raps 0.1, 2, u = 1", RAPS(randomized=False, penalty=0.1, kreg=2),
         ("--score", "raps", "--lambda", "0.1", "--k-reg", "2"), "theirs multiplies the penalty in float32, where 0.1 is off by 1.5e-9", False),
        ("raps 0.1, 2, as theirs", RAPS(randomized=False, penalty=0.1, kreg=2),
         ("--score", "raps", "--lambda", repr(float(np.float32(0.1))), "--k-reg", "2"), "gocp with λ as float32 has it", False),
        ("saps 0.05, u = 1", SAPS(randomized=False, weight=0.05), ("--score", "saps", "--lambda", "0.05"),
         "theirs scores a true label of rank 1 as 0, and as p_max among all labels", False),
    ):
        tau, sets, _ = gocp.sets(alpha, *args)
        peer_tau, peer_sets = peer(score)
        table.row("TorchCP", name, tau, peer_tau, sets, peer_sets, note, agree)
        if name.startswith("saps"):
            # Their scores of all labels, calibrated on the true labels among those.
            s = score(t["cal"].clone()).numpy()[np.arange(len(cal_y)), cal_y]
            peer_tau = np.sort(s)[int(np.ceil((len(s) + 1) * (1 - float(alpha)))) - 1]
            peer_sets = score(t["test"].clone()).numpy() <= peer_tau
            table.row("TorchCP", name, tau, peer_tau, sets, peer_sets, "calibrated on its own scores of all labels")


class Fixed:
    """A scikit-learn classifier that returns the probabilities it is given."""

    _estimator_type = "classifier"

    def __init__(self, k):
        self.classes_, self.n_features_in_, self.fitted_ = np.arange(k), k, True

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.asarray(x)

    def predict(self, x):
        return np.asarray(x).argmax(1)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        from sklearn.base import BaseEstimator, ClassifierMixin

        class C(ClassifierMixin, BaseEstimator):
            pass

        return C().__sklearn_tags__()


def mapie(table, gocp, alpha, cal, cal_y, test):
    from mapie.classification import SplitConformalClassifier

    p, q = softmax(cal), softmax(test)
    def peer(score, params):
        m = SplitConformalClassifier(estimator=Fixed(p.shape[1]), confidence_level=1 - float(alpha), conformity_score=score,
                                     prefit=True, random_state=0)
        with contextlib.redirect_stdout(io.StringIO()):
            m.conformalize(p, cal_y)
            _, sets = m.predict_set(q, conformity_score_params=params)
        return float(np.ravel(m._mapie_classifier.quantiles_)[0]), sets[:, :, 0].astype(bool)

    tau, sets, _ = gocp.sets(alpha, "--score", "hps")
    table.row("MAPIE", "hps", tau, *_swap(sets, peer("lac", {})))
    # Its APS calibrates on scores with a u for each sample, whatever prediction does with the last label.
    order = np.argsort(-p, 1, kind="stable")
    rank = np.argsort(order, 1)[np.arange(len(cal_y)), cal_y]
    upto = np.cumsum(np.take_along_axis(p, order, 1), 1)[np.arange(len(cal_y)), rank]
    u = np.random.RandomState(0).uniform(size=len(upto))
    scores = np.sort(upto - u * p[np.arange(len(cal_y)), cal_y])
    own_tau = scores[int(np.ceil((len(scores) + 1) * (1 - float(alpha)) - 1e-9)) - 1]
    order = np.argsort(-q, 1, kind="stable")
    upto = np.cumsum(np.take_along_axis(q, order, 1), 1)
    before = np.concatenate([np.zeros((len(q), 1)), upto[:, :-1]], 1)
    tau, sets, _ = gocp.sets(alpha, "--score", "aps")
    for last, chosen, what in (
        (True, before < own_tau, "the label that crosses the threshold is in"),
        (False, upto <= own_tau, "u = 1 when predicting, top label always in"),
    ):
        peer_tau, peer_sets = peer("aps", {"include_last_label": last})
        name = f"MAPIE include_last_label={last}"
        table.row(name, "aps, u = 1", tau, peer_tau, sets, peer_sets, "theirs calibrates with a random u, predicts without", False)
        chosen[:, 0] = True
        own = np.zeros_like(peer_sets)
        np.put_along_axis(own, order, chosen, 1)
        far = (np.abs(upto - own_tau) > MAPIE_EPSILON).all(1)
        ordered = np.concatenate([np.take_along_axis(q, order, 1), np.full((len(q), 1), -1.0)], 1)
        last_in = chosen.sum(1, keepdims=True) - 1
        gap = np.take_along_axis(ordered, last_in, 1) - np.take_along_axis(ordered, last_in + 1, 1)
        far &= gap[:, 0] > MAPIE_EPSILON
        note = f"{what}; {int((~far).sum())} rows within its tolerance of {MAPIE_EPSILON:g} left out"
        table.row(name, "aps, as theirs", own_tau, peer_tau, own[far], peer_sets[far], note)


def _swap(sets, pair):
    return pair[0], sets, pair[1]


def crepes(table, gocp, alpha, cal, cal_y, test):
    from crepes import ConformalClassifier

    p, q = softmax(cal), softmax(test)
    c = ConformalClassifier()
    c.fit(1 - p[np.arange(len(cal_y)), cal_y])
    peer_sets = c.predict_set(1 - q, confidence=1 - float(alpha), smoothing=False).astype(bool)
    tau, sets, _ = gocp.sets(alpha, "--score", "hps")
    table.row("crepes", "hps", tau, None, sets, peer_sets, "p ≥ ε in floating point where ours is p > ε: they differ only where p = ε", False)
    s = np.sort(1 - p[np.arange(len(cal_y)), cal_y])
    above = len(s) - np.searchsorted(s, 1 - q, side="left")
    num, den = (int(v) for v in (float(alpha).as_integer_ratio() if "/" in alpha else (round(float(alpha) * 10**9), 10**9)))
    exact = (above + 1).astype(object) * den > num * (len(s) + 1)
    table.row("gocp", "hps by p-values", tau, None, sets, exact.astype(bool), "p > ε in whole numbers")


def puncc(table, gocp, alpha, cal, cal_y, test):
    from deel.puncc.api.prediction import BasePredictor
    from deel.puncc.classification import APS, LAC, RAPS

    class Predictor(BasePredictor):
        def predict(self, X, **kwargs):  # the name is theirs
            return np.asarray(X)

    p, q = softmax(cal), softmax(test)
    k = p.shape[1]
    for name, make, args, note, agree in (
        ("hps", lambda m: LAC(m, train=False), ("--score", "hps"), "", True),
        ("aps, u = 1", lambda m: APS(m, train=False, rand=False), ("--score", "aps"), "theirs adds the label that crosses the threshold", False),
        ("raps 0.1, 2, u = 1", lambda m: RAPS(m, train=False, k_reg=2, lambd=0.1, rand=False),
         ("--score", "raps", "--lambda", "0.1", "--k-reg", "2"), "theirs adds the label that crosses the threshold", False),
    ):
        method = make(Predictor(Fixed(k), is_trained=True))
        method.fit(X_fit=p[:1], y_fit=cal_y[:1], X_calib=p, y_calib=cal_y)
        _, listed = method.predict(q, alpha=float(alpha))
        peer_sets = np.zeros(q.shape, bool)
        for i, labels in enumerate(listed[0] if isinstance(listed, tuple) else listed):
            peer_sets[i, np.asarray(labels, int)] = True
        tau, sets, _ = gocp.sets(alpha, *args)
        table.row("puncc", name, tau, None, sets, peer_sets, note, agree)
        if not agree:
            order = np.argsort(-q, 1, kind="stable")
            penalty = 0.1 * np.maximum(0, np.arange(1, k + 1) - 2) if name.startswith("raps") else 0
            size = (np.cumsum(np.take_along_axis(q, order, 1), 1) + penalty < tau).sum(1) + 1
            own = np.zeros_like(peer_sets)
            np.put_along_axis(own, order, np.arange(k) < size[:, None], 1)
            table.row("puncc", name + ", as theirs", tau, None, own, peer_sets, "gocp's threshold, with that label")


def conventions(table, gocp, alpha, cal, cal_y, test):
    """Quantiles and inequalities that code elsewhere uses, on HPS, where scores are beyond dispute."""
    cal, cal_y = cal[:-5], cal_y[:-5]  # where n is a multiple of 10, the rank without n + 1 is often the same
    s, t = 1 - softmax(cal)[np.arange(len(cal_y)), cal_y], 1 - softmax(test)
    n, level = len(s), 1 - float(alpha)
    folder = os.path.join(gocp.folder, "conventions")
    os.makedirs(folder, exist_ok=True)
    gocp = Gocp(gocp.binary, folder, cal, cal_y, test)
    tau, sets, thr = gocp.sets(alpha, "--score", "hps")
    r = thr["thresholds"]["all"]["rank"]
    at = lambda rank: gocp.sets(f"{n + 1 - rank}/{n + 1}", "--score", "hps")  # the miscoverage of a rank

    def row(name, peer_tau, note):
        table.row(name, "hps", tau, peer_tau, sets, t <= peer_tau, note, False)

    # The code of the authors of RAPS, as of 2020.
    theirs = np.quantile(s, level, method="higher")
    row("quantile of n, no n + 1", theirs, "np.quantile(scores, 1 − ε, method=\"higher\"): covers less than 1 − ε")
    rank = int(np.ceil((n - 1) * level - 1e-9)) + 1
    own_tau, own_sets, _ = at(rank)
    table.row("quantile of n, no n + 1", "hps, as theirs", own_tau, theirs, own_sets, t <= theirs, f"gocp --miscoverage {n + 1 - rank}/{n + 1}")
    theirs = np.quantile(s, r / n)
    row("interpolated quantile", theirs, "np.quantile(scores, r/n): a τ between the scores of ranks r and r + 1")
    above_tau, above, _ = at(r + 1)
    between = tau * (1 - AGREE) <= theirs <= above_tau * (1 + AGREE) and not (sets & (t > theirs)).any() and not ((t <= theirs) & ~above).any()
    table.row("interpolated quantile", "hps", 0.0, 0.0 if between else 1.0, sets, sets,
              f"between gocp's own and gocp --miscoverage {n - r}/{n + 1}, which hold and are held by its sets")
    # Strict inequality: seen where scores equal τ, so on the calibration rows themselves.
    _, own_sets, _ = Gocp(gocp.binary, folder, cal, cal_y, cal).sets(alpha, "--score", "hps")
    strict = (1 - softmax(cal)) < tau * (1 - 1e-15)
    table.row("S < τ", "hps, calibration rows", tau, tau, own_sets, strict, "leaves out the label whose score is τ", False)
    own_sets &= np.abs(1 - softmax(cal) - tau) > AGREE
    table.row("S < τ", "hps, labels at τ left out", tau, tau, own_sets, strict, "where no score is within 1e-12 of τ")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--gocp", default="../bin/gocp")
    a.add_argument("--logits")
    a.add_argument("--labels")
    a.add_argument("--cifar", action="store_true")
    a.add_argument("--epochs", type=int, default=6)
    a.add_argument("--rows", type=int, default=2000)
    a.add_argument("--classes", type=int, default=1000)
    a.add_argument("--miscoverage", default="0.1")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--only", default="torchcp,mapie,crepes,puncc,conventions")
    args = a.parse_args()
    if args.cifar:
        z, y = cifar(args.gocp, args.epochs)
    elif args.logits:
        z, y = np.load(args.logits).astype(np.float64), np.load(args.labels).astype(np.int64)
    else:
        z, y = synthetic(args.rows, args.classes, args.seed)
    n = len(z) // 2
    print(f"{n} calibration and {len(z) - n} test rows, {z.shape[1]} labels, miscoverage {args.miscoverage}\n")
    with tempfile.TemporaryDirectory() as folder:
        gocp = Gocp(args.gocp, folder, z[:n], y[:n], z[n:])
        table = Table()
        for peer in args.only.split(","):
            try:
                {"torchcp": torchcp, "mapie": mapie, "crepes": crepes, "puncc": puncc, "conventions": conventions}[peer](table, gocp, args.miscoverage, z[:n], y[:n], z[n:])
            except ImportError as e:
                sys.exit(f"{peer} is not there: {e}")
    sys.exit(table.failed)


main()
