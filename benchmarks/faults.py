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
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks._bench import table
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.io import format_of

FORMATS = (".nii", ".nii.gz", ".tif", ".zarr")

SERVER = """
import json, os, sys, time
from pathlib import Path
from geomedsr import cli
from geomedsr.inference.session import Session
from geomedsr.io import _staging, suffixes
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.run import command

suffixes()
result, flush = Session._result, _staging._flush

def fill():
    # All that is free, and all names: a full disk has room for neither.
    with open(disk / "filler", "ab", 0) as file:
        for size in (1 << 16, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    try:
        for number in range(4096):
            (disk / f"n{number}").touch()
    except OSError:
        pass

def at_tile(self, *tile):
    print("tile", file=marks, flush=True)
    time.sleep(pause)
    done = (self.written + tile[0].tile.write.size) / self._total
    if {"first write": 0, "middle": 0.5, "last write": 1}.get(moment, 2) <= done:
        fill()
    return result(self, *tile)

def at_commit(path):
    if moment == "commit":
        fill()
        raise OSError(28, "No space left on device")
    flush(path)

def at_creation(begin):
    def begun(*arguments, **more):
        if moment == "creation" and not (disk / "filler").exists():
            fill()
        return begin(*arguments, **more)
    return begun

Session._result, _staging._flush = at_tile, at_commit
_staging._claimed, ZarrOutput.create = at_creation(_staging._claimed), at_creation(ZarrOutput.create)
print("ready", flush=True)
for line in sys.stdin:
    sys.argv[1:], pause, folder, moment, disk = json.loads(line)
    disk = Path(disk)
    pid = os.fork()
    if pid == 0:
        marks = open(folder + "/marks", "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(folder + "/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        cli.main()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""The program, which has loaded its libraries, and runs in a process of its own for each line that it is told; a disk
may fill up at a moment. A tmpfs has no delayed allocation: what the last flush would meet elsewhere, it is told here.
"""

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


class Server:
    """Runs the program; each run leaves a mark for each tile, and what it says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=SETTINGS,
        )
        self._heard()

    def begin(self, command: list[str], pause: float = 0.0, moment: str = "", disk: Path | None = None) -> int:
        """A run under way: its process. It is held up for `pause` seconds in each tile."""
        assert self._process.stdin is not None
        (self._folder / "marks").unlink(missing_ok=True)
        order = [command, pause, str(self._folder), moment, str(disk or "")]
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._heard())

    def end(self) -> int:
        """Waits for the run's end, and gives its exit code (negative: the signal)."""
        return int(self._heard())

    @property
    def tiles(self) -> int:
        """How many tiles the run has begun."""
        marks = self._folder / "marks"
        return marks.read_text().count("tile") if marks.exists() else 0

    @property
    def said(self) -> str:
        """What the run has said."""
        return (self._folder / "said").read_text()

    def close(self) -> None:
        """No more runs."""
        self._process.communicate()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


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
    moments = ["before tiles", "in tiles", "behind tiles", "too late"]
    titles = ["format", "kills", *moments, "old whole", "new whole", "spoilt", "left after the next run"]
    print(table(titles, rows))
    return faults


def _killed(folder: Path, suffix: str, times: int, rng: random.Random) -> tuple[list[object], int]:
    (folder / "out").mkdir(parents=True)
    source, out, old_file = image(folder / f"in{suffix}", 64), folder / "out" / f"out{suffix}", folder / f"old{suffix}"
    server = Server(folder)
    run(arguments(source, out))
    run(arguments(source, old_file, model="nearest"))
    new, old = digest(out), digest_as(old_file, out)
    course = _course(server, arguments(source, out))
    found, when = Counter[str](), Counter[str]()
    for _ in range(times):
        _put(old_file, out)
        when[_kill_one(server, arguments(source, out), rng, course)] += 1
        found[{old: "old", new: "new"}.get(digest(out), "spoilt")] += 1
    server.close()
    run(arguments(source, out))
    spoilt, left = found["spoilt"] + (digest(out) != new), left_beside(out)
    moments = [when["before"], when["tiles"], when["end"], when["too late"]]
    row = [suffix, times, *moments, found["old"], found["new"], spoilt, ", ".join(left) or "nothing"]
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


PAUSE = 0.02


def _course(server: Server, command: list[str]) -> tuple[float, float, int]:
    """Seconds from the start of the work to its first tile, from its last tile to its end, and how many there are."""
    began = time.monotonic()
    server.begin(command, PAUSE)
    first = _awaited(server, 1) - began
    assert server.end() == 0
    whole, tiles = time.monotonic() - began, server.tiles
    return first, max(0.05, whole - first - tiles * PAUSE), tiles


def _awaited(server: Server, tiles: int) -> float:
    """Waits until so many tiles were begun; when that was."""
    end = time.monotonic() + 60
    while server.tiles < tiles and time.monotonic() < end:
        time.sleep(0.001)
    return time.monotonic()


def _kill_one(server: Server, command: list[str], rng: random.Random, course: tuple[float, float, int]) -> str:
    """Kills a run at a random moment of a random part of its work; tells in which part it was."""
    (first, last, tiles), process = course, server.begin(command, PAUSE)
    part = rng.choice(("before", "tiles", "end"))
    if part != "before":
        _awaited(server, tiles if part == "end" else rng.randint(1, tiles))
    time.sleep(rng.uniform(0, {"before": first, "tiles": 2 * PAUSE, "end": PAUSE + last}[part]))
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    if server.end() == 0:
        return "too late"
    return "end" if server.tiles >= tiles else "tiles" if server.tiles else "before"


def run(command: list[str]) -> None:
    """A run that must succeed."""
    subprocess.run([sys.executable, "-m", "geomedsr", *command], check=True, stdout=subprocess.DEVNULL, env=SETTINGS)


def full(folder: Path) -> int:
    """A full disk at five moments; gives how many answers were not as they should be."""
    rows, faults, server = [], 0, Server(folder)
    for suffix in FORMATS:
        source, whole = image(folder / f"in{suffix}", 96), folder / suffix[1:] / f"out{suffix}"
        whole.parent.mkdir()
        run(arguments(source, whole))
        for moment in ("creation", "first write", "middle", "last write", "commit"):
            row, wrong = _filled(server, folder / "disk", source, moment, digest(whole))
            rows.append([suffix, moment, *row])
            faults += wrong
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    server.close()
    print(table(["format", "full at", "exit code", "output", "left", "sentence"], rows))
    return faults


def _filled(server: Server, disk: Path, source: Path, moment: str, new: str) -> tuple[list[object], int]:
    """The row of a moment, and whether it is wrong. What has reserved its room in time may also succeed."""
    with tmpfs(disk, 64 << 20):
        out = disk / "here" / f"out{''.join(source.suffixes)}"
        out.parent.mkdir()
        _copy(source, out)
        before = digest(out)
        server.begin(arguments(source, out), moment=moment, disk=disk)
        code, said = server.end(), server.said
        errors = [line.partition("error: ")[2] for line in said.splitlines() if "error: " in line]
        state, left = {before: "old whole", new: "new whole"}.get(digest(out), "SPOILT"), left_beside(out)
        resumable = [name for name in left if name.startswith(".geomedsr-job-")]
        is_refused = (code, state, len(errors)) == (1, "old whole", 1) and left == resumable
        is_done = (code, state, left, errors) == (0, "new whole", [], [])
        sentence = " ".join(errors).replace(f"{out.parent}/", "")
        row = [code, state, ", ".join(left) or "nothing", sentence]
        return row, int(not (is_refused or is_done) or "fault of" in said)


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
