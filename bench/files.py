"""Files of logits, probabilities and labels as people's libraries write them, read by gocp.

Every case writes one file and says what must come of it: the numbers, whose threshold and sets numpy then
computes and gocp must find, or a part of the sentence that refuses the file. `--testdata DIR` writes small
ones with what is expected of them instead, for the tests of package matrix.
"""

import argparse
import datetime
import decimal
import gzip
import io
import json
import math
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import duckdb
import fastavro
import flax.serialization
import h5py
import jax.numpy as jnp
import joblib
import ml_dtypes
import numpy as np
import orbax.checkpoint
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.orc
import pyarrow.parquet as pq
import safetensors.flax
import safetensors.numpy
import safetensors.torch
import scipy.io
import torch
import xarray
import zarr

CASES = []


class Refused:
    """A part of the sentence that must come instead of numbers; values tells that the file can be read and
    its numbers are at fault."""

    def __init__(self, says, values=False):
        self.says, self.values = says, values


def case(kind="logits", flags=(), part="", name=None):
    """kind is logits, probs or labels; the function gets (path without ending, z, y), writes the file and
    returns (its name, what is expected): None for the numbers it was given."""

    def add(f):
        CASES.append((name or f.__name__, kind, list(flags), part, f))
        return f

    return add


def several(items, **options):
    """The same case for each of some items."""

    def add(f):
        for item in items:
            label = f"{f.__name__}_{item}" if isinstance(item, str) else f"{f.__name__}_{item[0]}"
            case(name=label.replace("/", "-"), **options)(lambda p, z, y, item=item: f(p, z, y, item))
        return f

    return add


def frame(z, prefix="logit_"):
    return pd.DataFrame(z, columns=[f"{prefix}{j}" for j in range(z.shape[1])])


def table(z, prefix="logit_", **more):
    return pa.table({**{f"{prefix}{j}": z[:, j] for j in range(z.shape[1])}, **more})


def text(path, content):
    pathlib.Path(path).write_text(content)
    return path


def lines(z, sep=",", head=None, form="{:.6f}"):
    rows = [] if head is None else [head]
    rows += [sep.join(form.format(v) for v in row) for row in z]
    return "\n".join(rows) + "\n"


def six(z):
    return np.array([[float(f"{v:.6f}") for v in row] for row in z])


# numpy ---------------------------------------------------------------------------------------------------


@several(["f2", "f4", "f8", ">f2", ">f4", ">f8"])
def npy(p, z, y, kind):
    x = z.astype(kind)
    np.save(p + ".npy", x)
    return p + ".npy", x


@several(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"])
def npy_integers(p, z, y, kind):
    x = np.abs(np.round(z * 8)).astype(kind)
    np.save(p + ".npy", x)
    return p + ".npy", x


@several(["f2", "f4", "f8", ">f4"])
def npy_fortran(p, z, y, kind):
    x = np.asfortranarray(z.astype(kind))
    np.save(p + ".npy", x)
    return p + ".npy", x


@case()
def npy_transposed_view(p, z, y):
    np.save(p + ".npy", z.T.copy().T)
    return p + ".npy", z


@case()
def npy_version_2(p, z, y):
    with open(p + ".npy", "wb") as f:
        np.lib.format.write_array(f, z, version=(2, 0))
    return p + ".npy", z


@case()
def npy_masked_class(p, z, y):
    x = z.copy()
    for i in range(len(x)):
        x[i, (y[i] + 1) % x.shape[1]] = -np.inf
    np.save(p + ".npy", x.astype("f4"))
    return p + ".npy", x.astype("f4")


@case()
def npy_masked_class_f8(p, z, y):
    x = z.copy()
    x[::3, (y[0] + 1) % x.shape[1]] = -np.inf
    np.save(p + ".npy", x)
    return p + ".npy", x


@case()
def npy_infinite(p, z, y):
    x = z.copy()
    x[1, 1] = np.inf
    np.save(p + ".npy", x)
    return p + ".npy", Refused("row 1: label 1 is +Inf", values=True)


@case()
def npy_nan(p, z, y):
    x = z.astype("f4")
    x[1, 1] = np.nan
    np.save(p + ".npy", x)
    return p + ".npy", Refused("row 1: label 1 is NaN", values=True)


@case()
def npy_complex(p, z, y):
    np.save(p + ".npy", z.astype(complex))
    return p + ".npy", Refused('the type "<c16" is not supported')


@several(["bfloat16", "float8_e4m3fn"])
def npy_ml_dtypes(p, z, y, kind):
    np.save(p + ".npy", z.astype(getattr(ml_dtypes, kind)))  # the header says V2, V1
    return p + ".npy", Refused('save x.astype("float32")')


@case()
def npy_longdouble(p, z, y):
    np.save(p + ".npy", z.astype(np.longdouble))
    return p + ".npy", Refused('save x.astype("float64")')


@case()
def npy_two_in_one(p, z, y):
    with open(p + ".npy", "wb") as f:
        np.save(f, z)
        np.save(f, z)
    return p + ".npy", Refused("save them concatenated")


@case()
def npy_version_3(p, z, y):
    with open(p + ".npy", "wb") as f:
        np.lib.format.write_array(f, z, version=(3, 0))
    return p + ".npy", z


@case()
def npy_memmap(p, z, y):
    m = np.lib.format.open_memmap(p + ".npy", mode="w+", dtype="f4", shape=z.shape)
    m[:] = z
    m.flush()
    return p + ".npy", z.astype("f4")


@case()
def npy_pickled(p, z, y):
    np.save(p + ".npy", np.array([list(z[0]), None], dtype=object), allow_pickle=True)
    return p + ".npy", Refused("pickled Python objects")


@case()
def npy_structured(p, z, y):
    np.save(p + ".npy", np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]))
    return p + ".npy", Refused("structured array")


@case()
def npy_three_axes(p, z, y):
    np.save(p + ".npy", z[:, :, None])
    return p + ".npy", Refused("x.reshape(")


@case()
def npy_empty(p, z, y):
    np.save(p + ".npy", z[:0])
    return p + ".npy", Refused("no rows")


@case()
def npz_alone(p, z, y):
    np.savez(p + ".npz", z)
    return p + ".npz", z


@case(part="logits")
def npz_compressed(p, z, y):
    np.savez_compressed(p + ".npz", logits=z, labels=y)
    return p + ".npz", z


@case(part="val/logits")
def npz_slash(p, z, y):
    np.savez(p + ".npz", **{"val/logits": z, "val/labels": y})
    return p + ".npz", z


@case(part="val:logits")
def npz_colon(p, z, y):
    np.savez(p + ".npz", **{"val:logits": z, "a:b": y})
    return p + ".npz", z


@case(part="logits")
def npz_pickled_beside(p, z, y):
    np.savez(p + ".npz", logits=z, names=np.array(["a", None], dtype=object))
    return p + ".npz", z


@case(part="logits")
def npz_fortran_pickled_beside(p, z, y):
    np.savez_compressed(p + ".npz", logits=np.asfortranarray(z), names=np.array(["a", None], dtype=object))
    return p + ".npz", z


@case()
def npz_several(p, z, y):
    np.savez(p + ".npz", logits=z, labels=y)
    return p + ".npz", Refused("several arrays")


@several(["gz", "zst"])
def npy_packed(p, z, y, ending):
    b = io.BytesIO()
    np.save(b, z)
    packed = gzip.compress(b.getvalue(), mtime=0) if ending == "gz" else pa.compress(b.getvalue(), codec="zstd", asbytes=True)
    pathlib.Path(f"{p}.npy.{ending}").write_bytes(packed)
    return f"{p}.npy.{ending}", z


