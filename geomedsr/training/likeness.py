"""How much results look like true images: in the features of an encoder, and in their spectra.

PSNR asks whether each voxel is right, and an average of all that may be there answers it best. What adversarial
training is for, it does not see.

Reference: Heusel et al. 2017, arXiv:1706.08500 (the Fréchet distance); Shaham et al. 2019, arXiv:1905.01164 (within one
    image); Durall et al. 2020, arXiv:2003.01826 (radial spectra of generated images)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomedsr.encoders._features import Features
from geomedsr.encoders.distance import feature_distance

__all__ = ["Likeness", "frechet_distance", "likeness", "spectrum_distance"]

_RINGS = 24
"""Rings of a spectrum, from 0 to the Nyquist frequency of the fine grid."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How unlike the true image a result is; all are 0 for equal images, and smaller is more alike.

    - `perceptual`: the features at each place, compared with those at the same place.
    - `frechet`: how features are distributed, wherever they lie: right texture counts although no voxel agrees.
    - `spectrum`: how strong each frequency is, in dB; no encoder has a part in it.
    """

    perceptual: float
    frechet: float
    spectrum: float


@torch.no_grad()
def likeness(srs: Sequence[Tensor], hrs: Sequence[Tensor], encoder: Features) -> Likeness:
    """How unlike the true image some planes of a result are; a voxel that is invalid in either is equal in both.

    Shape: (C, *S) each, all alike, on the encoder's device
    """
    pairs = [_filled(sr, hr) for sr, hr in zip(srs, hrs, strict=True)]
    layers = dict.fromkeys(encoder.layers, 1.0)
    near = [float(feature_distance(encoder, sr[None], hr[None], layers, "cosine")) for sr, hr in pairs]
    mine, true = ([pair[side] for pair in pairs] for side in (0, 1))
    return Likeness(float(np.mean(near)), frechet_distance(mine, true, encoder), spectrum_distance(mine, true))


@torch.no_grad()
def frechet_distance(srs: Sequence[Tensor], hrs: Sequence[Tensor], encoder: Features) -> float:
    """The Fréchet distance of two sets of images' features, all places together, each set taken as a Gaussian.

    The mean over the encoder's layers, for one feature: 1 is as far as if each feature's mean were off by its spread
    over the images that the encoder was standardised on.

    Shape: (C, *S) each
    """
    mine, true = (_moments(images, encoder) for images in (srs, hrs))
    return float(np.mean([_apart(*mine[layer].gaussian(), *true[layer].gaussian()) for layer in encoder.layers]))


def spectrum_distance(srs: Sequence[Tensor], hrs: Sequence[Tensor]) -> float:
    """The difference of two sets of images' radial power spectra: its root mean square over channels and frequencies.

    Shape: (C, *S) each, all alike
    Units: dB

    Example:
        >>> waves = [torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))]
        >>> round(spectrum_distance([waves[0] * 10], waves), 3)
        20.0
    """
    mine, true = (torch.stack([_radial_power(image) for image in images]).mean(0) for images in (srs, hrs))
    floor = 1e-12 * float(true.amax())
    # A frequency that the truth has not (a channel that is empty) tells nothing.
    heard = true > floor
    decibels = 10 * (mine[heard].clamp(min=floor) / true[heard]).log10()
    return float(decibels.square().mean().sqrt()) if len(decibels) else 0.0


def _filled(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    invalid = ~(sr.isfinite() & hr.isfinite())
    return sr.masked_fill(invalid, 0), hr.masked_fill(invalid, 0)


class _Moments:
    """Mean and covariance of vectors that come in parts."""

    def __init__(self) -> None:
        self.count, self.total, self.products = 0, torch.zeros(()), torch.zeros(())

    def add(self, vectors: Tensor) -> None:
        """Takes vectors.

        Shape: (n, width)
        """
        vectors = vectors.double()
        self.count += len(vectors)
        self.total = self.total + vectors.sum(0)
        self.products = self.products + vectors.T @ vectors

    def gaussian(self) -> tuple[Tensor, Tensor]:
        """The mean and the covariance."""
        mean = self.total / self.count
        return mean, self.products / self.count - torch.outer(mean, mean)


def _moments(images: Sequence[Tensor], encoder: Features) -> dict[str, _Moments]:
    found = {layer: _Moments() for layer in encoder.layers}
    for image in images:
        for view in _parts(image, encoder):
            for layer, features in encoder(encoder.prepared(view, view)).items():
                found[layer].add(features.movedim(1, -1).flatten(0, -2))
    return found


def _parts(image: Tensor, encoder: Features) -> Iterator[Tensor]:
    """The image as the encoder takes it, a plane at a time: all slices of a volume would fill the memory."""
    for view in encoder.views(image[None]):
        yield from torch.split(view, 1)


def _apart(mean: Tensor, spread: Tensor, other_mean: Tensor, other_spread: Tensor) -> float:
    """The squared distance of two Gaussians, for one dimension."""
    root = _root(spread)
    shared = _root(root @ other_spread @ root).trace()
    squared = (mean - other_mean).square().sum() + spread.trace() + other_spread.trace() - 2 * shared
    return max(float(squared), 0.0) / len(mean)


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative directions."""
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.T))
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _radial_power(image: Tensor) -> Tensor:
    """The mean power in each ring of frequencies; the borders are faded out, or they would sound as edges.

    Shape: (C, *S) to (C, rings)
    """
    axes = tuple(range(1, image.ndim))
    x = image.double() - image.double().mean(axes, keepdim=True)
    for axis in axes:
        window = torch.hann_window(x.shape[axis] + 2, periodic=False, dtype=x.dtype, device=x.device)[1:-1]
        x = x * window.reshape([-1 if other == axis else 1 for other in range(x.ndim)])
    power = torch.fft.fftn(x, dim=axes).abs().square().flatten(1)
    grids = torch.meshgrid(*[torch.fft.fftfreq(n, dtype=x.dtype, device=x.device) for n in x.shape[1:]], indexing="ij")
    ring = (torch.stack(grids).square().sum(0).sqrt() * 2 * _RINGS).long().flatten()
    inside = ring < _RINGS
    count = torch.bincount(ring[inside], minlength=_RINGS)
    total = torch.zeros(len(power), _RINGS, dtype=x.dtype, device=x.device).index_add_(
        1, ring[inside], power[:, inside]
    )
    return total[:, count > 0] / count[count > 0]
