"""The work on an image's tasks: the same in this process, in a part of a job, and on a worker of a cluster.

One stream of three stages runs through all tasks that are handed over. A task is journaled when its objects are on the
disk. One that fails is tried again by itself, then set aside with its reason, and the others go on.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.data.intensity import Intensity
from geomedsr.errors import JobError, LockedError, ModelError, OutOfMemoryError, WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.inference.journal import Entry, Journal, checksum
from geomedsr.inference.lock import Lock
from geomedsr.io import Limits, limits
from geomedsr.io._records import Records
from geomedsr.io._witness import Witness
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io._zarr_place import is_url
from geomedsr.run.kept import ready_plan, ready_source, ready_upscaler
from geomedsr.run.library import Silent
from geomedsr.run.planning import Plan, Settings
from geomedsr.run.targets import Job
from geomedsr.run.upscaling import upscale

if TYPE_CHECKING:
    from geomedsr.inference.session import Session
    from geomedsr.model import Model

__all__ = ["Assignment", "Result", "fingerprint", "make_ready", "work"]

TRIES = 3
"""How often a task is tried before it is set aside."""

_IN_A_ROW = 10
"""So many tasks set aside one after the other are no accident: the job stops."""

_FATAL = (WriteFailedError, LockedError, ModelError, OutOfMemoryError, MemoryError)
"""What no other task would be spared."""


@dataclass(frozen=True)
class Assignment:
    """An image of a job, for whoever works on its tasks. It travels to other machines.

    `root` is where its output grows, `first` the number of its first task, `writer` whose journal is kept, `device` the
    kind of device that all blocks are computed on. `is_fresh` says that nobody has written there before, so that there
    is nothing to delete. `limits` are those of whoever began the job.
    """

    version: str
    model: str
    settings: Settings
    records: Records
    lock: Lock
    image: int
    first: int
    entry: Entry
    root: str
    writer: str
    device: str
    intensity: tuple[float, float] = (0.0, 1.0)
    is_fresh: bool = False
    limits: Limits = field(default_factory=limits)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task; `why` it was set aside, or None. `notes` and `warnings` are what was said of a file."""

    task: int
    voxels: int
    why: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


Hear = Callable[[Result], None]


def fingerprint(model: Model) -> str:
    """What a model is known by: its weights and all that says how they are used."""
    recipe = model.recipe.to_json() if model.recipe else None
    said = [model.name, model.sha256, recipe, model.network.settings, list(model.task.factor)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]


def work(assignment: Assignment, tasks: Iterable[int], hear: Hear, made: Plan | None = None) -> float:
    """Does an image's tasks, and tells what became of each; gives the seconds that the network ran (0: not known).

    `made` is the image's plan where it is at hand.

    Raises:
        GeomedsrError: no task could be done as things are: no space, a lock that was lost, a model that does not fit.
    """
    entry = assignment.entry
    made = made or _planned(assignment)
    if (found := fingerprint(made.model)) != assignment.model:
        raise JobError(f"The model {made.model.name} is not the job's here: it is {found}, not {assignment.model}.")
    _check_device(assignment)
    journal = Journal(assignment.records, assignment.writer)
    try:
        if entry.step is None:
            _whole(assignment, made, journal, tasks, hear)
            return 0.0
        return _Bench(assignment, made, journal, hear).work(tasks)
    finally:
        with suppress(WriteFailedError):  # the disk is full: what is not journaled is done again
            journal.flush()


def _check_device(assignment: Assignment) -> None:
    from geomedsr.inference.backend import find_device, kind_of

    if (found := kind_of(find_device(assignment.settings.device))) != assignment.device:
        raise JobError(
            f"{assignment.entry.target} is computed on {assignment.device}, and {socket.gethostname()} has {found}, "
            "which gives other bits; leave it out, or pass --device."
        )


def _whole(assignment: Assignment, made: Plan, journal: Journal, tasks: Iterable[int], hear: Hear) -> None:
    """A file that appears complete: one task."""
    for task in tasks:
        why = ""
        journal.claim(assignment.image)
        for _ in range(TRIES):
            _check_lock(assignment)
            heard = _Heard()
            try:
                report = upscale(made, assignment.settings, heard)
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001  (told, and tried again)
                why = _reason(error)
                continue
            journal.done(task, [_file_sum(report.output)])
            voxels = int(np.prod(assignment.entry.shape))
            hear(Result(task, voxels, notes=tuple(heard.notes), warnings=report.warnings))
            break
        else:
            journal.aside(task, why)
            hear(Result(task, 0, why))


class _Heard(Silent):
    """A listener that keeps the notes, for whoever hears of the task."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keeps it."""
        self.notes.append(text)


def _file_sum(path: Path) -> str | None:
    return f"{path.stat().st_size}" if path.is_file() else None


_asked = ("", 0.0)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _check_lock(assignment: Assignment) -> None:
    """Asks at most as often as is journaled whether the job is still this run's."""
    global _asked
    if time.monotonic() - _asked[1] < assignment.records.patience and _asked[0] == assignment.lock.owner.token:
        return
    _asked = (assignment.lock.owner.token, time.monotonic())
    if not assignment.lock.is_held:
        raise LockedError(f"The lock on {assignment.entry.target} was taken away; this run stops here.")


