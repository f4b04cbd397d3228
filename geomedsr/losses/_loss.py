"""What every loss is: a module that compares, and may learn."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Loss"]


class Loss(nn.Module):
    """(sr, hr), each (B, C, *S), to a scalar."""

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """How far `sr` is from `hr`."""
        raise TypeError(f"{type(self).__name__} has no forward pass.")

    def learn(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """One step of what the loss itself learns (a critic, say) and its figures for the log; most learn nothing."""
        del sr, hr
        return {}