@several(["txt", "csv", "tsv"])
def savetxt(p, z, y, ending):
    sep = {"txt": " ", "csv": ",", "tsv": "\t"}[ending]
    np.savetxt(f"{p}.{ending}", z, delimiter=sep)
    return f"{p}.{ending}", np.loadtxt(f"{p}.{ending}", delimiter=sep)


@case()
def savetxt_heading(p, z, y):
    np.savetxt(p + ".txt", z, header="logits of the validation part\na b c")
    return p + ".txt", z


@case()
def savetxt_comma_blank(p, z, y):
    np.savetxt(p + ".csv", z, delimiter=", ")
    return p + ".csv", z


# JAX -----------------------------------------------------------------------------------------------------


@several(["float32", "float16"])
def jax_npy(p, z, y, kind):
    x = jnp.asarray(z, dtype=kind)
    np.save(p + ".npy", x)
    return p + ".npy", np.asarray(x)


@case()
def jax_npy_bfloat16(p, z, y):
    jnp.save(p + ".npy", jnp.asarray(z, dtype="bfloat16"))
    return p + ".npy", Refused('save x.astype("float32")')


@case(part="logits")
def jax_npz_bfloat16_beside(p, z, y):
    jnp.savez(p + ".npz", logits=jnp.asarray(z, dtype="float32"), hidden=jnp.asarray(z, dtype="bfloat16"))
    return p + ".npz", z.astype("f4")


@several(["float32", "float16", "bfloat16"], part="logits")
def jax_safetensors(p, z, y, kind):
    x = jnp.asarray(z, dtype=kind)
    safetensors.flax.save_file({"logits": x, "labels": jnp.asarray(y)}, p + ".safetensors")
    return p + ".safetensors", np.asarray(x).astype("f8")


# labels --------------------------------------------------------------------------------------------------


@several(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", ">i8"], kind="labels")
def npy_labels(p, z, y, kind):
    np.save(p + ".npy", y.astype(kind))
    return p + ".npy", y


@case(kind="labels")
def npy_labels_column(p, z, y):
    np.save(p + ".npy", y[:, None])
    return p + ".npy", y


@case(kind="labels")
def npy_labels_in_a_row(p, z, y):
    np.save(p + ".npy", y[None])
    return p + ".npy", Refused("transpose it")


@case(kind="labels")
def tensors_as_text(p, z, y):
    pd.Series([torch.tensor(v) for v in y], name="label").map(str).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused('such as "tensor(')


@case(kind="labels")
def names_of_classes(p, z, y):
    pd.Series([f"c{v}" for v in y], name="label").to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("labels are whole numbers, the places of their columns")


@case(kind="labels")
def npy_labels_onehot(p, z, y):
    np.save(p + ".npy", np.eye(z.shape[1])[y])
    return p + ".npy", Refused("whole numbers come in one")


@case(kind="labels")
def npy_labels_names(p, z, y):
    np.save(p + ".npy", np.array([f"c{v}" for v in y]))
    return p + ".npy", Refused("must be a type of numbers")


@case(kind="labels")
def npy_labels_fractions(p, z, y):
    np.save(p + ".npy", y + 0.5)
    return p + ".npy", Refused("no whole number")


@case(kind="labels")
def savetxt_labels(p, z, y):
    np.savetxt(p + ".txt", y, fmt="%d")
    return p + ".txt", y


@case(kind="labels")
def savetxt_labels_exponents(p, z, y):
    np.savetxt(p + ".txt", y)
    return p + ".txt", y


@case(kind="labels")
def savetxt_labels_zero_first(p, z, y):
    y = y.copy()
    y[0] = 0
    np.savetxt(p + ".csv", y, fmt="%d")
    return p + ".csv", y


@case(kind="labels")
def pandas_series_labels(p, z, y):
    pd.Series(y).to_csv(p + ".csv", index=False)  # heads the column 0
    return p + ".csv", y


@case(kind="labels")
def pandas_series_labels_index(p, z, y):
    pd.Series(y).to_csv(p + ".csv")
    return p + ".csv", y


@case(kind="labels")
def pandas_labels_named(p, z, y):
    pd.DataFrame({"label": y}).to_csv(p + ".csv")
    return p + ".csv", y


@case(kind="labels")
def pandas_labels_shuffled_index(p, z, y):
    pd.DataFrame({"label": y}, index=np.random.default_rng(1).permutation(len(y)) * 7).to_csv(p + ".csv")
    return p + ".csv", y


@case(kind="labels", part="label")
def pandas_labels_of_several(p, z, y):
    pd.DataFrame({"id": range(len(y)), "label": y}).to_csv(p + ".csv", index=False)
    return p + ".csv", y


@case(kind="labels")
def pandas_labels_which(p, z, y):
    pd.DataFrame({"id": range(len(y)), "label": y}).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("say which")


@case(kind="labels")
def pandas_labels_with_names(p, z, y):
    pd.DataFrame({"file": [f"img{i}.png" for i in range(len(y))], "label": y}).to_csv(p + ".csv", index=False)
    return p + ".csv", y


@case(kind="labels", part="label")
def pandas_labels_beside_logits(p, z, y):
    frame(z).assign(label=y).to_parquet(p + ".parquet")
    return p + ".parquet", y


@case(kind="labels")
def true_false(p, z, y):
    text(p + ".csv", "correct\n" + "".join(f"{v % 2 == 1}\n" for v in y))
    return p + ".csv", y % 2


@case(kind="labels")
def labels_missing(p, z, y):
    x = pd.Series(y).astype("Int64")
    x[2] = pd.NA
    x.to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("missing")


@case(kind="labels")
def labels_empty_line(p, z, y):
    text(p + ".txt", "".join(f"{v}\n" if i != 2 else "\n" for i, v in enumerate(y)))
    return p + ".txt", Refused("line 3 is empty")


@several(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "double", "bool"], kind="labels")
def pyarrow_labels(p, z, y, kind):
    x = y % 2 == 1 if kind == "bool" else y
    pq.write_table(pa.table({"label": pa.array(x).cast(kind)}), p + ".parquet")
    return p + ".parquet", x.astype(int)


@several(["uint32", "uint64"], kind="labels")
def pyarrow_labels_unsigned_large(p, z, y, kind):
    x = np.full(len(y), {"uint32": 2**31 + 5, "uint64": 2**63 + 5}[kind], dtype=kind)
    pq.write_table(pa.table({"label": x}), p + ".parquet")
    return p + ".parquet", Refused("2147483653", values=True) if kind == "uint32" else Refused("no whole number")


@several(["date32", "date64", "timestamp", "time32"], kind="labels")
def pyarrow_labels_dates(p, z, y, kind):
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(v)) for v in y]
    x = {
        "date32": lambda: pa.array(days, pa.date32()),
        "date64": lambda: pa.array(days, pa.date64()),
        "timestamp": lambda: pa.array(days, pa.date32()).cast(pa.timestamp("us")),
        "time32": lambda: pa.array([datetime.time(int(v)) for v in y], pa.time32("s")),
    }[kind]()
    pq.write_table(pa.table({"label": x}), p + ".parquet")
    return p + ".parquet", Refused("dates or times in label")


@case(kind="labels")
def pyarrow_labels_decimal(p, z, y):
    pq.write_table(pa.table({"label": pa.array([decimal.Decimal(int(v)) for v in y], pa.decimal128(5, 2))}), p + ".parquet")
    return p + ".parquet", y


@case(kind="labels")
def duckdb_labels_literals(p, z, y):
    duckdb.sql(f"copy (select * from (values {','.join(f'({v}.0)' for v in y)}) t(label)) to '{p}.parquet'")
    return p + ".parquet", y


@case(kind="labels")
def polars_labels(p, z, y):
    pl.DataFrame({"label": y}).write_parquet(p + ".parquet")
    return p + ".parquet", y


