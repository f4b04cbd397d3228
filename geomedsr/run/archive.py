"""Archives through a model: a job's images one after the other, here, in parts by hand, or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geomedsr.errors import GeomedsrError, JobError, LockedError, WriteFailedError
from geomedsr.inference.journal import read_manifest, read_progress
from geomedsr.inference.lock import Lock
from geomedsr.io import exists_at, is_url, suffix_of
from geomedsr.io._records import Records
from geomedsr.run.job import Job
from geomedsr.run.job_records import LOCK, forget, holders, placed, records_beside
from geomedsr.run.planning import Plan, Settings
from geomedsr.run.tally import SPARED, Tally, done, earlier, failed
from geomedsr.run.targets import Job as Errand
from geomedsr.run.upscaling import Listener, Report
from geomedsr.run.ways import Ways
from geomedsr.run.worker import work

__all__ = ["Status", "make_way", "own_targets", "run_job", "status_of", "under_way"]


def run_job(
    plans: Sequence[Plan], out: Path, settings: Settings, ways: Ways | None, listener: Listener
) -> Iterator[Report]:
    """Does all that was planned, and tells what became of each image; what was done before is not done again.

    Raises:
        GeomedsrError: the job cannot be taken up, or cannot go on; what is done stays done.
    """
    from geomedsr.inference.memory import share_heap

    share_heap()
    job = Job(plans, out, settings, ways or Ways())
    job.tell = listener.note
    job.open()
    try:
        _greet(job, listener)
        tally = Tally(job, listener)
        listener.begin(Errand(job.out, job.out))
        yield from [earlier(job, image) for image in sorted(job.progress.complete)]
        if job.ways.dask is None:
            yield from _here(job, tally, listener)
        else:
            from geomedsr.run.distributed import on_cluster

            yield from on_cluster(job, tally, listener)
        _take_leave(job, listener)
    except WriteFailedError as error:
        raise WriteFailedError(f"{error} What is done stays done: the same command goes on from there.") from error
    finally:
        listener.end()
        job.close()


def _greet(job: Job, listener: Listener) -> None:
    done, count = job.progress.done.count, job.manifest.count
    if done:
        listener.note(f"{job.out}: {done} of {count} blocks are done; going on with the others.")


def _take_leave(job: Job, listener: Listener) -> None:
    part, parts = job.ways.part
    left = len(job.manifest.entries) - len(job.progress.complete)
    if parts > 1 and left:
        listener.note(
            f"{job.out}: part {part}/{parts} has done its share; {left} of {len(job.manifest.entries)} images wait for "
            "the other parts, the last of which completes them."
        )


def _here(job: Job, tally: Tally, listener: Listener) -> Iterator[Report]:
    """The images one after the other, in this process."""
    for image, made in enumerate(job.plans):
        if image in job.progress.complete:
            continue
        began = time.perf_counter()
        try:
            if next(job.left(image), None) is not None:
                work(job.begin(image, listener), job.left(image), tally.hear, made)
            checked = job.finish(image)
        except SPARED as error:
            yield failed(made, error)
            continue
        if checked is not None:
            yield done(job, image, checked, time.perf_counter() - began, listener)


@dataclass(frozen=True)
class Status:
    """How far a job has come: tasks done, left and set aside (with the reasons), images complete, and who is at it."""

    out: str
    done: int
    left: int
    aside: Mapping[int, str]
    images: int
    complete: int
    writers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The status as plain JSON values."""
        return {**asdict(self), "aside": [{"block": task, "why": why} for task, why in self.aside.items()]}

    def __str__(self) -> str:
        lines = [
            f"{self.out}: {self.done} blocks done, {self.left} left, {len(self.aside)} set aside; "
            f"{self.complete} of {self.images} images complete",
            *(f"being written by {writer}" for writer in self.writers),
            *(f"set aside: block {task}: {why}" for task, why in self.aside.items()),
        ]
        return "\n".join(lines)


def status_of(out: Path) -> Status:
    """How far the job at an output has come, as its manifest and journals say; nothing is touched.

    Raises:
        JobError: there is none.
    """
    records = records_beside(out)
    manifest = read_manifest(records)
    if manifest is None:
        there = f"{out} is there and complete" if exists_at(out) else f"there is no {out} either"
        raise JobError(f"No job is under way at {out}; {there}.")
    progress = read_progress(records, manifest.count)
    left = manifest.count - progress.done.count - len(progress.aside)
    images = len(manifest.entries)
    writers = tuple(str(owner) for owner in holders(records))
    return Status(str(out), progress.done.count, left, progress.aside, images, len(progress.complete), writers)


def under_way(out: Path) -> str | None:
    """What is there of a job that was interrupted, or None where there is none that can be looked at."""
    try:
        status = status_of(out)
    except GeomedsrError:
        return None
    return f"{status.done} of {status.done + status.left + len(status.aside)} blocks"


def make_way(out: Path, targets: Collection[Path], *, restart: bool) -> None:
    """Lets outputs be made otherwise than by a job: one that is at them is thrown away with `restart`, or in the way.

    Raises:
        JobError: an unfinished job makes one of these outputs, and is not to be thrown away.
        LockedError: another run is at it.
    """
    if restart:
        _throw_away(records_beside(out), out)
    elif (taken := _taken(out, targets)) is not None:
        raise JobError(
            f"{taken} is being made by an unfinished job, of which {under_way(out)} are done. Go on with it by the "
            "command that began it, or pass --restart to throw it away."
        )
    if suffix_of(out) is not None and (taken := _taken(out.parent, targets)) is not None:
        raise JobError(
            f"{taken} is being made by an unfinished job in {out.parent}, of which {under_way(out.parent)} are done. "
            "Go on with it by the command that began it, or choose another output."
        )


def _taken(out: Path, targets: Collection[Path]) -> str | None:
    """One of some outputs that an unfinished job still has to make."""
    records = records_beside(out)
    manifest = read_manifest(records)
    if manifest is None:
        return None
    complete = read_progress(records, manifest.count).complete
    left = (entry.target for image, entry in enumerate(manifest.entries) if image not in complete)
    return next((target for target in left if Path(target) in targets), None)


def _throw_away(records: Records, out: Path) -> None:
    if not records.names():
        return
    lock = Lock(records, f"{LOCK}1-of-1")
    lock.take(str(out))
    for owner in holders(records):
        if owner != lock.owner:
            lock.drop()
            raise LockedError(f"{out} is being written by {owner}. Wait for it, or end it.")
    forget(records)
    records.clear()


def own_targets(out: Path, *, restart: bool = False) -> frozenset[Path]:
    """The outputs of a job under way that may lie in their places; with `restart` those that are not complete."""
    records = records_beside(out)
    try:
        manifest = read_manifest(records)
    except JobError:
        if restart:
            return frozenset()
        raise
    if manifest is None:
        return frozenset()
    progress = read_progress(records, manifest.count)
    begun = progress.claimed | placed(records, manifest)
    growing = set(range(len(manifest.entries))) if is_url(out) else begun
    own = growing - progress.complete if restart else growing | progress.complete
    return frozenset(Path(manifest.entries[image].target) for image in own)
