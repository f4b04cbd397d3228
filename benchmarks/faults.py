"""Claim: whatever ends a run, the output that was there before is whole, or the new one is.

    python -m benchmarks.faults kills [--count 100]   SIGKILL at random moments of `upscale --overwrite`, over a format
                                                      each; the hash of the output is that of the old or the new file,
                                                      and the next run leaves nothing beside it
    python -m benchmarks.faults full                  a disk that is full at five moments (needs the right to mount a
                                                      tmpfs): the old output whole, exit code 1, one sentence

Images are small, so that the moments of a run lie close together; a run is held up a little in each tile.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks._bench import table
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.io import format_of

FORMATS = (".nii", ".nii.gz", ".tif", ".zarr")

RUN = """
import os, random, sys, time
from geomedsr import cli
from geomedsr.inference.upscaler import Session
from geomedsr.io import suffixes
from geomedsr.run import command

suffixes()
result, pause = Session._result, float(os.environ["PAUSE"])

def held_up(self, *tile):
    print("tile", flush=True)
    time.sleep(pause)
    return result(self, *tile)

Session._result = held_up
print("ready", flush=True)
sys.stdin.readline()
cli.main()
"""
"""The program, which tells when it is ready to begin, and each tile."""

SETTINGS = {**os.environ, "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}


def image(path: Path, side: int) -> Path:
    """Noise, which no compression makes small: a volume in NIfTI, else a raster."""
    shape = (side, side, side // 4) if ".nii" in path.name else (2 * side, 2 * side)
    voxels = np.random.default_rng(0).integers(0, 60000, (1, *shape)).astype(np.float32)
    spec = ImageSpec(Grid.plain(shape), ("one",), np.dtype(np.uint16))
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(shape), Image.of(voxels).voxels)
    sink.commit()
    return path


def digest(path: Path) -> str:
    """One checksum of a file, or of all files and names below a folder; "" where there is nothing."""
    if not path.exists():
        return ""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for one in files:
        whole.update(os.fsencode(one.relative_to(path.parent)))
        whole.update(hashlib.sha256(one.read_bytes()).digest())
    return whole.hexdigest()[:12]


def arguments(source: Path, out: Path, model: str = "cubic", tile: str = "48") -> list[str]:
    """The program's command line."""
    return ["upscale", str(source), "-o", str(out), "-m", model, "--scale", "2", "--tile", tile, "--overwrite", "-q"]