@case(kind="labels")
def polars_labels_categories(p, z, y):
    pl.DataFrame({"label": [f"c{v}" for v in y]}, schema={"label": pl.Categorical}).write_parquet(p + ".parquet")
    return p + ".parquet", Refused("text in label")


@several(["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool"], kind="labels", part="y")
def torch_labels(p, z, y, kind):
    x = torch.from_numpy(y % 2 if kind == "bool" else y)
    safetensors.torch.save_file({"y": x.to(getattr(torch, kind)), "z": torch.from_numpy(z)}, p + ".safetensors")
    return p + ".safetensors", y % 2 if kind == "bool" else y


# safetensors ---------------------------------------------------------------------------------------------


@several(["float64", "float32", "float16", "bfloat16"])
def torch_logits(p, z, y, kind):
    x = torch.from_numpy(z).to(getattr(torch, kind))
    safetensors.torch.save_file({"logits": x}, p + ".safetensors")
    return p + ".safetensors", x.double().numpy()


@several(["int8", "int16", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "complex64", "bool"], part="logits")
def safetensors_beside(p, z, y, kind):
    other = torch.from_numpy(y).to(getattr(torch, kind))
    safetensors.torch.save_file({"logits": torch.from_numpy(z), "other": other}, p + ".safetensors")
    return p + ".safetensors", z


@case(part="val/logits:0")
def safetensors_names(p, z, y):
    safetensors.numpy.save_file({"val/logits:0": z, "val/y": y}, p + ".safetensors")
    return p + ".safetensors", z


@case()
def safetensors_several(p, z, y):
    safetensors.numpy.save_file({"z": z, "y": y}, p + ".safetensors")
    return p + ".safetensors", Refused("say which")


@case(part="z")
def safetensors_f8(p, z, y):
    safetensors.torch.save_file({"z": torch.from_numpy(z).to(torch.float8_e4m3fn)}, p + ".safetensors")
    return p + ".safetensors", Refused("F8_E4M3")


# text ----------------------------------------------------------------------------------------------------


@case()
def pandas_csv(p, z, y):
    frame(z).to_csv(p + ".csv")
    return p + ".csv", z


@case()
def pandas_csv_digits(p, z, y):
    pd.DataFrame(z).to_csv(p + ".csv", index=False)
    return p + ".csv", z


@case()
def pandas_csv_digits_index(p, z, y):
    pd.DataFrame(z).to_csv(p + ".csv")
    return p + ".csv", z


@case()
def pandas_csv_mask(p, z, y):
    keep = np.arange(len(z)) % 3 != 1
    pd.DataFrame(z)[keep].to_csv(p + ".csv")
    return p + ".csv", z[keep]


@case()
def pandas_csv_read_again(p, z, y):
    frame(z).to_csv(p + ".csv")
    pd.read_csv(p + ".csv").to_csv(p + ".csv", index=False)  # Unnamed: 0
    return p + ".csv", z


@case()
def pandas_csv_bare(p, z, y):
    pd.DataFrame(z).to_csv(p + ".csv", index=False, header=False)
    return p + ".csv", z


@case()
def pandas_csv_bare_index(p, z, y):
    pd.DataFrame(z).to_csv(p + ".csv", header=False)
    return p + ".csv", Refused("two kinds")


@case()
def pandas_csv_label(p, z, y):
    frame(z).assign(label=y).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("whole numbers in label")


@case()
def pandas_csv_float_label(p, z, y):
    frame(z).assign(target=y.astype(float) + 1).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("whole numbers in target")


@case(part="logit_*")
def pandas_csv_pattern(p, z, y):
    frame(z).assign(label=y, id=range(len(y))).to_csv(p + ".csv")
    return p + ".csv", z


@case(part="l*")
def pandas_csv_pattern_too_wide(p, z, y):
    frame(z).assign(label=y).to_csv(p + ".csv")
    return p + ".csv", Refused("whole numbers in label")


@case(part="l*")
def pandas_parquet_pattern_too_wide(p, z, y):
    frame(z).assign(label=y.astype(float) + 1).to_parquet(p + ".parquet")
    return p + ".parquet", Refused("whole numbers in label")


@case()
def pandas_csv_two_lines_of_names(p, z, y):
    pd.DataFrame(z, columns=pd.MultiIndex.from_product([["a"], range(z.shape[1])])).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("several lines of names")


@case()
def pandas_csv_two_indices(p, z, y):
    frame(z).set_index([pd.Index(range(len(z))), pd.Index(y)]).to_csv(p + ".csv")
    return p + ".csv", Refused("two kinds")


@case()
def pandas_csv_percent(p, z, y):
    pd.DataFrame(softmax(z)).map(lambda v: f"{100 * v:.1f}%").to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("may be numbers, such as")


@case(kind="probs")
def pandas_csv_hundred(p, z, y):
    frame(100 * softmax(z)).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("percentages", values=True)


@case()
def one_column(p, z, y):
    np.save(p + ".npy", z[:, 0])
    return p + ".npy", Refused("there is one column", values=True)


@case()
def pandas_csv_loss(p, z, y):
    frame(z).assign(loss=np.abs(z[:, 0])).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("column loss may be something else")


@case()
def pandas_csv_whatever_beside(p, z, y):
    frame(z).assign(temperatures=np.abs(z[:, 0])).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("and temperatures beside them")


@case()
def pandas_csv_integers_beside(p, z, y):
    frame(np.round(z * 8).astype(int)).assign(number=range(len(z))).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("and number beside them")


@case()
def pandas_csv_probabilities_beside(p, z, y):
    pd.concat([frame(z), frame(softmax(z), "prob_")], axis=1).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("count twice")


@case()
def pandas_parquet_two_levels(p, z, y):
    names = pd.MultiIndex.from_product([["logit", "prob"], [str(j) for j in range(z.shape[1])]])
    pd.DataFrame(np.hstack([z, softmax(z)]), columns=names).to_parquet(p + ".parquet")
    return p + ".parquet", Refused("count twice")


@case()
def pandas_parquet_names_twice(p, z, y):
    d = pd.concat([pd.DataFrame(x[:, :3], columns=["cat", "dog", "bird"]).add_suffix(s) for x, s in ((z, "_logit"), (softmax(z), "_prob"))], axis=1)
    d.to_parquet(p + ".parquet")
    return p + ".parquet", Refused("at the same words")


@case(part="*_logit")
def pandas_parquet_names_once(p, z, y):
    d = pd.concat([pd.DataFrame(x[:, :3], columns=["cat", "dog", "bird"]).add_suffix(s) for x, s in ((z, "_logit"), (softmax(z), "_prob"))], axis=1)
    d.to_parquet(p + ".parquet")
    return p + ".parquet", z[:, :3]


@case()
def pandas_parquet_dropped(p, z, y):
    frame(z).drop(columns="logit_2").to_parquet(p + ".parquet")
    return p + ".parquet", Refused("2 is missing before logit_3")


@case()
def pandas_parquet_text_among_numbers(p, z, y):
    d = pd.DataFrame(z[:, :3], columns=["cat", "dog", "bird"])
    d["dog"] = d["dog"].map(lambda v: f"{v:.4f}")
    d.to_parquet(p + ".parquet")
    return p + ".parquet", Refused("column dog holds text that may be numbers")


@case()
def pandas_csv_percent_among_numbers(p, z, y):
    d = pd.DataFrame(softmax(z)[:, :3], columns=["cat", "dog", "bird"])
    d["dog"] = d["dog"].map(lambda v: f"{100 * v:.2f}%")
    d.to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("column dog holds text that may be numbers")


