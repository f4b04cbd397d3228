"""What archives cost, and what they survive. Each subcommand is one claim, and prints its figures.

    python -m benchmarks.archive kill          ten SIGKILLs, main process and workers: the bytes of a quiet run
    python -m benchmarks.archive same          in process, two workers, two parts: the same bytes
    python -m benchmarks.archive wall          wall time over bare forward passes, in process (--size 2048: 5 minutes)
    python -m benchmarks.archive workers       the same on two workers (--size 4096: 4 minutes)
    python -m benchmarks.archive memory        peak memory of each process, for an archive and one of 4 times the pixels
    python -m benchmarks.archive coordinator   100,000 tasks that do nothing: ms a task, MB
    python -m benchmarks.archive s3            a job on a local S3 server, killed and taken up again

`--size` is the length of the archive's sides, 4 bands of uint16. Scratch goes below `--scratch`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import psutil

import geomedsr
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.inference.cluster import Cluster
from geomedsr.run import distributed, worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geomedsr.inference.journal import Entry
    from geomedsr.run.worker import Assignment

BANDS = ("blue", "green", "red", "nir")


def generate(path: Path, length: int, chunk: int = 1024) -> Path:
    """A 4 x length x length zarr of uint16, written block by block."""
    from geomedsr.io import zarr_archive

    affine = np.array([[0.0, 10.0, 5e5], [-10.0, 0.0, 5e6], [0.0, 0.0, 1.0]])
    spec = ImageSpec(Grid.of((length, length), affine, "EPSG:32632", "m"), BANDS, np.dtype(np.uint16))
    sink = zarr_archive.create_sink(path, spec, {"chunks": str(chunk)})
    rng = np.random.default_rng(0)
    for box in Box.whole(spec.grid.shape).split((chunk, chunk)):
        rows, columns = np.mgrid[box.slices].astype(np.float32)
        field = 1500 + 900 * np.sin(rows / 31) * np.cos(columns / 23)
        bands = np.stack([field * (1 + 0.2 * band) for band in range(4)])
        sink.write(box, (bands + rng.normal(0, 30, bands.shape)).astype(np.float32))
    sink.commit()
    return path


LINEAR = ("linear", "--scale", "2", "--tile", "256")


def command(source: Path | str, out: Path | str, *more: str, model: tuple[str, ...] = LINEAR) -> list[str]:
    """The program's command line."""
    return [sys.executable, "-m", "geomedsr", "upscale", str(source), "-o", str(out), "-m", *model, "-q", *more]


def _words(model: str) -> tuple[str, ...]:
    """The command line's words for a model."""
    return (model,) if model == "s2-rgbn-x2" else (model, "--scale", "2", "--tile", "256")


