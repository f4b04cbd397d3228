"""Pairs made where the network is: all training images lie on the device, and a batch is a few operations there.

Nothing is waited for, so the device is never idle for want of data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.data.augment import Augment
from geomedsr.data.row import Row, Table, cut_boxes, gathered, numbers_on
from geomedsr.data.sampling import PatchSampler
from geomedsr.data.subject import Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.errors import RecipeError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Voxels

__all__ = ["ResidentPairs", "fits"]

_TRIES = 8
"""How many places are looked at, at once, for each patch and candidate."""

_SHARE = 0.4
"""How much of a device's free memory the images may fill."""


class ResidentPairs:
    """Batches of (lr, hr) as a function of the step alone, as `PairSampler` gives them but for other random choices.

    All patches of a batch have the same context: as much as the smallest image allows, up to the sampler's margin.

    Raises:
        RecipeError: the images do not fit into the device's memory.
    """

    def __init__(
        self,
        patches: PatchSampler,
        degradation: Degradation,
        augment: Augment,
        batch: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.patches, self.degradation, self.augment = patches, degradation, augment
        self.size, self.seed, self.device = batch, seed, device
        subjects = patches.subjects
        _check_fits(subjects, device)
        row = Row()
        self.images = row.table([_whole(one) for one in subjects], subjects, device)
        self.coarse = row.table([_whole(one.coarse) if one.coarse else None for one in subjects], subjects, device)
        self.masks = row.table([_mask(one) for one in subjects], subjects, device)
        self.voxels = torch.from_numpy(np.concatenate(row.parts)).to(device)
        self.paired = torch.tensor([one.coarse is not None for one in subjects], device=device)
        self.any_paired = any(one.coarse is not None for one in subjects)
        self.any_masked = any(one.mask is not None for one in subjects)
        self.channels = len(subjects[0].source.spec.channels)
        shapes = np.array([one.shape for one in subjects], np.int64)
        self.whole = shapes // np.array(patches.factor) * np.array(patches.factor)
        self.window = self._window()
        self.choices = self._choices(shapes)

    @property
    def factor(self) -> Factor:
        """How many times finer `hr` is."""
        return self.patches.factor

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The pairs of a step, on the device.

        Shape: (B, C, *S) and (B, C, *(S * factor))
        """
        generator = self._generator(step)
        places = self._places(generator)
        chosen, found = self._chosen(places, generator)
        lr, hr = self._pairs(places.picked(chosen), generator)
        hr = torch.where(found, hr, torch.nan)
        gain, offset = self.augment.gain, self.augment.offset
        each = (self.size, *[1] * (lr.ndim - 1))
        if gain > 0:
            factor = 1 + gain * (2 * self._uniform(generator, *each) - 1)
            lr, hr = lr * factor, hr * factor
        if offset > 0:
            level = offset * (2 * self._uniform(generator, *each) - 1)
            lr, hr = lr + level, hr + level
        return lr, hr

    def _generator(self, step: int) -> torch.Generator:
        """What a step's random choices are drawn from, on the device: nothing random is sent there."""
        seed = int(np.random.default_rng([self.seed, step]).integers(1 << 62))
        return torch.Generator(self.device).manual_seed(seed)

    def _uniform(self, generator: torch.Generator, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=self.device)

    def _window(self) -> Shape:
        patch, margin = self.patches.patch, self.patches.margin
        smallest = [int(n) for n in self.whole.min(axis=0)]
        if margin is None:
            return tuple(smallest)
        around = [p + 2 * (-(-margin // f) * f) for p, f in zip(patch, self.factor, strict=True)]
        return tuple(min(a, n) for a, n in zip(around, smallest, strict=True))

    def _choices(self, shapes: NDArray[Any]) -> _Choices:
        """What there is to choose from, laid on the device once."""
        factor, patch, window = (np.array(one) for one in (self.factor, self.patches.patch, self.window))
        counts = np.array([[*one.planes, 1][:1] for one in self.patches.subjects], np.int64)
        aside = (window - patch) // 2 // factor * factor
        found = (counts, (shapes - patch) // factor + 1, factor, aside, self.whole - window, window - patch)
        until = torch.from_numpy(np.cumsum(self.patches.weights)).float()
        return _Choices(*(one.to(self.device) for one in (until, *map(torch.as_tensor, found), self._orders())))

    def _orders(self) -> Tensor:
        """The orders that a patch's axes may have, all as likely: half of them leave the axes as they are."""
        plain = list(range(len(self.factor)))
        sizes = (self.patches.patch, self.window)
        turns = [(a, b) for a, b in self.augment.turns if all(one[a] == one[b] for one in sizes)]
        turned = [[b if axis == a else a if axis == b else axis for axis in plain] for a, b in turns]
        return torch.tensor([*turned, *[plain] * max(len(turned), 1)])

    def _places(self, generator: torch.Generator) -> _Places:
        """`_TRIES` places for each patch and candidate."""
        count, ndim = self.size * _TRIES * self.patches.candidates, len(self.factor)
        which = torch.searchsorted(self.choices.until, self._uniform(generator, count), right=True)
        which = which.clamp(max=len(self.choices.until) - 1)
        plane = _below(self.choices.planes[which], self._uniform(generator, count, 1))
        start = _below(self.choices.starts[which], self._uniform(generator, count, ndim)) * self.choices.factor
        context = torch.minimum((start - self.choices.aside).clamp(min=0), self.choices.last[which])
        return _Places(which, plane, start, context)

    def _chosen(self, places: _Places, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which of its places each patch takes: one that is valid and not flat, where there is such; and whether any
        of the batch found a valid one. Without one there is nothing to learn, and the step is lost.

        Shape: (B,) and ()
        """
        spread, energy = self._judged(places)
        spread, energy = spread.reshape(self.size, -1), energy.reshape(self.size, -1)
        good = (spread >= self.patches.contrast).float()
        chance = good * energy
        most = torch.nn.functional.one_hot(spread.nan_to_num(nan=-1.0).argmax(1), spread.shape[1])
        chance = torch.where(chance.sum(1, keepdim=True) > 0, chance, most.float())
        # A race of exponential variates, won in proportion to the chances: as multinomial, which waits for the device.
        late = -(1 - self._uniform(generator, *chance.shape)).log()
        column = (chance / late.clamp(min=1e-12)).argmax(1)
        chosen = torch.arange(self.size, device=self.device) * spread.shape[1] + column
        # A patch that found nothing valid repeats one that did.
        valid = spread.isfinite().any(1)
        return torch.where(valid, chosen, chosen.gather(0, valid.int().argmax(0, keepdim=True))), valid.any()

    def _judged(self, places: _Places) -> tuple[Tensor, Tensor]:
        """Each place's standard deviation (NaN where it may not be used) and its gradient's energy (1: all alike)."""
        patch, axes = self.patches.patch, tuple(range(1, 2 + len(self.factor)))
        hr = self._taken(self.images, places, places.start, patch, self.channels)
        # The standard deviation as a length, which processors are much quicker to find.
        hr -= hr.mean(axes, keepdim=True)
        spread = torch.linalg.vector_norm(hr, dim=axes) / hr[0].numel() ** 0.5
        if self.any_paired:
            spread = spread + 0 * self._true(places).sum(axes)
        if self.any_masked:
            inside = self._taken(self.masks, places, places.start, patch, 1).mean(axes)
            spread = spread.masked_fill(inside < self.patches.inside, torch.nan)
        if self.patches.candidates == 1:
            return spread, torch.ones_like(spread)
        return spread, torch.stack([hr.diff(dim=axis).square().mean(axes) for axis in axes[1:]]).sum(0)

    def _pairs(self, places: _Places, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The pairs at places, turned and flipped: the fine image first, as a degradation favours no side."""
        turn, flip = self._changes(generator)
        patch, window = self.patches.patch, self.window
        context = self._taken(self.images, places, places.context, window, self.channels, turn, flip).nan_to_num()
        start = (places.start - places.context).gather(1, turn)
        start = torch.where(flip, self.choices.room - start, start)
        lr = self.degradation(context, self.factor, generator)
        lr = cut_boxes(lr, start // self.choices.factor, _over(patch, self.factor))
        if not self.any_paired:
            return lr, cut_boxes(context, start, patch)
        paired = self.paired[places.which].reshape(-1, *[1] * (lr.ndim - 1))
        return torch.where(paired, self._true(places, turn, flip), lr), cut_boxes(context, start, patch)

    def _true(self, places: _Places, turn: Tensor | None = None, flip: Tensor | None = None) -> Tensor:
        """The true coarse patches; zeros for subjects without."""
        start = places.start // self.choices.factor
        shape = _over(self.patches.patch, self.factor)
        return self._taken(self.coarse, places, start, shape, self.channels, turn, flip)

    def _changes(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """For each patch the order of its axes, and on which of them it is flipped."""
        orders = self.choices.orders
        drawn = (self._uniform(generator, self.size) * len(orders)).long().clamp(max=len(orders) - 1)
        flips = self._uniform(generator, self.size, len(self.factor)) < 0.5
        return orders.index_select(0, drawn), flips & bool(self.augment.axes)

    def _taken(
        self,
        table: Table,
        places: _Places,
        start: Tensor,
        shape: Shape,
        channels: int,
        turn: Tensor | None = None,
        flip: Tensor | None = None,
    ) -> Tensor:
        """The voxels of a box at each place.

        Shape: (B, channels, *shape)
        """
        which = places.which
        steps = table.steps[which]
        base = table.offset[which] + (places.plane * table.planes[which]).sum(1) + (start * steps).sum(1)
        if turn is not None and flip is not None:
            steps = steps.gather(1, turn)
            base = base + (flip * (numbers_on(shape, self.device) - 1) * steps).sum(1)
            steps = torch.where(flip, -steps, steps)
        return gathered(self.voxels, base, table.channel[which], steps, channels, shape)


@dataclass(frozen=True)
class _Choices:
    """The subjects, by where each one's share of 1 ends; for each how many planes and starts it has and the last place
    of a context; for all the factor, how far a context begins before its patch, how much longer it is, and the orders
    of axes.

    Shape: (N,), (N, 1), (N, ndim), (ndim,), (ndim,), (N, ndim), (ndim,), (T, ndim)
    """

    until: Tensor
    planes: Tensor
    starts: Tensor
    factor: Tensor
    aside: Tensor
    last: Tensor
    room: Tensor
    orders: Tensor


@dataclass(frozen=True)
class _Places:
    """Where patches lie: the subject, the plane, the patch's start and that of its context.

    Shape: (K,), (K, 1), (K, ndim), (K, ndim)
    """

    which: Tensor
    plane: Tensor
    start: Tensor
    context: Tensor

    def picked(self, index: Tensor) -> _Places:
        return _Places(self.which[index], self.plane[index], self.start[index], self.context[index])


def _whole(subject: Subject) -> Voxels:
    source = subject.source
    voxels = subject.intensity.apply(source.read(Box.whole(source.spec.grid.shape)))
    return np.ascontiguousarray(voxels, np.float32)


def _mask(subject: Subject) -> Voxels | None:
    if subject.mask is None:
        return None
    voxels = np.nan_to_num(subject.mask.read(Box.whole(subject.mask.spec.grid.shape)))
    return np.asarray(voxels.any(axis=0, keepdims=True), np.float32)


def _below(counts: Tensor, uniform: Tensor) -> Tensor:
    """Whole numbers from 0 up to the counts, out of uniform ones from 0 to 1."""
    return torch.minimum((uniform * counts).long(), counts - 1)


def _over(shape: Shape, factor: Factor) -> Shape:
    return tuple(n // f for n, f in zip(shape, factor, strict=True))


def fits(subjects: Sequence[Subject], device: torch.device) -> bool:
    """Whether the images fit into what of the device is for them."""
    return _needed(subjects) <= _free(device)


def _needed(subjects: Sequence[Subject]) -> float:
    coarse = [one.coarse.source for one in subjects if one.coarse]
    sources = [*(one.source for one in subjects), *(one.mask for one in subjects if one.mask), *coarse]
    return sum(4 * math.prod(source.spec.shape) for source in sources)


def _free(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] * _SHARE if device.type == "cuda" else math.inf


def _check_fits(subjects: Sequence[Subject], device: torch.device) -> None:
    needed, free = _needed(subjects), _free(device)
    if needed > free:
        raise RecipeError(
            f"sampling.resident: the images take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the device are for "
            "them; set it to false."
        )
