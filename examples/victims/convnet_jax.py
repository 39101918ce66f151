"""A victim of gocp in JAX: a ConvNet of three layers, its optimiser written out (docs/victims.md).

    gocp audit --out runs/jax --victim-command 'python examples/victims/convnet_jax.py'
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

ap = argparse.ArgumentParser()
ap.add_argument("--epochs", type=int, default=15)
ap.add_argument("--lr", type=float, default=0.02)
ap.add_argument("--width", type=int, default=16)
args = ap.parse_args()
job = json.load(open("job.json"))
x, y = np.load("train_images.npy"), np.load("train_labels.npy")
mean, std = x.mean((0, 1, 2)), x.std((0, 1, 2))


def init(key):
    channels = [job["channels"], args.width, 2 * args.width, 4 * args.width]
    keys = jax.random.split(key, 4)
    he = lambda k, shape: jax.random.normal(k, shape) * (2 / np.prod(shape[:-1])) ** 0.5
    convs = [(he(k, (3, 3, a, b)), jnp.zeros(b)) for k, a, b in zip(keys, channels, channels[1:])]
    return {"convs": convs, "head": (he(keys[3], (channels[-1], len(job["classes"]))), jnp.zeros(len(job["classes"])))}


def logits(params, images):
    h = (images - mean) / std
    for w, b in params["convs"]:
        h = jax.nn.relu(jax.lax.conv_general_dilated(h, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b)
    w, b = params["head"]
    return h.mean((1, 2)) @ w + b


def loss(params, images, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, images)), labels[:, None], 1).mean()


@jax.jit
def step(params, velocity, images, labels):
    value, gradient = jax.value_and_grad(loss)(params, images, labels)
    velocity = jax.tree.map(lambda v, g, p: 0.9 * v + g + 5e-4 * p, velocity, gradient, params)
    return jax.tree.map(lambda p, v: p - args.lr * v, params, velocity), velocity, value


params = init(jax.random.key(job["seed"]))
velocity = jax.tree.map(jnp.zeros_like, params)
draw = np.random.default_rng(job["seed"])
size = min(128, len(x))
for epoch in range(args.epochs):
    order = draw.permutation(len(x))
    for i in range(0, len(x) - size + 1, size):  # batches of one size are compiled once
        params, velocity, value = step(params, velocity, x[order[i : i + size]].astype(np.float32), y[order[i : i + size]])
    print(f"epoch {epoch + 1}: loss of the last batch {value:.3f}", flush=True)
for part in ("calibration", "test"):
    images = np.load(part + "_images.npy").astype(np.float32)
    out = [np.asarray(logits(params, images[i : i + 500])) for i in range(0, len(images), 500)]
    np.save(part + "_logits.npy", np.concatenate(out))
