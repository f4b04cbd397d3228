"""What archives cost, and what they survive. Each subcommand is one claim, and prints its figures.

    python -m benchmarks.archive kill          ten SIGKILLs, main process and workers: the bytes of a quiet run
    python -m benchmarks.archive same          in process, two workers, two parts: the same bytes
    python -m benchmarks.archive wall          wall time over bare forward passes, in process (--size 1536: 3 minutes)
    python -m benchmarks.archive workers       the same on two workers (--size 3072: 5 minutes)
    python -m benchmarks.archive memory        peak memory of each process, for an archive and one of 4 times the pixels
    python -m benchmarks.archive coordinator   100,000 tasks that do nothing: ms a task, MB
    python -m benchmarks.archive s3            a job on a local S3 server, killed and taken up again

`--size` is the length of the archive's sides, 4 bands of uint16. Scratch goes below `--scratch`.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path

from benchmarks.archive import costs, survival


def main() -> None:
    """Runs one claim."""
    survived, paid = (survival.kill, survival.same, survival.s3), (costs.wall, costs.workers, costs.memory)
    claims = {one.__name__: one for one in (*survived, *paid, costs.coordinator)}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.archive", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
