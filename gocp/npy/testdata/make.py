"""Writes numpy.npz and version2.npy with NumPy (2.4.6): the types, orders and versions that package
npy reads. Run in this folder."""
import numpy as np

a = np.arange(-3, 3)
np.savez_compressed(
    "numpy.npz",
    i1=a.astype("i1"), i2=a.astype(">i2"), i4=a.astype("<i4"), i8=a.astype(">i8"),
    u1=np.arange(6, dtype="u1").reshape(1, 2, 3), u2=np.arange(6, dtype="u2"), u4=np.arange(6, dtype=">u4"),
    u8=np.arange(6, dtype="u8"), b1=np.array([True, False]), f4=(a / 4).astype(">f4"), f8=a / 8,
    scalar=np.array(5), empty=np.zeros((0, 3), "f4"), text=np.array(["cat", "é𝄞", ""]), big=np.array(["ab", "c"], ">U3"),
    fortran=np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
)
with open("version2.npy", "wb") as f:
    np.lib.format.write_array(f, np.arange(3.0), version=(2, 0))
