"""What every critic is: a module that says how real an image looks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Critic", "conv", "norm", "spectral"]


class Critic(nn.Module):
    """(B, C, *S) to logits, one for each image or one for each place: above 0 looks real.

    What it says of an image depends on the image, the batch and the weights alone: it keeps no running statistics.
    `smallest` is how many voxels each axis needs.
    """

    smallest: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """The logits.

        Shape: (B, C, *S) to (B, 1) or (B, 1, *S')
        """
        raise TypeError(f"{type(self).__name__} has no forward pass.")


def conv(ndim: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> nn.Module:
    """A convolution padded by 1, for 2 or 3 axes: 3 wide it keeps the shape, 4 wide with stride 2 it halves it."""
    layer = nn.Conv2d if ndim == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, stride, 1, bias=bias)


def norm(ndim: int, kind: str, width: int) -> nn.Module:
    """A normalisation by name (batch, instance, none) that looks at the batch before it and nothing older.

    Raises:
        ValueError: there is none of this name.
    """
    if kind not in ("batch", "instance", "none"):
        raise ValueError(f"norm is batch, instance or none, not {kind}")
    layers: dict[str, Any] = {
        "batch": nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d,
        "instance": nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d,
    }
    return layers[kind](width, affine=True, track_running_stats=False) if kind in layers else nn.Identity()


def spectral(critic: nn.Module) -> nn.Module:
    """The module with every convolution and linear layer held to a spectral norm of 1.

    Reference: Miyato et al. 2018, arXiv:1802.05957
    """
    for layer in list(critic.modules()):
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear) and not parametrize.is_parametrized(layer):
            spectral_norm(layer)
    return critic
