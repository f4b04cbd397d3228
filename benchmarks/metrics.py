"""Claim: the metrics are those of the papers, and agree with other implementations at matched settings.

Random images of 2 axes, 3 axes and 4 bands are measured by geomedsr, by scikit-image and torchmetrics where these have
the metric with settings that can be matched, and by plain formulas otherwise; the table shows the largest difference.

    python -m benchmarks.metrics
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import wasserstein_distance
from skimage import metrics as scikit
from torchmetrics.functional import image as torchmetrics

from geomedsr.metrics import Compared, all_metrics

Images = NDArray[np.float32]
SHAPES: dict[str, tuple[int, ...]] = {"2D": (1, 190, 201), "3D": (1, 36, 41, 44), "4 bands": (4, 192, 201)}
RANGE = 1.3


@dataclass(frozen=True)
class Row:
    """A metric on an image by two implementations."""

    metric: str
    data: str
    against: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """How far they are apart."""
        return abs(self.ours - self.theirs)


def images(shape: tuple[int, ...], seed: int) -> tuple[Images, Images]:
    """A smooth random image that is positive, and a noisy copy."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), (0, *(1.2,) * (len(shape) - 1)))
    hr = (0.6 + 0.4 * smooth / np.abs(smooth).max()).astype(np.float32)
    return (hr + 0.03 * rng.standard_normal(shape)).astype(np.float32), hr


def rows(seed: int = 0) -> Iterator[Row]:
    """Every comparison there is."""
    for data, shape in SHAPES.items():
        sr, hr = images(shape, seed)
        bands = ("B02", "B03", "B04", "B08") if shape[0] == 4 else ("image",)
        ndim = len(shape) - 1
        pair = Compared(sr, hr, RANGE, (1.0,) * ndim, "mm", (2,) * ndim, bands)
        for metric, against, theirs in references(sr, hr):
            ours = all_metrics()[metric].measure(pair)
            assert ours is not None, metric
            yield Row(metric, data, against, ours, theirs)


def references(sr: Images, hr: Images) -> Iterator[tuple[str, str, float]]:
    """What others say: the metric, who says it, and what."""
    x, y = sr.astype(np.float64), hr.astype(np.float64)
    yield "psnr", "scikit-image", float(scikit.peak_signal_noise_ratio(y, x, data_range=RANGE))
    yield "psnr", "torchmetrics", float(torchmetrics.peak_signal_noise_ratio(*tensors(x, y), data_range=RANGE))
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    yield "ssim", "scikit-image", float(scikit.structural_similarity(x, y, data_range=RANGE, **gaussian))
    yield "ssim", "torchmetrics, borders cut", torch_ssim(x, y)
    yield "ms_ssim", "torchmetrics, borders cut", torch_ms_ssim(x, y)
    yield "nrmse", "scikit-image", float(scikit.normalized_root_mse(y, x))
    yield "mae", "formula", float(np.abs(x - y).mean())
    yield "hfen", "scipy's gaussian_laplace", hfen(x, y)
    yield "gmsd", "formula", gmsd(x, y)
    yield "fourier", "formula", fourier(x, y)
    yield "uqi", "formula", uqi(x, y)
    yield "scc", "formula", scc(x, y)
    drift = [wasserstein_distance(a.ravel(), b.ravel()) for a, b in zip(x, y, strict=True)]
    yield "histogram", "scipy", 100 * float(np.mean(drift)) / RANGE
    if len(x) == 4:
        yield from spectral_references(x, y)


def spectral_references(x: NDArray[np.float64], y: NDArray[np.float64]) -> Iterator[tuple[str, str, float]]:
    """What others say of several bands."""
    yield "sam", "torchmetrics", math.degrees(float(torchmetrics.spectral_angle_mapper(*tensors(x, y))))
    ergas = torchmetrics.error_relative_global_dimensionless_synthesis(*tensors(x, y), ratio=2)
    yield "ergas", "torchmetrics", float(ergas)
    errors = [float(np.mean((a - b) ** 2)) for a, b in zip(x, y, strict=True)]
    yield "rase", "formula", 100 / float(y.mean()) * float(np.sqrt(np.mean(errors)))
    yield "q2n", "formula, as 4 x 4 matrices", q4(x, y)
    index = [(one[3] - one[2]) / (one[3] + one[2]) for one in (x, y)]
    yield "ndvi", "formula", float(np.abs(index[0] - index[1]).mean())