class _Bench:
    """An image opened for work."""

    def __init__(self, assignment: Assignment, made: Plan, journal: Journal, hear: Hear) -> None:
        self._assignment, self._journal, self._hear = assignment, journal, hear
        self._source = ready_source(made)
        self._sink = _TaskSink(assignment, journal, hear)
        self._upscaler = ready_upscaler(made, assignment.settings)
        self._blocks = assignment.entry.blocks
        self._in_a_row = 0

    def work(self, tasks: Iterable[int]) -> float:
        """Streams through the tasks; those under way when one fails are then done one by one."""
        left, computed = iter(tasks), 0.0
        try:
            while True:
                session = self._session()
                try:
                    session.run(self._boxes(left))
                    return computed + session.computed
                except _FATAL:
                    raise
                except Exception:  # noqa: BLE001  (one of those under way: found out below)
                    computed += session.computed
                    self._one_by_one()
        finally:
            self._source.close()

    def _session(self) -> Session:
        entry, intensity = self._assignment.entry, Intensity(*self._assignment.intensity)
        return self._upscaler.session(self._source, self._sink, intensity=intensity, window=entry.window)

    def _boxes(self, tasks: Iterator[int]) -> Iterator[Box]:
        for task in tasks:
            box = self._blocks[task - self._assignment.first]
            self._sink.expect(task, box)
            yield box

    def _one_by_one(self) -> None:
        for task, _ in self._sink.taken_back():
            why = self._tried(task)
            self._in_a_row = self._in_a_row + 1 if why else 0
            if why is not None:
                self._journal.aside(task, why)
                self._hear(Result(task, 0, why))
            if self._in_a_row >= _IN_A_ROW:
                raise JobError(f"{self._in_a_row} blocks failed one after the other, the last one because: {why}")

    def _tried(self, task: int) -> str | None:
        """Why a task cannot be done, or None where it was."""
        why = None
        for _ in range(TRIES):
            try:
                self._session().run(self._boxes(iter((task,))))
                return None
            except _FATAL:
                raise
            except Exception as error:  # noqa: BLE001  (told, and tried again)
                self._sink.taken_back()
                why = _reason(error)
        return why


def make_ready(assignment: Assignment) -> None:
    """Plans and opens an image, and makes its model ready, if that was not done yet: no work of any task."""
    made = _planned(assignment)
    if assignment.entry.step is not None:
        ready_source(made)
        ready_upscaler(made, assignment.settings)


def _planned(assignment: Assignment) -> Plan:
    entry, key = assignment.entry, (assignment.lock.owner.token, assignment.image)
    return ready_plan(key, Job(Path(entry.source), Path(entry.target)), assignment.settings)


@dataclass
class _TaskSink:
    """A sink that knows which task comes next: a block is written when all of it is there, and journaled thereafter."""

    assignment: Assignment
    journal: Journal
    hear: Hear
    _expected: deque[tuple[int, Box]] = field(default_factory=deque)
    _block: NDArray[Any] | None = None
    _filled: int = 0

    def __post_init__(self) -> None:
        self._output = ZarrOutput.open(self.assignment.root, Path(self.assignment.entry.target))
        self._is_local = not is_url(self.assignment.root)

    @property
    def spec(self) -> ImageSpec:
        """What is written."""
        return self._output.spec

    def expect(self, task: int, box: Box) -> None:
        """The voxels of this task will come, after those of the tasks before."""
        self._expected.append((task, box))

    def taken_back(self) -> Sequence[tuple[int, Box]]:
        """The tasks that were expected and are not done; they are not expected any more."""
        left = tuple(self._expected)
        self._expected.clear()
        self._block, self._filled = None, 0
        return left

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes a tile of the task that is next."""
        task, whole = self._expected[0]
        stored = self._output.stored(voxels)
        if box == whole:
            self._keep(task, box, stored)
            return
        if self._block is None:
            self._block = np.empty((len(stored), *whole.shape), stored.dtype)
        self._block[(slice(None), *box.relative_to(whole.start).slices)] = stored
        self._filled += box.size
        if self._filled == whole.size:
            block, self._block, self._filled = self._block, None, 0
            self._keep(task, whole, block)

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """Nothing to do: each block was kept by itself."""

    def abort(self) -> None:
        """Nothing to undo: what is not journaled is not there."""

    def _keep(self, task: int, box: Box, stored: NDArray[Any]) -> None:
        """What lies there unjournaled is deleted first: a torn object would spoil even its replacement. On a disk, what
        was written is read back before it counts; an object store holds checksums of its own against what it is sent.
        """
        _check_lock(self.assignment)
        keys = self._output.object_keys(box)
        if not self.assignment.is_fresh:
            for key in keys:
                self._output.delete_object(key)
        self._output.put(box, stored)
        if self._is_local:
            witness = Witness(Path(self.assignment.entry.target))
            witness.saw(box, stored)
            witness.check(self._output.read_stored)
        sums = [checksum(self._output.read_object(key)) for key in keys]
        files = [Path(self.assignment.root, key) for key in keys] if self._is_local else []
        self.journal.done(task, sums, files)
        self._expected.popleft()
        self.hear(Result(task, box.size))
