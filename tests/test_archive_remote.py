"""A job from an object store to an object store, killed and taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_support import LINEAR, STORED, archive, run_and_die

from geomedsr.cli import run_command
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io import format_of
from geomedsr.io._records import RemoteRecords
from geomedsr.run import job
from geomedsr.run.check import Checked, check_output


@pytest.fixture(scope="module")
def bucket(s3_server: str) -> Iterator[str]:
    """A bucket on a local server, whose address and credentials the environment tells."""
    import s3fs

    said = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "of",
        "AWS_SECRET_ACCESS_KEY": "no-one",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in said.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("jobs")
        yield "s3://jobs"


def command(source: str, out: str, *more: str) -> list[str]:
    return ["upscale", source, "-o", out, *LINEAR, *STORED, *more]


def voxels(path: str) -> Voxels:
    source = format_of(Path(path)).open_source(Path(path))
    return source.read(Box.whole(source.spec.grid.shape))


def names(folder: str) -> list[str]:
    import s3fs

    return sorted(s3fs.S3FileSystem(use_listings_cache=False).find(folder))


def test_a_killed_job_on_s3_goes_on(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = archive(tmp_path / "in.zarr")
    source, out = f"{bucket}/in.zarr", f"{bucket}/out.zarr"
    put(local, source)
    assert run_command(command(str(local), str(tmp_path / "out.zarr"))) == 0
    assert run_and_die(command(source, out), "before a write", 6) == -9
    assert run_command(command(source, out, "--status")) == 0
    assert "5 blocks done, 15 left" in capsys.readouterr().out
    with pytest.raises(Exception, match="is not complete"):
        voxels(out)
    assert run_command([word for word in command(source, out) if word != "-q"]) == 0
    assert "5 of 20 blocks are done" in capsys.readouterr().err
    np.testing.assert_array_equal(voxels(out), voxels(str(tmp_path / "out.zarr")))
    assert not [name for name in names(bucket) if "geomedsr-job" in name]
    before = names(bucket)
    assert run_command(command(source, out)) == 2
    assert "exists already" in capsys.readouterr().err
    assert names(bucket) == before


def test_an_output_that_comes_out_wrong_leaves_nothing_on_s3(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, out = archive(tmp_path / "in.zarr", (1, 40, 40)), f"{bucket}/wrong.zarr"
    before = names(bucket)

    def suspicious(target: Path, promised: ImageSpec, *more: Any, **named: Any) -> Checked:
        return check_output(target, replace(promised, nodata=7.0), *more, **named)

    monkeypatch.setattr(job, "check_output", suspicious)
    assert run_command(command(str(local), out)) != 0
    assert names(bucket) == before


def put(local: Path, url: str) -> None:
    import s3fs

    s3fs.S3FileSystem().put(str(local), url, recursive=True)


def test_a_job_on_s3_that_is_begun_anew_leaves_nothing_of_the_old_one(bucket: str, tmp_path: Path) -> None:
    local, out = archive(tmp_path / "in.zarr", (1, 60, 60)), f"{bucket}/anew.zarr"
    assert run_and_die(command(str(local), out), "before a write", 3) == -9
    assert run_command(command(str(local), out, "--co", "chunks=32")) == 2
    assert run_command(command(str(local), out, "--co", "chunks=32", "--restart")) == 0
    assert run_command(command(str(local), str(tmp_path / "out.zarr"), "--co", "chunks=32")) == 0
    there = {name.split("anew.zarr/")[1] for name in names(out)}
    assert there == {
        str(path.relative_to(tmp_path / "out.zarr")) for path in (tmp_path / "out.zarr").rglob("*") if path.is_file()
    }


def test_of_two_who_create_an_object_one_succeeds(bucket: str) -> None:
    records = RemoteRecords(Path(f"{bucket}/records"))
    assert records.create("lock", b"mine")
    assert not records.create("lock", b"theirs")
    records.remove("lock", b"theirs")
    assert records.read("lock") == b"mine"
    records.append("journal-a", b"one\n")
    records.append("journal-a", b"two\n")
    assert [line for name in records.names("journal-") for line in records.lines(name)] == [b"one", b"two"]
    records.clear()
    assert records.names() == []
