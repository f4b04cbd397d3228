"""The limits: bombs cost no memory and no time, flags raise each of them, and no file asks a server."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from benchmarks.hostile import geotiff, nifti
from benchmarks.hostile._case import Case, run
from geomedsr.cli import run_command
from geomedsr.errors import GeomedsrError, InputError
from geomedsr.grid import Box
from geomedsr.io import Limits, format_of, limits, within
from geomedsr.io._crs import crs_of
from geomedsr.io._zarr_crs import full_wkt

MEMORY = 700 << 20
"""A run that does nothing but say no has half of this: Python with its libraries."""

SECONDS = 30.0


@pytest.mark.parametrize(
    "case", [nifti.bomb_behind, nifti.bomb_of_voxels, geotiff.deflate_bomb, geotiff.block_bomb], ids=lambda c: c.name
)
def test_a_bomb_takes_neither_memory_nor_time(case: Case, tmp_path: Path) -> None:
    command = case.make(tmp_path)
    assert isinstance(command, tuple)
    outcome = run(command, tmp_path)
    assert case.wrong(outcome, tmp_path) == []
    assert outcome.peak < MEMORY
    assert outcome.seconds < SECONDS


RAISED: dict[str, tuple[Callable[[Path], object], str, Limits, str, Limits]] = {
    "voxels": (nifti.zero_slope.make, "a.nii", Limits(voxels=5000), "--max-voxels 5760", Limits(voxels=5760)),
    "channels": (nifti.many_frames.make, "a.nii", Limits(), "--max-channels 30000", Limits(channels=30000)),
    "unpacked": (nifti.bomb_of_voxels.make, "a.nii.gz", Limits(), "--max-unpacked 9GB", Limits(unpacked=9 * 10**9)),
    "block": (geotiff.block_bomb.make, "a.tif", Limits(), "--max-block 5GB", Limits(block=5 * 10**9)),
    "a raster's voxels": (geotiff.points.make, "a.tif", Limits(voxels=9), "--max-voxels 1920", Limits(voxels=1920)),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_is_said_lets_it_through(name: str, tmp_path: Path) -> None:
    make, file, tight, says, raised = RAISED[name]
    make(tmp_path)
    path = tmp_path / file
    with within(tight), pytest.raises(InputError, match=says):
        format_of(path).open_source(path)
    with within(raised):
        format_of(path).open_source(path).close()
    assert limits() == Limits()


def test_flags_raise_what_they_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nifti.many_frames.make(tmp_path)
    geotiff.outside.make(tmp_path)
    for arguments, flag in (
        (("info", str(tmp_path / "a.nii")), ("--max-channels", "30000")),
        (("info", str(tmp_path / "in" / "v.vrt")), ("--allow-vrt-paths",)),
    ):
        assert run_command(arguments) == 2
        assert run_command((*arguments, *flag)) == 0
        assert limits() == Limits()
    assert flag[0] in capfd.readouterr().err


def test_an_output_has_limits_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    geotiff.raster(Path("a.tif"))
    command = ("upscale", "a.tif", "-o", "out.tif", "-m", "nearest", "--scale", "30000")
    assert run_command(command) == 2
    assert "The output out.tif has 1.73e+12 voxels" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def test_a_dry_run_tells_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    geotiff.raster(Path("a.tif"), dtype="uint16")
    assert run_command(("upscale", "a.tif", "-o", "out.tif", "-m", "nearest", "--scale", "10", "-n")) == 0
    assert "400 x 480 voxels (uint16, 384.0 kB before compression)" in capfd.readouterr().err


def test_what_was_just_written_is_read_however_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    geotiff.raster(Path("a.tif"), lambda dataset: None)
    with rasterio.open("a.tif", "r+") as dataset:
        dataset.write(np.ones((1, 40, 48), "u1"))
    with within(Limits(unpacked=5000)):
        assert run_command(("upscale", "a.tif", "-o", "out.tif", "-m", "nearest", "--scale", "40")) == 0
        assert run_command(("info", "out.tif")) == 2
    assert "--max-unpacked" in capfd.readouterr().err


def test_limits_of_threads_beside_each_other_end_each_by_itself() -> None:
    first, second = within(Limits(channels=1)), within(Limits(channels=2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert limits().channels == 2
    second.__exit__(None, None, None)
    assert limits() == Limits()


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and keeps a list of what was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        super().do_HEAD()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine that serves a folder, and what it was asked."""
    folder = tmp_path / "served"
    folder.mkdir()
    geotiff.raster(folder / "far.tif")
    asked: list[str] = []
    handler = type("Handler", (Quiet,), {"asked": asked})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: handler(*a, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", asked
    serving.shutdown()
    serving.server_close()


def read(path: Path) -> np.ndarray:
    source = format_of(path).open_source(path)
    try:
        return source.read(Box.whole(source.spec.grid.shape))
    finally:
        source.close()


def test_a_server_is_asked_only_where_it_is_allowed(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, asked = server
    geotiff.virtual(tmp_path, f"/vsicurl/{address}/far.tif")
    path = tmp_path / "in" / "v.vrt"
    with pytest.raises(InputError, match="--allow-remote"):
        read(path)
    assert asked == []
    with within(Limits(remote=True)):
        np.testing.assert_array_equal(read(path), geotiff.VOXELS)
    assert asked


@pytest.mark.parametrize("place", ["tag", "overview", "srs", "points"])
def test_no_raster_asks_a_server_by_itself(tmp_path: Path, server: tuple[str, list[str]], place: str) -> None:
    address, asked = server
    path = tmp_path / "a.tif"
    far = f"/vsicurl/{address}/far.tif"
    if place == "tag":
        geotiff.raster(path, lambda d: d.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=far))
    elif place == "overview":
        geotiff.raster(path)
        (tmp_path / "a.tif.ovr").write_text(f"<VRTDataset><SourceFilename>{far}</SourceFilename></VRTDataset>")
    else:
        tag = "<SRS>{}</SRS>" if place == "srs" else '<GCPList Projection="{}"/>'
        geotiff.raster(path, crs=None)
        (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{tag.format(f'{address}/crs.wkt')}</PAMDataset>")
    try:
        read(path)
    except GeomedsrError as error:
        assert place == "overview", error  # noqa: PT017 - the others are read, without what they point to
    assert asked == []


@pytest.mark.parametrize("text", ["{}/crs.wkt", "/vsicurl/{}/crs.wkt", "/etc/passwd", "passwd", "ESRI::/etc/passwd"])
def test_a_crs_is_what_a_file_says_and_not_what_it_leads_to(server: tuple[str, list[str]], text: str) -> None:
    address, asked = server
    with pytest.raises(rasterio.errors.CRSError, match="is not followed"):
        crs_of(text.format(address))
    assert full_wkt(text.format(address)) is None
    assert asked == []


@pytest.mark.parametrize(
    "text",
    ["EPSG:32633", "urn:ogc:def:crs:EPSG::32633", "http://www.opengis.net/def/crs/EPSG/0/32633", "+proj=utm +zone=33"],
)
def test_a_crs_may_be_told_in_many_ways(text: str) -> None:
    assert crs_of(text).is_projected
    assert crs_of(crs_of(text).to_wkt()) == crs_of(text)


def test_limits_travel_with_an_assignment() -> None:
    from geomedsr.run.worker import Assignment

    made = {
        field: None for field in Assignment.__dataclass_fields__ if field not in ("limits", "intensity", "is_fresh")
    }
    with within(Limits(channels=5)):
        sent = pickle.dumps(Assignment(**made))  # type: ignore[arg-type]
    assert pickle.loads(sent).limits == Limits(channels=5)  # noqa: S301 - our own
