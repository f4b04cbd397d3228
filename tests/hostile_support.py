"""What the tests with hostile files share: a case is made, run in this process, and held to what it must say."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.hostile._case import Case, Outcome
from geomedsr.cli import run_command

SLOWEST = 20.0


def check(case: Case, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Outcome:
    """What the program does with a case, after making sure that it is what it should do, in time."""
    patch.chdir(folder)
    made = case.make(folder)
    if not isinstance(made, Outcome):
        began = time.perf_counter()
        code = run_command(made)
        made = Outcome(made, code, capture.readouterr().err, time.perf_counter() - began)
    assert case.wrong(made, folder) == [], made.said
    assert made.seconds < SLOWEST
    return made
