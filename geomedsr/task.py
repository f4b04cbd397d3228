"""The contract that data, network, losses and inference share: how many axes, which channels, how much finer."""

from __future__ import annotations

from dataclasses import dataclass

from geomedsr.grid import Factor, as_factor

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is asked to do.

    `ndim` is 2 or 3; `channels` counts the channels in and out; `factor` has one integer for each axis; `guide`
    counts the channels of a finer image that is given beside the input (0: none).

    Example:
        >>> Task(ndim=2, channels=4, factor=(2, 2)).factor
        (2, 2)
    """

    ndim: int
    channels: int
    factor: Factor
    guide: int = 0

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ValueError(f"A task has 2 or 3 axes, not {self.ndim}.")
        if self.channels < 1 or self.guide < 0:
            raise ValueError(f"A task has at least one channel; got {self.channels} and {self.guide} guides.")
        object.__setattr__(self, "factor", as_factor(self.factor, self.ndim))
