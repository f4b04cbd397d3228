"""Band-limited and fractal noise: what makes a simulated surface look grown rather than drawn."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def spectral(shape: tuple[int, ...], rng: np.random.Generator, spectrum: Floats) -> Floats:
    """Gaussian noise with an amplitude spectrum, mean 0 and standard deviation 1.

    Shape: `spectrum` is that of `rfftn` of `shape`.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    shaped = np.fft.irfftn(np.fft.rfftn(white) * spectrum, s=shape, axes=tuple(range(len(shape))))
    shaped -= shaped.mean()
    return np.asarray(shaped / shaped.std(), dtype=np.float32)


def wavenumber(shape: tuple[int, ...]) -> Floats:
    """The length of the wave vector of each coefficient of `rfftn`, in cycles for one cell."""
    axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    squared = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    return np.asarray(np.sqrt(np.asarray(squared)), dtype=np.float32)


def shell(shape: tuple[int, ...], wavelength: float, rng: np.random.Generator, spread: float = 0.2) -> Floats:
    """Noise of one wavelength (in cells), with `spread` as the relative width of its band."""
    centre = 1 / wavelength
    return spectral(shape, rng, np.exp(-0.5 * ((wavenumber(shape) - centre) / (spread * centre)) ** 2))


def fractal(shape: tuple[int, ...], longest: float, rng: np.random.Generator, slope: float = 1.8) -> Floats:
    """Noise whose amplitude falls as wavenumber to the power of -`slope`, up to the `longest` wavelength (in cells)."""
    k = wavenumber(shape)
    return spectral(shape, rng, np.where(k > 0, (k**2 + longest**-2) ** (-slope / 2), 0).astype(np.float32))


class Lattice:
    """Noise of one wavelength, read at any point of the world; it repeats after eight wavelengths.

    Units: mm. The lattice has 16 cells in a wavelength, so that linear interpolation between them is smooth.
    """

    def __init__(self, wavelength: float, seed: tuple[int, ...]) -> None:
        noise = shell((128,) * 3, 16.0, np.random.default_rng(seed))
        self._noise = torch.from_numpy(np.pad(noise, (0, 1), mode="wrap"))[None, None]
        self._period = 8 * wavelength

    def at(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """The noise at points, each tensor of the same three axes."""
        turns = torch.stack([x, y, z], dim=-1) / self._period
        points = 2 * (turns - turns.floor()) - 1
        return torch.nn.functional.grid_sample(self._noise, points[None], align_corners=True)[0, 0]
