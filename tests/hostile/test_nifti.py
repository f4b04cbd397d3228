"""NIfTI files that mean harm or are broken: one sentence, nothing at the target."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_support import check

from benchmarks.hostile import nifti
from benchmarks.hostile._case import Case, cases_of
from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io.nifti import open_source


@pytest.mark.parametrize("case", cases_of(nifti), ids=lambda case: case.make.__name__)
def test_it_is_refused_or_warned_of(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check(case, tmp_path, monkeypatch, capfd)


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti.image())
    source = open_source(path)
    whole = Box.whole(source.spec.grid.shape)
    assert source.read(whole).any()
    with open(path, "r+b") as file:
        file.truncate(400)
    with pytest.raises(InputError, match="was cut short while it was read"):
        source.read(whole)
