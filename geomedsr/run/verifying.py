"""`geomedsr verify`: an output held against its input, without any truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Source, Voxels
from geomedsr.io import format_of
from geomedsr.run.catalogue import load_model, shipped
from geomedsr.run.channels import Selected, parse_bands
from geomedsr.run.check import differences
from geomedsr.run.description import crs_name, is_placeless
from geomedsr.run.fit import BASELINES
from geomedsr.run.provenance import read_provenance
from geomedsr.run.targets import Inputs, Job, check_folder, check_target, make_folder
from geomedsr.trust.verify import Check, Verification, judged

if TYPE_CHECKING:
    from geomedsr.trust._degraded import Linear

__all__ = ["table", "verify"]

_CORNERS = (1e-3, 1e-3)


def verify(
    out: Path,
    against: Path,
    *,
    model: str | None = None,
    bands: str | None = None,
    residual: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """All checks of an output against its input; the map of what they disagree in goes into the file `residual`.

    The degradation by which they must agree is that of `model`, else of the model that the output says it was made by,
    else the average of the fine voxels.

    Raises:
        GeomedsrError: one of the files cannot be read, or they cannot be compared at all.
    """
    if residual is not None:
        check_folder(residual.parent)
        check_target(Job(against, residual), Inputs([out, against]), replace=overwrite)
    after, before = (format_of(path).open_source(path) for path in (out, against))
    try:
        if bands is not None:
            before = Selected(before, parse_bands(bands, before.spec.channels, against.name))
        name, linear = _degradation(model, after.spec)
        checks, error = _compared(out, before, after, linear, progress)
    finally:
        after.close()
        before.close()
    if residual is not None and error is not None:
        make_folder(residual.parent)
        _write(residual, before.spec, after.spec.channels, error)
    return Verification(str(against), str(out), name, checks)


def _degradation(model: str | None, after: ImageSpec) -> tuple[str, Linear]:
    """The model's name, and how its outputs are made coarse again.

    A model that the output names by itself counts if it is one of the package's, with the same weights.
    """
    from geomedsr.trust._degraded import AVERAGE, degradation_of

    told = (read_provenance(after.provenance) or {}).get("model", {})
    name = model or str(told.get("name", ""))
    if name in BASELINES or (model is None and name not in shipped()):
        return name, AVERAGE
    loaded = load_model(name)
    if model is None and loaded.sha256 != told.get("sha256"):
        return name, AVERAGE
    return loaded.name, degradation_of(loaded, len(after.channels))


def _compared(
    out: Path, before: Source, after: Source, linear: Linear, progress: Callable[[int, int], None] | None
) -> tuple[tuple[Check, ...], Voxels | None]:
    from geomedsr.trust._aligned import Aligned
    from geomedsr.trust.examine import examine

    if before.spec.grid.ndim != after.spec.grid.ndim:
        raise InputError(
            f"{out} has {after.spec.grid.ndim} axes, the input {before.spec.grid.ndim}: they cannot be compared."
        )
    pair = Aligned.of(before, after)
    try:
        factor = pair.factor
    except GridError as error:
        text = f"{error} Nothing else was looked at."
        return (Check("geometry", "fail", 1, 0, "differences", explanation=text),), None
    promised = format_of(out).target_spec(out, before.spec.with_channels(pair.channels).upscaled(factor))
    found = examine(pair, linear, progress)
    return (_place(after.spec, promised), _header(after.spec, promised), *found.checks), found.residual


def _place(written: ImageSpec, promised: ImageSpec) -> Check:
    """Whether an output covers the place of its input."""
    if written.grid.crs != promised.grid.crs:
        text = f"its CRS is {crs_name(written.grid.crs)}, that of the input {crs_name(promised.grid.crs)}"
        return Check("geometry", "fail", 1, 0, "differences", explanation=text)
    if is_placeless(written.grid) and is_placeless(promised.grid):
        return judged("geometry", 0, *_CORNERS, unit="voxel", explanation="neither of both says where it lies")
    away = float(np.abs(written.grid.corners - promised.grid.corners).max()) / min(written.grid.spacing)
    text = "the largest distance between corners that should be one"
    return judged("geometry", away, *_CORNERS, unit="voxel", explanation=text)


def _header(written: ImageSpec, promised: ImageSpec) -> Check:
    """Whether type, nodata, names and scaling are those of the input, as the format can hold them."""
    found = differences(written, replace(promised, grid=written.grid))
    if written.grid.units != promised.grid.units:
        found.append(f"its units are {written.grid.units or 'none'}, not {promised.grid.units or 'none'}")
    if written.scaling != promised.scaling:
        found.append("its scaling is another")
    return judged("header", len(found), 0, np.inf, unit="differences", explanation="; ".join(found))


def _write(path: Path, before: ImageSpec, channels: tuple[str, ...], residual: Voxels) -> None:
    spec = ImageSpec(before.grid, channels, np.dtype(np.float32), np.nan, has_holes=True)
    sink = format_of(path).create_sink(path, spec)
    try:
        for box in Box.whole(before.grid.shape).split(sink.spec.chunks or before.grid.shape):
            sink.write(box, np.asarray(residual[(slice(None), *box.slices)]))
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def table(verification: Verification) -> str:
    """The checks as a person reads them: what was found, the limit, and what it means."""
    rows = [
        (
            check.status,
            f"{check.name} {check.channel}".strip(),
            f"{check.found:.4g} {check.unit}".strip(),
            f"{check.limit:.4g}",
            check.explanation,
        )
        for check in verification.checks
    ]
    head = ("", "check", "found", "limit", "")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(4)]
    padded = [[*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]] for row in (head, *rows)]
    return "\n".join("  ".join(row).rstrip() for row in padded)
