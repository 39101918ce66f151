"""A victim of gocp in scikit-learn: a random forest on raw pixels (docs/victims.md).

    gocp audit --out runs/forest --victim-command 'python examples/victims/forest_sklearn.py'
"""

import argparse
import json

import numpy as np
from sklearn.ensemble import RandomForestClassifier

ap = argparse.ArgumentParser()
ap.add_argument("--trees", type=int, default=300)
ap.add_argument("--threads", type=int, default=1)
args = ap.parse_args()
job = json.load(open("job.json"))
load = lambda name: np.load(name + "_images.npy").reshape(job[name], -1)
forest = RandomForestClassifier(args.trees, min_samples_leaf=3, random_state=job["seed"], n_jobs=args.threads)
forest.fit(load("train"), np.load("train_labels.npy"))
for part in ("calibration", "test"):
    p = np.zeros((job[part], len(job["classes"])))
    p[:, forest.classes_] = forest.predict_proba(load(part))  # a class without training images has no column
    np.save(part + "_probabilities.npy", p)