def run(arguments: list[str]) -> float:
    """Seconds that a command took, which must succeed."""
    began = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def digest(folder: Path) -> str:
    """One checksum of all files and names below a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def unjournaled(out: Path | str) -> tuple[int, int]:
    """Tasks of a killed job that have objects, or parts of them, but no line in a journal; and the tasks done."""
    from geomedsr.inference.journal import read_manifest, read_progress
    from geomedsr.io._zarr_output import ZarrOutput
    from geomedsr.run.job_records import records_beside

    records = records_beside(Path(out))
    manifest = read_manifest(records)
    if manifest is None or not records.names("begun-"):
        return 0, 0
    done = read_progress(records, manifest.count).done
    root = out if str(out).startswith("s3:") else Path(str(records)) / "image-0" / Path(out).name
    output, blocks = ZarrOutput.open(root), manifest.entries[0].blocks
    open_tasks = [task for task in range(manifest.count) if task not in done]
    keys = (output.object_keys(blocks[task]) for task in open_tasks)
    return sum(any(output.read_object(key) is not None for key in each) for each in keys), done.count


def kill(asked: argparse.Namespace, folder: Path) -> None:
    """SIGKILL at random moments, five times the main process alone, five times with workers (or one of them)."""
    source = generate(folder / "in.zarr", asked.size)
    quiet = run(command(source, folder / "quiet.zarr"))
    wanted = digest(folder / "quiet.zarr")
    print(f"4 x {asked.size} x {asked.size} uint16, linear x2; undisturbed {quiet:.0f} s")
    rng, out, twice = random.Random(asked.seed), folder / "out.zarr", 0
    for number in range(10):
        dask = ("--dask", "local:2") if number % 2 else ()
        child = subprocess.Popen(command(source, out, *dask), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = unjournaled(out)[1]
        victim = _moment(child, rng, out, before, worker=number % 4 == 3)
        again, done = unjournaled(out)
        twice += again
        print(f"  kill {number + 1:>2} of {victim:<14} {done:>4} blocks done, {again} under way")
        if out.exists():
            print("  it was through before it could be killed ten times: take a larger --size")
            break
    last = 0.0 if out.exists() else run(command(source, out))
    print(f"resumed to the end in {last:.0f} s; done twice: {twice} blocks; same bytes: {digest(out) == wanted}")


def _moment(child: subprocess.Popen[bytes], rng: random.Random, out: Path | str, before: int, *, worker: bool) -> str:
    """Kills at a random moment after the work has begun; what was killed."""
    began = time.monotonic()
    while child.poll() is None and unjournaled(out)[1] <= before and time.monotonic() - began < 120:
        time.sleep(0.2)
    time.sleep(rng.uniform(0, 1.5))
    if child.poll() is not None:
        return "nobody"
    workers = [one for one in psutil.Process(child.pid).children(recursive=True) if _computes(one)]
    if worker and workers:
        rng.choice(workers).kill()
        time.sleep(rng.uniform(1, 4))
    child.send_signal(signal.SIGKILL)
    child.wait()
    psutil.wait_procs(workers, timeout=30)
    return "a worker, main" if worker and workers else "main"


def _computes(process: psutil.Process) -> bool:
    """Whether a child is a worker: those that the program keeps for itself hold no torch threads' worth of memory."""
    try:
        return process.memory_info().rss > 150 << 20
    except psutil.Error:
        return False


def same(asked: argparse.Namespace, folder: Path) -> None:
    """In process, two workers, two parts at the same time: one checksum."""
    source = generate(folder / "in.zarr", asked.size)
    model = _words(asked.model)
    run(command(source, folder / "one.zarr", model=model))
    run(command(source, folder / "two.zarr", "--dask", "local:2", model=model))
    parts = [subprocess.Popen(command(source, folder / "parts.zarr", "--part", f"{i}/2", model=model)) for i in (1, 2)]
    assert [part.wait() for part in parts] == [0, 0]
    found = {name: digest(folder / f"{name}.zarr") for name in ("one", "two", "parts")}
    print(f"4 x {asked.size} x {asked.size}, {asked.model}: {found}; same: {len(set(found.values())) == 1}")


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
            main, worker = _peaks(command(source, folder / "out.zarr", *where, model=_words(asked.model)))
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


def s3(asked: argparse.Namespace, folder: Path) -> None:
    """From a bucket to a bucket on a local server, killed three times, against the same job between folders."""
    import s3fs
    from moto.server import ThreadedMotoServer

    local = generate(folder / "in.zarr", asked.size // 4, chunk=512)
    run(command(local, folder / "quiet.zarr"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "of",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ["AWS_SECRET_ACCESS_KEY"] = "no-one"
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir("archive")
    system.put(str(local), "archive/in.zarr", recursive=True)
    rng, out, twice = random.Random(asked.seed), "s3://archive/out.zarr", 0
    for _ in range(3):
        child = subprocess.Popen(command("s3://archive/in.zarr", out), stdout=subprocess.DEVNULL)
        before = unjournaled(out)[1]
        if _moment(child, rng, out, before, worker=False) == "nobody":
            print("  it was through before it could be killed three times: take a larger --size")
            break
        again, done = unjournaled(out)
        twice += again
        print(f"  killed with {done} blocks done, {again} under way")
    else:
        run(command("s3://archive/in.zarr", out))
    system.get("archive/out.zarr", str(folder / "back.zarr"), recursive=True)
    equal = digest(folder / "back.zarr") == digest(folder / "quiet.zarr")
    print(f"4 x {asked.size // 4} x {asked.size // 4} from s3 to s3: done twice {twice} blocks; same bytes: {equal}")
    server.stop()


def main() -> None:
    """Runs one claim."""
    claims = {one.__name__: one for one in (kill, same, wall, workers, memory, coordinator, s3)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=claims)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--model", default="linear")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1700000000")  # outputs tell when they were made
    if asked.scratch is not None:
        asked.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        claims[asked.claim](asked, Path(folder))


if __name__ == "__main__":
    main()