@case()
def pandas_csv_thousands_among_numbers(p, z, y):
    d = pd.DataFrame(z[:, :3], columns=["cat", "dog", "bird"])
    d["dog"] = [f"{1000 + abs(v):,.2f}" for v in d["dog"]]
    d.to_csv(p + ".csv", index=False)
    return p + ".csv", Refused('"1,00')


@several(["json", "tuples"])
def rows_in_brackets(p, z, y, form):
    text(p + ".txt", "".join(json.dumps([round(float(v), 6) for v in row]).translate({} if form == "json" else {91: "(", 93: ")"}) + "\n" for row in z))
    return p + ".txt", Refused("may be numbers, such as")


@several(["arrays", "lists"])
def pandas_csv_cells(p, z, y, kind):
    with np.printoptions(linewidth=40):
        pd.DataFrame({"logits": list(z) if kind == "arrays" else z.tolist(), "label": y}).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("cells of several lines are not read") if kind == "arrays" else Refused("there is one column", values=True)


@case()
def csv_excel_separator(p, z, y):
    text(p + ".csv", "sep=;\n" + lines(z, sep=";", head=";".join(f"l{j}" for j in range(z.shape[1]))))
    return p + ".csv", six(z)


@case()
def csv_title(p, z, y):
    text(p + ".csv", "Model A, second run\n" + lines(z))
    return p + ".csv", Refused("leave out titles")


@case()
def pandas_csv_semicolons_file_names(p, z, y):
    d = frame(z)
    d.insert(0, "file", [f"img{i}.png" for i in range(len(z))])
    d.to_csv(p + ".csv", index=False, sep=";", decimal=",")
    return p + ".csv", z


@several(["npy", "csv", "parquet", "safetensors", "npz"])
def lfs_pointer(p, z, y, ending):
    text(f"{p}.{ending}", "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 12345\n")
    return f"{p}.{ending}", Refused("git lfs pull")


@case()
def html_called_csv(p, z, y):
    return text(p + ".csv", "<!DOCTYPE html>\n<html><h1>404</h1></html>\n"), Refused("a web page")


@case()
def npz_called_npy(p, z, y):
    np.savez(p + ".npz", z)
    os.rename(p + ".npz", p + ".npy")
    return p + ".npy", Refused("a NumPy .npz archive")


@case()
def parquet_called_csv(p, z, y):
    frame(z).to_parquet(p + ".csv")
    return p + ".csv", Refused("a Parquet file")


@case(part="logit_2,logit_0")
def pandas_csv_list(p, z, y):
    frame(z).assign(label=y).to_csv(p + ".csv")
    return p + ".csv", z[:, [2, 0]]


@case(part='"cat, small","dog ""b""",bird')
def pandas_csv_quoted_names(p, z, y):
    pd.DataFrame(z[:, :3], columns=["cat, small", 'dog "b"', "bird"]).assign(label=y).to_csv(p + ".csv", index=False)
    return p + ".csv", z[:, :3]


@case()
def pandas_csv_commas_in_names(p, z, y):
    pd.DataFrame(z[:, :3], columns=["cat, small", 'dog "b"', "bird"]).to_csv(p + ".csv", index=False)
    return p + ".csv", z[:, :3]


@case()
def pandas_csv_file_names(p, z, y):
    d = frame(z)
    d.insert(0, "file", [f"a,{i}.png" for i in range(len(z))])
    d.to_csv(p + ".csv", index=False)
    return p + ".csv", z


@case()
def pandas_csv_bare_file_names(p, z, y):
    d = frame(z)
    d.insert(0, "file", [f"{i}.png" for i in range(len(z))])
    d.to_csv(p + ".csv", index=False, header=False)
    return p + ".csv", z


@case()
def pandas_csv_dates(p, z, y):
    d = frame(z)
    d.insert(0, "when", pd.date_range("2024-01-01", periods=len(z)))
    d.to_csv(p + ".csv", index=False)
    return p + ".csv", z


@case()
def pandas_csv_class_subset(p, z, y):
    pd.DataFrame(z[:, :3], columns=[3, 7, 12]).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("--header")


@case(flags=["--header", "yes"])
def pandas_csv_class_subset_yes(p, z, y):
    pd.DataFrame(z[:, :3], columns=[3, 7, 12]).to_csv(p + ".csv", index=False)
    return p + ".csv", z[:, :3]


@case(flags=["--header", "no"])
def whole_first_row(p, z, y):
    x = six(z)
    x[0] = np.arange(x.shape[1]) + 3
    text(p + ".csv", lines(x[:1], form="{:.0f}") + lines(x[1:]))
    return p + ".csv", x


@case()
def pandas_csv_quoted(p, z, y):
    pd.DataFrame(z).to_csv(p + ".csv", index=False, quoting=2)  # names in quotes, numbers not
    return p + ".csv", z


@case()
def pandas_csv_quoted_all(p, z, y):
    frame(z).to_csv(p + ".csv", index=False, quoting=1)
    return p + ".csv", z


@case()
def pandas_csv_semicolons(p, z, y):
    frame(z).to_csv(p + ".csv", index=False, sep=";", decimal=",")
    return p + ".csv", z


@case()
def pandas_csv_semicolons_points(p, z, y):
    frame(z).to_csv(p + ".csv", index=False, sep=";")
    return p + ".csv", z


@case()
def pandas_tsv(p, z, y):
    frame(z).to_csv(p + ".tsv", sep="\t")
    return p + ".tsv", z


@case()
def pandas_tsv_decimal_commas(p, z, y):
    frame(z).to_csv(p + ".tsv", sep="\t", decimal=",", index=False)
    return p + ".tsv", z


@case()
def pandas_bars(p, z, y):
    frame(z).to_csv(p + ".txt", sep="|", index=False)
    return p + ".txt", z


@case()
def pandas_blanks(p, z, y):
    frame(z).to_csv(p + ".txt", sep=" ", index=False)
    return p + ".txt", z


@case()
def pandas_to_string(p, z, y):
    text(p + ".txt", frame(six(z)).to_string(index=False, float_format="%.6f") + "\n")
    return p + ".txt", six(z)


@several(["gz", "zst"])
def pandas_csv_packed(p, z, y, ending):
    b = frame(z).to_csv(index=False).encode()
    packed = gzip.compress(b, mtime=0) if ending == "gz" else pa.compress(b, codec="zstd", asbytes=True)
    pathlib.Path(f"{p}.csv.{ending}").write_bytes(packed)
    return f"{p}.csv.{ending}", z


@case()
def pandas_csv_bz2(p, z, y):
    frame(z).to_csv(p + ".csv.bz2", index=False)
    return p + ".csv.bz2", Refused("bunzip2")


