"""Stores, weights and lists that mean harm or are broken: one sentence, nothing at the target, no code run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_support import check

import geomedsr.inference.upscaler
import geomedsr.run.command
from benchmarks.hostile import archives, lists, weights
from benchmarks.hostile._case import Case, cases_of

assert geomedsr.inference.upscaler, "loaded, so that the first case has not to wait for it"

CASES = [case for module in (archives, weights, lists) for case in cases_of(module)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__)
def test_it_is_refused_or_warned_of(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check(case, tmp_path, monkeypatch, capfd)
    assert not list(tmp_path.rglob("owned"))
