"""Jobs: whatever ends one, and however it is run, the same command gives the same bytes."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from job_support import LINEAR, PLACES, STORED, archive, beside, content, job_folder, run_and_die

import geomedsr
from geomedsr.cli import StoppedError, run_command
from geomedsr.errors import WriteFailedError
from geomedsr.grid import Box
from geomedsr.inference.lock import Owner
from geomedsr.io import format_of
from geomedsr.io._records import FolderRecords
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.io.zarr_archive import ZarrSource
from geomedsr.run.provenance import read_provenance


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SIGKILL ends has nothing to fear from a disk that loses its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("archive") / "in.zarr")


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert run_command(command(source, out)) == 0
    return content(out)


def command(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *LINEAR, *STORED, *more]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


# Resume


@pytest.mark.parametrize("where", [place for place in PLACES if place != "after a file"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    where: str, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    for count in (1, 3) if where in ("before a write", "in an object", "in a line") else (1,):
        assert run_and_die(command(source, out), where, count) == -9
        assert out.exists() == (where == "after the placing")
    assert run_command(command(source, out)) == 0
    assert content(out) == whole
    assert not job_folder(out).exists()


def test_what_is_done_is_not_done_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    run_and_die(command(source, out), "before a write", 5)
    assert run_command([*command(source, out), "--status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["done"], status["complete"], status["writers"]) == (4, 0, [])
    written = counted(monkeypatch)
    assert run_command([word for word in command(source, out) if word != "-q"]) == 0
    assert len(written) == status["left"]
    assert f"4 of {4 + status['left']} blocks are done" in said(capsys)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    boxes: list[Box] = []
    put = ZarrOutput.put

    def counting(self: ZarrOutput, box: Box, voxels: Any) -> None:
        boxes.append(box)
        put(self, box, voxels)

    monkeypatch.setattr(ZarrOutput, "put", counting)
    return boxes


def test_an_old_output_stays_until_the_new_one_is_complete(source: Path, tmp_path: Path) -> None:
    out = archive(tmp_path / "out.zarr", (8, 8, 8))
    before = content(out)
    assert run_command(command(source, out)) == 2
    assert run_and_die(command(source, out, "--overwrite"), "before a write", 4) == -9
    assert content(out) == before
    assert run_command(command(source, out, "--overwrite")) == 0
    assert content(out) != before
    assert os.listdir(tmp_path) == ["out.zarr"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--scale", "3"], "--scale [2], and this run has [3]"),
        (["-m", "cubic"], "model linear, and this run has cubic"),
        (["--dtype", "float32"], "--dtype nothing, and this run has float32"),
        (["--co", "chunks=8"], "--co"),
        (["--backend", "torch"], "--backend auto, and this run has torch"),
    ],
)
def test_another_choice_refuses_to_go_on_and_says_which(
    changed: list[str], named: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    run_and_die(command(source, out), "before a write", 3)
    before = content(job_folder(out))
    assert run_command(command(source, out, *changed)) == 2
    assert named in said(capsys)
    assert {name: sha for name, sha in content(job_folder(out)).items() if "lock" not in name} == {
        name: sha for name, sha in before.items() if "lock" not in name
    }
    assert run_command(command(source, out, *changed, "--restart")) == 0


def test_a_changed_input_refuses_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = archive(tmp_path / "in.zarr"), tmp_path / "out.zarr"
    run_and_die(command(source, out), "before a write", 3)
    zarr.open_array(source, mode="r+").attrs["changed"] = True
    assert run_command(command(source, out)) == 2
    assert f"had the input {source}" in said(capsys)


def test_a_changed_model_refuses_to_go_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    run_and_die(command(source, out), "before a write", 3)
    monkeypatch.setattr("geomedsr.run.task_list.fingerprint", lambda model: "another")
    assert run_command(command(source, out)) == 2
    assert "the weights" in said(capsys)


def test_a_manifest_that_is_none_is_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    job_folder(out).mkdir()
    (job_folder(out) / "manifest.json").write_text("{}")
    assert run_command(command(source, out)) == 2
    assert "holds no job that can be taken up" in said(capsys)
    assert run_command(command(source, out, "--restart")) == 0


def test_a_block_that_rotted_is_found_and_done_again(source: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    run_and_die(command(source, out), "before a write", 5)
    objects = sorted(path for path in (job_folder(out) / "image-0" / "out.zarr" / "c").rglob("*") if path.is_file())
    objects[0].write_bytes(objects[0].read_bytes()[:-3] + b"rot")
    assert run_command(command(source, out, "--verify")) == 0
    assert content(out) == whole


def test_an_interrupted_run_says_how_to_go_on(
    source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, after=4)
        assert run_command(command(source, out)) == 130
    assert "interrupted; 4 of 20 blocks are done: the same command goes on" in said(capsys)
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


def test_a_sidecar_comes_with_an_output_that_was_taken_up_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    assert run_and_die(command(source, out, "--sidecar"), "before a write", 3) == -9
    assert not (tmp_path / "out.json").exists()
    assert run_command(command(source, out, "--sidecar")) == 0
    told = json.loads((tmp_path / "out.json").read_text())["Provenance"]
    assert told == read_provenance(geomedsr.open_image(out).spec.provenance)


def test_a_job_takes_the_same_glance_as_a_file(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for out in (tmp_path / "out.zarr", tmp_path / "out.tif"):
        assert run_command([word for word in command(source, out)[:-4] if word != "-q"]) == 0
        lines.append(said(capsys).split("voxel, ", 1)[1])
    assert lines[0] == lines[1]
    assert "coarse again within" in lines[0]


def test_an_output_that_looks_wrong_is_told_of_in_a_job(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ZarrOutput.stored
    monkeypatch.setattr(ZarrOutput, "stored", lambda self, voxels: stored(self, voxels[..., ::-1]))
    assert run_command(command(source, tmp_path / "out.zarr", "--json")) == 0
    told = capsys.readouterr()
    assert "hold it against its input with geomedsr verify" in told.err
    assert "hold it against its input" in json.loads(told.out)["warnings"][0]


def test_an_output_that_was_complete_is_reported_not_made_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    choices: dict[str, Any] = {"scale": 2, "options": {"chunks": "16", "shards": "32"}, "tile": 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomedsr.run.job.clear", lambda records: None)  # ended just before
        assert geomedsr.upscale(source, out, "linear", **choices).status == "done"
    assert job_folder(out).exists()
    assert geomedsr.upscale(source, out, "linear", **choices).status == "skipped"
    assert not job_folder(out).exists()


def test_choices_that_no_job_can_have_are_refused_in_a_dry_run(source: Path, tmp_path: Path) -> None:
    for choice in (["--precision", "auto"], ["--precision", "bf16"], ["--part", "1/2", "--consistent"]):
        assert run_command(command(source, tmp_path / "out.zarr", "--dry-run", *choice)) == 2
    assert run_command(command(source, tmp_path / "out.zarr", "--dask", "local:2", "--part", "1/2")) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_put_there_meanwhile_is_not_replaced(
    source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, finish = tmp_path / "out.zarr", ZarrOutput.finish
    other = archive(tmp_path / "other.zarr", (8, 8, 8))

    def slow(self: ZarrOutput) -> None:
        finish(self)
        other.rename(out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrOutput, "finish", slow)
        assert run_command(command(source, out)) == 2
    assert "was made by somebody else meanwhile" in said(capsys)
    theirs = content(out)
    assert run_command(command(source, out)) == 2
    assert content(out) == theirs
    out.rename(tmp_path / "theirs.zarr")
    assert run_command([*command(source, out), "-q"]) == 0
    assert content(out) == whole


def test_a_run_interrupted_before_its_first_block_leaves_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, after=0)
        assert run_command(command(source, tmp_path / "out.zarr")) == 130
    assert "left nothing behind" in said(capsys)
    assert list(tmp_path.iterdir()) == []


def stop(patch: pytest.MonkeyPatch, after: int) -> None:
    """SIGINT before the next block is written."""
    put, written = ZarrOutput.put, []

    def stopping(self: ZarrOutput, box: Box, voxels: Any) -> None:
        if len(written) == after:
            raise StoppedError(signal.SIGINT)
        written.append(box)
        put(self, box, voxels)

    patch.setattr(ZarrOutput, "put", stopping)


# What fails


def broken(monkeypatch: pytest.MonkeyPatch, corner: int, times: int = 1 << 30) -> None:
    """Boxes that begin below a corner cannot be read, so many times."""
    read, failed = ZarrSource.read, []

    def failing(self: ZarrSource, box: Box) -> Any:
        if box.start == (corner, 0) and len(failed) < times:
            failed.append(box)
            raise OSError("the tape is torn.")
        return read(self, box)

    monkeypatch.setattr(ZarrSource, "read", failing)


def test_a_block_that_fails_is_set_aside_and_the_others_go_on(
    source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        broken(patch, 63)
        assert run_command(command(source, out)) == 4
    message = said(capsys)
    assert "1 of 20 blocks" in message
    assert "the tape is torn" in message
    assert not out.exists()
    assert run_command(command(source, out, "--status")) == 0
    assert "19 blocks done, 0 left, 1 set aside" in capsys.readouterr().out
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


def test_a_block_that_fails_once_is_tried_again(
    source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, 63, times=2)
    assert run_command(command(source, tmp_path / "out.zarr")) == 0
    assert content(tmp_path / "out.zarr") == whole


def test_an_output_with_blocks_set_aside_is_finished_when_asked(tmp_path: Path) -> None:
    source, out = archive(tmp_path / "in.zarr", dtype="float32"), tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        broken(patch, 63)
        assert run_command(command(source, out)) == 4
        assert run_command(command(source, out, "--finish")) == 0
    image = format_of(out).open_source(out)
    voxels = image.read(Box.whole(image.spec.grid.shape))
    assert 0 < np.isnan(voxels).mean() < 0.2
    assert not job_folder(out).exists()


def test_whole_numbers_without_nodata_cannot_be_finished_with_holes(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        broken(patch, 63)
        assert run_command(command(source, tmp_path / "out.zarr", "--finish")) == 4
    assert "has no value that means invalid" in said(capsys)


def test_a_full_disk_stops_cleanly_and_goes_on(
    source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        fill_up(patch, after=4)
        assert run_command(command(source, out)) == 1
    assert "The disk is full" in (message := said(capsys))
    assert "the same command goes on" in message
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


def fill_up(patch: pytest.MonkeyPatch, after: int) -> None:
    put, written = ZarrOutput.put, []

    def filling(self: ZarrOutput, box: Box, voxels: Any) -> None:
        written.append(box)
        if len(written) > after:
            raise WriteFailedError("The disk is full.") from OSError(errno.ENOSPC, "")
        put(self, box, voxels)

    patch.setattr(ZarrOutput, "put", filling)


# Locks


def holder(out: Path, name: str = "lock-1-of-1", **changes: Any) -> Path:
    folder = job_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(asdict(replace(Owner.here(), **changes))))
    return path


def test_two_runs_at_one_output_are_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zarr"
    lock = holder(out)
    assert run_command(command(source, out)) == 2
    message = said(capsys)
    assert f"is being written by process {os.getpid()} on {socket.gethostname()}, which began 0 s ago" in message
    assert "--force-unlock" in message
    assert lock.exists()
    assert run_command(command(source, out, "--force-unlock")) == 0


def test_a_lock_on_another_machine_is_respected_until_forced(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    holder(out, host="elsewhere", pid=1)
    assert run_command(command(source, out)) == 2
    assert run_command(command(source, out, "--force-unlock")) == 0


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"started": 1.0}])
def test_the_lock_of_a_dead_process_is_taken_over(changes: dict[str, Any], source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    holder(out, **changes)
    assert run_command(command(source, out)) == 0
    assert not job_folder(out).exists()


def test_a_run_whose_lock_was_taken_stops(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, written = tmp_path / "out.zarr", counted(monkeypatch)
    monkeypatch.setattr(FolderRecords, "patience", 0.0)
    read = ZarrSource.read

    def robbed(self: ZarrSource, box: Box) -> Any:
        if len(written) >= 2:
            holder(out, pid=1)
        return read(self, box)

    monkeypatch.setattr(ZarrSource, "read", robbed)
    assert run_command(command(source, out)) == 2
    assert "was taken away" in said(capsys)
    assert len(written) < 20
    assert (job_folder(out) / "lock-1-of-1").exists(), "the lock is somebody else's now"


@pytest.mark.parametrize(("theirs", "mine"), [("1-of-2", "1/1"), ("1-of-2", "2/3"), ("1-of-1", "1/2")])
def test_parts_of_different_wholes_are_refused(theirs: str, mine: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    holder(out, f"lock-{theirs}")
    assert run_command(command(source, out, "--part", mine)) == 2


# Parts and clusters


def test_parts_give_the_same_bytes_and_the_last_one_finishes(
    source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    assert run_command(command(source, out, "--part", "2/2")) == 0
    assert not out.exists()
    assert capsys.readouterr().out == ""
    assert run_command(command(source, out, "--part", "1/2")) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert content(out) == whole
    assert not job_folder(out).exists()


def test_parts_at_the_same_time_finish_once(source: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    parts = [beside(command(source, out, "--part", f"{i}/3")) for i in (1, 2, 3)]
    for part in parts:
        part.join(120)
    assert [part.exitcode for part in parts] == [0, 0, 0]
    assert content(out) == whole
    assert not job_folder(out).exists()


@pytest.mark.parametrize("part", ["3/2", "0/2", "half", "1/0"])
def test_a_part_that_cannot_be_is_refused(part: str, source: Path, tmp_path: Path) -> None:
    assert run_command(command(source, tmp_path / "out.zarr", "--part", part)) == 2


def test_status_without_a_job_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["upscale", "x", "-o", str(tmp_path / "out.zarr"), "--status"]) == 2
    assert "No job is under way" in said(capsys)
