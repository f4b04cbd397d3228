"""A machine of runs, kills and resumes: what a journal says is done is on the disk, and nothing is done for ever."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from geomedsr.inference.journal import Journal, Progress, checksum, read_progress, strike
from geomedsr.io._records import FolderRecords

COUNT = 9


class Runs(RuleBasedStateMachine):
    """Writers, each with a journal of its own, which may be killed at any byte and go on later."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal"))
        self.records = FolderRecords(self.folder / "records")
        self.records.patience = 1e9  # a line waits until it is flushed
        self.records.folder.mkdir()
        self.journals: dict[str, Journal] = {}
        self.waiting: dict[str, list[int]] = {}
        self.told: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def path(self, task: int) -> Path:
        return self.folder / f"object-{task}"

    def progress(self) -> Progress:
        strike(self.records, self.is_right)
        return read_progress(self.records, COUNT)

    def is_right(self, task: int, sums: object) -> bool:
        path = self.path(task)
        return [checksum(path.read_bytes() if path.exists() else None)] == sums

    @initialize()
    def begin(self) -> None:
        self.resume("1-of-1")

    @rule(writer=st.sampled_from(["1-of-1", "2-of-2"]))
    def resume(self, writer: str) -> None:
        if writer not in self.journals:
            self.journals[writer], self.waiting[writer] = Journal(self.records, writer), []

    @precondition(lambda self: self.journals)
    @rule(task=st.integers(0, COUNT - 1), data=st.binary(max_size=5), which=st.integers(0, 1))
    def do(self, task: int, data: bytes, which: int) -> None:
        writer = sorted(self.journals)[which % len(self.journals)]
        if task in self.progress().done or any(task in waiting for waiting in self.waiting.values()):
            return
        self.path(task).write_bytes(data)
        self.journals[writer].done(task, [checksum(data)], [self.path(task)])
        self.waiting[writer].append(task)

    @precondition(lambda self: self.journals)
    @rule(which=st.integers(0, 1))
    def flush(self, which: int) -> None:
        writer = sorted(self.journals)[which % len(self.journals)]
        self.journals[writer].flush()
        self.told |= set(self.waiting[writer])
        self.waiting[writer] = []

    @precondition(lambda self: self.journals)
    @rule(which=st.integers(0, 1), torn=st.binary(max_size=30))
    def kill(self, which: int, torn: bytes) -> None:
        """What waited is lost; the log may end in a part of a line."""
        writer = sorted(self.journals)[which % len(self.journals)]
        del self.journals[writer]
        del self.waiting[writer]
        with open(self.records.folder / f"journal-{writer}", "ab") as log:
            log.write(torn.replace(b"\n", b""))

    @rule(task=st.integers(0, COUNT - 1))
    def rot(self, task: int) -> None:
        """An object changes behind everybody's back."""
        if task in self.told:
            self.path(task).write_bytes(b"rotten")
            self.told.discard(task)

    @invariant()
    def what_is_told_is_done_and_nothing_else(self) -> None:
        done = self.progress().done
        assert {task for task in range(COUNT) if task in done} == self.told


TestRuns = Runs.TestCase
TestRuns.settings = settings(deadline=None, max_examples=25, stateful_step_count=25, derandomize=True, database=None)
