"""What is counted and reported while a job runs, whoever does its tasks."""

from __future__ import annotations

import math

from geomedsr.errors import InputError, SetAsideError
from geomedsr.run.check import Checked
from geomedsr.run.job import Job
from geomedsr.run.planning import Plan
from geomedsr.run.upscaling import Listener, Report
from geomedsr.run.worker import Result

__all__ = ["SPARED", "Tally", "done", "failed"]

SPARED = (InputError, SetAsideError)
"""What goes wrong with one image and leaves the others alone."""


def done(made: Plan, checked: Checked, seconds: float, listener: Listener) -> Report:
    """The report on an image that stands at its target."""
    job = made.job
    listener.note(f"check ok: {job.target}: {checked}")
    return Report(job.source, job.target, "done", made.model.name, made.before, checked.spec, seconds, made.warnings)


def failed(made: Plan, error: Exception) -> Report:
    """The report on an image that does not."""
    return Report(made.job.source, made.job.target, "failed", made.model.name, failure=error)


class Tally:
    """Hears of each task, counts it for the job, and tells how far all is."""

    def __init__(self, job: Job, listener: Listener) -> None:
        self._job, self._listener = job, listener
        mine, count = job.mine(), max(job.manifest.count, 1)
        left = len(mine) - job.progress.done.count_in(mine)
        voxels = sum(math.prod(entry.shape) for entry in job.manifest.entries)
        self._total, self._done = max(1, round(voxels * left / count)), 0

    def hear(self, result: Result) -> None:
        """A task was done or set aside."""
        self._job.heard(result)
        self._done += result.voxels
        self._listener.progress(min(self._done, self._total), self._total)
