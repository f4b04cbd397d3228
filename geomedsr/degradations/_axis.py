"""What degradations do along one axis. Coarse voxel i stands for the fine voxels [f i, f i + f) in all of them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["average_axis", "filter_axis", "gaussian_taps", "reduce_axis", "truncate_axis"]


def gaussian_taps(sigma: float) -> list[float]:
    """A Gaussian kernel of an odd number of taps that sum to 1, cut at four sigma."""
    radius = max(1, round(4 * sigma + 0.5))
    place = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (place / sigma) ** 2)
    return [float(tap) for tap in taps / taps.sum()]


def filter_axis(x: Tensor, axis: int, taps: Tensor) -> Tensor:
    """The batch filtered along one axis, with the border voxels repeated outwards.

    Shape: x (B, C, *S); taps (B, C, K), K odd; B and C may be 1 for all images or channels
    """
    radius = taps.shape[-1] // 2
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    repeat = [-1] * x.ndim
    repeat[axis] = radius
    padded = torch.cat([first.expand(repeat), x, last.expand(repeat)], axis)
    weights = _against(taps, x)
    total = torch.zeros_like(x)
    for k in range(taps.shape[-1]):
        total.addcmul_(padded.narrow(axis, k, x.shape[axis]), weights[..., k])
    return total


def reduce_axis(x: Tensor, axis: int, factor: int, taps: Tensor, *, mirrored: bool = False) -> Tensor:
    """One axis filtered and read at the middle of each coarse voxel, in one step.

    Beyond the border lies the border voxel again and again or, `mirrored`, the image's mirror image.

    Shape: x (B, C, *S); taps (B, C, K), K - factor even and not negative; B and C may be 1 for all
    """
    n, width = x.shape[axis], taps.shape[-1]
    margin = (width - factor) // 2
    place = torch.arange(-margin, n + margin, device=x.device)
    place = torch.minimum(place % (2 * n), (-1 - place) % (2 * n)) if mirrored else place.clamp(0, n - 1)
    windows = x.index_select(axis, place).unfold(axis, width, factor)
    weights = _against(taps, x)
    total = torch.zeros_like(windows[..., 0])
    for k in range(width):
        total.addcmul_(windows[..., k], weights[..., k])
    return total


def average_axis(x: Tensor, axis: int, factor: int) -> Tensor:
    """The mean over the fine voxels of each coarse one."""
    return x.reshape(*x.shape[:axis], -1, factor, *x.shape[axis + 1 :]).mean(axis + 1)


def truncate_axis(x: Tensor, axis: int, factor: int, apodisation: float | Tensor = 0.0) -> Tensor:
    """One axis cut to the lowest 1 / factor of its frequencies.

    `apodisation` is the share of the kept band over which a cosine taper falls to zero (Tukey): it trades ringing
    for softness. A half-voxel phase keeps the image in its place.

    Shape: x (B, C, *S); apodisation a number, or (B,)
    """
    n = x.shape[axis]
    coarse = n // factor
    kept = coarse // 2 + 1
    spectrum = torch.fft.rfft(x, dim=axis).narrow(axis, 0, kept)
    frequency = torch.arange(kept, device=x.device, dtype=torch.float64)
    shift = torch.exp(2j * torch.pi * frequency * ((factor - 1) / 2) / n)
    if isinstance(apodisation, Tensor):
        apodisation = apodisation.to(frequency).clamp(min=1e-6)[:, None]
        shift = shift * _taper(frequency / (coarse / 2), apodisation)
    elif apodisation > 0:
        shift = shift * _taper(frequency / (coarse / 2), apodisation)
    view = [1] * x.ndim
    view[axis] = kept
    spectrum = spectrum * shift.to(spectrum.dtype).reshape(-1, *view[1:])
    image: Tensor = torch.fft.irfft(spectrum, n=coarse, dim=axis)
    return image / factor


def _taper(place: Tensor, apodisation: float | Tensor) -> Tensor:
    """One up to the last `apodisation` of the band [0, 1], then a cosine's fall to zero."""
    fall = ((place.clamp(max=1.0) - (1 - apodisation)) / apodisation).clamp(min=0.0)
    return 0.5 + 0.5 * torch.cos(torch.pi * fall)


def _against(taps: Tensor, x: Tensor) -> Tensor:
    """Taps in the shape in which `[..., k]` of them meets x."""
    return taps.to(x).reshape(*taps.shape[:2], *[1] * (x.ndim - 2), taps.shape[-1])
