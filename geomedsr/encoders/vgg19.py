"""VGG19's features, with weights that the user has: a safetensors file with the names that torchvision gives them.

Reference: Simonyan and Zisserman 2014, arXiv:1409.1556
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.encoders import _weights
from geomedsr.encoders._features import Features
from geomedsr.errors import ModelError

__all__ = ["VGG19", "load"]

_DEPTHS, _WIDTHS = (2, 2, 4, 4, 4), (64, 128, 256, 512, 512)
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG19(Features):
    """The sixteen convolutions as layers conv1_1 to conv5_4, each taken before its activation, as far as `deepest`.

    It has seen photographs with red, green and blue from 0 to 1. An image of three channels is taken as these, or
    `pick` names three of its channels; of any other, each channel is looked at alone, as grey.

    Shape: (B, 3, rows, columns) to a layer (B, width, *) each
    """

    name, ndim, channels = "VGG19", 2, 3

    def __init__(self, deepest: str = "conv5_4", pick: Sequence[int] | None = None) -> None:
        super().__init__()
        if pick is not None and (len(pick) != 3 or min(pick) < 0):
            raise ModelError(f"VGG19 looks at three channels, counted from 0; {list(pick)} are not.")
        plan = _plan()
        if deepest not in plan:
            raise ModelError(f"VGG19 has no layer {deepest}; it has {', '.join(plan)}.")
        self.layers = tuple(plan)[: list(plan).index(deepest) + 1]
        self.pick = None if pick is None else tuple(pick)
        self.smallest = 2 ** (int(deepest[4]) - 1)
        # Numbered as torchvision numbers them: activations and poolings count as well.
        self.features = nn.ModuleDict(
            {str(plan[name][0]): nn.Conv2d(plan[name][1], plan[name][2], 3, padding=1) for name in self.layers}
        )

    def forward(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The features of `layers`, by name."""
        found: dict[str, Tensor] = {}
        for name, layer in zip(self.layers, self.features.values(), strict=True):
            if found:
                x = functional.relu(x)
                x = functional.max_pool2d(x, 2) if name.endswith("_1") else x
            x = found[name] = layer(x)
        return {name: found[name] for name in layers or self.layers}

    def prepared(self, x: Tensor, like: Tensor) -> Tensor:
        """The image with the mean and spread of photographs taken off."""
        del like
        shape = (1, 3, 1, 1)
        return (x - torch.tensor(_MEAN, device=x.device).view(shape)) / torch.tensor(_SPREAD, device=x.device).view(
            shape
        )

    def adapted(self, x: Tensor) -> Tensor:
        """The image as red, green and blue, or each of its channels as grey."""
        if self.pick is not None:
            if max(self.pick) >= x.shape[1]:
                raise ModelError(f"VGG19 was told to look at the channels {self.pick}; the image has {x.shape[1]}.")
            return x[:, list(self.pick)]
        return x if x.shape[1] == 3 else x.flatten(0, 1).unsqueeze(1).expand(-1, 3, *[-1] * (x.ndim - 2))


def load(path: Path, deepest: str = "conv5_4", pick: Sequence[int] | None = None) -> VGG19:
    """VGG19 up to a layer, frozen, with the weights of a safetensors file; its classifier is left aside.

    Raises:
        ModelError: the file is missing, a pickle, broken, or holds other weights.
    """
    network = VGG19(deepest, pick)
    _weights.fill(network, _weights.read(path, without=("classifier.",)), path, spare=("features.",))
    return network


def _plan() -> dict[str, tuple[int, int, int]]:
    """Each convolution by its name: its number in torchvision's sequence, its inputs and its outputs."""
    found, number, inputs = {}, 0, 3
    for block, (depth, width) in enumerate(zip(_DEPTHS, _WIDTHS, strict=True), start=1):
        for i in range(1, depth + 1):
            found[f"conv{block}_{i}"] = (number, inputs, width)
            number, inputs = number + 2, width
        number += 1
    return found
