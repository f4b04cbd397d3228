"""Patches from sources: where they lie is a function of the seed and the step, so a run resumes by counting.

A sampler draws an image (by its weight, else by its number of voxels), a plane where the task has two axes and the
image three, and a place; flat, invalid and masked places are drawn again. With several `candidates` it draws as many
places and takes one of them by its gradient energy, so that edges and texture are seen more often than plain ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geomedsr.data.subject import Subject, planar_axes, prepare
from geomedsr.errors import RecipeError
from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Voxels

__all__ = ["Patch", "PatchSampler", "Subject", "planar_axes", "prepare"]

_TRIES = 50
"""How many places are looked at for one that is not flat."""

_VALID_TRIES = 5000
"""How many are looked at for one that is valid at all: images may be mostly nodata, and masks small."""


@dataclass(frozen=True)
class Patch:
    """A fine patch inside the `context` that its degradation needs, and its true coarse voxels where there are such.

    Shape: `context` is (C, *S) in the network's units; `inner` is the patch's box in it, aligned to the factor.
    """

    context: Voxels
    inner: Box
    coarse: Voxels | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    subject: Subject
    start: Shape
    stop: Shape
    plane: Shape
    contrast: float = math.nan


class PatchSampler:
    """Draws patches of `patch` fine voxels, each with `margin` voxels of context (None: whole axes).

    Of `candidates` places one is taken, by its gradient energy. At least the share `inside` of a patch lies in the
    mask, where its image has one.

    Raises:
        RecipeError: no image is as large as a patch, or none has a valid place.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        patch: Shape,
        factor: Factor,
        margin: int | None,
        contrast: float,
        *,
        candidates: int = 1,
        inside: float = 1.0,
    ) -> None:
        self.subjects = [subject for subject in subjects if _fits(subject, patch)]
        if not self.subjects:
            sizes = ", ".join(f"{s.name} {'x'.join(map(str, s.shape))}" for s in subjects)
            raise RecipeError(f"No training image is as large as a patch of {'x'.join(map(str, patch))}: {sizes}.")
        self.patch, self.factor, self.margin, self.contrast = patch, factor, margin, contrast
        self.candidates, self.inside = candidates, inside
        shares = [subject.share for subject in self.subjects]
        self.weights = np.array(shares, np.float64) / sum(shares)
        self._place(np.random.default_rng(0))  # so that images without a valid place are refused before the start

    def draw(self, rng: np.random.Generator) -> Patch:
        """One patch.

        Raises:
            RecipeError: thousands of draws in a row found nothing but invalid or masked voxels.
        """
        places = [self._place(rng) for _ in range(self.candidates)]
        return self._with_context(places[0] if len(places) == 1 else places[_by_energy(places, rng)])

    def _place(self, rng: np.random.Generator) -> _Place:
        """A valid place with contrast, or of `_TRIES` the one with the most."""
        best: _Place | None = None
        for tried in range(1, _VALID_TRIES + 1):
            place = self._anywhere(rng)
            if not math.isnan(place.contrast) and (best is None or place.contrast > best.contrast):
                best = place
            if best is not None and (best.contrast >= self.contrast or tried >= _TRIES):
                return best
        raise RecipeError(
            f"{_VALID_TRIES} random patches in a row had invalid or masked voxels; the images are all but empty. "
            "Make sampling.patch or sampling.inside smaller, or leave out the empty images."
        )

    def _anywhere(self, rng: np.random.Generator) -> _Place:
        subject = self.subjects[rng.choice(len(self.subjects), p=self.weights)]
        plane = tuple(int(rng.integers(n)) for n in subject.planes)
        start = tuple(
            int(rng.integers((n - p) // f + 1)) * f
            for n, p, f in zip(subject.shape, self.patch, self.factor, strict=True)
        )
        stop = tuple(a + p for a, p in zip(start, self.patch, strict=True))
        return _Place(subject, start, stop, plane, self._spread(subject, start, stop, plane))

    def _spread(self, subject: Subject, start: Shape, stop: Shape, plane: Shape) -> float:
        """The patch's standard deviation; NaN where it may not be used."""
        inside = subject.inside(start, stop, plane)
        if inside is not None and inside.mean() < self.inside:
            return math.nan
        coarse = subject.read_coarse(start, stop, plane, self.factor)
        if coarse is not None and not np.isfinite(coarse).all():
            return math.nan
        return float(subject.read(start, stop, plane).std())  # NaN where a voxel is invalid

    def _with_context(self, place: _Place) -> Patch:
        subject, start, stop, plane = place.subject, place.start, place.stop, place.plane
        coarse = subject.read_coarse(start, stop, plane, self.factor)
        if coarse is not None:
            return Patch(subject.read(start, stop, plane), Box.whole(self.patch), coarse)
        low, high = [], []
        for a, p, n, f in zip(start, self.patch, subject.shape, self.factor, strict=True):
            margin = n if self.margin is None else -(-self.margin // f) * f
            low.append(max(a - margin, 0))
            high.append(min(a + p + margin, n // f * f))
        context = subject.read(tuple(low), tuple(high), plane)
        return Patch(np.nan_to_num(context, nan=0.0), Box(start, stop).relative_to(low))


def _by_energy(places: Sequence[_Place], rng: np.random.Generator) -> int:
    """One of the places, in proportion to the energy of its gradient."""
    energy = np.array([_energy(place) for place in places])
    total = energy.sum()
    return int(rng.choice(len(places), p=energy / total if total > 0 else None))


def _energy(place: _Place) -> float:
    voxels = place.subject.read(place.start, place.stop, place.plane).astype(np.float64)
    return float(sum(np.square(np.diff(voxels, axis=axis)).mean() for axis in range(1, voxels.ndim)))


def _fits(subject: Subject, patch: Shape) -> bool:
    return all(n >= p for n, p in zip(subject.shape, patch, strict=True))