@case()
def pandas_csv_bom(p, z, y):
    frame(z).to_csv(p + ".csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    return p + ".csv", z


@case()
def pandas_csv_utf16(p, z, y):
    frame(z).to_csv(p + ".csv", index=False, encoding="utf-16")
    return p + ".csv", Refused("UTF-16")


@case()
def pandas_csv_missing(p, z, y):
    x = z.copy()
    x[1, 2] = np.nan
    frame(x).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("row 1 (line 3), column logit_2: a value is missing")


@case()
def csv_missing_first_row(p, z, y):
    text(p + ".csv", "0.5,,2.25\n" + lines(z[:, :3]))
    return p + ".csv", Refused("missing")


@case()
def csv_masked(p, z, y):
    x = six(z)
    x[0, 1] = x[3, 2] = -np.inf
    text(p + ".csv", lines(x, head=",".join("abcdefghij"[: x.shape[1]])))
    return p + ".csv", x


@case()
def csv_ragged(p, z, y):
    text(p + ".csv", lines(z) + "1.5,2.5\n")
    return p + ".csv", Refused("has 2 columns")


@case()
def csv_word(p, z, y):
    text(p + ".csv", lines(z[:-1]) + ",".join(["x"] * z.shape[1]) + "\n")
    return p + ".csv", Refused("is no number")


@case()
def csv_empty(p, z, y):
    text(p + ".csv", "")
    return p + ".csv", Refused("no rows")


@case()
def csv_names_alone(p, z, y):
    frame(z)[:0].to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("no rows")


@case()
def csv_columns_by_letters(p, z, y):
    names = sorted((f"c{j}" for j in range(8, 8 + z.shape[1])), key=str)
    pd.DataFrame(z, columns=names).to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("do not count upwards")


@case()
def polars_csv(p, z, y):
    pl.from_numpy(z).write_csv(p + ".csv")  # column_0 …
    return p + ".csv", z


@case()
def polars_csv_label(p, z, y):
    pl.from_numpy(z).with_columns(pl.Series("y", y)).write_csv(p + ".csv")
    return p + ".csv", Refused("whole numbers in y")


@case()
def duckdb_csv(p, z, y):
    d = frame(z)
    duckdb.sql(f"copy (select * from d) to '{p}.csv'")
    return p + ".csv", z


@case()
def duckdb_csv_gz(p, z, y):
    d = frame(z)
    duckdb.sql(f"copy (select * from d) to '{p}.csv.gz' (compression gzip)")
    return p + ".csv.gz", z


# Parquet -------------------------------------------------------------------------------------------------


@several(["none", "snappy", "gzip", "brotli", "zstd"])
def pyarrow_codec(p, z, y, codec):
    pq.write_table(table(z), p + ".parquet", compression=codec)
    return p + ".parquet", z


@case()
def pyarrow_lz4(p, z, y):
    pq.write_table(table(z), p + ".parquet", compression="lz4")
    return p + ".parquet", Refused("LZ4_RAW")


@case()
def duckdb_lz4(p, z, y):
    d = frame(np.random.default_rng(3).normal(size=z.shape))  # pages that shrink little
    duckdb.sql(f"copy (select * from d) to '{p}.parquet' (compression lz4)")
    return p + ".parquet", Refused("LZ4_RAW")


@case()
def polars_lz4(p, z, y):
    pl.from_numpy(z).write_parquet(p + ".parquet", compression="lz4")
    return p + ".parquet", Refused("LZ4_RAW")


@several(["float16", "float32", "double"])
def pyarrow_type(p, z, y, kind):
    x = z.astype({"double": "f8"}.get(kind, kind))
    pq.write_table(table(x), p + ".pq")
    return p + ".pq", x


@several(["float16", "float32", "double"])
def pyarrow_list(p, z, y, kind):
    x = z.astype({"double": "f8"}.get(kind, kind))
    pq.write_table(pa.table({"z": pa.array(list(x))}), p + ".parquet")
    return p + ".parquet", x


@several(["float16", "float32"])
def pyarrow_fixed_list(p, z, y, kind):
    x = z.astype(kind)
    pq.write_table(pa.table({"z": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])}), p + ".parquet")
    return p + ".parquet", x


@case(part="z")
def pyarrow_list_label(p, z, y):
    pq.write_table(pa.table({"z": pa.array(list(z)), "label": y}), p + ".parquet")
    return p + ".parquet", z


@case()
def pyarrow_list_label_which(p, z, y):
    pq.write_table(pa.table({"z": pa.array(list(z)), "label": y}), p + ".parquet")
    return p + ".parquet", Refused("lists of numbers in z")


@case()
def pyarrow_list_ragged(p, z, y):
    rows = [list(r) for r in z]
    rows[2] = rows[2][:-1]
    pq.write_table(pa.table({"z": rows}), p + ".parquet")
    return p + ".parquet", Refused("row 2 has")


@case()
def pyarrow_list_missing(p, z, y):
    rows = [list(r) for r in z]
    rows[2] = None
    pq.write_table(pa.table({"z": rows}), p + ".parquet")
    return p + ".parquet", Refused("row 2, column z: a value, or the whole list, is missing")


@case()
def pyarrow_nested(p, z, y):
    pq.write_table(pa.table({"z": [[list(r)] for r in z]}), p + ".parquet")
    return p + ".parquet", Refused("nested values in z")


@case()
def pyarrow_list_of_structs(p, z, y):
    pq.write_table(pa.table({"z": [[{"class": j, "score": float(v)} for j, v in enumerate(r)] for r in z]}), p + ".parquet")
    return p + ".parquet", Refused("nested values in z.class, z.score")


@several(["string", "int32"])
def pyarrow_map(p, z, y, key):
    rows = [[(str(j) if key == "string" else j, v) for j, v in enumerate(r)] for r in z]
    pq.write_table(pa.table({"z": pa.array(rows, pa.map_(getattr(pa, key)(), pa.float64()))}), p + ".parquet")
    return p + ".parquet", Refused("nested values in")


@case()
def pyarrow_fixed_shape_tensor(p, z, y):
    x = z.astype("f4")
    storage = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])
    t = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [x.shape[1]]), storage)
    pq.write_table(pa.table({"z": t}), p + ".parquet")
    return p + ".parquet", x


@case()
def pyarrow_large_list(p, z, y):
    pq.write_table(pa.table({"z": pa.array(list(z), pa.large_list(pa.float64()))}), p + ".parquet")
    return p + ".parquet", z


@several(["BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED"])
def pyarrow_encoding(p, z, y, encoding):
    x = np.round(z * 8).astype("i4") if encoding.startswith("DELTA") else z.astype("f4")
    pq.write_table(table(x), p + ".parquet", use_dictionary=False, column_encoding={f"logit_{j}": encoding for j in range(z.shape[1])})
    return p + ".parquet", x


@case()
def pyarrow_small_pages(p, z, y):
    pq.write_table(
        table(z), p + ".parquet", compression="zstd", compression_level=19, write_page_index=True, write_page_checksum=True,
        data_page_size=64, row_group_size=5, data_page_version="2.0",
    )  # fmt: skip
    return p + ".parquet", z


@case(kind="labels")
def pandas_labels_categorical(p, z, y):
    pd.DataFrame({"label": pd.Categorical(y)}).to_parquet(p + ".parquet")
    return p + ".parquet", y


@case(part="pred.logits")
def pyarrow_struct_list(p, z, y):
    pq.write_table(pa.table({"pred": [{"logits": list(r), "n": 1} for r in z], "label": y}), p + ".parquet")
    return p + ".parquet", z


@case(part="pred.l*")
def pyarrow_struct_fields(p, z, y):
    pq.write_table(pa.table({"pred": [{**{f"l{j}": v for j, v in enumerate(r)}, "n": 1} for r in z], "label": y}), p + ".parquet")
    return p + ".parquet", z


@several(["1.0", "2.4", "2.6"])
def pyarrow_version(p, z, y, version):
    pq.write_table(table(z), p + ".parquet", version=version, data_page_version="2.0" if version == "2.6" else "1.0")
    return p + ".parquet", z


@several(["PLAIN", "BYTE_STREAM_SPLIT"])
def pyarrow_encoding(p, z, y, encoding):
    pq.write_table(table(z.astype("f4")), p + ".parquet", use_dictionary=False, column_encoding=encoding)
    return p + ".parquet", z.astype("f4")


@case()
def pyarrow_delta(p, z, y):
    x = np.round(z * 100).astype("i8")
    pq.write_table(table(x), p + ".parquet", use_dictionary=False, column_encoding="DELTA_BINARY_PACKED")
    return p + ".parquet", x


@case()
def pyarrow_small_groups(p, z, y):
    pq.write_table(table(z), p + ".parquet", row_group_size=5, write_page_index=True, data_page_size=64)
    return p + ".parquet", z


