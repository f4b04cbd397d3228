"""What a case is: a function that makes a file or a fault, and the answer that is right."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "Command", "Outcome", "case", "cases_of", "run", "upscale"]

Command = tuple[str, ...]
"""The arguments of geomedsr, in the folder of the files."""

Make = Callable[[Path], "Command | Outcome"]

_ERROR, _WARNING = "geomedsr: error: ", "geomedsr: warning: "
_SLOWEST = 60.0
_SETTINGS = {"OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, what it said on stderr, its seconds and its peak memory in bytes."""

    command: Command
    code: int
    said: str
    seconds: float = 0.0
    peak: int = 0

    @property
    def sentence(self) -> str:
        """The error, else the warnings, else all that was said."""
        for mark in (_ERROR, _WARNING):
            if found := [line.removeprefix(mark) for line in self.said.splitlines() if line.startswith(mark)]:
                return " ".join(found)
        return " ".join(self.said.split())

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(("geomedsr", *self.command))


@dataclass(frozen=True)
class Case:
    """A file or a fault: its function makes it in an empty folder, and gives the command to be run there (or runs
    what it needs itself, and gives the outcome). `code` and `says` are the exit code and the sentence that are right.
    """

    make: Make
    says: str
    code: int

    @property
    def name(self) -> str:
        """What it is, in words."""
        return (self.make.__doc__ or self.make.__name__).strip().rstrip(".")

    def wrong(self, outcome: Outcome, folder: Path) -> list[str]:
        """What is not as it should be; nothing where all is well."""
        faults = []
        if outcome.code != self.code:
            faults.append(f"exit code {outcome.code}, not {self.code}")
        if not re.search(self.says, outcome.sentence):
            faults.append(f"does not say '{self.says}'")
        if "Traceback" in outcome.said or "fault of geomedsr's own" in outcome.said:
            faults.append("a fault of the program's own")
        if self.code == 2 and outcome.said.count(_ERROR) != 1:
            faults.append("not one sentence")
        if left := [p.name for p in folder.iterdir() if p.name.startswith(".geomedsr-") or (self.code and _is_out(p))]:
            faults.append(f"leaves {', '.join(left)}")
        return faults


def case(says: str, *, code: int = 2) -> Callable[[Make], Case]:
    """Makes a case of a function; its docstring says what the case is."""
    return lambda make: Case(make, says, code)


def cases_of(module: object) -> list[Case]:
    """The cases of a module, in their order."""
    return [value for value in vars(module).values() if isinstance(value, Case)]


def upscale(name: str, *more: str, out: str | None = None) -> Command:
    """The command that makes a file twice as fine, by cubic, which needs no network."""
    suffix = name[name.index(".") :] if "." in name else ""
    return ("upscale", name, "-o", out or f"out{suffix}", "-m", "cubic", "--scale", "2", *more)


def run(command: Sequence[str], folder: Path) -> Outcome:
    """Runs geomedsr in a process of its own."""
    home = str(Path(__file__).parents[2])
    settings = {**os.environ, **_SETTINGS, "PYTHONPATH": os.pathsep.join((home, os.environ.get("PYTHONPATH", "")))}
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "geomedsr", *command],
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        code, peak = _awaited(process, began + _SLOWEST)
        said.seek(0)
        return Outcome(tuple(command), code, said.read(), time.perf_counter() - began, peak)


def _high_water(pid: int) -> int:
    """The most bytes that a living process has had in memory at once; 0 where that is not told."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _awaited(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, int]:
    """The exit code and the peak memory of a process, which is killed when it takes too long."""
    peak = 0
    while True:
        # What wait4 tells begins with the memory of the process that forked; the kernel's own mark is the program's.
        peak = max(peak, _high_water(process.pid))
        if (code := process.poll()) is not None:
            return code, peak
        if time.perf_counter() > deadline:
            process.kill()
            deadline = float("inf")
        time.sleep(0.02)


def _is_out(path: Path) -> bool:
    """Whether a path is an output, by its name."""
    return path.name.startswith("out.")
