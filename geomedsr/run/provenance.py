"""How an output was made, as a text that goes into it: by which model, from which input, with which settings, when.

Nothing of the machine stands in it: no path, no host, no user. Two runs of one command differ in the date alone, which
is that of SOURCE_DATE_EPOCH where it is set, as for reproducible builds; then their outputs have the same bits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr import __version__
from geomedsr.errors import GeomedsrError
from geomedsr.io._zarr_place import Place, is_url

if TYPE_CHECKING:
    from geomedsr.run.planning import Plan, Settings

__all__ = ["fingerprint", "provenance_of", "read_provenance"]

_NOT_TOLD = {"model", "scale", "device", "memory", "overwrite", "skip_existing", "form", "options", "sidecar", "bids"}
"""Settings that say nothing of the result, or that are told otherwise."""

_WHOLE = 4 << 30
_END = 64 << 20
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def provenance_of(plan: Plan, settings: Settings) -> str:
    """The text for an output: JSON in one line.

    Raises:
        GeomedsrError: SOURCE_DATE_EPOCH is no number.
    """
    model, recipe = plan.model, plan.model.recipe
    made: dict[str, Any] = {"name": model.name}
    if recipe is not None:
        made |= {"sha256": model.sha256, "recipe": recipe.name, "seed": recipe.seed}
    names = plan.before.channels
    index = plan.fit.channels if plan.fit.channels is not None else tuple(range(len(names)))
    parameters = {
        "factor": list(plan.factor),
        "channels": [names[i] for i in index],
        "axes": list(plan.fit.axes) if plan.fit.axes is not None else None,
        **dict(_chosen(settings)),
    }
    told = {
        "geomedsr": __version__,
        "model": made,
        "parameters": parameters,
        "input": fingerprint(plan.job.source),
        "before": read_provenance(plan.before.provenance),
        "date": _date(),
    }
    return json.dumps(told)


def read_provenance(text: str | None) -> dict[str, Any] | None:
    """What such a text says; None where there is none, or it is no such text."""
    try:
        told = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("geomedsr"), str):
        return None
    return told if all(isinstance(told.get(key), dict) for key in ("model", "input", "parameters")) else None


def fingerprint(path: Path) -> dict[str, Any]:
    """The name of an input and the SHA-256 of its content, as far as it is read for that.

    Of a file beyond 4 GiB the size and 64 MiB at both ends are, of a zarr array its metadata; `of` says so.
    """
    if path.is_dir() or is_url(path):
        found, of = _hashed(_metadata(Place(path))), "metadata"
    elif not path.is_file():
        return {"name": path.name}
    elif path.stat().st_size > _WHOLE:
        found, of = _hashed(_ends(path)), "size, first and last 64 MiB"
    else:
        with open(path, "rb") as handle:
            found, of = hashlib.file_digest(handle, "sha256").hexdigest(), "file"
    return {"name": path.name, "sha256": found, "of": of}


def _chosen(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The settings that are not as they would have been unasked, and the precision."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        plain = field.default if field.default is not MISSING else None
        if field.name not in _NOT_TOLD and (value != plain or field.name == "precision"):
            yield (
                field.name,
                value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value,
            )


def _hashed(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _ends(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield str(size).encode()
    with open(path, "rb") as handle:
        yield handle.read(_END)
        handle.seek(size - _END)
        yield handle.read(_END)


def _metadata(store: Place) -> Iterator[bytes]:
    for name in _METADATA:
        if (data := (store / name).read()) is not None:
            yield name.encode()
            yield data


def _date() -> str:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        when = datetime.now(UTC) if given is None else datetime.fromtimestamp(int(given), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise GeomedsrError(f"SOURCE_DATE_EPOCH is a number of seconds since 1970, not '{given}'.") from error
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