@case()
def pyarrow_empty_groups(p, z, y):
    t = table(z)
    with pq.ParquetWriter(p + ".parquet", t.schema) as w:
        for part in (t[:0], t[:4], t[:0], t[4:], t[:0]):
            w.write_table(part)
    return p + ".parquet", z


@case()
def pyarrow_decimal(p, z, y):
    x = np.round(z, 3)
    exact = {f"l{j}": pa.array([decimal.Decimal(f"{v:.3f}") for v in x[:, j]], pa.decimal128(20, 3)) for j in range(x.shape[1])}
    pq.write_table(pa.table(exact), p + ".parquet")
    return p + ".parquet", x


@several([("int32", 9), ("int64", 18), ("wide", 38)])
def pyarrow_decimal_stored(p, z, y, stored):
    x = np.round(z, 3)
    exact = {f"l{j}": pa.array([decimal.Decimal(f"{v:.3f}") for v in x[:, j]], pa.decimal128(stored[1], 3)) for j in range(x.shape[1])}
    pq.write_table(pa.table(exact), p + ".parquet", store_decimal_as_integer=stored[0] != "wide")
    return p + ".parquet", x


@case()
def duckdb_literals(p, z, y):
    x = np.round(z, 2)  # DuckDB types plain literals as DECIMAL
    rows = ",".join("(" + ",".join(f"{v:.2f}" for v in r) + ")" for r in x)
    names = ",".join(f"l{j}" for j in range(x.shape[1]))
    duckdb.sql(f"copy (select * from (values {rows}) t({names})) to '{p}.parquet'")
    return p + ".parquet", x


@case()
def duckdb_parquet(p, z, y):
    d = frame(z.astype("f4"))
    duckdb.sql(f"copy (select * from d) to '{p}.parquet'")
    return p + ".parquet", z.astype("f4")


@case()
def duckdb_list(p, z, y):
    d = pd.DataFrame({"z": list(z)})
    duckdb.sql(f"copy (select z from d) to '{p}.parquet' (compression zstd)")
    return p + ".parquet", z


@case()
def duckdb_array(p, z, y):
    d = pd.DataFrame({"z": list(z)})
    duckdb.sql(f"copy (select z::float[{z.shape[1]}] as z from d) to '{p}.parquet'")
    return p + ".parquet", z.astype("f4")


@case()
def pandas_parquet(p, z, y):
    frame(z).to_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def pandas_parquet_digits(p, z, y):
    pd.DataFrame(z).to_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def pandas_parquet_mask(p, z, y):
    keep = np.arange(len(z)) % 3 != 1
    frame(z)[keep].to_parquet(p + ".parquet")
    return p + ".parquet", z[keep]


@case()
def pandas_parquet_named_index(p, z, y):
    frame(z).set_index(pd.Index(range(100, 100 + len(z)), name="sample_number")).to_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def pandas_parquet_shuffled(p, z, y):
    d = frame(z).sample(frac=1, random_state=0)
    d.to_parquet(p + ".parquet")
    return p + ".parquet", d.to_numpy()


@case()
def pandas_parquet_time_index(p, z, y):
    frame(z).set_index(pd.date_range("2024-01-01", periods=len(z))).to_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def index_level_without_metadata(p, z, y):
    pq.write_table(table(z, __index_level_0__=y), p + ".parquet")
    return p + ".parquet", z


@case()
def pandas_parquet_label(p, z, y):
    frame(z).assign(label=y).to_parquet(p + ".parquet")
    return p + ".parquet", Refused("whole numbers in label")


@case()
def pandas_parquet_float_label(p, z, y):
    frame(z).assign(target=y.astype(float) + 1).to_parquet(p + ".parquet")
    return p + ".parquet", Refused("whole numbers in target")


@case()
def pandas_parquet_all_whole_label(p, z, y):
    frame(np.round(z * 8).astype("i8")).assign(label=y).to_parquet(p + ".parquet")
    return p + ".parquet", Refused("column label may be something else")


@case(part="*")
def pandas_parquet_all(p, z, y):
    x = np.column_stack([z, np.round(z[:, 0])])
    frame(x).astype({f"logit_{z.shape[1]}": "i8"}).to_parquet(p + ".parquet")
    return p + ".parquet", x


@case()
def pandas_parquet_text(p, z, y):
    frame(z).assign(file=[f"{i}.png" for i in range(len(z))], when=pd.Timestamp("2024-01-01")).to_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def pandas_parquet_missing(p, z, y):
    d = table(z).to_pandas().astype("Float64")
    d.iloc[1, 2] = pd.NA
    d.to_parquet(p + ".parquet")
    return p + ".parquet", Refused("row 1, column logit_2: a value is missing")


@case()
def pandas_parquet_mixed_floats(p, z, y):
    d = frame(z)
    d["logit_1"] = d["logit_1"].astype("f4")
    d.to_parquet(p + ".parquet")
    return p + ".parquet", d.to_numpy(dtype="f8")


@case()
def polars_parquet(p, z, y):
    pl.from_numpy(z).write_parquet(p + ".parquet")
    return p + ".parquet", z


@case()
def polars_array(p, z, y):
    pl.DataFrame({"z": z.astype("f4")}, schema={"z": pl.Array(pl.Float32, z.shape[1])}).write_parquet(p + ".parquet")
    return p + ".parquet", z.astype("f4")


@case()
def polars_unsigned(p, z, y):
    x = np.abs(np.round(z * 8)).astype("u4")
    x[0, 0] = 2**31 + 5
    pl.from_numpy(x).write_parquet(p + ".parquet")
    return p + ".parquet", x


@case()
def folder_of_parts(p, z, y):
    os.makedirs(p)
    for i, rows in enumerate(np.array_split(z, 3)):
        pq.write_table(table(rows), f"{p}/part-{i:05d}.parquet")
    pathlib.Path(p, "_SUCCESS").touch()
    return p, z


@case()
def folder_unpadded(p, z, y):
    os.makedirs(p)
    for i, rows in enumerate(np.array_split(z, 11)):
        pq.write_table(table(rows), f"{p}/part-{i}.parquet")
    return p, Refused("leading zeros")


@case()
def folder_of_two_shapes(p, z, y):
    os.makedirs(p)
    pq.write_table(table(z), f"{p}/0.parquet")
    pq.write_table(table(z, prefix="other_"), f"{p}/1.parquet")
    return p, Refused("no column logit_0")


@case()
def folder_of_delta(p, z, y):
    os.makedirs(p + "/_delta_log")
    pq.write_table(table(z), f"{p}/part-00000.parquet")
    text(p + "/_delta_log/00000000000000000000.json", "{}\n")
    return p, Refused("a Delta table")


@case()
def folder_partitioned(p, z, y):
    pyarrow.dataset.write_dataset(table(z, fold=y % 2), p, format="parquet", partitioning=["fold"], partitioning_flavor="hive")
    return p, Refused("holds nothing else")


# probabilities -------------------------------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def divided(p):
    off = np.abs(p.sum(axis=1) - 1) > 1e-3
    return np.where(off[:, None], p / p.sum(axis=1, keepdims=True), p)


@several(["f4", "f8"], kind="probs")
def probabilities(p, z, y, kind):
    x = softmax(z).astype(kind)
    np.save(p + ".npy", x)
    return p + ".npy", x


@case(kind="probs")
def probabilities_bfloat16(p, z, y):
    x = torch.from_numpy(softmax(z)).bfloat16()
    safetensors.torch.save_file({"p": x}, p + ".safetensors")
    return p + ".safetensors", divided(x.double().numpy())


@case(kind="probs")
def probabilities_float16(p, z, y):
    x = softmax(z).astype("f2")
    np.save(p + ".npy", x)
    return p + ".npy", divided(x.astype("f8"))


