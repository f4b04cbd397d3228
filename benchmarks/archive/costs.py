"""What a job costs beside the network: time, memory, and the process that hands out tasks."""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import psutil

import geomedsr
from benchmarks.archive._jobs import command, generate, words
from geomedsr.grid import Grid
from geomedsr.image import ImageSpec
from geomedsr.inference.cluster import Cluster
from geomedsr.run import distributed, worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geomedsr.inference.journal import Entry
    from geomedsr.run.worker import Assignment


STORED = {"as the source": {}, "chunks 512, shards 4096": {"chunks": "512", "shards": "4096"}}
"""What the pipelines ask for, beside what an archive has by itself."""


def wall(asked: argparse.Namespace, folder: Path) -> None:
    """Wall time of a job in process over bare forward passes on the image, which were run after it."""
    source = generate(folder / "in.zarr", asked.size)
    for name, stored in STORED.items():
        rounds = [_in_process(source, folder / "out.zarr", stored) for _ in range(asked.repeats)]
        bare, own, cpu, seen = np.median(rounds, axis=0)
        print(f"4 x {asked.size} x {asked.size}, s2-rgbn-x2, {name}; in process, median of {asked.repeats}:")
        print(f"  wall over bare forward {bare:.3f} (processor time {cpu:.3f}), over the forward inside it {own:.3f};")
        print(f"  the network sees {seen:.3f} of the image's voxels", flush=True)


def _in_process(source: Path, out: Path, stored: Mapping[str, str]) -> tuple[float, ...]:
    """A job's wall time over bare forward passes and over the network's inside it, its processor time over theirs, and
    the voxels that the network sees over the image's.
    """
    from geomedsr.run import archive
    from geomedsr.run.library import upscale
    from geomedsr.run.worker import work

    heard: list[tuple[float, float, float, Assignment]] = []

    def timed(assignment: Assignment, *more: Any) -> float:  # noqa: ANN401 - whatever the job hands over
        began, used = time.perf_counter(), time.process_time()
        computed = work(assignment, *more)
        heard.append((time.perf_counter() - began, time.process_time() - used, computed, assignment))
        return computed

    with mock.patch.object(archive, "work", timed):
        upscale(source, out, "s2-rgbn-x2", device="cpu", options=stored)
    shutil.rmtree(out)
    ((seconds, used, computed, assignment),) = heard
    bare, bare_used = _bare(assignment.entry)
    return seconds / bare, seconds / computed, used / bare_used, _seen(assignment.entry)


def _bare(entry: Entry) -> tuple[float, float]:
    """Wall and processor seconds of forward passes alone over the image's voxels, each once, in the stream's heap."""
    from geomedsr.inference.backend import TorchBackend
    from geomedsr.inference.memory import steady_heap
    from geomedsr.run.catalogue import load_model

    assert entry.window is not None, "a zarr output has windows"
    backend = TorchBackend(load_model("s2-rgbn-x2").network)
    batch = np.random.default_rng(0).random((1, 4, *entry.window), np.float32)
    count = math.prod(entry.shape) / math.prod(entry.factor) / math.prod(entry.window)
    passes = max(1, round(count))
    with steady_heap():
        backend.run(batch)
        began, used = time.perf_counter(), time.process_time()
        for _ in range(passes):
            backend.run(batch)
        wall, processor = time.perf_counter() - began, time.process_time() - used
    return wall * count / passes, processor * count / passes


