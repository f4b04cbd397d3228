"""What a job keeps of its work when it is cut short, and what it throws away."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from job_support import LINEAR, STORED, archive, content, job_folder

from geomedsr.cli import StoppedError, run_command
from geomedsr.errors import InputError, JobError
from geomedsr.grid import Box
from geomedsr.image import Image, ImageSpec, Voxels
from geomedsr.io import format_of
from geomedsr.io._records import FolderRecords
from geomedsr.io._zarr_output import ZarrOutput
from geomedsr.run import job, kept
from geomedsr.run.distributed import Batch, work_on
from geomedsr.run.job_records import clear
from geomedsr.run.library import Silent
from geomedsr.run.planning import Settings, plan
from geomedsr.run.targets import Job as Errand
from geomedsr.run.task_list import manifest_of
from geomedsr.run.worker import _TaskSink, work


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exception ends has nothing to fear from a disk that loses its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("archive") / "in.zarr", (1, 80, 80))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert run_command(command(source, out)) == 0
    return content(out)


def command(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *LINEAR, *STORED, *more]


def stop(arguments: list[str], after: int) -> None:
    """Runs a command that SIGINT ends before its next block is written."""
    put, written = ZarrOutput.put, list[Box]()

    def stopping(self: ZarrOutput, box: Box, stored: Any) -> None:
        if len(written) == after:
            raise StoppedError(signal.SIGINT)
        written.append(box)
        put(self, box, stored)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrOutput, "put", stopping)
        assert run_command(arguments) == 130


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


@pytest.mark.parametrize("after", range(3))
def test_a_restart_that_is_cut_short_leaves_no_holes(
    after: int, source: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    stop(command(source, out), after=4)
    with pytest.MonkeyPatch.context() as patch:
        stop_removing(patch, after)
        assert run_command(command(source, out, "--restart")) == 143
    assert run_command(command(source, out)) == 0
    assert content(out) == whole
    assert not job_folder(out).exists()


def stop_removing(patch: pytest.MonkeyPatch, after: int) -> None:
    """SIGTERM before the next record goes, except locks."""
    remove, removed = FolderRecords.remove, list[str]()

    def stopping(self: FolderRecords, name: str, data: bytes | None = None) -> None:
        if data is None:
            if len(removed) == after:
                raise StoppedError(signal.SIGTERM)
            removed.append(name)
        remove(self, name, data)

    patch.setattr(FolderRecords, "remove", stopping)


def test_what_says_that_blocks_are_done_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = FolderRecords(tmp_path / "job")
    for name in ("begun-0.json", "journal-1-of-1", "journal-a", "manifest.json"):
        records.write(name, b"")
    monkeypatch.setattr(FolderRecords, "clear", raising(StoppedError(signal.SIGTERM)))
    with pytest.raises(StoppedError):
        clear(records)
    assert [name for name in records.names() if name != ".guard"] == ["manifest.json"]


def test_what_is_left_without_a_manifest_is_nobodys(source: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    stop(command(source, out), after=4)
    (job_folder(out) / "manifest.json").unlink()
    (job_folder(out) / "begun-0.json").unlink()
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


def test_what_was_found_wrong_stays_undone(source: Path, whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    stop(command(source, out), after=4)
    objects = sorted(path for path in (job_folder(out) / "image-0" / "out.zarr" / "c").rglob("*") if path.is_file())
    objects[0].write_bytes(objects[0].read_bytes()[:-3] + b"rot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZarrOutput, "put", raising(StoppedError(signal.SIGINT)))
        assert run_command(command(source, out, "--verify")) == 130
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


@pytest.mark.parametrize("is_written", [False, True])
def test_a_block_set_aside_is_invalid_whatever_lies_there(
    is_written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, keep = tmp_path / "in.zarr", tmp_path / "out.zarr", _TaskSink._keep
    made = zarr.create_array(source, shape=(80, 80), chunks=(20, 20), dtype="float32", fill_value=0.0)
    made[...] = 1.0

    def failing(self: Any, task: int, box: Box, stored: Any) -> None:
        if box.start == (64, 0):
            if is_written:
                self._output.put(box, stored)
            raise OSError("the tape is torn.")
        keep(self, task, box, stored)

    monkeypatch.setattr(_TaskSink, "_keep", failing)
    assert run_command(command(source, out, "--finish")) == 0
    voxels = np.asarray(zarr.open_array(out, mode="r")[...])
    assert np.isnan(voxels[64:128, :64]).all()
    assert np.isnan(voxels).sum() == 64 * 64


# Where it is computed


def test_a_job_goes_on_only_on_the_kind_of_device_that_it_was_begun_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    on_cpu, begun_on = command(source, out, "--device", "cpu"), job_folder(out) / "device"
    stop(on_cpu, after=4)
    assert begun_on.read_text() == "cpu"
    begun_on.write_text("mps")
    before = content(job_folder(out) / "image-0")
    assert run_command(on_cpu) == 2
    assert "was computed on mps, and this run has cpu" in capsys.readouterr().err
    assert content(job_folder(out) / "image-0") == before
    begun_on.write_text("cpu")
    assert run_command(on_cpu) == 0


def test_a_worker_on_another_kind_of_device_does_no_work(source: Path, tmp_path: Path) -> None:
    settings = Settings("linear", scale=(2,), device="cpu")
    made = [plan(Errand(source, tmp_path / "out.zarr"), settings)]
    begun = job.Job(made, tmp_path / "out.zarr", settings, job.Ways())
    begun.open()
    assignment = replace(begun.begin(0, Silent()), device="cuda")
    with pytest.raises(JobError, match=r"is computed on cuda, and .* has cpu, which gives other bits"):
        work(assignment, begun.left(0), begun.heard)
    begun.close()
    assert list(tmp_path.iterdir()) == []


# What tells an input from a changed one


def identity(source: Path) -> str:
    settings = Settings("linear", scale=(2,))
    return manifest_of([plan(Errand(source, source.with_name("out.zarr")), settings)], settings).entries[0].identity


def test_the_voxels_of_a_pair_are_part_of_the_input(tmp_path: Path) -> None:
    image = Image.of(np.ones((1, 8, 8, 8), np.float32))
    image_to(tmp_path / "a.hdr", image.spec, image.voxels)
    before = identity(tmp_path / "a.hdr")
    assert identity(tmp_path / "a.hdr") == before
    os.utime(tmp_path / "a.img", ns=(1, 1))
    assert identity(tmp_path / "a.hdr") != before


def test_the_arrays_of_a_group_are_part_of_the_input(tmp_path: Path) -> None:
    image = Image.of(np.ones((1, 8, 8), np.float32))
    image_to(tmp_path / "a.zarr", image.spec, image.voxels, layout="ome")
    before = identity(tmp_path / "a.zarr")
    assert identity(tmp_path / "a.zarr") == before
    told = json.loads((tmp_path / "a.zarr" / "0" / "zarr.json").read_text())
    (tmp_path / "a.zarr" / "0" / "zarr.json").write_text(json.dumps({**told, "attributes": {"a": "new one"}}))
    assert identity(tmp_path / "a.zarr") != before


def image_to(path: Path, spec: ImageSpec, voxels: Voxels, **options: str) -> None:
    sink = format_of(path).create_sink(path, spec, options)
    sink.write(Box.whole(spec.grid.shape), voxels)
    sink.commit()


def test_a_worker_plans_and_opens_an_image_once_for_all_its_batches(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings("linear", scale=(2,), device="cpu", tile=(16,), options={"chunks": "16", "shards": "32"})
    out, called = tmp_path / "out.zarr", list[str]()
    begun = job.Job([plan(Errand(source, out), settings)], out, settings, job.Ways())
    begun.open()
    assignment = begun.begin(0, Silent())
    for name in ("plan", "open_planned"):
        function = getattr(kept, name)
        monkeypatch.setattr(kept, name, lambda *them, f=function, n=name: called.append(n) or f(*them))
    monkeypatch.setattr(kept, "_plan", None)
    tasks = list(begun.left(0))
    done = [result for task in tasks for result in work_on(Batch(assignment, (task,))).results]
    assert [(result.task, result.why) for result in done] == [(task, None) for task in tasks]
    assert len(tasks) > 1
    assert called == ["plan", "open_planned"]
    begun.close()