def tensors(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as torchmetrics takes them."""
    return torch.from_numpy(x)[None], torch.from_numpy(y)[None]


def inside(x: NDArray[np.float64]) -> tuple[slice, ...]:
    """All of a batch of images like x but the border that half a window takes."""
    return (slice(None), slice(None), *(slice(5, -5),) * (x.ndim - 1))


def torch_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The map of torchmetrics without its border, where windows hang over the edge."""
    _, full = torchmetrics.structural_similarity_index_measure(*tensors(x, y), data_range=RANGE, return_full_image=True)
    return float(full[inside(x)].mean())


def torch_ms_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """MS-SSIM put together from torchmetrics' maps of each octave, without their borders."""
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    count = sum(min(x.shape[1:]) >> level >= 11 for level in range(5))
    pool: Callable[..., torch.Tensor] = (
        torch.nn.functional.avg_pool2d if x.ndim == 3 else torch.nn.functional.avg_pool3d
    )
    a, b = tensors(x, y)
    each = []
    for channel in range(len(x)):
        p, q, total = a[:, channel : channel + 1], b[:, channel : channel + 1], 1.0
        for level in range(count):
            last = level == count - 1
            found = torchmetrics.structural_similarity_index_measure(
                p, q, data_range=RANGE, return_full_image=last, return_contrast_sensitivity=not last
            )[1]
            value = found[inside(x)].mean() if last else found.mean()
            total *= float(value) ** (weights[level] / sum(weights[:count]))
            p, q = pool(p, 2), pool(q, 2)
        each.append(total)
    return float(np.mean(each))


def hfen(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """By scipy's Laplacian of a Gaussian, whose kernel is that of 15 taps but for its mean."""

    def detail(z: NDArray[np.float64]) -> NDArray[np.float64]:
        # scipy does not make its cut kernel sum to zero: taking the mean away first leaves nothing of a constant.
        inner = (slice(7, -7),) * (x.ndim - 1)
        return np.stack([ndimage.gaussian_laplace(c - c.mean(), 1.5, truncate=7 / 1.5)[inner] for c in z])

    return float(np.linalg.norm(detail(x) - detail(y)) / np.linalg.norm(detail(y)))


def gmsd(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """By scipy's Prewitt operator."""
    c = 170 / 255**2 * RANGE**2

    def magnitude(z: NDArray[np.float64]) -> NDArray[np.float64]:
        axes = range(z.ndim)
        cut = z[tuple(slice(0, n // 2 * 2) for n in z.shape)]
        small = cut.reshape([k for n in cut.shape for k in (n // 2, 2)]).mean(axis=tuple(2 * a + 1 for a in axes))
        inner = (slice(1, -1),) * z.ndim
        parts = [ndimage.prewitt(small, axis)[inner] / 3 ** (z.ndim - 1) for axis in axes]
        return np.asarray(np.sqrt(sum(part**2 for part in parts)))

    found = []
    for p, q in zip(x, y, strict=True):
        a, b = magnitude(p), magnitude(q)
        found.append(float(((2 * a * b + c) / (a**2 + b**2 + c)).std()))
    return float(np.mean(found))


def fourier(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Ring by ring, over the whole spectrum in double precision."""
    window = np.ones(())
    for n in x.shape[1:]:
        window = np.multiply.outer(window, np.hanning(n + 2)[1:-1])
    f, g = (np.stack([np.fft.fftn((c - c.mean()) * window) for c in z]) for z in (x, y))
    grids = np.meshgrid(*[np.fft.fftfreq(n) for n in x.shape[1:]], indexing="ij")
    width = max(1 / n for n in x.shape[1:])
    ring = np.rint(np.sqrt(np.square(grids).sum(axis=0)) / width)
    last = (0.0, 1.0)
    for index in range(1, int(0.5 / width + 1e-9) + 1):
        on = ring == index
        powers = [float((abs(z[:, on]) ** 2).sum()) for z in (f, g)]
        value = float((f * g.conj()).real[:, on].sum()) / math.sqrt(powers[0] * powers[1])
        if value < 1 / 7:
            share = (last[1] - 1 / 7) / (last[1] - value)
            return float(1 / (last[0] + share * (index * width - last[0])))
        last = (index * width, value)
    return 1 / last[0]


def uqi(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Over all windows of 8 voxels, as sewar has it."""
    found = []
    for p, q in zip(x, y, strict=True):
        a, b = (np.lib.stride_tricks.sliding_window_view(z, (8,) * z.ndim) for z in (p, q))
        axes = tuple(range(-p.ndim, 0))
        ma, mb, covariance = a.mean(axes), b.mean(axes), (a * b).mean(axes)
        covariance = covariance - ma * mb
        found.append(float((4 * covariance * ma * mb / ((a.var(axes) + b.var(axes)) * (ma**2 + mb**2))).mean()))
    return float(np.mean(found))


def scc(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """With the Laplacian as one kernel."""
    found = []
    for p, q in zip(x, y, strict=True):
        kernel = -np.ones((3,) * p.ndim)
        kernel[(1,) * p.ndim] = 3**p.ndim - 1
        inner = (slice(1, -1),) * p.ndim
        a, b = (ndimage.correlate(z, kernel)[inner].ravel() for z in (p, q))
        found.append(float(np.corrcoef(a, b)[0, 1]))
    return float(np.mean(found))


def q4(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """With quaternions as real matrices of 4 x 4, whose product is theirs."""

    def matrices(z: NDArray[np.float64]) -> NDArray[np.float64]:
        a, b, c, d = z
        rows = [[a, -b, -c, -d], [b, a, -d, c], [c, d, a, -b], [d, -c, b, a]]
        return np.moveaxis(np.array(rows), -1, 0)

    found = []
    for row in range(0, x.shape[1] - 31, 32):
        for column in range(0, x.shape[2] - 31, 32):
            z, w = (m[:, row : row + 32, column : column + 32].reshape(4, -1) for m in (x, y))
            mz, mw = z.mean(1), w.mean(1)
            u, v = z - mz[:, None], w - mw[:, None]
            shared = np.linalg.norm((matrices(u) @ matrices(v).transpose(0, 2, 1)).mean(0)[:, 0])
            vz, vw = (u**2).sum(0).mean(), (v**2).sum(0).mean()
            lz, lw = (mz**2).sum(), (mw**2).sum()
            found.append(4 * shared * np.sqrt(lz * lw) / ((vz + vw) * (lz + lw)))
    return float(np.mean(found))


def main() -> int:
    """Prints the table."""
    print(f"{'metric':10} {'image':8} {'against':28} {'geomedsr':>14} {'theirs':>14} {'difference':>11}")
    worst = 0.0
    for row in rows():
        numbers = f"{row.ours:14.9f} {row.theirs:14.9f} {row.difference:11.1e}"
        print(f"{row.metric:10} {row.data:8} {row.against:28} {numbers}")
        worst = max(worst, row.difference / max(abs(row.theirs), 1.0))
    print(f"largest difference, relative where the figure is above 1: {worst:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