@several(["2", "3", "4"], kind="probs")
def probabilities_digits(p, z, y, digits):
    x = np.round(softmax(z), int(digits))
    x[np.abs(x.sum(axis=1) - 1) > 1e-3 * x.shape[1]] = 1 / x.shape[1]  # the most that is taken for rounding
    frame(x, "p").to_csv(p + ".csv", index=False)
    return p + ".csv", divided(x)


@case(kind="probs")
def probabilities_one_digit(p, z, y):
    frame(np.round(softmax(z), 1), "p").to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("not 1", values=True)


@case(kind="probs", flags=["--exact-sums"])
def probabilities_exact(p, z, y):
    x = np.round(softmax(z), 2)
    x[1] = 0.01
    x[1, 0] = 0.998 - 0.01 * (x.shape[1] - 1)
    frame(x, "p").to_csv(p + ".csv", index=False)
    return p + ".csv", Refused("row ", values=True)


@case(kind="probs")
def probabilities_are_logits(p, z, y):
    np.save(p + ".npy", z)
    return p + ".npy", Refused("are they logits?", values=True)


@case(kind="probs")
def probabilities_unnormalised(p, z, y):
    np.save(p + ".npy", softmax(z) * 0.97)
    return p + ".npy", Refused("their digits explain", values=True)


@case(kind="probs")
def probabilities_forest(p, z, y):
    x = np.round(softmax(z) * 4)  # votes of four trees; the last class has none
    x[:, -1] = 0
    x[:, 0] += 4 - x.sum(axis=1)
    x = np.abs(x) / np.abs(x).sum(axis=1, keepdims=True)
    frame(x, "p").to_csv(p + ".csv", index=False)
    return p + ".csv", x


# others --------------------------------------------------------------------------------------------------


@several(["pt", "pth", "h5", "pkl", "joblib", "onnx", "mat", "rds", "feather", "xlsx", "json", "jsonl"])
def elsewhere(p, z, y, ending):
    text(f"{p}.{ending}", "x")
    return f"{p}.{ending}", Refused("convert it first")


@case()
def ending_unknown(p, z, y):
    text(p + ".dat", "1 2\n")
    return p + ".dat", Refused("must end in")


@case()
def name_with_a_colon(p, z, y):
    os.makedirs(p)
    np.save(p + "/resnet.v2:val.npy", z)
    return p + "/resnet.v2:val.npy", z


@case()
def absent(p, z, y):
    return p + ".npy", Refused("cannot be read")


# Formats that are refused with the line that converts them: the line must work. -------------------------

CONVERSIONS = []


def converts(f):
    CONVERSIONS.append((f.__name__, f))
    return f


@converts
def pt(p, z):
    torch.save(torch.from_numpy(z), p + ".pt")
    return p + ".pt"


@converts
def pkl(p, z):
    frame(z).to_pickle(p + ".pkl")
    return p + ".pkl"


@converts
def joblib_dump(p, z):
    joblib.dump(z, p + ".joblib")
    return p + ".joblib"


@converts
def h5(p, z):
    with h5py.File(p + ".h5", "w") as f:
        f["logits"] = z
    return p + ".h5"


@converts
def mat(p, z):
    scipy.io.savemat(p + ".mat", {"logits": z})
    return p + ".mat"


@converts
def netcdf(p, z):
    xarray.Dataset({"logits": (("sample", "label"), z)}).to_netcdf(p + ".nc", engine="scipy")
    return p + ".nc"


@converts
def feather(p, z):
    frame(z).to_feather(p + ".feather")
    return p + ".feather"


@converts
def arrow_file(p, z):
    t = table(z)
    with pa.ipc.new_file(p + ".arrow", t.schema) as w:
        w.write_table(t)
    return p + ".arrow"


@converts
def arrow_stream(p, z):
    t = table(z)
    with pa.ipc.new_stream(p + ".arrow", t.schema) as w:
        w.write_table(t)
    return p + ".arrow"


@converts
def orc(p, z):
    pyarrow.orc.write_table(table(z), p + ".orc")
    return p + ".orc"


@converts
def avro(p, z):
    names = [f"l{j}" for j in range(z.shape[1])]
    schema = {"type": "record", "name": "row", "fields": [{"name": n, "type": "double"} for n in names]}
    with open(p + ".avro", "wb") as f:
        fastavro.writer(f, schema, [dict(zip(names, map(float, row))) for row in z])
    return p + ".avro"


@converts
def xlsx(p, z):
    frame(z).to_excel(p + ".xlsx", index=False)
    return p + ".xlsx"


@converts
def dta(p, z):
    frame(z).to_stata(p + ".dta", write_index=False)
    return p + ".dta"


@converts
def sqlite(p, z):
    c = sqlite3.connect(p + ".sqlite")
    frame(z).to_sql("logits", c, index=False)
    c.close()
    return p + ".sqlite"


@converts
def json_rows(p, z):
    text(p + ".json", json.dumps(z.tolist()))
    return p + ".json"


@converts
def jsonl(p, z):
    frame(z).to_json(p + ".jsonl", orient="records", lines=True, double_precision=15)
    return p + ".jsonl"


@converts
def zarr_store(p, z):
    zarr.save(p + ".zarr", z)
    return p + ".zarr"


@converts
def flax_msgpack(p, z):
    pathlib.Path(p + ".msgpack").write_bytes(flax.serialization.msgpack_serialize({"logits": jnp.asarray(z, dtype="bfloat16")}))
    return p + ".msgpack"


@converts
def orbax_checkpoint(p, z):
    with orbax.checkpoint.StandardCheckpointer() as c:
        c.save(os.path.abspath(p), {"logits": jnp.asarray(z, dtype="bfloat16")})
    return p


