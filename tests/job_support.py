"""Jobs for tests: a small archive, its output's bytes, and children that die by SIGKILL where they are told to."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.inference.cluster import Greeting
from geomedsr.io import format_of
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io.zarr_archive import ZarrSource
from geomedsr.run import distributed

LINEAR = ["-m", "linear", "--scale", "2", "--tile", "40", "-q"]
STORED = ["--co", "chunks=16", "--co", "shards=32"]


def archive(path: Path, shape: tuple[int, ...] = (2, 120, 130), dtype: str = "uint16") -> Path:
    """A zarr of noise on waves, which has a block of zeros: an output's block that is all fill."""
    rng = np.random.default_rng(0)
    places = np.indices(shape[1:]).sum(axis=0)
    voxels = 1500 + 900 * np.sin(places / 7) + rng.normal(0, 30, shape)
    voxels[(slice(None), *(slice(0, 60),) * (len(shape) - 1))] = 0
    image = Image.of(voxels.astype(np.float32))
    sink = format_of(path).create_sink(path, replace(image.spec, dtype=np.dtype(dtype)))
    sink.write(Box.whole(shape[1:]), image.voxels)
    sink.commit()
    return path


def content(folder: Path) -> dict[str, str]:
    """The checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def job_folder(out: Path) -> Path:
    """Where the job of an output lies."""
    return out.with_name(f".geomedsr-job-{out.name}")


def run_and_die(arguments: list[str], where: str, count: int) -> int | None:
    """Runs a command in a child that kills itself at the `count`-th time it comes to a place; the child's exit code."""
    child = beside(arguments, where, count)
    child.join(120)
    return child.exitcode


def beside(arguments: list[str], where: str | None = None, count: int = 0) -> BaseProcess:
    """A command in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["geomedsr.run.archive", "geomedsr.inference.upscaler", "geomedsr.model"])
    child = context.Process(target=_dying, args=(arguments, where, count, os.getcwd(), dict(os.environ)))
    child.start()
    return child


def _dying(arguments: list[str], where: str | None, count: int, folder: str, environment: dict[str, str]) -> None:
    from geomedsr.cli import run_command
    from geomedsr.io._records import FolderRecords, RemoteRecords

    os.chdir(folder)
    os.environ.update(environment)
    FolderRecords.patience = RemoteRecords.patience = 0.0  # at once, to be counted
    os.fsync = lambda _: None
    if where is not None:
        PLACES[where](_after(count))
    os._exit(run_command(arguments))


def _after(count: int) -> Callable[[], bool]:
    calls = iter(range(1, 1 << 30))
    return lambda: next(calls) == count


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before_write(is_time: Callable[[], bool]) -> None:
    put = ZarrOutput.put

    def dying(self: ZarrOutput, *arguments: Any) -> None:
        if is_time():
            _die()
        put(self, *arguments)

    ZarrOutput.put = dying  # type: ignore[method-assign]


def _in_object(is_time: Callable[[], bool]) -> None:
    """Dies with half an object in place, as a store does that writes no object whole."""
    put = ZarrOutput.put

    def dying(self: ZarrOutput, box: Any, stored: Any) -> None:
        put(self, box, stored)
        if is_time():
            for key in self.object_keys(box):
                path = self.path / key
                if path.exists():
                    os.truncate(path, path.stat().st_size // 2)
            _die()

    ZarrOutput.put = dying  # type: ignore[method-assign]


def _in_line(is_time: Callable[[], bool]) -> None:
    """Dies with half a line in the journal."""
    from geomedsr.io._records import FolderRecords

    append = FolderRecords.append

    def dying(self: FolderRecords, name: str, data: bytes) -> None:
        if is_time():
            append(self, name, data[: len(data) // 2])
            _die()
        append(self, name, data)

    FolderRecords.append = dying  # type: ignore[method-assign]


def _before_finish(is_time: Callable[[], bool]) -> None:
    finish = ZarrOutput.finish

    def dying(self: ZarrOutput) -> None:
        if is_time():
            _die()
        finish(self)

    ZarrOutput.finish = dying  # type: ignore[method-assign]


def _after_place(is_time: Callable[[], bool]) -> None:
    """Dies when the output is in its place and nobody has written that down."""
    from geomedsr.run import job

    take_place = job.take_place

    def dying(*arguments: Any) -> None:
        take_place(*arguments)
        if is_time():
            _die()

    job.take_place = dying


def _after_file(is_time: Callable[[], bool]) -> None:
    """Dies when a file has appeared and nobody has written that down."""
    from geomedsr.run import worker

    upscale = worker.upscale

    def dying(*arguments: Any) -> Any:
        report = upscale(*arguments)
        if is_time():
            _die()
        return report

    worker.upscale = dying


PLACES = {
    "before a write": _before_write,
    "in an object": _in_object,
    "in a line": _in_line,
    "before the finish": _before_finish,
    "after the placing": _after_place,
    "after a file": _after_file,
}


def poisonous(batch: distributed.Batch) -> distributed.Work:
    """A worker's work, which one block of the archive kills."""
    read = ZarrSource.read

    def deadly(self: ZarrSource, box: Box) -> Any:
        if box.start == (63, 0):
            _die()
        return read(self, box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrSource, "read", deadly)
        return distributed.work_on(batch)


def strange() -> Greeting:
    """What a worker with another version says."""
    return Greeting("0.0.9", "cpu")


def slow(batch: distributed.Batch) -> distributed.Work:
    """A worker's work at a pace at which it can be caught."""
    time.sleep(0.3)
    return distributed.work_on(batch)
