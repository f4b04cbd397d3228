"""The same errands for Python: open an image, upscale a file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.errors import GeomedsrError, InputError
from geomedsr.image import Source
from geomedsr.io import format_of, suffix_of
from geomedsr.run.inputs import archive_of, expand
from geomedsr.run.planning import Settings
from geomedsr.run.targets import Job
from geomedsr.run.upscaling import Report, upscale_all

__all__ = ["Silent", "open_image", "upscale"]


class Silent:
    """A listener that hears everything and says nothing; warnings are in the report anyway."""

    def begin(self, job: Job) -> None:
        """Nothing."""

    def progress(self, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def report(self, report: Report) -> None:
        """Nothing."""


def open_image(path: str | PathLike[str]) -> Source:
    """The image in a file, or in an array inside an archive; its voxels are read in boxes, when asked for.

    Raises:
        InputError: there is none, or it is broken.
    """
    return format_of(Path(path)).open_source(Path(path))


def upscale(source: str | PathLike[str], target: str | PathLike[str], model: str, **choices: Any) -> Report:  # noqa: ANN401
    """Upscales one file and checks the result; `choices` are the fields of `Settings`.

    One number does for `scale` and `tile`, a list for `bands`, and a NumPy type for `dtype`.

    Raises:
        GeomedsrError: it could not be done; nothing was left behind, and an older output is as it was.
    """
    settings = Settings(model=model, **{name: _plain(name, value) for name, value in choices.items()})
    images = expand([str(source)])
    if len(images) != 1 or _is_folder(Path(source)):
        found = f"a folder of {len(images)} images" if _is_folder(Path(source)) else f"{len(images)} images"
        raise InputError(f"{source} is {found}; upscale takes one image, so call it for each.")
    (report,) = upscale_all([str(source)], Path(target), settings, Silent())
    if report.failure is not None:
        raise report.failure
    return report


def _is_folder(path: Path) -> bool:
    return path.is_dir() and suffix_of(path) is None and archive_of(path) is None


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401  (whatever a caller passes for a field of Settings)
    """A choice as `Settings` holds it, out of what is natural to write in Python."""
    if value is not None and name in ("uncertainty", "hallucination"):
        return Path(value)
    if value is None or (isinstance(value, str) and name not in ("scale", "tile", "axes")):
        return value
    try:
        if name in ("scale", "tile", "axes"):
            return tuple(int(one) for one in np.atleast_1d(value))
        if name == "bands":
            return ",".join(str(one) for one in np.atleast_1d(value))
        return np.dtype(value).name if name == "dtype" else value
    except (TypeError, ValueError) as error:
        raise GeomedsrError(f"{name} cannot be {value!r}: {error}.") from error
