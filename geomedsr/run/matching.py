"""Which of the input's channels each channel of an output came from, where the files may not say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.image import Source, Voxels
from geomedsr.run.channels import MADE_UP, parse_bands

__all__ = ["matched_channels"]

_ENOUGH = 1 << 14


def matched_channels(
    before: Source, after: Source, bands: str | None, file: str, told: tuple[str, ...] = ()
) -> tuple[tuple[int, ...], str | None]:
    """The input's channel of each of the output's, and a note where that is a guess.

    By `bands` where given, else by the names `told` by the output, else by its channels' own names, else in their
    order, else those whose values are nearest.

    Raises:
        InputError: the output has another number of channels than `bands` names, or more than the input.
        ModelError: the input has no such band.
    """
    known, names = before.spec.channels, after.spec.channels
    if bands is not None:
        chosen = parse_bands(bands, known, file)
        if len(chosen) != len(names):
            raise InputError(f"--bands names {len(chosen)} bands; the output has {len(names)} channels.")
        return chosen, None
    if len(names) > len(known):
        raise InputError(f"The output has {len(names)} channels and {file} has {len(known)}: it was not made from it.")
    if len(told) == len(names) and set(told) <= set(known) and len(set(known)) == len(known):
        return tuple(known.index(name) for name in told), None
    if _tell_apart(known) and _tell_apart(names) and set(names) <= set(known):
        return tuple(known.index(name) for name in names), None
    if len(names) == len(known):
        return tuple(range(len(names))), None
    nearest = _nearest(before, after)
    numbers = ",".join(str(i + 1) for i in nearest)
    return (
        nearest,
        f"The output's bands were taken for bands {numbers} of {file} by their values; --bands says otherwise.",
    )


def _tell_apart(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names) and not any(MADE_UP.fullmatch(name.lower()) for name in names)


def _nearest(before: Source, after: Source) -> tuple[int, ...]:
    """Of each output channel the input channel with the least mean difference, on blocks of voxels of the middle."""
    factor = after.spec.grid.ratio_to(before.spec.grid)
    box = _middle(before.spec.grid.shape)
    coarse, fine = before.read(box), _block_means(after.read(box.scaled(factor)), factor)
    distance = [[_distance(one, other) for other in coarse] for one in fine]
    return tuple(int(np.argmin(row)) for row in distance)


def _middle(shape: tuple[int, ...]) -> Box:
    side = round(_ENOUGH ** (1 / len(shape)))
    size = [min(n, side) for n in shape]
    start = tuple((n - m) // 2 for n, m in zip(shape, size, strict=True))
    return Box(start, tuple(a + m for a, m in zip(start, size, strict=True)))


def _block_means(voxels: Voxels, factor: tuple[int, ...]) -> Voxels:
    split = [voxels.shape[0]]
    for length, f in zip(voxels.shape[1:], factor, strict=True):
        split += [length // f, f]
    return np.asarray(voxels.reshape(split).mean(tuple(range(2, len(split), 2))), dtype=np.float32)


def _distance(one: Voxels, other: Voxels) -> float:
    difference = np.abs(one - other)
    valid = np.isfinite(difference)
    return float(difference[valid].mean()) if valid.any() else float("inf")
