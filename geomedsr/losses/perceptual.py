"""The perceptual loss: the distance of two images in the features of an encoder whose weights are a local file.

Reference: Johnson et al. 2016, arXiv:1603.08155; Wang et al. 2018 (ESRGAN: features before the activation),
    arXiv:1809.00219
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomedsr.encoders import domain, medicalnet, vgg19
from geomedsr.encoders._features import Features
from geomedsr.encoders.distance import DISTANCES, feature_distance
from geomedsr.losses._loss import Loss

__all__ = ["Perceptual", "build"]

_VGG_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


class Perceptual(Loss):
    """The weighted mean over `layers` of the features' distance, `l1` (relative) or `cosine`.

    One of three says where the features are from, and nothing is ever fetched: `encoder`, the name of a shipped domain
    encoder (mri, sentinel2) or the folder of one of your own; `vgg19`, a safetensors file with torchvision's names;
    `medicalnet`, a safetensors file with MedicalNet's. `layers` are names, or names with weights (none: all of an
    encoder, Real-ESRGAN's choice of VGG19, layer1 and layer2 of MedicalNet). `pick` are the three channels, counted
    from 0, that VGG19 takes for red, green and blue.
    """

    def __init__(
        self,
        encoder: str | None = None,
        vgg19: str | None = None,
        medicalnet: str | None = None,
        layers: Sequence[str] | Mapping[str, float] | None = None,
        distance: str = "l1",
        pick: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        given = {"encoder": encoder, "vgg19": vgg19, "medicalnet": medicalnet}
        if sum(path is not None for path in given.values()) != 1:
            raise ValueError("give one of encoder (mri, sentinel2 or a folder), vgg19 and medicalnet (local files)")
        if pick is not None and vgg19 is None:
            raise ValueError("pick is for vgg19 alone; encoders and medicalnet take the channels as they are")
        if distance not in DISTANCES:
            raise ValueError(f"distance is one of {', '.join(DISTANCES)}, not {distance}")
        self.distance = distance
        features, self.layers = _opened(given, _weighted(layers), pick)
        # In a tuple, so that frozen weights are neither the loss's parameters nor part of what a run keeps.
        self._held = (features,)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar; its gradient reaches `sr` alone."""
        return feature_distance(self._features(sr.device), sr, hr, self.layers, self.distance)

    def _features(self, device: torch.device) -> Features:
        (features,) = self._held
        return features.to(device)


def _weighted(layers: Sequence[str] | Mapping[str, float] | None) -> dict[str, float]:
    named = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers or (), 1.0)
    # YAML reads the name of an encoder's layer as a number.
    chosen = {str(name): float(weight) for name, weight in named.items()}
    if any(weight <= 0 for weight in chosen.values()):
        raise ValueError(f"layers have weights above 0, not {chosen}")
    return chosen


def _opened(
    given: Mapping[str, str | None], layers: dict[str, float], pick: Sequence[int] | None
) -> tuple[Features, dict[str, float]]:
    """The extractor, as deep as it is needed, and the layers that are taken."""
    features: Features
    if given["vgg19"] is not None:
        layers = layers or _VGG_LAYERS
        features = vgg19.load(Path(given["vgg19"]), max(layers), pick)
    elif given["medicalnet"] is not None:
        layers = layers or {"layer1": 1.0, "layer2": 1.0}
        features = medicalnet.load(Path(given["medicalnet"]), max(layers))
    else:
        features = domain.load(str(given["encoder"]))
        layers = layers or dict.fromkeys(features.layers, 1.0)
    unknown = sorted(layers.keys() - set(features.layers))
    if unknown:
        raise ValueError(f"layers: {features.name} has no {unknown[0]}; it has {', '.join(features.layers)}")
    return features, layers


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Perceptual(**settings)
