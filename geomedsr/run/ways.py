"""How the work is done: image after image, or as a job that is journaled, taken up again and shared among workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geomedsr.errors import GeomedsrError
from geomedsr.io import suffix_of
from geomedsr.run.inputs import archive_of
from geomedsr.run.planning import Settings
from geomedsr.run.targets import Job

__all__ = ["Ways", "is_job"]


@dataclass(frozen=True)
class Ways:
    """How a job is run; nothing of it decides about the bits.

    `part` is (I, N): of N processes that share the job by hand this is the I-th, counted from 1.

    Raises:
        GeomedsrError: it is to be shared in two ways at once.
    """

    dask: str | None = None
    part: tuple[int, int] = (1, 1)
    restart: bool = False
    force_unlock: bool = False
    verify: bool = False
    finish: bool = False

    def __post_init__(self) -> None:
        if self.dask is not None and self.part[1] > 1:
            raise GeomedsrError(
                "--dask shares a job among workers, and --part among runs by hand; pass one or the other."
            )

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked for a job in so many words."""
        return self != Ways()


def is_job(jobs: Sequence[Job], settings: Settings, ways: Ways, *, as_job: bool = False) -> bool:
    """Whether the work is journaled, and taken up again by the same call.

    Raises:
        GeomedsrError: it is to be, and there is a choice that a job cannot have.
    """
    looks_at_all = bool(settings.maps) or settings.consistent
    # What looks at all of an image and is begun anew has no job of its own: it throws away what another has left.
    is_asked = as_job or (ways != Ways(restart=True) if looks_at_all and ways.is_asked else ways.is_asked)
    if not is_asked and (looks_at_all or not any(map(_is_archive, jobs))):
        return False
    if looks_at_all:
        raise GeomedsrError(
            "--consistent, --uncertainty and --hallucination look at one image as a whole; a job that is journaled or "
            "shared among workers does not have them. Leave them out, or upscale the images one by one."
        )
    if settings.is_measured:
        raise GeomedsrError(
            "A job has the same bits wherever its blocks are done, and what is chosen by measuring may differ: name "
            "the precision and the backend both; geomedsr doctor --benchmark tells which are fast here."
        )
    return True


def _is_archive(job: Job) -> bool:
    return suffix_of(job.target) == ".zarr" == suffix_of(archive_of(job.source) or job.source)