def _seen(entry: Entry) -> float:
    """The voxels that the network sees over the image's, from the plan of each block."""
    from geomedsr.run.catalogue import load_model
    from geomedsr.tiling import plan

    assert entry.window is not None, "a zarr output has windows"
    reach = load_model("s2-rgbn-x2").network.reach
    assert reach is not None, "its reach is known"
    image = tuple(n // f for n, f in zip(entry.shape, entry.factor, strict=True))
    tiles = plan(image, entry.factor, entry.window, reach)
    return sum(map(tiles.pieces, entry.blocks)) * math.prod(entry.window) / math.prod(image)


def workers(asked: argparse.Namespace, folder: Path) -> None:
    """Wall time of a job on two workers over their own forward passes, and over bare ones on all threads."""
    from geomedsr.inference.cluster import Outcome
    from geomedsr.inference.journal import read_manifest
    from geomedsr.run import distributed
    from geomedsr.run.job import Ways
    from geomedsr.run.job_records import records_beside
    from geomedsr.run.library import Silent
    from geomedsr.run.planning import Settings
    from geomedsr.run.upscaling import upscale_all

    source, out = generate(folder / "in.zarr", asked.size), folder / "out.zarr"
    heard: list[tuple[float, float, int]] = []
    entries: list[Entry] = []
    take = distributed.Foreman.take

    def hearing(self: distributed.Foreman, outcome: Outcome[distributed.Batch, distributed.Work]) -> None:
        assert outcome.result is not None, f"a batch failed: {outcome.error}"
        voxels = sum(result.voxels for result in outcome.result.results)
        heard.append((time.perf_counter(), outcome.result.computed, voxels))
        if not entries:
            manifest = read_manifest(records_beside(out))
            assert manifest is not None, "a job has a manifest"
            entries.append(manifest.entries[0])
        take(self, outcome)

    with mock.patch.object(distributed.Foreman, "take", hearing):
        list(upscale_all([str(source)], out, Settings("s2-rgbn-x2"), Silent(), ways=Ways(dask="local:2")))
    # Each worker's first batch carries the loading of torch and the model; the clock starts when both are through.
    assert len(heard) > 3, "too few batches to tell: take a larger --size"
    seconds, computed = heard[-1][0] - heard[1][0], sum(one for _, one, _ in heard[2:])
    share = sum(voxels for *_, voxels in heard[2:]) / math.prod(entries[0].shape)
    bare, _ = _bare(entries[0])
    print(f"4 x {asked.size} x {asked.size}, s2-rgbn-x2; two workers, {len(heard)} batches:")
    print(
        f"  wall over each worker's own forward {2 * seconds / computed:.3f}, over bare passes on all threads ", end=""
    )
    print(f"{seconds / (bare * share):.3f}; the network sees {_seen(entries[0]):.3f} of the image's voxels")


def memory(asked: argparse.Namespace, folder: Path) -> None:
    """Peak memory of the main process and of the largest worker, for an archive and for one of 4 times the pixels."""
    for where in ((), ("--dask", "local:2")):
        for length in (asked.size // 2, asked.size):
            source = generate(folder / f"in{length}.zarr", length)
            main, worker = _peaks(command(source, folder / "out.zarr", *where, model=words(asked.model)))
            shutil.rmtree(folder / "out.zarr")
            name = " ".join(where) or "in process"
            print(
                f"4 x {length} x {length}, {name}: main {main >> 20} MiB, largest worker {worker >> 20} MiB", flush=True
            )


def _peaks(arguments: list[str]) -> tuple[int, int]:
    """Peak resident bytes of a command's own process and of the largest of its workers."""
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    main = worker = 0
    while child.poll() is None:
        with suppress(psutil.Error):
            here = psutil.Process(child.pid)
            main = max(main, here.memory_info().rss)
            for one in here.children(recursive=True):
                worker = max(worker, one.memory_info().rss)
        time.sleep(0.05)
    assert child.returncode == 0, "the command failed"
    return main, worker


def nothing(batch: distributed.Batch) -> distributed.Work:
    """A worker whose model does nothing."""
    voxels = batch.assignment.entry.blocks[0].size
    return distributed.Work(tuple(worker.Result(task, voxels) for task in batch.tasks), 1e-3 * len(batch.tasks))


def coordinator(asked: argparse.Namespace, folder: Path) -> None:
    """What a task costs the process that hands them out, apart from any work: time and memory."""
    del asked
    from geomedsr.io._zarr_output import ZarrOutput
    from geomedsr.run.job import Job, Ways
    from geomedsr.run.library import Silent
    from geomedsr.run.planning import Settings, plan
    from geomedsr.run.tally import Tally
    from geomedsr.run.targets import Job as Errand

    source, out, length = folder / "in.zarr", folder / "out.zarr", 10_112
    spec = ImageSpec(Grid.plain((length, length)), ("a",), np.dtype(np.uint8))
    ZarrOutput.create(source, spec, {"chunks": "1024"}).finish()
    settings = Settings("nearest", scale=(2,), options={"chunks": "64"}, tile=(32,))
    job = Job([plan(Errand(source, out), settings)], out, settings, Ways(dask="local:2"))
    job.open()
    with Cluster("local:2") as cluster, distributed.Foreman(job, Tally(job, Silent()), Silent(), cluster) as foreman:
        cluster.check(distributed.greet, geomedsr.__version__)
        before, began, batches = psutil.Process().memory_info().rss, time.perf_counter(), 0
        for outcome in cluster.results(nothing, foreman.more):
            foreman.take(outcome)
            batches += 1
        seconds, grown = time.perf_counter() - began, psutil.Process().memory_info().rss - before
    count = job.manifest.count
    print(f"{count} tasks in {batches} batches: {seconds:.1f} s, {seconds / count * 1e3:.3f} ms a task, ", end="")
    print(f"{seconds / batches * 1e3:.1f} ms a batch; memory grew by {grown / 2**20:.0f} MiB")
    assert job.progress.done.count == count
