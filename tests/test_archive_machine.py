"""A job killed anywhere, as often as you like: a machine of rules that draws when it works, dies and is taken up again.

Death is an exception that nothing survives: after it no record is written, no object, and no lock is let go. Where the
power fails, too, what had not been brought to the disk is torn.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from job_support import archive, content, job_folder

from geomedsr.grid import Box
from geomedsr.inference import journal
from geomedsr.inference.journal import checksum
from geomedsr.inference.lock import Owner
from geomedsr.io._records import FolderRecords
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.run import job as job_module
from geomedsr.run.job import Job, Ways
from geomedsr.run.library import Silent
from geomedsr.run.planning import Plan, Settings, plan
from geomedsr.run.targets import Job as Errand
from geomedsr.run.worker import work

PLACES = ("put", "torn object", "append", "torn line", "finish", "placed", "write", "remove")
EXAMPLES, STEPS = 8, 14


class Killed(BaseException):
    """The process is not there any more."""


class Fate:
    """When the process dies, and what of it is then lost."""

    def __init__(self) -> None:
        self.place, self.count = "", 0
        self.is_dead, self.died = False, 0.0
        self.unflushed: set[Path] = set()

    def at(self, place: str, spoil: Callable[[], None] | None = None) -> None:
        """The process comes to a place, where it may die; once dead, it comes nowhere."""
        if not self.is_dead and place == self.place:
            self.count -= 1
            if not self.count:
                self.die()
                if spoil is not None:
                    spoil()
        if self.is_dead:
            raise Killed

    def die(self) -> None:
        """From now on, nothing is done."""
        self.is_dead, self.place, self.died = True, "", time.time()

    def fail_power(self) -> None:
        """Tears what was not on the disk yet."""
        for path in self.unflushed:
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)


def patched(patch: pytest.MonkeyPatch, fate: Fate, written: list[Box]) -> None:
    """Everything that leaves a trace passes by fate."""
    put, finish, append = ZarrOutput.put, ZarrOutput.finish, FolderRecords.append
    take_place, write, remove, clear = job_module.take_place, *(
        getattr(FolderRecords, name) for name in ("write", "remove", "clear")
    )  # fmt: skip

    def putting(self: ZarrOutput, box: Box, stored: Any) -> None:
        fate.at("put")
        put(self, box, stored)
        written.append(box)
        files = [self.path / key for key in self.object_keys(box)]
        fate.unflushed.update(files)
        there = [path for path in files if path.exists()]
        fate.at("torn object", lambda: [os.truncate(path, path.stat().st_size // 2) for path in there] and None)

    def finishing(self: ZarrOutput) -> None:
        fate.at("finish")
        finish(self)

    def appending(self: FolderRecords, name: str, data: bytes) -> None:
        fate.at("append")
        fate.at("torn line", lambda: append(self, name, data[: len(data) // 2]))
        append(self, name, data)

    def placing(*arguments: Any) -> None:
        fate.at("place")
        take_place(*arguments)
        fate.at("placed")

    def before(place: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def passing(*arguments: Any) -> Any:
            fate.at(place)
            return function(*arguments)

        return passing

    patch.setattr(ZarrOutput, "put", putting)
    patch.setattr(ZarrOutput, "finish", finishing)
    patch.setattr(FolderRecords, "append", appending)
    for name, function in (("write", write), ("remove", remove), ("clear", clear)):
        patch.setattr(FolderRecords, name, before(name, function))
    patch.setattr(job_module, "take_place", placing)
    patch.setattr(journal, "flush_all", fate.unflushed.difference_update)
    patch.setattr(Owner, "is_gone", property(lambda self: self.since <= fate.died))
    patch.setattr(os, "fsync", lambda _: None)


class Machine(RuleBasedStateMachine):
    """A job and its deaths."""

    plans: Sequence[Plan]
    settings: Settings
    blocks: Sequence[Box]
    wanted: dict[str, str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.out = self.folder / "out.zarr"
        self.patch, self.fate, self.written = pytest.MonkeyPatch(), Fate(), list[Box]()
        patched(self.patch, self.fate, self.written)
        self.job: Job | None = None
        self.known = set[int]()

    @initialize(waits=st.booleans())
    def set_out(self, waits: bool) -> None:
        """Lines of a journal wait for each other, or not."""
        self.patch.setattr(FolderRecords, "patience", 1e9 if waits else 0.0)

    @precondition(lambda self: self.job is None and self.is_left)
    @rule()
    def take_up(self) -> None:
        """The same command once more."""
        self.fate.is_dead = False
        made = plan(Errand(Path(self.plans[0].job.source), self.out), self.settings)
        self.job = Job([made], self.out, self.settings, Ways())
        self.attempt(self.job.open)
        if self.job is not None:
            self.known = {task for task in range(self.job.manifest.count) if task in self.job.progress.done}

    @precondition(lambda self: self.job is not None)
    @rule(count=st.integers(1, 9))
    def do(self, count: int) -> None:
        assert self.job is not None
        self.attempt(lambda: self.some(count))

    @precondition(lambda self: self.job is not None)
    @rule(place=st.sampled_from(PLACES), after=st.integers(1, 6), power=st.booleans())
    def doom(self, place: str, after: int, power: bool) -> None:
        """Works to the end, and dies on the way if it comes to that place so often."""
        self.fate.place, self.fate.count = place, after
        self.attempt(self.to_the_end, power=power)
        self.fate.place = ""

    @precondition(lambda self: self.job is not None)
    @rule(power=st.booleans())
    def die(self, power: bool) -> None:
        """Dies between two tasks."""
        self.fate.die()
        self.buried(power)

    @precondition(lambda self: self.job is not None)
    @rule()
    def stop(self) -> None:
        """Ends in peace, before all is done."""
        assert self.job is not None
        self.job.close()
        self.job = None

    @precondition(lambda self: self.job is None and not self.is_left)
    @rule()
    def begin_anew(self) -> None:
        """All is done: another output."""
        self.check()
        shutil.rmtree(self.out)
        self.known.clear()

    @invariant()
    def what_is_journaled_is_on_the_disk(self) -> None:
        """Whatever died, and whatever the disk had lost."""
        folder, root = job_folder(self.out), job_folder(self.out) / "image-0" / "out.zarr"
        if not (folder / "begun-0.json").exists() or not root.exists():
            return
        output = ZarrOutput.open(root)
        for name in FolderRecords(folder).names("journal-"):
            for line in journal._lines(FolderRecords(folder), name):
                if "done" in line:
                    keys = output.object_keys(self.blocks[line["done"]])
                    assert [checksum(output.read_object(key)) for key in keys] == line["sums"]

    def some(self, count: int) -> None:
        """So many tasks."""
        assert self.job is not None
        tasks, first = list(islice(self.job.left(0), count)), len(self.written)
        if tasks:
            work(self.job.begin(0, Silent()), tasks, self.job.heard, self.job.plans[0])
            assert len(self.written) - first == len(tasks), f"set aside: {self.job.progress.aside}"

    def to_the_end(self) -> None:
        """All that is left, and the end of it."""
        assert self.job is not None
        self.some(1000)
        assert self.job.finish(0) is not None
        self.job.close()
        self.job = None

    def attempt(self, step: Callable[[], None], *, power: bool = False) -> None:
        """A step that may be the last; what was journaled before is never done again."""
        first = len(self.written)
        try:
            step()
        except Killed:
            self.buried(power)
        finally:
            again = {self.blocks.index(box) for box in self.written[first:]} & self.known
            assert not again, "what was journaled was done again"

    def buried(self, power: bool) -> None:
        """Nobody is at the job any more."""
        if power:
            self.fate.fail_power()
        self.fate.unflushed.clear()
        self.job = None

    @property
    def is_left(self) -> bool:
        """Whether there is something left to do."""
        return not self.out.exists() or job_folder(self.out).exists()

    def check(self) -> None:
        """All is done, and nothing else is left."""
        assert content(self.out) == self.wanted
        assert not job_folder(self.out).exists()

    def teardown(self) -> None:
        """Whatever happened, the same command brings it to its end."""
        try:
            if self.job is None and self.is_left:
                self.take_up()
            if self.job is not None:
                self.attempt(self.to_the_end)
            self.check()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Machine]:
    """The machine with an archive, and with the bytes of a run that nobody disturbed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source, out = archive(tmp_path / "in.zarr", (1, 60, 64)), tmp_path / "out.zarr"
    chosen = Settings("linear", scale=(2,), tile=(16,), options={"chunks": "16", "shards": "32"})
    quiet = Job([plan(Errand(source, out), chosen)], out, chosen, Ways())
    quiet.open()
    Machine.plans, Machine.settings, Machine.blocks = quiet.plans, chosen, quiet.manifest.entries[0].blocks
    work(quiet.begin(0, Silent()), list(quiet.left(0)), quiet.heard, quiet.plans[0])
    assert quiet.finish(0) is not None
    quiet.close()
    Machine.wanted = content(out)
    return Machine


def test_whatever_ends_a_job_it_comes_to_the_same_bytes(machine: type[Machine]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    # Without shrinking, which takes minutes here: the steps of what fails are told as they were.
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
