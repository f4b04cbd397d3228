"""How far two images are apart in an encoder's features: what the perceptual loss makes small, and a score.

Reference: Johnson et al. 2016, arXiv:1603.08155 (the loss); Zhang et al. 2018 (LPIPS), arXiv:1801.03924 (the score)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.encoders._features import Features

__all__ = ["DISTANCES", "feature_distance", "perceptual_distance"]

DISTANCES = ("l1", "cosine")


def feature_distance(
    features: Features, sr: Tensor, hr: Tensor, layers: Mapping[str, float], kind: str = "l1"
) -> Tensor:
    """The mean over `layers` (each with its weight) and views; no gradient reaches `hr` or the encoder.

    `l1` is the mean absolute difference relative to the true image's mean absolute feature; `cosine` is one minus the
    cosine of the feature vectors, averaged over places. Both are free of the scale of a layer.

    Shape: (B, C, *S) both to a scalar
    """
    terms: list[Tensor] = []
    for mine, true in zip(features.views(sr.float()), features.views(hr.detach().float()), strict=True):
        with torch.no_grad():
            wanted = features(features.prepared(true, true), tuple(layers))
        found = features(features.prepared(mine, true), tuple(layers))
        measure = _relative if kind == "l1" else _turned
        terms += [weight * measure(found[name], wanted[name]) for name, weight in layers.items()]
    return torch.stack(terms).sum() * (len(layers) / (len(terms) * sum(layers.values())))


def perceptual_distance(sr: NDArray[np.float32], hr: NDArray[np.float32], encoder: Features) -> float:
    """A score for images that adversarial training made: the cosine distance of all of an encoder's layers.

    0 for equal images; smaller is closer. It is built like LPIPS, on the features of a domain's own encoder and without
    weights fitted to people's judgements: it compares results on the same images with the same encoder, and nothing
    else. A voxel that is invalid (NaN) in either image is made equal in both. The images are in the encoder's units.

    Shape: (C, *S) both
    """
    a, b = (torch.from_numpy(np.asarray(x, dtype=np.float32))[None] for x in (sr, hr))
    invalid = ~(a.isfinite() & b.isfinite())
    fill = torch.where(b.isfinite(), b, torch.zeros(()))
    with torch.no_grad():
        distance = feature_distance(
            encoder, torch.where(invalid, fill, a), fill, dict.fromkeys(encoder.layers, 1.0), "cosine"
        )
    return float(distance)


def _relative(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean() / b.abs().mean().clamp(min=1e-6)


def _turned(a: Tensor, b: Tensor) -> Tensor:
    # Half the squared chord is 1 - cos, and exactly 0, with a finite gradient, where both are equal.
    a, b = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in (a, b))
    return 0.5 * (a - b).square().sum(1).mean()
