from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geomedsr.errors import GridError, InputError
from geomedsr.grid import Box
from geomedsr.io import geotiff
from geomedsr.io._geotiff_directory import read_directory
from tests.io.raster_support import make, ramp


def refused(path: Path, says: str) -> None:
    """One sentence that names the file."""
    with pytest.raises(InputError, match=says) as caught:
        geotiff.open_source(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def whole(path: Path) -> None:
    source = geotiff.open_source(path)
    source.read(Box.whole(source.spec.grid.shape))


def test_missing_or_no_raster(tmp_path: Path) -> None:
    refused(tmp_path / "none.tif", "There is no file")
    (tmp_path / "folder.tif").mkdir()
    refused(tmp_path / "folder.tif", "is a folder")
    for name in ("text.tif", "text.jp2", "text.vrt"):
        (tmp_path / name).write_text("this is a letter to a friend, not a raster")
        refused(tmp_path / name, "is not a")
    (tmp_path / "empty.tif").touch()
    refused(tmp_path / "empty.tif", "is empty")


@pytest.mark.parametrize("big", ["NO", "YES"])
@pytest.mark.parametrize("tiled", [True, False])
def test_cut_anywhere_it_is_refused(tmp_path: Path, big: str, tiled: bool) -> None:
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
    path = make(tmp_path / "whole.tif", ramp(2, 40, 40, "uint16"), nodata=7, bigtiff=big, compress="deflate", **options)
    whole(path)
    data = path.read_bytes()
    for size in [*range(0, min(700, len(data)), 7), *range(700, len(data), 101), len(data) - 1]:
        (tmp_path / "cut.tif").write_bytes(data[:size])
        with pytest.raises(InputError):
            whole(tmp_path / "cut.tif")


def test_a_damaged_block_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.tif", ramp(1, 64, 64, "uint16"), compress="deflate", tiled=True, blockxsize=64, blockysize=64
    )
    data = bytearray(path.read_bytes())
    middle = int(read_directory(path).offsets[0]) + 100
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    source = geotiff.open_source(path)
    with pytest.raises(InputError) as caught:
        source.read(Box.whole((64, 64)))
    damage = r".*a\.tif cannot be read in its voxels \(0, 0\) to \(64, 64\): ZIPDecode:[^.]+\."
    assert re.fullmatch(damage, str(caught.value))


def test_a_header_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", ramp(1, 8, 8, "uint8"))
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * i
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            struct.pack_into("<HI I", data, at + 2, 4, 1, 100_000)
    path.write_bytes(data)
    refused(path, "damaged")


def test_complex_values_are_refused(tmp_path: Path) -> None:
    refused(make(tmp_path / "a.tif", np.ones((1, 4, 4), np.complex64)), "complex64")


@pytest.mark.parametrize("scale", [0.0, np.nan, np.inf])
def test_a_scale_that_cannot_be_undone_is_refused(tmp_path: Path, scale: float) -> None:
    refused(make(tmp_path / "a.tif", ramp(1, 4, 4, "uint8"), lambda d: setattr(d, "scales", (scale,))), "scale")


def test_many_images_in_one_file_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", ramp(1, 4, 4, "uint8"))
    rasterio.shutil.copy(path, tmp_path / "b.tif", driver="GTiff")
    rasterio.shutil.copy(path, tmp_path / "b.tif", driver="GTiff", APPEND_SUBDATASET="YES")
    refused(tmp_path / "b.tif", "2 images")


def test_a_singular_transform_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", ramp(1, 4, 4, "uint8"), transform=rasterio.Affine(1, 2, 5, 1, 2, 5))
    refused(path, "singular")


def test_a_box_outside_is_refused(tmp_path: Path) -> None:
    source = geotiff.open_source(make(tmp_path / "a.tif", ramp(1, 4, 4, "uint8")))
    with pytest.raises(GridError, match="not inside"):
        source.read(Box((0, 0), (5, 4)))


