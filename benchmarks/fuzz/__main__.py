"""Tries mutations of valid inputs at each door for a bounded time, and reports what was found.

Each door runs in a process of its own with a limit of memory and of seconds for an input; one that crashes is begun
again with the time that is left. What is found is kept below --keep.

    python -m benchmarks.fuzz [--seconds 60] [--door zarr] [--keep fuzz-found] [--seed 1]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks._bench import table
from benchmarks.fuzz.doors import DOORS

MEMORY = 1536
"""MiB that a process may have resident, libraries and all."""
SLOWEST = 15
"""Seconds that an input may take."""
_KINDS = {"crash": "crashes", "timeout": "hangs", "oom": "memory breaches"}
_TRIED = re.compile(r"stat::number_of_executed_units:\s*(\d+)|^#(\d+)\s", re.MULTILINE)


def tried(name: str, seconds: float, keep: Path, seed: int) -> tuple[int, Counter[str], list[str]]:
    """Inputs tried at a door, what was found (each fault once, by where it was raised), and their last lines."""
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="corpus") as scratch:
        for number, data in enumerate(DOORS[name].seeds()):
            (Path(scratch) / f"seed{number}").write_bytes(data)
        count, found, said, end = 0, Counter[str](), list[str](), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 3:
            output = _run(name, Path(scratch), keep, left, seed + count)
            count += max((int(a or b) for a, b in _TRIED.findall(output)), default=0)
            fault = _fault(output)
            if fault is not None and fault not in said:
                said.append(fault)
                found[fault.partition(":")[0]] += 1
        return count, found, said


def _run(name: str, corpus: Path, keep: Path, seconds: float, seed: int) -> str:
    options = {
        "max_total_time": int(seconds),
        "timeout": SLOWEST,
        "rss_limit_mb": MEMORY,
        "max_len": 1 << 16,
        "artifact_prefix": f"{keep / name}-",
        "print_final_stats": 1,
        "seed": seed % (1 << 31) or 1,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz.child", name, *(f"-{k}={v}" for k, v in options.items()), str(corpus)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"},
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _fault(output: str) -> str | None:
    """What an output tells of: its kind, the exception, and where in geomedsr or below it was raised."""
    kept = re.search(r"/\w+-(crash|timeout|oom)-\w+", output)
    if kept is None:
        return None
    raised = re.search(r"=== Uncaught Python exception: ===\n(.*)", output)
    lines = re.findall(r'File "[^"]*?((?:geomedsr|benchmarks|site-packages)/[^"]*)", line (\d+)', output)
    where = f" ({lines[-1][0]}:{lines[-1][1]})" if lines else ""
    kind = _KINDS[kept[1]]
    if raised and raised[1].startswith("MemoryError"):
        kind = "memory breaches"
    return f"{kind}: {raised[1][:160] if raised else kept[0][1:]}{where}"


def main() -> int:
    """Prints the table; gives the number of faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for each door")
    parser.add_argument("--door", choices=list(DOORS), action="append")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rows, all_said = [], []
    for name in asked.door or DOORS:
        count, found, said = tried(name, asked.seconds, asked.keep.absolute(), asked.seed)
        rows.append([name, f"{count:,}", *(found[kind] for kind in _KINDS.values())])
        all_said += [f"{name}: {one}" for one in said]
    print(table(["door", "inputs tried", *_KINDS.values()], rows))
    print(*all_said, sep="\n")
    return min(len(all_said), 125)


if __name__ == "__main__":
    sys.exit(main())
