"""What a job is and how far it has come: a manifest that never changes, and journals that only grow.

The manifest says what makes the output: the model, the choices, each input as it was, and the rule that cuts each
output into tasks. It is written once; a run with another one is refused. Each writer (a process, a part, a worker)
appends one line for a finished task to a journal of its own, with a checksum of every object, after those objects are
on the disk. What has no line is not done, whatever lies in the store. Each line carries a checksum of itself, so that
one torn by a crash is known for what it is.
"""

from __future__ import annotations

import json
import time
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.errors import JobError
from geomedsr.grid import Factor, Shape
from geomedsr.inference.tasks import Blocks
from geomedsr.io._records import Records, flush_all

__all__ = [
    "Bits",
    "Entry",
    "Journal",
    "Manifest",
    "Progress",
    "checksum",
    "read_manifest",
    "read_progress",
    "strike",
    "write_manifest",
]

MANIFEST = "manifest.json"
JOURNAL = "journal-"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One image of a job.

    `identity` tells the input from another or a changed one. A zarr output is cut into blocks of `step` hr voxels,
    each computed in windows of `window` lr voxels; where they are None, the whole file is one task.
    """

    source: str
    target: str
    identity: str
    shape: Shape
    factor: Factor
    window: Shape | None = None
    step: Shape | None = None

    @property
    def blocks(self) -> Blocks:
        """The boxes of its tasks."""
        return Blocks(self.shape, self.step or self.shape)


@dataclass(frozen=True)
class Manifest:
    """All that decides about the bits of a job's outputs, and the tasks, numbered through all images."""

    version: str
    choices: Mapping[str, Any]
    entries: tuple[Entry, ...]

    @cached_property
    def firsts(self) -> list[int]:
        """The number of each image's first task, and behind the last the number of all tasks."""
        return [0, *accumulate(len(entry.blocks) for entry in self.entries)]

    @property
    def count(self) -> int:
        """How many tasks there are."""
        return self.firsts[-1]

    def image_of(self, task: int) -> int:
        """The number of the image that a task belongs to."""
        return bisect_right(self.firsts, task) - 1

    def tasks(self, image: int) -> range:
        """The tasks of an image."""
        return range(self.firsts[image], self.firsts[image + 1])

    def check_same(self, now: Manifest, place: str) -> None:
        """Refuses to go on with what would give other bits.

        Raises:
            JobError: the first thing that differs, as it was and as it is.
        """
        for what, was, is_ in self._pairs(now):
            if was != is_:
                raise JobError(
                    f"What was begun in {place} had {what} {_said(was)}, and this run has {_said(is_)}. Go on as it "
                    "was begun, or pass --restart to throw away what is done and begin anew."
                )

    def _pairs(self, now: Manifest) -> Iterator[tuple[str, Any, Any]]:
        yield "geomedsr", self.version, now.version
        for name in (*self.choices, *(name for name in now.choices if name not in self.choices)):
            yield name, self.choices.get(name), now.choices.get(name)
        yield "the number of images", len(self.entries), len(now.entries)
        for was, is_ in zip(self.entries, now.entries, strict=True):
            yield "the input", was.source, is_.source
            yield f"the input {was.source}", was.identity, is_.identity
            yield f"for {was.source} the output", was.target, is_.target

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        values = {"format": _FORMAT, **asdict(self)}
        return json.dumps(values).encode()

    @classmethod
    def from_json(cls, data: bytes, place: str) -> Manifest:
        """The manifest that `to_json` gave.

        Raises:
            JobError: it is none, or another version's.
        """
        try:
            values = json.loads(data)
            if values["format"] != _FORMAT:
                raise ValueError(f"its format is {values['format']}, not {_FORMAT}")
            entries = tuple(_entry(one) for one in values["entries"])
            return cls(str(values["version"]), dict(values["choices"]), entries)
        except (ValueError, TypeError, KeyError) as error:
            raise JobError(
                f"{place} holds no job that can be taken up: {error}. Pass --restart to begin anew."
            ) from error


def _entry(values: Mapping[str, Any]) -> Entry:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Entry(**plain)


def _said(value: object) -> str:
    return "nothing" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def write_manifest(records: Records, manifest: Manifest) -> bool:
    """Whether this manifest is the job's from now on; not so where there is one already."""
    return records.create(MANIFEST, manifest.to_json())


def read_manifest(records: Records) -> Manifest | None:
    """The manifest of a job, or None where none was begun.

    Raises:
        JobError: it is broken.
    """
    data = records.read(MANIFEST)
    return None if data is None else Manifest.from_json(data, str(records))


