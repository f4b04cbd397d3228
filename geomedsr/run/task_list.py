"""The manifest of what was planned: the choices that decide about the bits, each input as it is, and how it is cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geomedsr import __version__
from geomedsr.image import ImageSpec
from geomedsr.inference.journal import Entry, Manifest
from geomedsr.io import files_of, is_url, suffix_of
from geomedsr.io._zarr_design import KEY, Remembered, design
from geomedsr.io._zarr_place import Place
from geomedsr.run.kept import ready_upscaler
from geomedsr.run.planning import Plan, Settings, asked, creation_options, selected
from geomedsr.run.worker import fingerprint

__all__ = ["manifest_of"]


def manifest_of(plans: Sequence[Plan], settings: Settings, sharers: int = 1) -> Manifest:
    """The manifest of a job that does what was planned, by `sharers` of this machine's memory.

    Raises:
        GeomedsrError: an output cannot be stored as it is asked for, or no tile fits into memory.
    """
    choices: dict[str, Any] = {
        "model": settings.model,
        "--scale": settings.scale,
        "--bands": settings.bands,
        "--axes": settings.axes,
        "--precision": settings.precision,
        "--backend": settings.backend,
        "--tile": settings.tile,
        "--dtype": settings.dtype,
        "--format": settings.form,
        "--co": dict(sorted(settings.options.items())),
        "the weights": sorted({fingerprint(made.model) for made in plans}),
    }
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in choices.items()}
    return Manifest(__version__, plain, tuple(_entry(made, settings, sharers) for made in plans))


def _entry(made: Plan, settings: Settings, sharers: int) -> Entry:
    job = made.job
    after = asked(made, made.before, settings)
    whole = Entry(str(job.source), str(job.target), _identity(job.source, made.before), after.grid.shape, made.factor)
    if suffix_of(job.target) != ".zarr":
        return whole
    spec = design(job.target, after, creation_options(settings)).spec
    assert spec.chunks is not None, "a zarr output has blocks"
    cut = ready_upscaler(made, settings).cut_for(selected(made.before, made.fit), spec, sharers)
    return replace(whole, window=cut.window, step=cut.step)


def _identity(path: Path, before: ImageSpec) -> str:
    """What tells an input from another or a changed one, without reading its voxels; all its files or arrays count."""
    if not is_url(path) and path.is_file():
        stamps = [_stamp(file) for file in dict.fromkeys(files_of(path)) if file.exists()]
        return stamps[0] if len(stamps) == 1 else f"{len(stamps)} files, {_digest(map(str.encode, stamps))}"
    told = before.extra.get(KEY)
    arrays = [node.path for node in told.image.arrays] if isinstance(told, Remembered) else []
    folders = dict.fromkeys((path, *arrays))
    return _digest(part for folder in folders for part in _metadata(Place(folder)))


def _metadata(place: Place) -> Iterator[bytes]:
    """What a folder of a store says of itself, in format 3 or 2."""
    told = (place / "zarr.json").read()
    yield told or b"-"
    if told is None:
        yield from ((place / name).read() or b"-" for name in (".zarray", ".zgroup", ".zattrs"))


def _stamp(file: Path) -> str:
    found = file.stat()
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


def _digest(parts: Iterable[bytes]) -> str:
    said = hashlib.sha256()
    for part in parts:
        said.update(part)
    return said.hexdigest()[:16]
