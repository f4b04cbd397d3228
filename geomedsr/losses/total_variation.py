"""Total variation: a weak prior against noise and ringing that the fine image does not have.

Reference: Rudin, Osher, Fatemi 1992, DOI 10.1016/0167-2789(92)90242-F
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["TotalVariation", "build"]


class TotalVariation(Loss):
    """The mean absolute finite difference of `sr`, averaged over axes, beyond that of `hr`: never below zero."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        return (_variation(sr) - _variation(hr)).clamp(min=0)


def _variation(x: Tensor) -> Tensor:
    return torch.stack([x.diff(dim=axis).abs().mean() for axis in range(2, x.ndim)]).mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return TotalVariation(**settings)
