"""What a job keeps of its work when it is cut short, and what it throws away."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from job_support import LINEAR, STORED, archive, content, job_folder

from geomedsr.cli import StoppedError, run_command
from geomedsr.errors import InputError
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.run import job


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exception ends has nothing to fear from a disk that loses its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("archive") / "in.zarr", (1, 60, 64))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert run_command(command(source, out)) == 0
    return content(out)


def command(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *LINEAR, *STORED, *more]


def raising(error: BaseException) -> Any:
    def failing(*_: Any, **__: Any) -> Any:
        raise error

    return failing


@pytest.mark.parametrize("error", [StoppedError(signal.SIGTERM), InputError("the disk does not answer.")])
def test_a_check_that_is_cut_short_throws_nothing_away(
    error: BaseException, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "check_output", raising(error))
        assert run_command(command(source, out)) != 0
    assert job_folder(out).exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrOutput, "put", raising(AssertionError("all blocks are done")))
        assert run_command(command(source, out)) == 0
    assert content(out) == whole
