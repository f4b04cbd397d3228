"""A job on a cluster: batches of an image's consecutive tasks go to workers, which write and journal by themselves.

What comes back is no voxel, but what became of each task. A batch is made long enough that what it costs to hand over
is nothing beside its work, and that the stream inside it overlaps reading, computing and writing.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Self

from geomedsr import __version__
from geomedsr.errors import ClusterError, GeomedsrError
from geomedsr.inference.cluster import Cluster, Greeting, Outcome
from geomedsr.inference.journal import Journal, read_progress
from geomedsr.io import within
from geomedsr.run.tally import SPARED, Tally, done, failed
from geomedsr.run.worker import Assignment, Result, make_ready, work

if TYPE_CHECKING:
    from geomedsr.run.check import Checked
    from geomedsr.run.job import Job
    from geomedsr.run.planning import Settings
    from geomedsr.run.upscaling import Listener, Report

__all__ = ["Batch", "Foreman", "Work", "greet", "on_cluster", "work_on"]

SECONDS = 20.0
"""How long a batch should take."""

_FIRST, _LARGEST = 2, 4096
"""The length of the first batches, while nobody knows how long a task takes, and the greatest."""

_SUSPECTS = 8
"""So many tasks may have been under way in a worker's stream when it was killed."""

_KILLS = 2
"""A task that has killed so many workers, all alone, is set aside."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive tasks of an image. A suspect is one that may have killed a worker: it is journaled when it begins."""

    assignment: Assignment
    tasks: tuple[int, ...]
    is_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What became of a batch's tasks, how long they took, and how much of that the network ran."""

    results: tuple[Result, ...]
    seconds: float
    computed: float = 0.0


def greet(device: str = "auto") -> Greeting:
    """What this worker is, where that device is asked for."""
    from geomedsr.inference.backend import find_device

    return Greeting(__version__, find_device(device))


def work_on(batch: Batch) -> Work:
    """A batch, on a worker; it keeps a journal of its own."""
    from geomedsr.inference.memory import share_heap

    share_heap()
    assignment = batch.assignment
    if assignment.version != __version__:
        raise ClusterError(
            f"The worker on {socket.gethostname()} has geomedsr {__version__}, and the job {assignment.version}; "
            "install the same version on each."
        )
    results: list[Result] = []
    writer = f"{socket.gethostname()}-{os.getpid()}-{assignment.lock.owner.token}"
    if batch.is_suspect:
        Journal(assignment.records, writer).trying(batch.tasks[0])
    with within(assignment.limits):
        own = replace(assignment, writer=writer, settings=_own(assignment.settings))
        make_ready(own)
        began = time.perf_counter()
        computed = work(own, batch.tasks, results.append)
    return Work(tuple(results), time.perf_counter() - began, computed)


def _own(settings: Settings) -> Settings:
    """A worker's: of GPUs that nobody named, the first that it sees. By dask-cuda each sees all, its own first."""
    from geomedsr.inference.backend import find_device

    return replace(settings, device="cuda:0") if find_device(settings.device) == "cuda" else settings


def on_cluster(job: Job, tally: Tally, listener: Listener) -> Iterator[Report]:
    """The images of a job, on the workers of a cluster.

    Raises:
        GeomedsrError: the cluster cannot be worked with, or the job cannot go on.
    """
    assert job.ways.dask is not None
    with Cluster(job.ways.dask) as cluster, Foreman(job, tally, listener, cluster) as foreman:
        job.device = cluster.check(partial(greet, job.settings.device), __version__)
        listener.note(f"{cluster.size} workers; what they do is shown at {cluster.dashboard}")
        for outcome in cluster.results(work_on, foreman.more):
            foreman.take(outcome)
            yield from foreman.reports()
        yield from foreman.reports(all_of_them=True)


