"""The Charbonnier loss: a mean absolute difference that is smooth at zero.

Reference: Charbonnier et al. 1994, DOI 10.1109/ICIP.1994.413553; Lai et al. 2017 (LapSRN), arXiv:1704.03915
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomedsr.losses._loss import Loss

__all__ = ["Charbonnier", "build"]


class Charbonnier(Loss):
    """The mean of sqrt(d^2 + epsilon^2) - epsilon, so that equal images cost nothing."""

    def __init__(self, epsilon: float = 1e-3) -> None:
        super().__init__()
        if epsilon <= 0:
            raise ValueError(f"epsilon is above 0, not {epsilon}")
        self.epsilon = epsilon

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        return ((sr - hr).square() + self.epsilon**2).sqrt().mean() - self.epsilon


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Charbonnier(**settings)
