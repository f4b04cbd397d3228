"""GeoTIFF, JPEG 2000 and virtual rasters: bombs, cut directories, and files that lead elsewhere."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from benchmarks.hostile._case import Command, case, upscale
from geomedsr.io._geotiff_directory import read_directory

VOXELS = np.random.default_rng(0).integers(1, 250, (1, 40, 48)).astype("u1")
PLACE: Mapping[str, Any] = {"crs": "EPSG:32633", "transform": Affine(10, 0, 300000, 0, -10, 5000000)}
_KINDS = {"short": (3, "H"), "long": (4, "I"), "long8": (16, "Q"), "double": (12, "d"), "text": (2, "s")}

Tags = Mapping[int, tuple[str, Any]]


def raster(path: Path, dress: Callable[[Any], object] = lambda d: None, **options: Any) -> Path:  # noqa: ANN401
    """A raster as it should be, with GDAL's options; `dress` writes what else it says."""
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 48, "dtype": "uint8", **PLACE, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile) as dataset:
            dress(dataset)
            dataset.write(VOXELS.repeat(profile["count"], axis=0).astype(profile["dtype"]))
    return path


def tiff(tags: Tags, data: bytes = b"", *, following: int = 0) -> bytes:
    """A BigTIFF of one directory, tag by tag, and data behind it (from byte 4096 on)."""
    entries, far = [], b""
    room = 16 + 8 + 20 * len(tags) + 8
    for tag, (kind, value) in sorted(tags.items()):
        code, letter = _KINDS[kind]
        values = value if isinstance(value, bytes | list | tuple) else [value]
        stored = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{letter}", *values)
        place = stored.ljust(8, b"\0") if len(stored) <= 8 else struct.pack("<Q", room + len(far))
        far += stored if len(stored) > 8 else b""
        entries.append(struct.pack("<HHQ", tag, code, len(values)) + place)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", len(tags)) + b"".join(entries)
    return (head + struct.pack("<Q", following) + far).ljust(4096, b"\0") + data


def shape(rows: int, columns: int, bands: int = 1) -> dict[int, tuple[str, Any]]:
    """The tags of a raster of bytes in one strip, without the strip."""
    tags = {256: ("long", columns), 257: ("long", rows), 258: ("short", 8), 259: ("short", 1), 262: ("short", 1)}
    return {**tags, 277: ("short", bands), 278: ("long", rows), 284: ("short", 1)}


def patched(path: Path, tag: int, change: Callable[[bytearray, int], object]) -> None:
    """Changes the directory entry of a tag (12 bytes of a classic TIFF) in a file."""
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    for number in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * number
        if struct.unpack_from("<H", data, at)[0] == tag:
            change(data, at)
    path.write_bytes(data)


@case(r"is cut short: its directory")
def cut_directory(folder: Path) -> Command:
    """TIFF cut in its directory"""
    path = raster(folder / "a.tif")
    path.write_bytes(path.read_bytes()[:100])
    return upscale("a.tif")


@case(r"its GeoKeys are cut")
def cut_keys(folder: Path) -> Command:
    """TIFF whose GeoKeys are cut"""
    patched(raster(folder / "a.tif"), 34735, lambda data, at: struct.pack_into("<I", data, at + 4, 9))
    return upscale("a.tif")


@case(r"its GeoKeys are cut")
def cut_key_text(folder: Path) -> Command:
    """TIFF whose GeoKeys' text is cut"""
    patched(raster(folder / "a.tif"), 34737, lambda data, at: struct.pack_into("<I", data, at + 4, 5))
    return upscale("a.tif")


@case(r"names a CRS in its GeoKeys, which cannot be read")
def unknown_crs(folder: Path) -> Command:
    """TIFF whose GeoKeys name a CRS that there is not"""
    path = raster(folder / "a.tif")
    path.write_bytes(
        path.read_bytes().replace(struct.pack("<4H", 3072, 0, 1, 32633), struct.pack("<4H", 3072, 0, 1, 9))
    )
    return upscale("a.tif")


@case(r"GDAL warns of a\.tif: .*tags are not sorted", code=0)
def warned_of(folder: Path) -> Command:
    """TIFF that GDAL warns of (its tags are not in order): the warning is passed on"""
    data = bytearray(tiff({**shape(40, 48), 273: ("long8", 4096), 279: ("long8", 1920)}, VOXELS.tobytes()))
    data[24:44], data[44:64] = data[44:64], data[24:44]
    (folder / "a.tif").write_bytes(data)
    return upscale("a.tif")