class Foreman:
    """Hands out batches, hears of them, and brings images to their ends, in a thread beside."""

    def __init__(self, job: Job, tally: Tally, listener: Listener, cluster: Cluster) -> None:
        self._job, self._tally, self._listener, self._cluster = job, tally, listener, cluster
        self._again: deque[Batch] = deque()
        self._left: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._each = 0.0
        self._failed: list[Report] = []
        self._ends: deque[tuple[int, Future[Checked | None]]] = deque()
        self._pool = ThreadPoolExecutor(1)
        self._batches = self._planned()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def more(self) -> Batch | None:
        """The next batch, or None while there is none."""
        return self._again.popleft() if self._again else next(self._batches, None)

    def _planned(self) -> Iterator[Batch]:
        job = self._job
        for image, made in enumerate(job.plans):
            left = len(job.manifest.tasks(image)) - job.progress.done.count_in(job.manifest.tasks(image))
            if image in job.progress.complete:
                continue
            self._began[image], self._left[image] = time.perf_counter(), left
            try:
                if left:
                    yield from self._batches_of(job.begin(image, self._listener))
                else:
                    self._end(image)
            except SPARED as error:
                self._failed.append(failed(made, error))

    def _batches_of(self, assignment: Assignment) -> Iterator[Batch]:
        tasks = self._job.left(assignment.image)
        while batch := tuple(islice(tasks, self._length())):
            yield Batch(assignment, batch)

    def _length(self) -> int:
        """How many tasks a batch has: some seconds' worth, and fewer where that would leave workers idle at the end."""
        manifest, progress = self._job.manifest, self._job.progress
        share = (manifest.count - progress.done.count) // (4 * self._cluster.size)
        return max(1, min(int(SECONDS / self._each) if self._each else _FIRST, share, _LARGEST))

    def take(self, outcome: Outcome[Batch, Work]) -> None:
        """Hears what became of a batch.

        Raises:
            GeomedsrError: the job cannot go on.
        """
        batch, work = outcome.item, outcome.result
        if outcome.killed:
            self._lost(batch)
        elif work is None:
            raise _refusal(outcome.error)
        else:
            self._each = work.seconds / len(batch.tasks)
            for result in work.results:
                self._hear(batch.assignment.image, result)

    def _hear(self, image: int, result: Result) -> None:
        self._tally.hear(result)
        self._left[image] -= 1
        if not self._left[image]:
            self._end(image)

    def _lost(self, batch: Batch) -> None:
        """A batch whose worker was killed: what it journaled is done; of the others, those next in turn go alone.

        A batch that only waited for its worker is lost, too, so a task is judged by how often it was begun alone.
        """
        image = batch.assignment.image
        assignment = replace(batch.assignment, is_fresh=False)
        progress = read_progress(self._job.records, self._job.manifest.count)
        for task in batch.tasks:
            if task in progress.done:
                self._hear(image, Result(task, self._voxels(image, task)))
            elif progress.tried[task] >= _KILLS:
                self._set_aside(image, task)
        left = [task for task in batch.tasks if task not in progress.done and progress.tried[task] < _KILLS]
        self._again.extend(Batch(assignment, (task,), is_suspect=True) for task in left[:_SUSPECTS])
        if left[_SUSPECTS:]:
            self._again.append(Batch(assignment, tuple(left[_SUSPECTS:])))

    def _voxels(self, image: int, task: int) -> int:
        first = self._job.manifest.firsts[image]
        return self._job.manifest.entries[image].blocks[task - first].size

    def _set_aside(self, image: int, task: int) -> None:
        why = f"its worker was killed {_KILLS} times while it worked on this block alone."
        journal = self._job.journal()
        journal.aside(task, why)
        journal.flush()
        self._hear(image, Result(task, 0, why))

    def _end(self, image: int) -> None:
        self._ends.append((image, self._pool.submit(self._job.finish, image)))

    def reports(self, *, all_of_them: bool = False) -> Iterator[Report]:
        """The reports on the images that have come to their ends; with `all_of_them` they are waited for."""
        yield from self._failed
        self._failed.clear()
        while self._ends and (all_of_them or self._ends[0][1].done()):
            image, end = self._ends.popleft()
            try:
                checked = end.result()
            except SPARED as error:
                yield failed(self._job.plans[image], error)
                continue
            if checked is not None:
                yield done(self._job, image, checked, time.perf_counter() - self._began[image], self._listener)


def _refusal(error: Exception | None) -> GeomedsrError:
    if isinstance(error, GeomedsrError):
        return error
    return ClusterError(f"A worker could not do its work ({type(error).__name__}: {error}). What is done stays done.")
