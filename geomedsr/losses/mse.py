"""The mean squared difference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["MSE", "build"]


class MSE(Loss):
    """The mean squared difference."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        return (sr - hr).square().mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return MSE(**settings)
