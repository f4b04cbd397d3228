"""A setting that is a number, or a range from which each image of a batch draws its own value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Range", "Setting", "spread"]

Setting = float | Sequence[float]
"""In a recipe: a number, or [low, high]."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values from `low` to `high`, all as likely; a number is the range that holds it alone."""

    low: float
    high: float

    @classmethod
    def of(cls, name: str, setting: object, least: float, most: float = math.inf) -> Range:
        """The checked range of a setting.

        Raises:
            ValueError: it is no number or pair of numbers, or lies outside `least` to `most`.

        Example:
            >>> Range.of("noise", [0, 0.02], least=0)
            Range(low=0.0, high=0.02)
        """
        pair = setting if isinstance(setting, list | tuple) else (setting, setting)
        if len(pair) != 2 or not all(isinstance(end, int | float) and not isinstance(end, bool) for end in pair):
            raise ValueError(f"{name} is a number or [low, high]; got {setting}")
        low, high = float(pair[0]), float(pair[1])
        if not least <= low <= most or not low <= high <= most or math.isinf(high):
            limits = f"at least {least:g}" if math.isinf(most) else f"between {least:g} and {most:g}"
            raise ValueError(f"{name} is {limits}, a range with its lower end first; got {setting}")
        return cls(low, high)

    @property
    def random(self) -> bool:
        """Whether there is anything to draw."""
        return self.low < self.high

    def draw(self, count: int, rng: torch.Generator) -> float | Tensor:
        """The number, for which the generator is left alone, or a value for each of `count` images.

        Shape: (count,) where drawn
        """
        if not self.random:
            return self.low
        return self.low + (self.high - self.low) * torch.rand(count, generator=rng, device=rng.device)


def spread(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A drawn value in the shape in which each image of the batch `x` meets its own.

    Shape: (B,) to (B, 1, ...), with as many axes as x
    """
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1)) if isinstance(value, Tensor) else value
