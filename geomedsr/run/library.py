"""The same errands for Python: open an image, upscale a file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from geomedsr.image import Source
from geomedsr.io import format_of
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

    Raises:
        GeomedsrError: it could not be done; nothing was left behind, and an older output is as it was.
    """
    settings = Settings(model=model, **choices)
    (report,) = upscale_all([str(source)], Path(target), settings, Silent())
    if report.failure is not None:
        raise report.failure
    return report