@case(r"GDAL warns of a\.tif: it names something that is no text", code=0)
def no_text(folder: Path) -> Command:
    """TIFF with bytes that are no text in GDAL's warning of it"""
    path = raster(folder / "a.tif", lambda dataset: dataset.update_tags(key="value"))
    path.write_bytes(path.read_bytes().replace(b"<GDALMetadata>", b"<GDALM\xfftadata>"))
    return upscale("a.tif")


@case(r"has 65535 channels, more than the 10000 allowed")
def many_bands(folder: Path) -> Command:
    """65,535 bands claimed in 4 kB"""
    tags = {**shape(1000, 1000, 65535), 273: ("long8", 4096), 279: ("long8", 0)}
    (folder / "a.tif").write_bytes(tiff(tags))
    return upscale("a.tif")


@case(r"blocks, and it lists|voxels in all channels")
def enormous(folder: Path) -> Command:
    """2^31 x 2^31 voxels, sparse"""
    side = 2**31 - 1
    tags = {**shape(side, side), 273: ("long8", 0), 279: ("long8", 0)}
    (folder / "a.tif").write_bytes(tiff(tags))
    return upscale("a.tif")


@case(r"blocks of 68\.7 GB|claims to unpack")
def sparse(folder: Path) -> Command:
    """2^18 x 2^18 voxels, sparse, in one block"""
    tags = {**shape(2**18, 2**18), 259: ("short", 8), 273: ("long8", 0), 279: ("long8", 0)}
    (folder / "a.tif").write_bytes(tiff(tags))
    return upscale("a.tif")


