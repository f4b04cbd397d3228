"""A job: images worked through in tasks, journaled, taken up again by the same command after whatever ended it.

All that a job leaves behind while it is under way lies in one hidden folder beside its output: the manifest, the
journals, the lock, and the growing outputs themselves. An output takes its place when it is complete, so no reader
can mistake an unfinished one. On an object store, where nothing can be renamed, it grows in its place, and the mark
that it is complete comes last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from geomedsr import __version__
from geomedsr.errors import LockedError, OutputError, SetAsideError, WrongOutputError
from geomedsr.image import ImageSpec, Source
from geomedsr.inference.cluster import local_workers
from geomedsr.inference.journal import (
    MANIFEST,
    Journal,
    Progress,
    checksum,
    read_manifest,
    read_progress,
    strike,
    write_manifest,
)
from geomedsr.inference.lock import Lock, Owner
from geomedsr.io import exists_at
from geomedsr.io._records import FolderRecords
from geomedsr.io._staging import take_place
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io._zarr_place import Place, is_url
from geomedsr.run.check import Checked, check_output
from geomedsr.run.job_records import BEGUN, CLAIMED, LOCK, PLACED, clear, forget, inode, keep_to, records_beside
from geomedsr.run.planning import Plan, Settings, creation_options, promised, stamped
from geomedsr.run.sidecar import write_sidecar
from geomedsr.run.targets import make_folder
from geomedsr.run.task_list import manifest_of
from geomedsr.run.upscaling import Listener, announce, open_planned, seen_again
from geomedsr.run.ways import Ways
from geomedsr.run.worker import Assignment, Result, fingerprint

__all__ = ["Job", "Ways"]

_BEGIN, _FINISH = "begin", "finish"


class Job:
    """One process's hold on a job, from `open` to `close`.

    `warnings` are what was said of its images, by their numbers; `told` are the files whose check was told already.
    `tell` hears notes. `device` and `choice` are what the network runs with, here or on workers.
    """

    def __init__(self, plans: Sequence[Plan], out: Path, settings: Settings, ways: Ways) -> None:
        from geomedsr.inference.backend import find_device
        from geomedsr.inference.choice import settled

        self.plans, self.settings, self.ways, self.out = plans, settings, ways, out
        self.manifest = manifest_of(plans, settings, max(1, local_workers(ways.dask)))
        self.records = records_beside(out)
        part, parts = ways.part
        self.lock = Lock(self.records, f"{LOCK}{part}-of-{parts}")
        self.is_fresh = False
        self.progress: Progress
        self.warnings: defaultdict[int, list[str]] = defaultdict(list)
        self.told: set[int] = set()
        self.tell: Callable[[str], None] = lambda text: None
        self.device = find_device(settings.device)
        self.choice = settled(settings.backend, settings.precision)
        self._writer = f"{part}-of-{parts}"
        self._made: list[Path] = []
        self._is_spoilt = False

    def open(self) -> None:
        """Takes the lock and reads how far the job has come.

        Raises:
            LockedError: another run is at it.
            JobError: it was begun otherwise.
        """
        if isinstance(self.records, FolderRecords):
            self._made = make_folder(self.records.folder)
        try:
            self.lock.take(str(self.out), force=self.ways.force_unlock)
            self._check_others()
            if self.ways.restart or (self.ways.part[1] == 1 and not self.records.names(MANIFEST)):
                forget(self.records)
            was = read_manifest(self.records)
            if was is None and not write_manifest(self.records, self.manifest):
                was = read_manifest(self.records)  # another part was quicker
            if was is not None:
                was.check_same(self.manifest, str(self.records))
                self.manifest = was
            # A run that died at once has left objects, maybe torn ones, before the first line of a journal.
            self.is_fresh = not self.records.names(BEGUN) and self.ways.part[1] == 1
            if self.ways.verify:
                self._verify()
            self.progress = read_progress(self.records, self.manifest.count)
        except BaseException:
            self.lock.drop()
            if all(name.startswith(".") for name in self.records.names()):
                self.records.clear()  # nobody has begun anything here
            raise

    def _check_others(self) -> None:
        """Parts of one whole get along with each other, and with nobody else."""
        part, parts = self.ways.part
        if self.ways.force_unlock:
            for name in (_BEGIN, _FINISH):
                self.records.remove(name)
        for name in self.records.names(LOCK):
            data = None if name == self.lock.name else self.records.read(name)
            holder = Owner.read(data) if data is not None else None
            if holder is None or data is None:
                continue
            if holder.is_gone or self.ways.force_unlock:
                self.records.remove(name, data)
            elif parts == 1 or self.ways.restart or not name.endswith(f"-of-{parts}"):
                other = name.removeprefix(LOCK).replace("-of-", "/")
                raise LockedError(
                    f"{self.out} is being written as part {other} by {holder}; this run is part {part}/{parts}. Wait "
                    "for it, or end it; if it is gone for good, pass --force-unlock."
                )

    def _verify(self) -> None:
        """Takes back what is not right any more, for good: later runs, and workers, shall not count it either."""
        held = {name.removeprefix(LOCK) for name in self.records.names(LOCK)}
        strike(self.records, self._is_right, spared=held - {self._writer})

    def _is_right(self, task: int, sums: Sequence[str | None]) -> bool:
        """Whether a task's objects are as they were when they were journaled."""
        image = self.manifest.image_of(task)
        entry = self.manifest.entries[image]
        if entry.step is None or not Place(Path(self.root(image))).exists():
            return True
        output = ZarrOutput.open(self.root(image))
        keys = output.object_keys(entry.blocks[task - self.manifest.firsts[image]])
        return [checksum(output.read_object(key)) for key in keys] == list(sums)

    def close(self) -> None:
        """Lets go of the job; one that is complete, or of which nothing is of use, leaves nothing behind."""
        self.lock.drop()
        if any(name.startswith(LOCK) for name in self.records.names()):
            return
        is_over = len(self.progress.complete) == len(self.manifest.entries)
        if is_over or self._is_spoilt or not self.records.names("journal-"):
            clear(self.records)
            for folder in self._made[1:]:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def root(self, image: int) -> str:
        """Where an image's output grows."""
        target = Path(self.manifest.entries[image].target)
        if isinstance(self.records, FolderRecords) and not is_url(target):
            return os.fspath(self.records.folder / f"image-{image}" / target.name)
        return os.fspath(target)

    def journal(self) -> Journal:
        """The journal of this process."""
        return Journal(self.records, self._writer)

    def mine(self) -> range:
        """The tasks that this process answers for."""
        part, parts = self.ways.part
        count = self.manifest.count
        return range(count * (part - 1) // parts, count * part // parts)

    def left(self, image: int) -> Iterator[int]:
        """The tasks of an image that this process has still to do."""
        mine, theirs = self.mine(), self.manifest.tasks(image)
        for task in range(max(mine.start, theirs.start), min(mine.stop, theirs.stop)):
            if task not in self.progress.done:
                yield task

    def heard(self, result: Result) -> None:
        """Counts a task that was done or set aside, and keeps what was said of it."""
        image = self.manifest.image_of(result.task)
        self.warnings[image] += result.warnings
        if result.notes:
            self.told.add(image)
        if result.why is None:
            self.progress.take({"done": result.task})
        else:
            self.progress.take({"aside": result.task, "why": result.why})

    def begin(self, image: int, listener: Listener) -> Assignment:
        """An image ready to be worked on by anybody: its output described, its intensity fitted once for all.

        Raises:
            JobError: it was begun on another kind of device.
            GeomedsrError: the input cannot be read, or the output not be written.
        """
        from geomedsr.inference.backend import kind_of

        entry, made, kind = self.manifest.entries[image], self.plans[image], kind_of(self.device)
        keep_to(self.records, kind)
        intensity = (0.0, 1.0)
        if entry.step is not None:
            intensity = self._begun(image, made, listener)
        return Assignment(
            __version__,
            fingerprint(made.model),
            self.settings,
            self.records,
            self.lock,
            image,
            self.manifest.firsts[image],
            entry,
            self.root(image),
            self._writer,
            kind,
            intensity,
            self.is_fresh,
        )

    def _begun(self, image: int, made: Plan, listener: Listener) -> tuple[float, float]:
        """The intensity of an image; whoever comes first describes the output, and the others wait."""
        name = f"{BEGUN}{image}.json"
        lock = Lock(self.records, _BEGIN)
        lock.wait(listener.note)
        try:
            said = self.records.read(name)
            if said is not None and self._is_there(image):
                offset, scale = json.loads(said)
                return float(offset), float(scale)
            source = open_planned(made)
            try:
                self.warnings[image] += announce(made, source, self.settings, listener)
                return self._described(image, made, source, name)
            finally:
                source.close()
        finally:
            lock.drop()

    def _is_there(self, image: int) -> bool:
        """Whether there is something to go on with: who was ended while clearing away may have left its word alone."""
        return self.progress.done.count_in(self.manifest.tasks(image)) > 0 or Place(Path(self.root(image))).exists()

    def _described(self, image: int, made: Plan, source: Source, name: str) -> tuple[float, float]:
        fitted = made.model.intensity.fit(source)
        root = Path(self.root(image))
        self._clear(root, f"{CLAIMED}{image}")
        after, options = stamped(made, self.settings), creation_options(self.settings)
        ZarrOutput.create(root, after, options, name=made.job.target)
        self.records.write(name, json.dumps([fitted.offset, fitted.scale]).encode())
        return fitted.offset, fitted.scale

    def _clear(self, root: Path, claim: str) -> None:
        """Makes room for an output; what lies in its place in an object store goes only if it may, or is ours."""
        if not is_url(root):
            shutil.rmtree(root, ignore_errors=True)  # begun, and ended before it was said
            root.parent.mkdir(parents=True, exist_ok=True)
            return
        if Place(root).exists():
            if self.records.read(claim) is None and not self.settings.overwrite:
                raise OutputError(f"{Place(root)} exists already; pass --overwrite to replace it.")
            Place(root).remove_all()
        self.records.write(claim, os.fspath(root).encode())

    def finish(self, image: int) -> Checked | None:
        """Lets a complete image take its place; None while somebody else still has tasks of it to do.

        Raises:
            JobError: tasks of it were set aside.
            GeomedsrError: it did not come out as it should.
        """
        lock = Lock(self.records, _FINISH)
        lock.wait(self.tell)
        try:
            if self.ways.part[1] > 1:
                self.progress = read_progress(self.records, self.manifest.count)
            if not self._is_ready(image):
                return None
            checked = self._placed(image)
            if image not in self.progress.complete:
                self.journal().complete(image)
                self.progress.complete.add(image)
            return checked
        finally:
            lock.drop()

    def _is_ready(self, image: int) -> bool:
        tasks = self.manifest.tasks(image)
        if aside := [task for task in self.progress.aside if task in tasks]:
            self._check_holes(image, aside)
        return all(task in self.progress.done or task in self.progress.aside for task in tasks)

    def _check_holes(self, image: int, aside: Sequence[int]) -> None:
        """Refuses an output with blocks set aside, unless it is asked for and can say that they are invalid."""
        entry, tasks, made = self.manifest.entries[image], self.manifest.tasks(image), self.plans[image]
        after = promised(made, made.before, self.settings)
        can_say = entry.step is not None and (after.nodata is not None or after.dtype.kind == "f")
        if self.ways.finish and can_say:
            return
        box = entry.blocks[aside[0] - tasks.start]
        how = "--finish leaves them invalid" if can_say else "--finish cannot: it has no value that means invalid"
        raise SetAsideError(
            f"{len(aside)} of {len(tasks)} blocks of {entry.target} were set aside; the first, {box.start} to "
            f"{box.stop}, because: {self.progress.aside[aside[0]]} All others are done: the same command tries these "
            f"again; {how}."
        )

    def _placed(self, image: int) -> Checked:
        """The output complete, checked, and in its place; also when it was ended just before it could say so."""
        entry, made = self.manifest.entries[image], self.plans[image]
        target, after = Path(entry.target), promised(made, made.before, self.settings)
        if entry.step is None:
            return check_output(target, after, made.before)
        root, note = Path(self.root(image)), f"{PLACED}{image}"
        said = self.records.read(note)
        if said is None or said != inode(target):
            output, tasks = ZarrOutput.open(root, target), self.manifest.tasks(image)
            for task in self.progress.aside:
                if task in tasks:
                    output.blank(entry.blocks[task - tasks.start])
            output.finish()
            self._check(root, after, made)
            if not is_url(root):
                self._check_free(target)
                make_folder(target.parent)
                self.records.write(note, inode(root) or b"")
                take_place(root, target, root.with_name(".replaced"))
        if not is_url(root):
            shutil.rmtree(root.parent, ignore_errors=True)
        checked = replace(check_output(target, after, made.before), seen=seen_again(made))
        if self.settings.sidecar or self.settings.bids:
            spec = checked.spec
            write_sidecar(target, made.job.source, spec.provenance or "", spec.grid.spacing, bids=self.settings.bids)
        return checked

    def _check_free(self, target: Path) -> None:
        """Refuses a place that somebody else took while the work was done."""
        if exists_at(target) and not self.settings.overwrite:
            raise OutputError(
                f"{target} was made by somebody else meanwhile; move it, and the same command puts the output there; "
                "or pass --overwrite to replace it."
            )

    def _check(self, root: Path, after: ImageSpec, made: Plan) -> None:
        """Looks at a complete output before it takes its place; one that came out wrong is kept while others go on.

        Only what was found wrong is thrown away: a look that was cut short says nothing of the work.
        """
        is_alone = len(self.plans) == 1
        rest = "It was thrown away" if is_alone else f"It lies in {root} until the job is begun anew (--restart)"
        try:
            check_output(root, after, made.before, name=made.job.target, rest=rest)
        except WrongOutputError:
            if is_url(root):
                ZarrOutput.open(root, made.job.target).withdraw()
            self._is_spoilt = is_alone
            raise
