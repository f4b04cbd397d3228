"""The mean absolute difference."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["L1", "build"]


class L1(Loss):
    """The mean absolute difference."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        return (sr - hr).abs().mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return L1(**settings)