def conversion(gocp, d, label, write, z, y):
    """Returns what is wrong, or None. Numbers may have been rounded on their way."""
    d = os.path.join(d, "from_" + label)
    os.makedirs(d)
    labels, thr = os.path.join(d, "labels.npy"), os.path.join(d, "threshold.json")
    np.save(labels, y)

    def calibrate(path):
        return run(gocp, "calibrate", "--logits", path, "--labels", labels, "--miscoverage", "0.2", "--out", thr, "--quiet")

    r = calibrate(write(os.path.join(d, "x"), z))
    if r.returncode != 2 or "convert it first: python -c '" not in r.stderr:
        return f"exit {r.returncode}: {r.stderr.strip()}"
    line = r.stderr.split("convert it first: ")[1]
    line = line[: line.rindex("'") + 1].replace("NAME", "logits")
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    made = subprocess.run(line, shell=True, cwd=d, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    found = [f for f in os.listdir(d) if f.startswith("logits.")]
    if made.returncode or len(found) != 1:
        return f"{line}: {made.stderr.strip()[-300:]}"
    r = calibrate(os.path.join(d, found[0]))
    if r.returncode:
        return f"{found[0]}: {r.stderr.strip()}"
    tau = threshold(scores(z, "logits")[np.arange(len(y)), y], 0.2)
    got = json.load(open(thr))["thresholds"]["all"]["tau"]
    return None if abs(got - tau) < 1e-2 else f"τ is {got!r} after {line}, numpy's {tau!r}"


# R -------------------------------------------------------------------------------------------------------

R_LINES = {
    "r_write_csv": ('write.csv(d, "OUT")', "csv"),
    "r_write_csv_bare": ('write.csv(d, "OUT", row.names = FALSE)', "csv"),
    "r_write_csv2": ('write.csv2(d, "OUT", row.names = FALSE)', "csv"),
    "r_write_csv2_names": ('write.csv2(d, "OUT")', "csv"),
    "r_write_table": ('write.table(d, "OUT")', "txt"),
    "r_write_table_bare": ('write.table(d, "OUT", row.names = FALSE, col.names = FALSE)', "txt"),
    "r_write_table_tabs": ('write.table(d, "OUT", sep = "\\t", quote = FALSE)', "tsv"),
    "r_matrix": ('write.csv(as.matrix(unname(d)), "OUT")', "csv"),
    "r_digits": ('write.csv(setNames(d, 0:(ncol(d) - 1)), "OUT", row.names = FALSE)', "csv"),
    "r_named_rows": ('rownames(d) <- paste0("img", seq_len(nrow(d))); write.csv(d, "OUT")', "csv"),
    "r_gz": ('con <- gzfile("OUT"); write.csv(d, con, row.names = FALSE)', "csv.gz"),
    "r_subset": ('write.csv(d[seq(1, nrow(d), 2), ], "OUT")', "csv"),
}


def r_case(label, line, ending):
    def write(p, z, y):
        with tempfile.TemporaryDirectory() as d:
            np.savetxt(f"{d}/z.csv", z, delimiter=",", fmt="%.17g")
            out = f"{p}.{ending}"
            program = f'd <- read.csv("{d}/z.csv", header = FALSE); ' + line.replace("OUT", out)
            subprocess.run(["Rscript", "-e", program], check=True, capture_output=True)
        expected = pd.read_csv(f"{p}.{ending}", sep=";" if "csv2" in label else r"\s+" if ending in ("txt", "tsv") else ",",
                               decimal="," if "csv2" in label else ".", header=None if label == "r_write_table_bare" else 0)
        return out, expected.to_numpy()[:, -z.shape[1]:].astype("f8")  # R writes 15 digits

    return write


if shutil.which("Rscript"):
    for label, (line, ending) in R_LINES.items():
        CASES.append((label, "logits", [], "", r_case(label, line, ending)))


def r_label(p, z, y):
    with tempfile.TemporaryDirectory() as d:
        np.savetxt(f"{d}/y.csv", y, fmt="%d")
        subprocess.run(["Rscript", "-e", f'y <- scan("{d}/y.csv", quiet = TRUE); write.csv(data.frame(label = y), "{p}.csv")'], check=True, capture_output=True)
    return p + ".csv", y


if shutil.which("Rscript"):
    CASES.append(("r_labels", "labels", [], "", r_label))


# The check -----------------------------------------------------------------------------------------------


def scores(x, kind):
    with np.errstate(invalid="ignore"):
        return 1 - (softmax(np.asarray(x, dtype="f8")) if kind == "logits" else np.asarray(x, dtype="f8"))


def threshold(own, miscoverage):
    n = len(own)
    rank = math.ceil((n + 1) * (1 - miscoverage) - 1e-9)
    return np.sort(own)[rank - 1]


def run(gocp, *args):
    return subprocess.run([gocp, "conformal", *args], capture_output=True, text=True)


def check(gocp, d, label, kind, flags, part, write, z, y):
    """Returns what is wrong, or None."""
    path, expected = write(os.path.join(d, label), z, y)
    if expected is None:
        expected = z
    arg = path + (":" + part if part else "")
    base = os.path.join(d, "base.npy")
    refused = isinstance(expected, Refused)
    if kind == "labels":
        labels, inputs, x = arg, ["--logits", base], z
        if not refused:
            y = expected
            if max(y) >= z.shape[1]:
                raise ValueError("labels beyond the logits")
    else:
        x = None if refused else np.asarray(expected, dtype="f8")
        k = z.shape[1] if refused else x.shape[1]
        y = (y if refused else y[: len(x)]) % k
        labels = os.path.join(d, label + "-y.npy")
        np.save(labels, y)
        inputs = ["--" + kind, arg]
    thr, sets = os.path.join(d, label + "-t.json"), os.path.join(d, label + "-sets.npy")
    r = run(gocp, "calibrate", *inputs, "--labels", labels, "--miscoverage", "0.2", "--out", thr, "--quiet", *flags)
    if refused:
        line = r.stderr.strip()
        if r.returncode != 2 or expected.says not in line or "\n" in line or os.path.exists(thr):
            return f"must be refused with {expected.says!r}: exit {r.returncode}, {line or r.stdout.strip()!r}"
        return None
    if r.returncode:
        return f"exit {r.returncode}: {r.stderr.strip()}"
    form = "probs" if kind == "probs" else "logits"
    s = scores(x, form)
    tau = threshold(s[np.arange(len(y)), y], 0.2)
    got = json.load(open(thr))["thresholds"]["all"]["tau"]
    if abs(got - tau) > 1e-12 * max(1, abs(tau)):
        return f"τ is {got!r}, numpy's {tau!r}"
    r = run(gocp, "predict", "--threshold", thr, *inputs, "--out", sets, "--quiet", *flags)
    if r.returncode:
        return f"predict: exit {r.returncode}: {r.stderr.strip()}"
    have = np.load(sets)
    if have.shape != s.shape:
        return f"sets of shape {have.shape}, scores of {s.shape}"
    wrong = (have == 1) != (s <= got)
    wrong &= np.abs(s - got) > 1e-12
    return f"{wrong.sum()} labels are in the wrong sets" if wrong.any() else None


def data(n, k):
    r = np.random.default_rng(20)
    y = r.integers(0, k, n)
    z = r.normal(size=(n, k)) * 1.5
    z[np.arange(n), y] += 1.5
    return z, y


def plain(x):
    return [[("-inf" if v == -np.inf else float(v)) for v in row] for row in np.asarray(x, dtype="f8").reshape(len(x), -1)]


def testdata(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    z, y = data(12, 4)
    y[0] = 3
    expectations = []
    for label, kind, flags, part, write in CASES:
        path, expected = write(os.path.join(folder, label), z, y)
        if ":" in path:  # such names are not for a module of Go's
            shutil.rmtree(os.path.dirname(path))
            continue
        entry = {"file": os.path.relpath(path, folder), "part": part, "kind": kind}
        if "--header" in flags:
            entry["header"] = flags[flags.index("--header") + 1]
        if isinstance(expected, Refused):
            entry["refused"] = expected.says
            if expected.values:
                entry["values"] = True
        else:
            entry["rows"] = plain(z if expected is None else expected)
        expectations.append(entry)
    with open(os.path.join(folder, "expected.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e, ensure_ascii=False) for e in expectations) + "\n]\n")
    print(f"{len(expectations)} files in {folder}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--gocp", default="../bin/gocp")
    p.add_argument("--testdata", help="write small files and what is expected of them into this folder")
    p.add_argument("--only", help="cases whose name holds this")
    a = p.parse_args()
    if not shutil.which("Rscript"):
        print("no Rscript: R's files are left out", file=sys.stderr)
    if a.testdata:
        return testdata(a.testdata)
    z, y = data(200, 10)
    bad = done = 0
    with tempfile.TemporaryDirectory() as d:
        np.save(os.path.join(d, "base.npy"), z)
        for label, kind, flags, part, write in CASES:
            if a.only and a.only not in label:
                continue
            done += 1
            try:
                wrong = check(a.gocp, d, label, kind, flags, part, write, z, y.copy())
            except Exception as e:
                wrong = f"not tried: {type(e).__name__}: {e}"
            if wrong:
                bad += 1
                print(f"{label}: {wrong}")
        for label, write in CONVERSIONS:
            if a.only and a.only not in "from_" + label:
                continue
            done += 1
            try:
                wrong = conversion(a.gocp, d, label, write, z, y)
            except Exception as e:
                wrong = f"not tried: {type(e).__name__}: {e}"
            if wrong:
                bad += 1
                print(f"from_{label}: {wrong}")
    print(f"{done} files, {bad} wrong")
    sys.exit(bad > 0)


main()
