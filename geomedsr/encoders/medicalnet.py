"""MedicalNet's 3D ResNets (10, 18, 34, 50), with weights that the user has as a safetensors file.

Reference: Chen, Ma, Zheng 2019 (Med3D), arXiv:1904.00625
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geomedsr.encoders import _weights
from geomedsr.encoders._features import Features
from geomedsr.errors import ModelError

__all__ = ["MedicalNet", "load"]

_STAGES = ("layer1", "layer2", "layer3", "layer4")


class MedicalNet(Features):
    """MONAI's ResNet, into which MedicalNet's weights fit, up to the stage `deepest`; it sees each channel alone.

    `blocks` counts the blocks of each stage, `bottleneck` says which kind they are, `projected` whether the skips over
    a change of width are convolutions.

    Shape: (B, 1, *S) to stages at about 1/4, 1/8, 1/16, 1/32 of the resolution: layer1, layer2, layer3, layer4
    """

    name, ndim, channels = "MedicalNet", 3, 1

    def __init__(
        self, blocks: Sequence[int], bottleneck: bool = False, projected: bool = True, deepest: str = "layer4"
    ) -> None:
        super().__init__()
        # Here, because it takes seconds, and other encoders do without.
        from monai.networks.nets.resnet import ResNet

        if deepest not in _STAGES:
            raise ModelError(f"MedicalNet has no layer {deepest}; it has {', '.join(_STAGES)}.")
        settings: dict[str, Any] = {
            "n_input_channels": 1,
            "conv1_t_size": 7,
            "conv1_t_stride": 2,
            "feed_forward": False,
        }
        whole = ResNet(
            "bottleneck" if bottleneck else "basic",
            list(blocks),
            [64, 128, 256, 512],
            shortcut_type="B" if projected else "A",
            bias_downsample=False,
            **settings,
        )
        self.layers = _STAGES[: _STAGES.index(deepest) + 1]
        self.stem = nn.ModuleDict({"conv1": whole.conv1, "bn1": whole.bn1})
        self.rest = nn.Sequential(whole.act, whole.maxpool)
        self.stages = nn.ModuleDict({name: getattr(whole, name) for name in self.layers})
        self.smallest = 2 ** len(self.layers)

    def forward(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The features of `layers`, by name."""
        x = self.rest(self.stem["bn1"](self.stem["conv1"](x)))
        found: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            x = found[name] = stage(x)
        return {name: found[name] for name in layers or self.layers}

    def prepared(self, x: Tensor, like: Tensor) -> Tensor:
        """The image in units of the true image's spread around its mean, as MedicalNet was trained."""
        axes = tuple(range(1, like.ndim))
        mean, spread = like.mean(axes, keepdim=True), like.std(axes, keepdim=True).clamp(min=1e-6)
        return (x - mean) / spread


def load(path: Path, deepest: str = "layer4") -> MedicalNet:
    """The ResNet that a safetensors file holds the weights of, frozen; its depth is read off their names.

    Raises:
        ModelError: the file is missing, a pickle, broken, or holds other weights.
    """
    found = _weights.read(path, without=("conv_seg.", "fc."))
    blocks = [len({key.split(".")[1] for key in found if key.startswith(f"{stage}.")}) for stage in _STAGES]
    if min(blocks) < 1 or max(blocks) > 64:
        raise ModelError(f"{path} does not hold a MedicalNet ResNet: it has {blocks} blocks in layer1 to layer4.")
    network = MedicalNet(blocks, "layer1.0.conv3.weight" in found, "layer2.0.downsample.0.weight" in found, deepest)
    named = {_place(key): tensor for key, tensor in found.items()}
    _weights.fill(network, named, path, spare=("stages.layer",))
    return network


def _place(key: str) -> str:
    head = key.split(".")[0]
    return f"stages.{key}" if head in _STAGES else f"stem.{key}" if head in ("conv1", "bn1") else key
