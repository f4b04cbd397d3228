"""Which files are let in at all: the drivers, codecs and number types that are opened, and no others.

Each list says what may be, for what it leaves out could run code, ask the network, or decode into anything.
"""

from __future__ import annotations

__all__ = [
    "CHECKSUMS",
    "CODECS",
    "FILTERS",
    "NUMBERS",
    "NUMBER_KINDS",
    "RASTER_DRIVERS",
    "SHARDING",
    "VIRTUAL",
    "VRT_ATTRIBUTES",
    "VRT_ELEMENTS",
]

RASTER_DRIVERS = {".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG", ".vrt": "VRT"}
"""The one GDAL driver that may open a raster, by its suffix; GDAL itself would try some 200, whatever the name."""

VIRTUAL = ".vrt"
"""The suffix of rasters that name others; those that they name may not be virtual again."""

# fmt: off
VRT_ELEMENTS = frozenset((
    "SRS", "GeoTransform", "GCPList", "GCP", "Metadata", "MDI", "BlockXSize", "BlockYSize", "VRTRasterBand",
    "Description", "NoDataValue", "HideNoDataValue", "ColorInterp", "ColorTable", "Entry", "UnitType", "Offset",
    "Scale", "CategoryNames", "Category", "Histograms", "HistItem", "HistMin", "HistMax", "BucketCount",
    "IncludeOutOfRange", "Approximate", "HistCounts", "MaskBand", "SimpleSource", "ComplexSource", "SourceFilename",
    "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "ScaleOffset", "ScaleRatio", "LUT",
    "ColorTableComponent", "UseMaskBand",
))
VRT_ATTRIBUTES = frozenset((
    "rasterXSize", "rasterYSize", "dataType", "band", "subClass", "blockXSize", "blockYSize", "relativeToVRT", "shared",
    "RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize", "xOff", "yOff", "xSize", "ySize", "key",
    "domain", "format", "Projection", "dataAxisToSRSAxisMapping", "coordinateEpoch", "Id", "Info", "Pixel", "Line",
    "X", "Y", "Z", "c1", "c2", "c3", "c4", "resampling", "name",
))
# fmt: on
"""What a virtual raster may be made of: plain mosaics and stacks, no raw bytes, no functions, no warps. GDAL takes an
attribute for an element of that name, which an attribute that is not listed here could put in another's place.
"""

SHARDING = "sharding_indexed"
_COMPRESSORS = {"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"}
FILTERS = {"astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"}
CHECKSUMS = {"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"}
CODECS = frozenset(_COMPRESSORS | FILTERS | CHECKSUMS | {"bytes", "endian", "transpose", SHARDING})
"""The codecs of zarr chunks that are decoded; one of another name could run code."""

NUMBER_KINDS = "biuf"
"""The kinds of numbers (as numpy names them) that are voxels: truth values, whole numbers, real ones; no objects."""

NUMBERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
"""The number types of files that name them one by one."""
