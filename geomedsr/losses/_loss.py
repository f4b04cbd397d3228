"""What every loss is: a module that compares, and may learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["Loss"]


class Loss(nn.Module):
    """(sr, hr), each (B, C, *S), to a scalar.

    Most losses are distances: zero on equal images and never negative. One that learns what to look for is none.
    """

    learns: bool = False

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """How far `sr` is from `hr`."""
        raise TypeError(f"{type(self).__name__} has no forward pass.")

    def learn(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """One step of what the loss itself learns (a critic, say) and its figures for the log; most learn nothing."""
        del sr, hr
        return {}

    def learning_state(self) -> dict[str, Any]:
        """All that `learn` changes (weights, optimiser, steps), as tensors and plain values in dicts and lists."""
        return {}

    def load_learning_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `learning_state` gave, to the same bits."""
        if state:
            raise ValueError(f"{type(self).__name__} learns nothing, and was given a state with {', '.join(state)}")
