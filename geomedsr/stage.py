"""A part of a training: what is minimised, by which optimiser, over which steps, and which weights it ends with."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Keep", "LossPart", "Optimizer", "Part", "Schedule", "Section", "Stage"]


class Section(BaseModel):
    """Keys that are all known, and never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(BaseModel):
    """A plugin by name; every other key is a setting of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What the plugin is built with."""
        return dict(self.model_extra or {})


class LossPart(Part):
    """A loss and its share in the sum."""

    weight: float = Field(default=1.0, gt=0)


class Optimizer(Section):
    """Adam, Adam with decoupled weight decay or SGD with momentum, and how far a gradient may reach.

    `parts` is how many parts a batch goes through the network in, one after the other: less memory, the same result.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    rate: float = Field(default=5e-4, gt=0)
    decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(default=1.0, gt=0)
    parts: int = Field(default=1, gt=0)


class Schedule(Section):
    """How many steps, and the learning rate over them: a linear warm-up, then its `shape`.

    - `constant`: it stays.
    - `cosine`: it falls to the share `final`. With a long warm-up this is the one-cycle schedule.
    - `multistep`: it is multiplied by `drop` at each of `drops`, which are shares of the steps.

    `patience` ends the stage after so many validations in a row without a better score (none: never).
    """

    steps: int = Field(gt=0)
    warmup: int = Field(default=100, ge=0)
    shape: Literal["cosine", "constant", "multistep"] = "cosine"
    final: float = Field(default=0.01, ge=0, le=1)
    drops: tuple[float, ...] = (0.5, 0.75, 0.9)
    drop: float = Field(default=0.5, gt=0, lt=1)
    validate_every: int = Field(default=500, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    patience: int | None = Field(default=None, gt=0)

    def rate(self, step: int, peak: float) -> float:
        """The learning rate of a step, which counts from 1, where `peak` is the optimiser's.

        Example:
            >>> Schedule(steps=100, warmup=10, shape="multistep", drops=(0.5,)).rate(60, 0.1)
            0.05
        """
        if step <= self.warmup:
            return peak * step / self.warmup
        if self.shape == "cosine":
            way = (step - self.warmup) / max(self.steps - self.warmup, 1)
            return peak * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * way)))
        if self.shape == "multistep":
            return float(peak * self.drop ** sum(step > share * self.steps for share in self.drops))
        return peak


Keep = Literal["psnr", "ssim", "last"]


class Stage(Section):
    """A part of a training with losses, an optimiser and a schedule of its own.

    `keep` says which weights the stage ends with: those that scored the best `psnr` or `ssim` on the validation
    images, or the `last`. A stage that trades PSNR for another quality keeps the last. `blend` is the share of these in
    the weights that are handed on, the rest being those that the stage began with: how far the trade goes.

    Reference: `blend` is the network interpolation of Wang et al. 2018, "ESRGAN", section 3.4, arXiv:1809.00219
    """

    losses: tuple[LossPart, ...] = Field(min_length=1)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    ema: float = Field(default=0.999, ge=0, lt=1)
    keep: Keep = "psnr"
    blend: float = Field(default=1.0, gt=0, le=1)
