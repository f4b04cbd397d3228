"""What a training pair may undergo without becoming another problem: flips, right-angle turns, brightness, haze."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from geomedsr.grid import Factor

__all__ = ["Augment"]


class Augment:
    """Flips and turns both of a pair alike; the last two axes turn where their factors are equal."""

    def __init__(self, factor: Factor, flips: bool, turns: bool, gain: float, offset: float = 0.0) -> None:
        self.axes = tuple(range(1, 1 + len(factor))) if flips else ()
        equal = [(a, b) for a in range(len(factor)) for b in range(a) if factor[a] == factor[b]]
        self.turns = equal if turns else []
        self.gain, self.offset = gain, offset

    def __call__(self, lr: Tensor, hr: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The pair, changed.

        Shape: (C, *S) and (C, *(S * factor))
        """
        flipped = [axis for axis in self.axes if rng.random() < 0.5]
        lr, hr = lr.flip(flipped), hr.flip(flipped)
        if self.turns and rng.random() < 0.5:
            a, b = self.turns[int(rng.integers(len(self.turns)))]
            if hr.shape[1 + a] == hr.shape[1 + b]:
                lr, hr = lr.transpose(1 + a, 1 + b), hr.transpose(1 + a, 1 + b)
        if self.gain > 0:
            factor = float(rng.uniform(1 - self.gain, 1 + self.gain))
            lr, hr = lr * factor, hr * factor
        if self.offset > 0:
            level = float(rng.uniform(-self.offset, self.offset))
            lr, hr = lr + level, hr + level
        return lr, hr