def begun(source: Path, out: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    """A run that waits for a line on stdin."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments(source, out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**SETTINGS, "PAUSE": str(pause)},
    )


def left_beside(out: Path) -> list[str]:
    """What lies in the output's folder besides it."""
    return sorted(one.name for one in out.parent.iterdir() if one != out)


def kills(folder: Path, count: int, seed: int) -> int:
    """Kills at random moments; gives how many outputs were spoilt, or runs left something."""
    rows, faults, rng = [], 0, random.Random(seed)
    for number, suffix in enumerate(FORMATS):
        times = count // len(FORMATS) + (number < count % len(FORMATS))
        row, wrong = _killed(folder / suffix[1:], suffix, times, rng)
        rows.append(row)
        faults += wrong
        print(f"  {suffix}: {row[1:]}", file=sys.stderr, flush=True)
    titles = ["format", "kills", "before work", "in tiles", "at the end", "old", "new", "spoilt", "left after next run"]
    print(table(titles, rows))
    return faults


def _killed(folder: Path, suffix: str, times: int, rng: random.Random) -> tuple[list[object], int]:
    (folder / "out").mkdir(parents=True)
    source, out = image(folder / f"in{suffix}", 64), folder / "out" / f"out{suffix}"
    run(arguments(source, out))
    new = digest(out)
    old_file = folder / f"old{suffix}"
    run(arguments(source, old_file, model="nearest"))
    old, (first, duration) = digest_as(old_file, out), _course(source, out)
    found, when = {"old": 0, "new": 0, "spoilt": 0}, {"before": 0, "tiles": 0, "end": 0}
    for _ in range(times):
        _put(old_file, out)
        when[_kill_one(source, out, rng.uniform(0.8 * first, 1.05 * duration))] += 1
        state = {old: "old", new: "new"}.get(digest(out), "spoilt")
        found[state] += 1
    run(arguments(source, out))
    left = left_beside(out)
    spoilt = found["spoilt"] + (digest(out) != new)
    row = [suffix, times, *when.values(), found["old"], found["new"], spoilt, ", ".join(left) or "nothing"]
    return row, spoilt + len(left)


def digest_as(path: Path, name: Path) -> str:
    """The checksum that a file or folder would have under another's name."""
    aside = name.with_name(f"aside{time.monotonic_ns()}")
    aside.mkdir()
    _copy(path, aside / name.name)
    found = digest(aside / name.name)
    shutil.rmtree(aside)
    return found


def _copy(path: Path, to: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copy(path, to)


def _put(old: Path, out: Path) -> None:
    """The old output again, where the new one is."""
    if out.is_dir():
        shutil.rmtree(out)
    out.unlink(missing_ok=True)
    _copy(old, out)


def _course(source: Path, out: Path) -> tuple[float, float]:
    """Seconds from the start of the work to its first tile and to its end, with the pauses."""
    process = begun(source, out, _PAUSE)
    began = _go(process)
    assert process.stdout is not None
    process.stdout.readline()
    first = time.monotonic() - began
    process.communicate()
    assert process.returncode == 0
    return first, time.monotonic() - began


def _go(process: subprocess.Popen[str]) -> float:
    """Lets a run begin; when that was."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    process.stdin.write("go\n")
    process.stdin.flush()
    return time.monotonic()


_PAUSE = 0.02


def _kill_one(source: Path, out: Path, after: float) -> str:
    """Kills a run so many seconds after it began; tells in which part of its work it was."""
    process = begun(source, out, _PAUSE)
    _go(process)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate()
    tiles = said.count("tile")
    return "end" if process.returncode == 0 or tiles >= _tiles(out) else "tiles" if tiles else "before"


def _tiles(out: Path) -> int:
    return 8 if ".nii" in out.name else 9


def run(command: list[str]) -> None:
    """A run that must succeed."""
    subprocess.run([sys.executable, "-m", "geomedsr", *command], check=True, stdout=subprocess.DEVNULL, env=SETTINGS)


Blocked = Callable[[Path, int], None]


def full(folder: Path) -> int:
    """A full disk at five moments; gives how many answers were not as they should be."""
    rows, faults = [], 0
    for suffix in FORMATS:
        source = image(folder / f"in{suffix}", 96)
        whole = folder / suffix[1:] / f"out{suffix}"
        whole.parent.mkdir()
        run(arguments(source, whole))
        for moment in ("creation", "first write", "middle", "last write", "commit"):
            row, wrong = _filled(folder / "disk", source, moment, digest(whole))
            rows.append([suffix, moment, *row])
            faults += wrong
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    print(table(["format", "full at", "exit code", "output", "left", "sentence"], rows))
    return faults


def _filled(disk: Path, source: Path, moment: str, new: str) -> tuple[list[object], int]:
    """The row of a moment, and whether it is wrong. What has reserved its room in time may also succeed."""
    with tmpfs(disk, 64 << 20):
        out = disk / "here" / f"out{''.join(source.suffixes)}"
        out.parent.mkdir()
        _copy(source, out)
        before = digest(out)
        process = subprocess.Popen(
            [sys.executable, "-c", FILL, moment, str(disk), *arguments(source, out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=SETTINGS,
        )
        _, said = process.communicate()
        errors = [line.partition("error: ")[2] for line in said.splitlines() if "error: " in line]
        state, left = {before: "old", new: "new"}.get(digest(out), "SPOILT"), left_beside(out)
        resumable = [name for name in left if name.startswith(".geomedsr-job-")]
        is_refused = (process.returncode, state, len(errors)) == (1, "old", 1) and left == resumable
        is_done = (process.returncode, state, left) == (0, "new", []) and not errors
        sentence = " ".join(errors).replace(f"{out.parent}/", "")
        row = [process.returncode, state, ", ".join(left) or "nothing", sentence]
        return row, int(not (is_refused or is_done) or "Traceback" in said)


FILL = """
import os, sys
from pathlib import Path
from geomedsr import cli
from geomedsr.inference.upscaler import Session
from geomedsr.io import _staging
from geomedsr.io._zarr_output import ZarrOutput

moment, disk = sys.argv.pop(1), Path(sys.argv.pop(1))
result, flush, seen = Session._result, _staging._flush, []

def fill(but=0):
    # All that is free, but so many bytes; a full disk has no room for names either.
    with open(disk / "filler", "ab", 0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass
        if but:
            file.truncate(max(0, file.tell() - but))
    number = 0
    try:
        while number < 4096 and not but:
            (disk / f"n{number}").touch()
            number += 1
    except OSError:
        pass

def at_tile(self, *tile):
    seen.append(1)
    wanted = {"first write": 1, "middle": 8, "last write": sys.maxsize}[moment] if moment in MOMENTS else None
    if len(seen) == wanted or (moment == "last write" and self.written + tile[0].tile.write.size == self._total):
        fill()
    return result(self, *tile)

def at_commit(path):
    if moment == "commit":
        fill()
        raise OSError(28, "No space left on device")
    flush(path)

MOMENTS = ("first write", "middle", "last write")
def at_creation(begin):
    def begun(*arguments, **more):
        if moment == "creation" and not seen:
            seen.append("full")
            fill()
        return begin(*arguments, **more)
    return begun

Session._result = at_tile
_staging._flush = at_commit
_staging._claimed = at_creation(_staging._claimed)
ZarrOutput.create = at_creation(ZarrOutput.create)
cli.main()
"""
"""The program on a disk that is filled up at a moment. A tmpfs has no delayed allocation: what the last flush would
meet on another file system, it is told here.
"""


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=600", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main() -> int:
    """Runs what is asked for; gives the number of faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=["kills", "full"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults", dir=asked.scratch) as scratch:
        faults = kills(Path(scratch), asked.count, asked.seed) if asked.claim == "kills" else full(Path(scratch))
    print(f"\n{faults} faults")
    return min(faults, 125)


if __name__ == "__main__":
    sys.exit(main())
