"""Pairs of coarse and fine: true ones, or patches degraded with the context that the degradation looks at, then cut."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geomedsr.data.augment import Augment
from geomedsr.data.sampling import Patch, PatchSampler
from geomedsr.degradations._degradation import Degradation
from geomedsr.grid import Box, Factor

__all__ = ["PairSampler", "Pairs"]


class Pairs(Protocol):
    """Training pairs by step."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The pairs of a step.

        Shape: (B, C, *S) and (B, C, *(S * factor))
        """
        ...


class PairSampler:
    """Batches of (lr, hr) as a function of the step alone: the same step gives the same batch, in any run."""

    def __init__(
        self, patches: PatchSampler, degradation: Degradation, augment: Augment, batch: int, seed: int
    ) -> None:
        self.patches, self.degradation, self.augment = patches, degradation, augment
        self.size, self.seed = batch, seed

    @property
    def factor(self) -> Factor:
        """How many times finer `hr` is."""
        return self.patches.factor

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The pairs of a step.

        Shape: (B, C, *S) and (B, C, *(S * factor))
        """
        rng = np.random.default_rng([self.seed, step])
        noise = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        pairs = [self._pair(self.patches.draw(rng), noise, rng) for _ in range(self.size)]
        return torch.stack([lr for lr, _ in pairs]), torch.stack([hr for _, hr in pairs])

    def _pair(self, patch: Patch, noise: torch.Generator, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        context = torch.from_numpy(patch.context)[None]
        if patch.coarse is not None:
            return self.augment(torch.from_numpy(patch.coarse), context[0], rng)
        coarse = self.degradation(context, self.factor, noise)
        box = Box(
            tuple(a // f for a, f in zip(patch.inner.start, self.factor, strict=True)),
            tuple(b // f for b, f in zip(patch.inner.stop, self.factor, strict=True)),
        )
        return self.augment(_cut(coarse[0], box), _cut(context[0], patch.inner), rng)


def _cut(x: Tensor, box: Box) -> Tensor:
    for axis, (start, length) in enumerate(zip(box.start, box.shape, strict=True), start=1):
        x = x.narrow(axis, start, length)
    return x
