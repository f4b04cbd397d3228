"""What is counted and reported while a job runs, whoever does its tasks."""

from __future__ import annotations

import math
from dataclasses import replace

from geomedsr.errors import InputError, JobError, SetAsideError, WrongOutputError
from geomedsr.io import exists_at
from geomedsr.run.check import Checked
from geomedsr.run.job import Job
from geomedsr.run.planning import Plan
from geomedsr.run.upscaling import Listener, Report
from geomedsr.run.worker import Result

__all__ = ["SPARED", "Tally", "done", "earlier", "failed"]

SPARED = (InputError, SetAsideError, WrongOutputError)
"""What goes wrong with one image and leaves the others alone."""


def done(job: Job, image: int, checked: Checked, seconds: float, listener: Listener) -> Report:
    """The report on an image that stands at its target; what was said of a file when it appeared is not said again."""
    made = job.plans[image]
    if image not in job.told:
        listener.note(f"check ok: {made.job.target}: {checked}")
    warnings = tuple(job.warnings[image])
    if (doubt := checked.seen.doubt) is not None:
        listener.warn(doubt)
        warnings = (*warnings, doubt)
    source, target = made.job.source, made.job.target
    report = Report(source, target, "done", made.model.name, made.before, checked.spec, seconds, warnings)
    return replace(report, device=job.device, choice=job.choice)


def earlier(job: Job, image: int) -> Report:
    """The report on an image that the job had made before this run."""
    made = job.plans[image]
    if exists_at(made.job.target):
        return Report(made.job.source, made.job.target, "skipped", made.model.name, made.before)
    return failed(
        made,
        JobError(
            f"{made.job.target} was complete and is not there any more; pass --restart with --skip-existing to make it "
            "again."
        ),
    )


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
        for text in result.notes:
            self._listener.note(text)
        for text in result.warnings:
            self._listener.warn(text)
        self._done += result.voxels
        self._listener.progress(min(self._done, self._total), self._total)
