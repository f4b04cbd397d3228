"""The patch critic: it judges overlapping places of an image, each by its own neighbourhood (MONAI's).

Reference: Isola et al. 2017, arXiv:1611.07004; Wang et al. 2018 (pix2pixHD), arXiv:1711.11585
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomedsr.critics._critic import Critic

__all__ = ["PatchCritic", "build"]


class PatchCritic(Critic):
    """Convolutions 4 wide, `layers` of them with stride 2; a logit sees 70 voxels on each axis with 3 layers."""

    def __init__(self, ndim: int, channels: int, width: int = 64, layers: int = 3, norm: str = "instance") -> None:
        super().__init__()
        # Here, because it takes seconds, and other critics do without.
        from monai.networks.nets import PatchDiscriminator

        if layers < 1 or width < 1 or norm not in ("batch", "instance", "none"):
            raise ValueError(f"layers and width are at least 1, norm is batch, instance or none; not {layers}, {norm}")
        kind = None if norm == "none" else (norm, {"affine": True, "track_running_stats": False})
        self.net = PatchDiscriminator(ndim, width, channels, num_layers_d=layers, norm=kind, bias=norm == "none")
        # The last two convolutions take a voxel away each, and a normalisation needs two places to compare.
        self.smallest = 3 * 2**layers

    def forward(self, x: Tensor) -> Tensor:
        """A logit for each place."""
        logits: Tensor = self.net(x)[-1]
        return logits


def build(ndim: int, channels: int, **settings: Any) -> Critic:  # noqa: ANN401 - JSON values
    """The critic of a recipe."""
    return PatchCritic(ndim, channels, **settings)
