"""NIfTI files that mean harm or are broken: one sentence, nothing at the target."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_support import check

from benchmarks.hostile import nifti
from benchmarks.hostile._case import Case, cases_of


@pytest.mark.parametrize("case", cases_of(nifti), ids=lambda case: case.make.__name__)
def test_it_is_refused_or_warned_of(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check(case, tmp_path, monkeypatch, capfd)