def test_nothing_is_said_on_stderr(tmp_path: Path) -> None:
    make(tmp_path / "a.tif", ramp(1, 40, 40, "uint16"), placed=False, compress="deflate")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:-400] + bytes(400))
    program = """
import sys
from pathlib import Path
from geomedsr.errors import InputError
from geomedsr.grid import Box
from geomedsr.io import geotiff
try:
    geotiff.open_source(Path(sys.argv[1])).read(Box.whole((40, 40)))
except InputError as error:
    sys.stdout.write(f"refused: {error}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.tif")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused: ")
    assert done.stderr == ""


class TestJpeg2000:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        source = make(tmp_path / "a.tif", ramp(1, 64, 80, "uint16"))
        rasterio.shutil.copy(source, tmp_path / "a.jp2", driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100")
        return tmp_path / "a.jp2"

    def test_it_is_read(self, path: Path) -> None:
        source = geotiff.open_source(path)
        np.testing.assert_array_equal(source.read(Box.whole((64, 80))), ramp(1, 64, 80, "float32"))
        assert source.spec.grid.spacing == (10.0, 10.0)

    def test_cut_anywhere_it_is_refused(self, path: Path) -> None:
        data = path.read_bytes()
        for size in (0, 10, 40, 100, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:size])
            with pytest.raises(InputError, match=r"a\.jp2"):
                whole(path)


class TestVirtual:
    def virtual(self, path: Path, source: str, relative: str = "1", band: str = "", root: str = "") -> Path:
        path.write_text(
            f"""<VRTDataset rasterXSize="8" rasterYSize="6" {root}><VRTRasterBand dataType="Byte" band="1" {band}>
            <Metadata><MDI key="k">v</MDI></Metadata>
            <SimpleSource><SourceFilename relativeToVRT="{relative}" shared="0">{source}</SourceFilename>
            <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
        )
        return path

    def test_a_stack_of_files_in_its_folder_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        voxels = ramp(1, 6, 8, "uint8")
        make(tmp_path / "sub" / "a.tif", voxels)
        for relative, name in (("1", "sub/a.tif"), ("0", str(tmp_path / "sub" / "a.tif"))):
            source = geotiff.open_source(self.virtual(tmp_path / "a.vrt", name, relative))
            np.testing.assert_array_equal(source.read(Box.whole((6, 8))), voxels)

    @pytest.mark.parametrize(
        ("source", "relative", "says"),
        [
            ("gone.tif", "1", "not a file"),
            ("../outside.tif", "1", "outside its own folder"),
            ("link.tif", "1", "outside its own folder"),
            ("/etc/passwd", "0", "outside its own folder"),
            ("a.tif", "0", "not a file"),
            ("notes.txt", "1", "only .tif"),
            ("http://127.0.0.1:9/a.tif", "0", "not a file"),
            ("/vsicurl/http://127.0.0.1:9/a.tif", "0", "not a file"),
            ("/vsizip/a.zip/a.tif", "0", "not a file"),
            ("GTIFF_DIR:1:a.tif", "1", "not a file"),
            ("text.tif", "1", "not a TIFF"),
            ("a.tif", "yes", "form that is not read"),
        ],
    )
    def test_other_sources_are_refused(self, tmp_path: Path, source: str, relative: str, says: str) -> None:
        home = tmp_path / "home"
        home.mkdir()
        make(home / "a.tif", ramp(1, 6, 8, "uint8"))
        make(tmp_path / "outside.tif", ramp(1, 6, 8, "uint8"))
        (home / "link.tif").symlink_to(tmp_path / "outside.tif")
        (home / "notes.txt").write_text("secret")
        (home / "text.tif").write_text("secret" * 20)
        with pytest.raises(InputError, match=says):
            geotiff.open_source(self.virtual(home / "a.vrt", source, relative))

    @pytest.mark.parametrize(
        ("band", "root"),
        [
            ('subClass="VRTRawRasterBand"', ""),
            ('subClass="VRTDerivedRasterBand"', ""),
            ('SUBCLASS="VRTRawRasterBand"', ""),
            ("", 'subClass="VRTWarpedDataset"'),
            ("", 'subclass="VRTPansharpenedDataset"'),
        ],
    )
    def test_other_kinds_are_refused(self, tmp_path: Path, band: str, root: str) -> None:
        make(tmp_path / "a.tif", ramp(1, 6, 8, "uint8"))
        refused(self.virtual(tmp_path / "a.vrt", "a.tif", band=band, root=root), "virtual raster")

    @pytest.mark.parametrize(
        "text",
        [
            "<VRTDataset rasterXSize='8' rasterYSize='6'></VRTDataset>",
            "<VRTDataset rasterXSize='8' rasterYSize='6'><Group name='/'/></VRTDataset>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><VRTDataset/>",
            "<VRTDataset><VRTRasterBand><PixelFunctionType>x</PixelFunctionType></VRTRasterBand></VRTDataset>",
            "<VRTDataset",
            "<WMS_GDAL/>",
        ],
    )
    def test_what_is_no_plain_stack_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.vrt").write_text(text)
        refused(tmp_path / "a.vrt", "virtual raster")

    def test_a_virtual_raster_under_another_name_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path / "a.tif", ramp(1, 6, 8, "uint8"))
        refused(self.virtual(tmp_path / "b.tif", "a.tif"), "not a TIFF")
        with pytest.raises(InputError, match="not a TIFF"):
            geotiff.open_source(self.virtual(tmp_path / "c.vrt", "b.tif"))


WRITER = """
import resource, sys
from pathlib import Path
import numpy as np
from geomedsr.errors import WriteFailedError
from geomedsr.grid import Box, Grid
from geomedsr.image import ImageSpec
from geomedsr.io import geotiff

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
options = dict(item.split("=") for item in sys.argv[3:])
spec = ImageSpec(Grid.plain((512, 512)), ("a",), np.dtype("uint16"))
noise = np.random.default_rng(0).integers(0, 60000, (1, 512, 512)).astype("float32")
sink = geotiff.create_sink(Path(sys.argv[1]), spec, {"BLOCKSIZE": "128", **options})
try:
    for box in Box.whole((512, 512)).split((128, 128)):
        sink.write(box, noise[(slice(None), *box.slices)])
    sink.commit()
except WriteFailedError as error:
    sys.stdout.write(f"failed: {error}")
finally:
    sink.abort()
"""


@pytest.mark.parametrize("options", [[], ["FORMAT=COG"]])
@pytest.mark.parametrize("limit", [5_000, 100_000, 524_000])
def test_a_refused_write_is_an_error_and_the_old_file_stays(tmp_path: Path, options: list[str], limit: int) -> None:
    target = tmp_path / "out.tif"
    target.write_bytes(b"the old file")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(target), str(limit), *options], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("failed: ")
    assert "out.tif" in done.stdout
    assert target.read_bytes() == b"the old file"
    assert os.listdir(tmp_path) == ["out.tif"]


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "out.tif").write_bytes(b"the old file")
        done = subprocess.run(
            [sys.executable, "-c", WRITER, str(folder / "out.tif"), "-1"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "disk is full" in done.stdout
        assert os.listdir(folder) == ["out.tif"]
        assert (folder / "out.tif").read_bytes() == b"the old file"
    finally:
        subprocess.run(["umount", str(folder)], check=True)
