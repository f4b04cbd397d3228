"""A JSON file beside an output that says how it was made, and what BIDS wants of a derivative."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geomedsr import __version__
from geomedsr.errors import OutputError
from geomedsr.io import is_url, suffix_of
from geomedsr.io._staging import Staging, write_errors
from geomedsr.run.provenance import read_provenance

__all__ = ["bids_name", "check_bids", "check_sidecar", "describe_dataset", "sidecar_path", "write_sidecar"]

_NAME = re.compile(r"sub-[A-Za-z0-9]+(_[A-Za-z]+-[A-Za-z0-9]+)*_[A-Za-z0-9]+")
_VERSION = "1.10.0"


def sidecar_path(target: Path) -> Path:
    """Where the sidecar of an output lies: `scan.json` for `scan.nii.gz`."""
    return target.with_name(target.name.removesuffix(suffix_of(target) or "") + ".json")


def check_sidecar(target: Path, *, replace: bool) -> None:
    """Refuses a sidecar that would replace another file, or that there is no folder for.

    Raises:
        OutputError: it would, or there is none.
    """
    if is_url(target):
        raise OutputError(f"A sidecar is a file, and {target} is a URL; leave it out: the output says it, too.")
    path = sidecar_path(target)
    if os.path.lexists(path) and not replace:
        raise OutputError(f"{path} exists already; pass --overwrite to replace it, or leave the sidecar out.")


def check_bids(name: str, units: str) -> None:
    """Refuses an image that BIDS has no words for.

    Raises:
        OutputError: it is not in mm.
    """
    if units != "mm":
        found = f"is in {units}" if units else "does not tell its units"
        raise OutputError(f"--bids is for images in mm; {name} {found}. Pass --sidecar instead.")


def bids_name(name: str) -> str:
    """The name of the derivative of a BIDS file.

    Raises:
        OutputError: it is no BIDS name.

    Example:
        >>> bids_name("sub-01_ses-1_T1w.nii.gz")
        'sub-01_ses-1_desc-sr_T1w.nii.gz'
    """
    suffix = suffix_of(Path(name)) or ""
    stem = re.sub(r"_desc-[A-Za-z0-9]+", "", name[: len(name) - len(suffix)])
    if not _NAME.fullmatch(stem):
        raise OutputError(f"--bids takes files with BIDS names, such as sub-01_T1w.nii.gz; {name} is none.")
    entities, _, kind = stem.rpartition("_")
    return f"{entities}_desc-sr_{kind}{name[len(name) - len(suffix) :]}"


def write_sidecar(target: Path, source: Path, provenance: str, spacing: Sequence[float], *, bids: bool) -> Path:
    """Writes the sidecar of an output and gives its path.

    Raises:
        OutputError: its folder cannot be written.
    """
    told = read_provenance(provenance) or {}
    content: dict[str, Any] = {"Provenance": told}
    if bids:
        content = {
            "Description": f"Made finer by {told['model']['name']}",
            "Sources": [f"bids:raw:{_below_root(source)}"],
            "SpatialReference": "orig",
            "Resolution": f"super-resolved to {' x '.join(f'{value:.6g}' for value in spacing)} mm",
            "GeneratedBy": [_generated_by()],
            **content,
        }
    return _put(sidecar_path(target), content)


def describe_dataset(out: Path, source: Path) -> None:
    """Writes `dataset_description.json` into the folder of a derivative dataset that has none.

    Raises:
        OutputError: it cannot be written.
    """
    path = out / "dataset_description.json"
    if path.exists():
        return
    raw = os.path.relpath(_root(source), out)
    content = {
        "Name": "Images made finer by geomedsr",
        "BIDSVersion": _VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [_generated_by()],
        "SourceDatasets": [{"URL": raw}],
        "DatasetLinks": {"raw": raw},
    }
    _put(path, content)


def _generated_by() -> dict[str, str]:
    return {"Name": "geomedsr", "Version": __version__}


def _root(source: Path) -> Path:
    """The folder of a data set: the one in which the first folder of a subject lies, else the file's own."""
    place = source.absolute()
    subjects = [folder for folder in place.parents if folder.name.startswith("sub-")]
    return subjects[-1].parent if subjects else place.parent


def _below_root(source: Path) -> str:
    return source.absolute().relative_to(_root(source)).as_posix()


def _put(path: Path, content: dict[str, Any]) -> Path:
    staging = Staging(path)
    try:
        with write_errors(path):
            staging.path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        staging.publish()
    finally:
        staging.discard()
    return path
