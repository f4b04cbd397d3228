"""Jobs of several outputs, what is said of each, and what is made where a job has been."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from job_support import LINEAR, STORED, archive, content, job_folder, run_and_die

from geomedsr.cli import run_command
from geomedsr.image import ImageSpec
from geomedsr.inference.lock import Owner
from geomedsr.run import job
from geomedsr.run.check import Checked, check_output
from geomedsr.run.inputs import told


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SIGKILL ends has nothing to fear from a disk that loses its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    folder = tmp_path / "scenes"
    folder.mkdir()
    for name in ("a", "b", "c"):
        archive(folder / f"{name}.zarr", (1, 40, 40))
    return folder


def command(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *LINEAR, *STORED, *more]


def reports(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("where", [(), ("--dask", "local:1")])
def test_an_output_that_comes_out_wrong_stops_no_other(
    where: tuple[str, ...], scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fine"

    def suspicious(target: Path, promised: ImageSpec, *more: Any, name: Path | None = None, **named: Any) -> Checked:
        if name is not None and name.name == "b.zarr":
            promised = replace(promised, nodata=7.0)
        return check_output(target, promised, *more, name=name, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "check_output", suspicious)
        assert run_command(command(scenes, out, "--json", *where)) == 4
    named = {Path(one["output"]).name: one for one in reports(capsys)}
    assert {name: one["status"] for name, one in named.items()} == {
        "a.zarr": "done",
        "b.zarr": "failed",
        "c.zarr": "done",
    }
    failed = named["b.zarr"]
    assert "its nodata is none, not 7. It lies in" in failed["error"]
    assert "--restart" in failed["error"]
    assert not Path(failed["output"]).exists()
    assert run_command(command(scenes, out, "--json", *where)) == 0
    assert sorted(one["status"] for one in reports(capsys)) == ["done", "skipped", "skipped"]
    assert sorted(path.name for path in out.iterdir()) == ["a.zarr", "b.zarr", "c.zarr"]


def test_a_report_says_what_a_job_ran_with(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for more in ((), ("--dask", "local:1"), ("--precision", "bf16", "--backend", "torch")):
        assert run_command(command(scenes / "a.zarr", tmp_path / "out.zarr", "--json", "--overwrite", *more)) == 0
        (one,) = reports(capsys)
        found.append((one["device"], one["backend"], one["precision"], one["speedup"]))
    assert found == [("cpu", "torch", "float32", None)] * 2 + [("cpu", "torch", "bf16", None)]


def test_an_image_in_an_archive_is_told_with_it(scenes: Path) -> None:
    assert [told(scenes / name) for name in ("x.tif", "a.zarr", "b.zarr/r20m")] == ["x.tif", "a.zarr", "b.zarr/r20m"]


# What is made where a job has been


@pytest.fixture
def unfinished(tmp_path: Path) -> tuple[Path, Path]:
    source, out = archive(tmp_path / "in.zarr", dtype="float32"), tmp_path / "out.zarr"
    assert run_and_die(command(source, out), "before a write", 5) != 0
    assert job_folder(out).exists()
    return source, out


def consistent(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), "-m", "linear", "--scale", "2", "-q", "--consistent", *more]


def test_an_unfinished_job_is_in_the_way_of_another_output(
    unfinished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = unfinished
    assert run_command(consistent(source, out)) == 2
    said = capsys.readouterr().err
    assert "made by an unfinished job, of which 4 of 20 blocks are done" in said
    assert "--restart" in said
    assert not out.exists()
    assert run_command(command(source, out)) == 0, "it was left as it was"


def test_an_unfinished_job_is_thrown_away_when_asked(unfinished: tuple[Path, Path]) -> None:
    source, out = unfinished
    assert run_command(consistent(source, out, "--restart", "--dry-run")) == 0
    assert job_folder(out).exists()
    assert run_command(consistent(source, out, "--restart")) == 0
    assert out.exists()
    assert not job_folder(out).exists()


def test_a_job_under_way_is_not_thrown_away(unfinished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, out = unfinished
    (job_folder(out) / "lock-2-of-2").write_text(json.dumps({**vars_of(Owner.here()), "host": "elsewhere"}))
    assert run_command(consistent(source, out, "--restart")) == 2
    assert "is being written by process" in capsys.readouterr().err
    assert not out.exists()
    assert (job_folder(out) / "manifest.json").exists()


def vars_of(owner: Owner) -> dict[str, Any]:
    return {name: getattr(owner, name) for name in Owner.__slots__}


def test_a_job_of_other_outputs_is_not_in_the_way(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "fine"
    assert run_and_die(command(scenes, out), "before a write", 2) != 0
    whole = content(out)
    other = archive(tmp_path / "d.zarr", (1, 40, 40), dtype="float32")
    assert run_command(consistent(other, out / "a.zarr")) == 2, "that is one of its own"
    (tmp_path / "more").mkdir()
    other.rename(tmp_path / "more" / "d.zarr")
    assert run_command(consistent(tmp_path / "more", out)) == 0
    assert content(out / "d.zarr")
    assert {name: sum_ for name, sum_ in content(out).items() if not name.startswith("d.zarr")} == whole
