"""Claim: every file is either upscaled right or refused in one sentence; no file runs code or asks the network.

Makes each hostile file, gives it to geomedsr in a process of its own, and prints what it says as a table. A row that
is not as it should be is marked, and counted in the exit code.

    python -m benchmarks.hostile [--only WORD] [--figures]
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import benchmarks.hostile
from benchmarks.hostile._case import Case, Outcome, cases_of, run
from geomedsr.terminal import harmless


def cases(only: str) -> Iterator[tuple[str, Case]]:
    """Each case of the folder's modules, with the module's name."""
    for module in pkgutil.iter_modules(benchmarks.hostile.__path__):
        if not module.name.startswith("_"):
            for case in cases_of(importlib.import_module(f"benchmarks.hostile.{module.name}")):
                if only in f"{module.name} {case.name}":
                    yield module.name, case


def tried(case: Case) -> tuple[Outcome, list[str]]:
    """What geomedsr does with a case, and what of that is wrong."""
    with tempfile.TemporaryDirectory(prefix="hostile") as scratch:
        folder = Path(scratch)
        made = case.make(folder)
        outcome = made if isinstance(made, Outcome) else run(made, folder)
        return outcome, case.wrong(outcome, folder)


def main() -> int:
    """Prints the table; gives the number of surprises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases of this module, or with these words")
    parser.add_argument("--figures", action="store_true", help="also seconds and peak memory")
    arguments = parser.parse_args()
    titles = ["input or fault", "command", "exit code", "sentence", *(["s", "MiB"] if arguments.figures else [])]
    print("| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles), sep="\n")
    surprises = 0
    for _, case in cases(arguments.only):
        outcome, wrong = tried(case)
        surprises += bool(wrong)
        figures = [f"{outcome.seconds:.1f}", f"{outcome.peak >> 20}"] if arguments.figures else []
        command, sentence = f"`{harmless(outcome.line, lines=False)}`", outcome.sentence.replace("|", "\\|")
        cells = [case.name, command, str(outcome.code), sentence, *figures]
        print("| " + " | ".join(cells) + " |" + (f" <- SURPRISE: {'; '.join(wrong)}" if wrong else ""), flush=True)
    print(f"\n{surprises} surprises")
    return min(surprises, 125)


if __name__ == "__main__":
    sys.exit(main())
