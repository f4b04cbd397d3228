"""Which prediction belongs to which reference, and whether the two describe the same place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomedsr.errors import InputError
from geomedsr.image import ImageSpec
from geomedsr.io import suffix_of
from geomedsr.run.channels import MADE_UP, answers_to
from geomedsr.run.description import crs_name
from geomedsr.run.inputs import Found, archive_of, expand

__all__ = ["Match", "check_alike", "matched"]

_MADE_BY = re.compile(r"_(desc|res|rec)-[^_]+")
"""The parts of a BIDS name that tell a derivative from its source."""

_APART = 1e-3


@dataclass(frozen=True, slots=True)
class Match:
    """A prediction by a method, its reference, and what the image is called."""

    image: str
    method: str
    prediction: Path
    reference: Path


def matched(predictions: Sequence[str], references: Sequence[str]) -> list[Match]:
    """Each prediction with its reference, by their names below what was named; a folder of predictions is a method.

    With one reference alone each prediction is a method of its own, called as its file is. BIDS names belong together
    whatever their `desc-`, `res-` and `rec-` say.

    Raises:
        InputError: a prediction has no reference, or two.
    """
    known = expand(references)
    if len(known) == 1:
        found = [one for text in predictions for one in expand([text])]
        methods, reference = _distinct([_stem(one.path) for one in found]), known[0].path
        return [
            Match(_stem(reference), method, one.path, reference) for method, one in zip(methods, found, strict=True)
        ]
    methods = _distinct([_method(text) for text in predictions], always=False)
    return [
        _match(one, method, known, references)
        for method, text in zip(methods, predictions, strict=True)
        for one in expand([text])
    ]


def _method(text: str) -> str:
    path = Path(text)
    is_folder = path.is_dir() and suffix_of(path) is None and archive_of(path) is None
    return path.resolve().name if is_folder else "prediction"


def _distinct(names: list[str], *, always: bool = True) -> list[str]:
    """The names with a number where they come again; `always` for single files, which are not one method."""
    counted = [(name, names[: i + 1].count(name)) for i, name in enumerate(names)]
    return [f"{name} {n}" if n > 1 and (always or name != "prediction") else name for name, n in counted]


def _match(one: Found, method: str, known: Sequence[Found], references: Sequence[str]) -> Match:
    same = [other for other in known if _key(other.relative) == _key(one.relative)]
    same = same or [other for other in known if _key(Path(other.relative.name)) == _key(Path(one.relative.name))]
    if len(same) != 1:
        many = f"{len(same)} references" if same else "no reference"
        raise InputError(f"{one.path} has {many} of its name in {', '.join(references)}; both need the same name.")
    return Match(_key(same[0].relative), method, one.path, same[0].path)


def _key(relative: Path) -> str:
    return str(relative.with_name(_MADE_BY.sub("", _stem(relative))))


def _stem(path: Path) -> str:
    suffix = suffix_of(path) or ""
    return path.name[: len(path.name) - len(suffix)]


def check_alike(prediction: ImageSpec, reference: ImageSpec, file: str, against: str) -> None:
    """Refuses a pair whose grids do not describe the same place, or whose channels are others.

    Raises:
        InputError: with both numbers.
    """
    mine, theirs = prediction.grid, reference.grid
    if mine.shape != theirs.shape:
        shapes = [" x ".join(map(str, grid.shape)) for grid in (mine, theirs)]
        raise InputError(f"{file} has {shapes[0]} voxels and {against} {shapes[1]}: they cannot be compared.")
    if mine.crs != theirs.crs:
        names = [crs_name(grid.crs) for grid in (mine, theirs)]
        raise InputError(f"{file} has the CRS {names[0]} and {against} {names[1]}: bring one into the other's.")
    away = float(np.abs(mine.corners - theirs.corners).max()) / min(theirs.spacing)
    if away > _APART:
        raise InputError(
            f"The corners of {file} are up to {away:.4g} voxels from those of {against}: they are not the same place."
        )
    _check_channels(prediction.channels, reference.channels, file, against)


def _check_channels(mine: tuple[str, ...], theirs: tuple[str, ...], file: str, against: str) -> None:
    if len(mine) != len(theirs):
        raise InputError(
            f"{file} has {len(mine)} channels ({', '.join(mine)}) and {against} {len(theirs)} ({', '.join(theirs)}): "
            "choose the reference's with --bands."
        )
    contrary = [
        (a, b)
        for a, b in zip(mine, theirs, strict=True)
        if not MADE_UP.fullmatch(a.lower()) and not MADE_UP.fullmatch(b.lower()) and not answers_to(a) & answers_to(b)
    ]
    if contrary and len(mine) > 1:
        a, b = (", ".join(names) for names in zip(*contrary, strict=True))
        raise InputError(f"{file} has {a} where {against} has {b}: choose the reference's order with --bands.")
