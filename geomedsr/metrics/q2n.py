"""Q2n: the universal quality index of whole spectra, which are taken as hypercomplex numbers; Q4 for four channels.

In blocks of 32 x 32 voxels, with z = x_1 + i x_2 + j x_3 + ... (zeros up to the next power of two):

    Q = |cov(z, w)| / (sd z sd w)  2 sd z sd w / (var z + var w)  2 |mean z| |mean w| / (|mean z|^2 + |mean w|^2)

and the figure is the mean over blocks. Blocks with an invalid voxel, and those flat in both images, do not count. In a
volume the blocks lie in its planes of the first two axes.

Reference: Alparone et al. 2004, DOI 10.1109/LGRS.2004.836784 (Q4); Garzelli and Nencini 2009,
DOI 10.1109/LGRS.2009.2022650 (Q2n)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from geomedsr.metrics._compared import Compared
from geomedsr.metrics._metric import Better

__all__ = ["BETTER", "LABEL", "UNITS", "measure", "product"]

LABEL, UNITS = "Q2n", ""
BETTER: Better = "higher"

_BLOCK = 32
_FLAT = 1e-12

Numbers = NDArray[np.float64]


def measure(pair: Compared) -> float | None:
    """The figure of two images; None for one channel (that is UQI), or where no block counts."""
    if len(pair.sr) < 2:
        return None
    found = [_quality(x, y) for x, y in zip(_blocks(pair.masked[0]), _blocks(pair.masked[1]), strict=True)]
    counted = [value for value in found if value is not None]
    return float(np.mean(counted)) if counted else None


def product(a: Numbers, b: Numbers) -> Numbers:
    """The product of hypercomplex numbers, their parts along the first axis, by Cayley's and Dickson's doubling.

    Example:
        >>> i, j = np.eye(4)[1], np.eye(4)[2]
        >>> product(i, j).tolist()  # i j = k
        [0.0, 0.0, 0.0, 1.0]
    """
    if len(a) == 1:
        return a * b
    half = len(a) // 2
    (p, q), (r, s) = (a[:half], a[half:]), (b[:half], b[half:])
    return np.concatenate([product(p, r) - product(conjugate(s), q), product(s, p) + product(q, conjugate(r))])


def conjugate(a: Numbers) -> Numbers:
    """The number with all its imaginary parts turned round."""
    return np.concatenate([a[:1], -a[1:]])


def _blocks(x: Numbers) -> Iterator[Numbers]:
    """The whole blocks, each as spectra padded to a power of two: (2^n, voxels)."""
    planes = x.reshape(*x.shape[:3], -1)
    parts = 1 << (len(x) - 1).bit_length()
    for plane in range(planes.shape[-1]):
        for row in range(0, x.shape[1] - _BLOCK + 1, _BLOCK):
            for column in range(0, x.shape[2] - _BLOCK + 1, _BLOCK):
                block = planes[:, row : row + _BLOCK, column : column + _BLOCK, plane].reshape(len(x), -1)
                yield np.pad(block, ((0, parts - len(x)), (0, 0)))


def _quality(z: Numbers, w: Numbers) -> float | None:
    if not (np.isfinite(z).all() and np.isfinite(w).all()):
        return None
    means = z.mean(axis=1), w.mean(axis=1)
    u, v = z - means[0][:, None], w - means[1][:, None]
    variances = [float((one**2).sum(axis=0).mean()) for one in (u, v)]
    levels = [float((one**2).sum()) for one in means]
    if sum(variances) <= _FLAT * sum(levels) or sum(levels) == 0:
        return None
    shared = float(np.linalg.norm(product(u, conjugate(v)).mean(axis=1)))
    return 4 * shared * float(np.sqrt(levels[0] * levels[1])) / (sum(variances) * sum(levels))
