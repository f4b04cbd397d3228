"""Zarr stores at URLs: a local S3 server, a plain web server, and fsspec's memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zarr

import geomedsr
from geomedsr.errors import GeomedsrError, InputError, OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec, Voxels
from geomedsr.io import format_of, zarr_archive
from geomedsr.io._zarr_output import ZarrOutput, is_complete
from geomedsr.io.zarr_archive import create_sink, members, open_source
from geomedsr.run.inputs import expand

SPEC = ImageSpec(
    Grid.of((40, 60), np.array([[0.0, 10.0, 5e5], [-10.0, 0.0, 4e6], [0, 0, 1]]), "EPSG:32633", "m"),
    ("red", "nir"),
    np.dtype("uint16"),
    0.0,
)


def values() -> Voxels:
    return np.random.default_rng(0).integers(1, 1000, SPEC.shape).astype(np.float32)


def write(root: Path | str, spec: ImageSpec = SPEC) -> None:
    sink = create_sink(Path(root), spec, {"chunks": "32"})
    sink.write(Box.whole(SPEC.grid.shape), values())
    sink.commit()


def read(root: Path | str) -> Voxels:
    return open_source(Path(root)).read(Box.whole(SPEC.grid.shape))


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket whose server and credentials are told by the environment alone."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "of",
        "AWS_SECRET_ACCESS_KEY": "no-one",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    system = s3fs.S3FileSystem()
    if not system.exists("archive"):
        system.mkdir("archive")
    return "s3://archive"


def test_s3_is_written_and_read(bucket: str) -> None:
    root = f"{bucket}/scene.zarr"
    write(root)
    assert is_complete(root)
    np.testing.assert_array_equal(read(root), values())
    assert open_source(Path(root)).spec.grid == SPEC.grid
    assert [found.path for found in expand([root])] == [Path("s3:/archive/scene.zarr/image")]
    assert format_of(Path(root)) is zarr_archive


def test_an_output_on_s3_is_resumed(bucket: str) -> None:
    root = f"{bucket}/resumed.zarr"
    first = ZarrOutput.create(root, SPEC, {"chunks": "16", "shards": "32"})
    box = Box((0, 0), (32, 60))
    first.write(box, values()[:, :32])
    with pytest.raises(InputError, match=r"s3://archive/resumed\.zarr is not complete"):
        open_source(Path(root))
    second = ZarrOutput.open(root)
    keys = second.object_keys(box)
    assert all(second.read_object(key) for key in keys)
    second.delete_object(keys[0])
    assert second.read_object(keys[0]) is None
    second.write(Box.whole(SPEC.grid.shape), values())
    second.finish()
    np.testing.assert_array_equal(read(root), values())


def test_upscaling_from_s3_to_s3(bucket: str) -> None:
    write(f"{bucket}/a.zarr")
    report = geomedsr.upscale(f"{bucket}/a.zarr", f"{bucket}/b.zarr", "nearest", scale=(2,))
    assert report.status == "done"
    fine = open_source(Path(f"{bucket}/b.zarr"))
    assert fine.spec.grid == SPEC.grid.upscaled((2, 2))
    np.testing.assert_array_equal(fine.read(Box.whole((80, 120)))[:, ::2, 1::2], values())
    with pytest.raises(OutputError, match="exists already"):
        geomedsr.upscale(f"{bucket}/a.zarr", f"{bucket}/b.zarr", "nearest", scale=(2,))


def test_nothing_stays_of_an_output_that_failed(bucket: str) -> None:
    sink = create_sink(Path(f"{bucket}/gone.zarr"), SPEC)
    sink.write(Box((0, 0), (10, 60)), values()[:, :10])
    sink.abort()
    with pytest.raises(InputError, match=r"There is no s3://archive/gone\.zarr"):
        open_source(Path(f"{bucket}/gone.zarr"))


def test_missing_objects_on_s3_are_counted(bucket: str) -> None:
    root = f"{bucket}/holes.zarr"
    output = ZarrOutput.create(root, replace(SPEC, nodata=None), {"chunks": "32"})
    output.write(Box((0, 0), (32, 60)), values()[:, :32])
    output.finish()
    source = open_source(Path(root))
    assert source.spec.extra["notes"] == (
        "4 of the chunks of s3://archive/holes.zarr/image were never written; their voxels are taken as invalid "
        "(docs/zarr.md says how to have them as 0).",
    )
    assert np.isnan(source.read(Box((32, 0), (40, 60)))).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["info", "{there}"], "The zarr metadata of s3://archive/a.zarr cannot be read"),
        (["upscale", "{here}", "-o", "{there}", "-m", "cubic", "--scale", "2"], "a.zarr cannot be reached"),
        (["upscale", "{here}", "-o", "{there}", "--status"], "a.zarr cannot be reached"),
    ],
)
def test_a_server_that_is_not_there_is_one_sentence(
    arguments: list[str], sentence: str, bucket: str, tmp_path: Path
) -> None:
    write(tmp_path / "in.zarr")
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    words = [word.format(here=tmp_path / "in.zarr", there=f"{bucket}/a.zarr") for word in arguments]
    command = [sys.executable, "-m", "geomedsr", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A plain web server over the test's folder, which lists nothing."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

        def list_directory(self, path: object) -> None:
            self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("zarr_format", ["2", "3"])
def test_a_web_server_is_read_by_consolidated_names(tmp_path: Path, web: str, zarr_format: str) -> None:
    sink = create_sink(tmp_path / "a.zarr", SPEC, {"zarr_format": zarr_format})
    sink.write(Box.whole(SPEC.grid.shape), values())
    sink.commit()
    np.testing.assert_array_equal(read(f"{web}/a.zarr"), values())
    np.testing.assert_array_equal(read(f"{web}/a.zarr/image"), values())
    assert [path.name for path in members(Path(f"{web}/a.zarr"))] == ["image"]


def test_a_web_server_without_consolidated_metadata_needs_the_arrays_name(tmp_path: Path, web: str) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("b02", shape=(8, 9), dtype="uint8")[...] = 5
    with pytest.raises(InputError, match="has no consolidated metadata; name the array"):
        open_source(Path(f"{web}/a.zarr"))
    source = open_source(Path(f"{web}/a.zarr/b02"))
    np.testing.assert_array_equal(source.read(Box.whole((8, 9))), np.full((1, 8, 9), 5))


def test_a_missing_object_on_a_web_server_is_invalid(tmp_path: Path, web: str) -> None:
    write(tmp_path / "a.zarr", replace(SPEC, nodata=None))
    (tmp_path / "a.zarr/image/c/0/0/0").unlink()
    voxels = read(f"{web}/a.zarr")
    assert np.isnan(voxels[0, :32, :32]).all()
    assert np.isnan(voxels).sum() == 1024


def test_a_web_server_is_not_written_to(web: str) -> None:
    with pytest.raises(GeomedsrError, match="cannot be written to: a web server only gives"):
        create_sink(Path(f"{web}/b.zarr"), SPEC)


def test_only_zarr_is_read_from_a_url_and_written_to_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"https://example\.org/a\.tif is a URL and no zarr store"):
        expand(["https://example.org/a.tif"])
    write(tmp_path / "a.zarr")
    with pytest.raises(OutputError, match="only zarr is written to one"):
        geomedsr.upscale(tmp_path / "a.zarr", "memory://x/a.tif", "nearest", scale=(2,))