class Bits:
    """A set of task numbers, one bit each."""

    def __init__(self, length: int) -> None:
        self._bits = np.zeros(-(-length // 8), np.uint8)
        self.count = 0

    def add(self, number: int) -> None:
        """It is in the set."""
        if number not in self:
            self._bits[number >> 3] |= 1 << (number & 7)
            self.count += 1

    def count_in(self, numbers: range) -> int:
        """How many of some consecutive numbers are in the set."""
        first = numbers.start >> 3
        bits = np.unpackbits(self._bits[first : -(-numbers.stop // 8)], bitorder="little")
        return int(bits[numbers.start - 8 * first : numbers.stop - 8 * first].sum())

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] >> (number & 7) & 1)


@dataclass
class Progress:
    """How far a job has come: the tasks done, those set aside and why, the images that stand complete at their target.

    `twice` counts the tasks that were done again, though they had been done; `tried` how often a task was begun alone;
    `claimed` are the images whose files were begun: what lies at their targets is the job's.
    """

    done: Bits
    aside: dict[int, str] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    twice: int = 0
    tried: Counter[int] = field(default_factory=Counter)
    claimed: set[int] = field(default_factory=set)

    def take(self, line: Mapping[str, Any]) -> None:
        """Counts what a journal's line says."""
        if "done" in line:
            self.twice += line["done"] in self.done
            self.done.add(line["done"])
            self.aside.pop(line["done"], None)
        elif "aside" in line and line["aside"] not in self.done:
            self.aside[line["aside"]] = str(line["why"])
        elif "complete" in line:
            self.complete.add(line["complete"])
        elif "trying" in line:
            self.tried[line["trying"]] += 1
        elif "claimed" in line:
            self.claimed.add(line["claimed"])


IsRight = Callable[[int, Sequence[str | None]], bool]
"""Whether the objects of a task are still those with these checksums."""


def read_progress(records: Records, count: int) -> Progress:
    """What all journals of a job of `count` tasks say together."""
    progress = Progress(Bits(count))
    for name in records.names(JOURNAL):
        for line in _lines(records, name):
            progress.take(line)
    return progress


def strike(records: Records, is_right: IsRight, spared: Collection[str] = ()) -> None:
    """Takes tasks that are not right any more out of the journals, but not out of those of the writers `spared`, who
    live and go on writing.
    """
    for name in records.names(JOURNAL):
        if name.removeprefix(JOURNAL).partition(".")[0] in spared:
            continue
        lines = enumerate(_lines(records, name))
        wrong = {number for number, line in lines if "done" in line and not is_right(line["done"], line["sums"])}
        if wrong:
            lines = enumerate(_lines(records, name))
            records.write(name, b"".join(_packed(line) for number, line in lines if number not in wrong))


def _lines(records: Records, name: str) -> Iterator[dict[str, Any]]:
    """The lines of a journal; what is not whole is as if it had never been written."""
    for raw in records.lines(name):
        check, _, payload = raw.partition(b" ")
        if check == _check(payload):
            yield json.loads(payload)


class Journal:
    """One writer's journal.

    Lines wait a moment for each other (the records' `patience`): the objects that they tell of are brought to the
    disk together, and then the lines.
    """

    def __init__(self, records: Records, writer: str) -> None:
        self._records, self._name = records, f"{JOURNAL}{writer}"
        self._waiting: list[bytes] = []
        self._files: list[Path] = []
        self._last = time.monotonic()
        records.mend(self._name)

    def done(self, task: int, sums: Sequence[str | None], files: Sequence[Path] = ()) -> None:
        """A task is done; its objects (None: there is none, all of it is fill) lie in these files, or in a store."""
        self._files += files
        self._add({"done": task, "sums": list(sums)})

    def aside(self, task: int, why: str) -> None:
        """A task has failed too often."""
        self._add({"aside": task, "why": why})

    def trying(self, task: int) -> None:
        """A task is begun that may take the process down with it."""
        self._add({"trying": task})
        self.flush()

    def claim(self, image: int) -> None:
        """A file is begun, which appears at its target before that can be journaled."""
        self._add({"claimed": image})
        self.flush()

    def complete(self, image: int) -> None:
        """An image stands at its target."""
        self._add({"complete": image})
        self.flush()

    def flush(self) -> None:
        """All that was said is on the disk.

        What cannot be brought there is forgotten: the system tells of a loss once, and would say yes the next time.

        Raises:
            WriteFailedError: the disk is full, or has lost something.
        """
        waiting, files = self._waiting, self._files
        self._waiting, self._files = [], []
        if waiting:
            flush_all(files)
            self._records.append(self._name, b"".join(waiting))
        self._last = time.monotonic()

    def _add(self, line: Mapping[str, Any]) -> None:
        self._waiting.append(_packed(line))
        if time.monotonic() - self._last >= self._records.patience:
            self.flush()


def _packed(line: Mapping[str, Any]) -> bytes:
    payload = json.dumps(line, separators=(",", ":")).encode()
    return _check(payload) + b" " + payload + b"\n"


def _check(payload: bytes) -> bytes:
    return b"%08x" % zlib.crc32(payload)


def checksum(data: bytes | None) -> str | None:
    """What an object is known by: its length and its CRC; None for one that is not there."""
    return None if data is None else f"{len(data)}:{zlib.crc32(data):08x}"