@case(r"claims to unpack to 17\.2 GB")
def deflate_bomb(folder: Path) -> Command:
    """Deflate bomb: tiles of 1024 x 1024 zeros that all lie in the same kilobyte"""
    packed, count = zlib.compress(bytes(1 << 20), 9), (2**17 // 1024) ** 2
    tags = {
        **shape(2**17, 2**17),
        **{259: ("short", 8), 322: ("short", 1024), 323: ("short", 1024)},
        324: ("long8", [4096 + 16 * count * 2] * count),
        325: ("long8", [len(packed)] * count),
    }
    del tags[278]
    data = tiff(tags)
    (folder / "a.tif").write_bytes(data.ljust(4096 + 16 * count * 2, b"\0") + packed)
    return upscale("a.tif")


@case(r"stored in blocks of 4\.3 GB")
def block_bomb(folder: Path) -> Command:
    """Deflate bomb: one strip of 4 GiB in 4 MB"""
    packed = zlib.compress(bytes(1 << 22), 9) * 1024
    tags = {**shape(2**16, 2**16 - 1), 259: ("short", 8), 273: ("long8", 4096), 279: ("long8", len(packed))}
    (folder / "a.tif").write_bytes(tiff(tags, packed))
    return upscale("a.tif")


@case(r"cannot be read in its voxels .*: .*(premature|Premature|JPEG|libjpeg)")
def damaged_jpeg(folder: Path) -> Command:
    """TIFF of JPEG blocks, one of them damaged, which GDAL only warns of"""
    path = raster(folder / "a.tif", compress="JPEG", tiled=True, blockxsize=16, blockysize=16)
    directory = read_directory(path)
    data, middle = bytearray(path.read_bytes()), int(directory.offsets[4] + directory.counts[4] // 2)
    data[middle : middle + 40] = b"\xff\xd9" + bytes(38)
    path.write_bytes(data)
    return upscale("a.tif")


@case(r"leads back to its beginning")
def circle(folder: Path) -> Command:
    """TIFF whose list of images leads back to its beginning"""
    tags = {**shape(40, 48), 273: ("long8", 4096), 279: ("long8", 1920)}
    (folder / "a.tif").write_bytes(tiff(tags, VOXELS.tobytes(), following=16))
    return upscale("a.tif")


@case(r"holds more than 1000 images")
def chain(folder: Path) -> Command:
    """TIFF of 30,000 images"""
    directory = struct.pack("<QHHQQ", 1, 256, 4, 1, 1)
    first = tiff({**shape(40, 48), 273: ("long8", 4096), 279: ("long8", 1920)}, VOXELS.tobytes(), following=8192)
    step = len(directory) + 8
    places = [8192 + step * (number + 1) for number in range(30000)]
    chained = b"".join(directory + struct.pack("<Q", place) for place in places)
    (folder / "a.tif").write_bytes(first.ljust(8192, b"\0") + chained + directory + bytes(8))
    return upscale("a.tif")


@case(r"has the nodata 'none', which is no number", code=0)
def nodata_text(folder: Path) -> Command:
    """Nodata text "none": a warning, and no voxel is invalid"""
    path = raster(folder / "a.tif", nodata=1234.0, dtype="uint16")
    path.write_bytes(path.read_bytes().replace(b"1234", b"none"))
    return upscale("a.tif")


@case(r"has the nodata -99, which uint8 cannot hold", code=0)
def nodata_outside(folder: Path) -> Command:
    """Nodata -99 in a raster of bytes: a warning, and it is kept apart from all voxels"""
    path = raster(folder / "a.tif", nodata=255.0)
    path.write_bytes(path.read_bytes().replace(b"255\0", b"-99\0"))
    return upscale("a.tif")


@case(r"has a geometry that cannot be|scale or a transform, which cannot be read")
def nan_scale(folder: Path) -> Command:
    """NaN pixel scale"""
    path = raster(folder / "a.tif")
    path.write_bytes(path.read_bytes().replace(struct.pack("<3d", 10, 10, 0), struct.pack("<3d", np.nan, 10, 0)))
    return upscale("a.tif")


@case(r"has a geometry that cannot be: The affine is singular \(spacing \(inf, inf\)\)")
def wild_scale(folder: Path) -> Command:
    """Pixel scale 1e300"""
    raster(folder / "a.tif", transform=Affine(1e300, 1e300, 0, 1e300, -1e300, 0))
    return upscale("a.tif")


@case(r"scale or a transform, which cannot be read|singular")
def zero_scale(folder: Path) -> Command:
    """Pixel scale 0"""
    path = raster(folder / "a.tif")
    path.write_bytes(path.read_bytes().replace(struct.pack("<3d", 10, 10, 0), struct.pack("<3d", 0, 0, 0)))
    return upscale("a.tif")


def virtual(folder: Path, source: str, *, attributes: str = "", kind: str = "", relative: int = 0) -> Command:
    """A virtual raster of one band, and the command that upscales it; a good file is beside it."""
    (folder / "in").mkdir(exist_ok=True)
    raster(folder / "in" / "a.tif")
    raster(folder / "other.tif")
    (folder / "in" / "v.vrt").write_text(
        f"""<VRTDataset rasterXSize="48" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1" {kind}>
        <SimpleSource {attributes}><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>
        <SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    )
    return upscale("in/v.vrt", out="out.tif")


@case(r"asks for <VRTRasterBand> \(VRTRawRasterBand\)")
def raw_band(folder: Path) -> Command:
    """VRT of raw bytes of /etc/passwd"""
    return virtual(folder, "/etc/passwd", kind='subClass="VRTRawRasterBand"')


@case(r"asks for <VRTRasterBand> \(VRTDerivedRasterBand\)")
def derived_band(folder: Path) -> Command:
    """VRT with a function in Python"""
    return virtual(folder, "a.tif", kind='subClass="VRTDerivedRasterBand"', relative=1)


@case(r"is not a TIFF file: it begins with b'<VRT'")
def virtual_as_tiff(folder: Path) -> Command:
    """VRT named .tif"""
    virtual(folder, "other.tif")
    (folder / "in" / "v.vrt").rename(folder / "v.tif")
    return upscale("v.tif")


@case(r"lies outside its own folder .*--allow-vrt-paths")
def outside(folder: Path) -> Command:
    """VRT of a file in another folder"""
    return virtual(folder, "../other.tif", relative=1)


@case(r"check ok", code=0)
def outside_allowed(folder: Path) -> Command:
    """The same with --allow-vrt-paths: read"""
    return (*virtual(folder, "../other.tif", relative=1), "--allow-vrt-paths")


@case(r"lies outside its own folder")
def outside_by_link(folder: Path) -> Command:
    """VRT of a link to a file in another folder"""
    command = virtual(folder, "link.tif", relative=1)
    (folder / "in" / "link.tif").symlink_to(folder / "other.tif")
    return command


@case(r"asks for an attribute SourceFilename")
def outside_by_attribute(folder: Path) -> Command:
    """VRT with a second source in an attribute, which GDAL takes first"""
    return virtual(folder, "a.tif", attributes=f'SourceFilename="{folder / "other.tif"}"', relative=1)


@case(r"is not XML as GDAL writes it")
def outside_by_comment(folder: Path) -> Command:
    """VRT with a comment inside of a name"""
    return virtual(folder, "a<!-- -->.tif", relative=1)


@case(r"only \.tif, \.tiff, \.jp2 are read")
def nested(folder: Path) -> Command:
    """VRT of a VRT"""
    command = virtual(folder, "w.vrt", relative=1)
    (folder / "in" / "w.vrt").write_bytes((folder / "in" / "v.vrt").read_bytes())
    return command


@case(r"not a file on this machine; pass --allow-remote")
def remote(folder: Path) -> Command:
    """VRT of a file at a URL (/vsicurl/)"""
    return virtual(folder, "/vsicurl/http://127.0.0.1:9/a.tif")


@case(r"not a file on this machine; name a raster file")
def remote_by_http(folder: Path) -> Command:
    """VRT of http://..."""
    return virtual(folder, "http://127.0.0.1:9/a.tif")


@case(r"not a file on this machine; name a raster file")
def zipped(folder: Path) -> Command:
    """VRT of /vsizip/..."""
    return virtual(folder, "/vsizip/a.zip/a.tif")


@case(r"is a virtual raster of the kind GDAL_WMS")
def service(folder: Path) -> Command:
    """A WMS description named .vrt"""
    service = '<Service name="TMS"><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service>'
    (folder / "v.vrt").write_text(f"<GDAL_WMS>{service}</GDAL_WMS>")
    return upscale("v.vrt", out="out.tif")


@case(r"a\.tif\.msk is not a TIFF file")
def mask_elsewhere(folder: Path) -> Command:
    """A mask file beside a raster that is a VRT of /etc/passwd"""
    virtual(folder, "/etc/passwd", kind='subClass="VRTRawRasterBand"')
    (folder / "in" / "v.vrt").rename(folder / "in" / "a.tif.msk")
    return upscale("in/a.tif", out="out.tif")


@case(r"a\.tif\.msk is a link out of the folder")
def mask_by_link(folder: Path) -> Command:
    """A mask file beside a raster that is a link to another folder"""
    (folder / "in").mkdir()
    raster(folder / "in" / "a.tif")
    (folder / "in" / "a.tif.msk").symlink_to(raster(folder / "other.tif"))
    return upscale("in/a.tif", out="out.tif")


@case(r"would be read along with a\.tif, and is not a file")
def mask_pipe(folder: Path) -> Command:
    """A mask file beside a raster that is a named pipe, which GDAL would wait for"""
    raster(folder / "a.tif")
    os.mkfifo(folder / "a.tif.msk")
    return upscale("a.tif")


@case(r"would be read along with a\.tif, and is not a file")
def endless_world_file(folder: Path) -> Command:
    """A world file beside a raster that is a link to /dev/zero"""
    raster(folder / "a.tif")
    (folder / "a.tfw").symlink_to("/dev/zero")
    return upscale("a.tif")


@case(r"not finite")
def nan_world_file(folder: Path) -> Command:
    """A world file with NaN"""
    raster(folder / "a.tif", crs=None, transform=None)
    (folder / "a.tfw").write_text("nan\n0\n0\n-1\n0\n0\n")
    return upscale("a.tif")


@case(r"of words about itself, more than the 33\.6 MB allowed")
def many_words(folder: Path) -> Command:
    """40 MB of words about itself"""
    tags = {**shape(40, 48), 270: ("text", b"x" * (40 << 20)), 273: ("long8", 4096), 279: ("long8", 1920)}
    (folder / "a.tif").write_bytes(tiff(tags))
    return upscale("a.tif")


@case(r"a\\x1b\[2J\\n\.tif is empty")
def steering_name(folder: Path) -> Command:
    """A name that would steer the terminal: told harmlessly, in one line"""
    (folder / "a\x1b[2J\n.tif").touch()
    return upscale("a\x1b[2J\n.tif", out="out.tif")


@case(r"a\.tif\.aux\.xml names yet another file")
def words_elsewhere(folder: Path) -> Command:
    """An .aux.xml that names a file at a URL"""
    raster(folder / "a.tif")
    key = '<MDI key="OVERVIEW_FILE">/vsicurl/http://127.0.0.1:9/a.tif</MDI>'
    (folder / "a.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{key}</Metadata></PAMDataset>')
    return upscale("a.tif")


@case(r"a\.tif\.aux\.xml is not XML as GDAL writes it")
def words_as_bomb(folder: Path) -> Command:
    """An .aux.xml with entities of entities"""
    raster(folder / "a.tif")
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 20))
    text = f'<!DOCTYPE x [<!ENTITY a0 "{"x" * 100}">{entities}]><PAMDataset>&a19;</PAMDataset>'
    (folder / "a.tif.aux.xml").write_text(text)
    return upscale("a.tif")


@case(r"has 20000 channels|is not XML|32 MiB")
def virtual_bands(folder: Path) -> Command:
    """VRT of 20,000 bands"""
    raster(folder / "a.tif")
    band = """<VRTRasterBand dataType="Byte" band="{}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif
</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>""".replace("\n", "")
    bands = "".join(band.format(number) for number in range(1, 20001))
    (folder / "v.vrt").write_text(f'<VRTDataset rasterXSize="48" rasterYSize="40">{bands}</VRTDataset>')
    return upscale("v.vrt", out="out.tif")


@case(r"voxels in all channels|claims to unpack")
def virtual_size(folder: Path) -> Command:
    """VRT of 2 x 10^9 rows over one small file"""
    raster(folder / "a.tif")
    source = '<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>'
    band = f'<VRTRasterBand dataType="Byte" band="1">{source}</SimpleSource></VRTRasterBand>'
    (folder / "v.vrt").write_text(f'<VRTDataset rasterXSize="48" rasterYSize="2000000000">{band}</VRTDataset>')
    return upscale("v.vrt", out="out.tif")


@case(r"is cut short")
def cut_jp2(folder: Path) -> Command:
    """JPEG 2000 cut in its voxels"""
    raster(folder / "a.tif")
    rasterio.shutil.copy(folder / "a.tif", folder / "a.jp2", driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100")
    (folder / "a.jp2").write_bytes((folder / "a.jp2").read_bytes()[:-40])
    return upscale("a.jp2", out="out.tif")


@case(r"4\.61e\+18 voxels in all channels")
def enormous_jp2(folder: Path) -> Command:
    """JPEG 2000 that claims 2^31 x 2^31 voxels"""
    raster(folder / "a.tif")
    rasterio.shutil.copy(folder / "a.tif", folder / "a.jp2", driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100")
    data = bytearray((folder / "a.jp2").read_bytes())
    siz = data.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">II", data, siz, 2**31 - 1, 2**31 - 1)
    (folder / "a.jp2").write_bytes(data)
    return upscale("a.jp2", out="out.tif")


@case(r"check ok", code=0)
def points(folder: Path) -> Command:
    """GCPs with PixelIsPoint: written so that they read back equal"""

    def dress(dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
        dataset.update_tags(AREA_OR_POINT="Point")
        corners = [(0, 0), (0, 48), (40, 0), (40, 48)]
        placed = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100, 0) for r, c in corners]
        dataset.gcps = (placed, rasterio.CRS.from_epsg(4326))

    raster(folder / "a.tif", dress, crs=None, transform=None)
    return upscale("a.tif")


@case(r"has a control point, or an RPC, that is not finite")
def nan_points(folder: Path) -> Command:
    """A GCP at NaN"""

    def dress(dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
        corners = [(0, 0, np.nan), (0, 48, 11.0), (40, 0, 10.0)]
        placed = [GroundControlPoint(row, column, x, 50.0, 0) for row, column, x in corners]
        dataset.gcps = (placed, rasterio.CRS.from_epsg(4326))

    raster(folder / "a.tif", dress, crs=None, transform=None)
    return upscale("a.tif")


@case(r"is empty")
def empty(folder: Path) -> Command:
    """An empty file"""
    (folder / "a.tif").touch()
    return upscale("a.tif")


@case(r"is a folder|holds no image")
def a_folder(folder: Path) -> Command:
    """A folder named a.tif"""
    (folder / "a.tif").mkdir()
    return upscale("a.tif")


@case(r"is not a file")
def a_pipe(folder: Path) -> Command:
    """A named pipe that nobody writes to"""
    os.mkfifo(folder / "a.tif")
    return upscale("a.tif")


@case(r"is not a file")
def a_device(folder: Path) -> Command:
    """A link to /dev/zero"""
    (folder / "a.tif").symlink_to("/dev/zero")
    return upscale("a.tif")


@case(r"is the input")
def itself_by_link(folder: Path) -> Command:
    """Output = input by a symbolic link"""
    raster(folder / "a.tif")
    (folder / "b.tif").symlink_to("a.tif")
    return upscale("a.tif", "--overwrite", out="b.tif")


@case(r"is the input")
def itself_by_hard_link(folder: Path) -> Command:
    """Output = input by a hard link"""
    raster(folder / "a.tif")
    os.link(folder / "a.tif", folder / "b.tif")
    return upscale("a.tif", "--overwrite", out="b.tif")


@case(r"is the input")
def its_source(folder: Path) -> Command:
    """Output = a source of the VRT that is the input"""
    virtual(folder, "a.tif", relative=1)
    return upscale("in/v.vrt", "--overwrite", out="in/a.tif")
