"""What a job survives: SIGKILLs, on disks and in object stores, and being done by several."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks.archive._jobs import command, digest, generate, run, words


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
    model = words(asked.model)
    run(command(source, folder / "one.zarr", model=model))
    run(command(source, folder / "two.zarr", "--dask", "local:2", model=model))
    parts = [subprocess.Popen(command(source, folder / "parts.zarr", "--part", f"{i}/2", model=model)) for i in (1, 2)]
    assert [part.wait() for part in parts] == [0, 0]
    found = {name: digest(folder / f"{name}.zarr") for name in ("one", "two", "parts")}
    print(f"4 x {asked.size} x {asked.size}, {asked.model}: {found}; same: {len(set(found.values())) == 1}")


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
