"""The images of a couple, opened and found to belong together before any work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.errors import GridError, InputError
from geomedsr.image import Source
from geomedsr.io import format_of
from geomedsr.run.couples import Couple
from geomedsr.run.description import crs_name
from geomedsr.run.matching import matched_channels
from geomedsr.run.origin import Origin, origin_of

if TYPE_CHECKING:
    from geomedsr.report.layers import Companions
    from geomedsr.report.pair import Pair

__all__ = ["Opened", "opened"]


@dataclass
class Opened:
    """A couple with its images open and found to belong together."""

    couple: Couple
    pair: Pair
    companions: Companions
    origin: Origin
    note: str | None


@contextmanager
def opened(couple: Couple, bands: str | None, model: str | None) -> Iterator[Opened]:
    """The images of a couple, checked; they are closed at the end.

    Raises:
        GeomedsrError: one cannot be read, or they do not belong together.
    """
    from geomedsr.report.layers import Companions
    from geomedsr.report.pair import Pair

    with ExitStack() as stack:

        def source(path: Path) -> Source:
            found = format_of(path).open_source(path)
            stack.callback(found.close)
            return found

        before, after = source(couple.before), source(couple.after)
        _check_place(before, couple.before, after, couple.after)
        origin = origin_of(after, model)
        matched, note = matched_channels(before, after, bands, couple.before.name, origin.channels)
        names = origin.names_for(after.spec.channels)
        pair = Pair.of(before, after, matched, names)
        beside = {}
        for key in ("reference", "uncertainty", "hallucination"):
            path = getattr(couple, key)
            if path is not None:
                beside[key] = source(path)
                _check_beside(beside[key], path, after, couple.after, key)
        yield Opened(couple, pair, Companions(**beside), origin, note)


def _check_place(before: Source, before_path: Path, after: Source, after_path: Path) -> None:
    """Whether one image is a finer one of the same place.

    Raises:
        GridError: it is not.
    """
    coarse, fine = before.spec.grid, after.spec.grid
    shapes = f"{_shape(fine.shape)} voxels against {_shape(coarse.shape)}"
    try:
        factor = fine.ratio_to(coarse)
    except GridError as error:
        raise GridError(f"{after_path} is no finer image of {before_path}: {shapes} is no whole multiple.") from error
    if max(factor) == 1:
        raise GridError(f"{after_path} is not finer than {before_path}: both have {_shape(fine.shape)} voxels.")
    if fine.crs != coarse.crs:
        raise GridError(f"{after_path} has the CRS {crs_name(fine.crs)}, and {before_path} has {crs_name(coarse.crs)}.")
    if not fine.same_place(coarse, 1e-2):
        raise GridError(f"{after_path} and {before_path} do not cover the same place: their corners differ.")


def _check_beside(source: Source, path: Path, after: Source, after_path: Path, key: str) -> None:
    """Whether an image lies on the output's grid.

    Raises:
        GridError: it does not.
        InputError: it has another number of channels.
    """
    grid, wanted = source.spec.grid, after.spec.grid
    if grid.shape != wanted.shape:
        raise GridError(
            f"--{key} {path} has {_shape(grid.shape)} voxels; it must have the {_shape(wanted.shape)} of {after_path}."
        )
    if not grid.same_place(wanted, 1e-2):
        raise GridError(f"--{key} {path} does not cover the same place as {after_path}, or has another CRS.")
    counts = len(source.spec.channels), len(after.spec.channels)
    if counts[0] != counts[1] and (key == "reference" or counts[0] != 1):
        raise InputError(f"--{key} {path} has {counts[0]} channels; {after_path} has {counts[1]}.")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
