"""What a user may say about how a GeoTIFF is stored (`--co KEY=VALUE`), checked before work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.errors import OutputError
from geomedsr.grid import Shape

__all__ = ["Creation", "creation_of"]

_WORDS = {
    "COMPRESS": [
        "NONE",
        "DEFLATE",
        "ZSTD",
        "LZW",
        "LZMA",
        "PACKBITS",
        "LERC",
        "LERC_DEFLATE",
        "LERC_ZSTD",
        "JPEG",
        "WEBP",
    ],
    "INTERLEAVE": ["BAND", "PIXEL"],
    "BIGTIFF": ["YES", "NO", "IF_NEEDED", "IF_SAFER"],
    "ENDIANNESS": ["NATIVE", "LITTLE", "BIG"],
    "GEOTIFF_VERSION": ["AUTO", "1.0", "1.1"],
    "FORMAT": ["GTIFF", "COG"],
    "COG": ["YES", "NO"],
    "OVERVIEW_RESAMPLING": ["NEAREST", "AVERAGE", "BILINEAR", "CUBIC", "CUBICSPLINE", "LANCZOS", "MODE", "RMS"],
    "PREDICTOR": ["1", "2", "3"],
    "WEBP_LOSSLESS": ["YES", "NO"],
}
_NUMBERS = {
    "BLOCKSIZE": (16, 16384),
    "BLOCKXSIZE": (16, 16384),
    "BLOCKYSIZE": (16, 16384),
    "ZLEVEL": (1, 12),
    "ZSTD_LEVEL": (1, 22),
    "LZMA_PRESET": (0, 9),
    "JPEG_QUALITY": (1, 100),
    "WEBP_LEVEL": (1, 100),
    "MAX_Z_ERROR": (0, 1e9),
    "OVERVIEW_COUNT": (0, 30),
}
_PREDICTABLE = ("DEFLATE", "ZSTD", "LZW")
_LEVELS = ("ZLEVEL", "ZSTD_LEVEL", "LZMA_PRESET")
_LARGEST_PIXEL_BLOCK = 16 * 1024**2
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Creation:
    """How the file is stored: rasterio's creation options, the block shape, and those of a COG if one is asked for.

    `is_exact` says that the numbers that are stored can be read again as they are.
    """

    options: Mapping[str, Any]
    block: Shape
    cog: Mapping[str, str] | None = field(default=None)

    @property
    def is_exact(self) -> bool:
        """Whether no compression takes anything away."""
        chosen = self.options if self.cog is None else self.cog
        compress, error = chosen["COMPRESS"], float(chosen.get("MAX_Z_ERROR", 0))
        return not (
            compress == "JPEG"
            or (compress == "WEBP" and chosen.get("WEBP_LOSSLESS") != "YES")
            or (compress.startswith("LERC") and error > 0)
        )


def creation_of(
    path: Path, shape: Shape, count: int, dtype: np.dtype[Any], interleave: str, options: Mapping[str, str] | None
) -> Creation:
    """The checked options on top of the defaults: tiles of 512 x 512, deflate with predictor, BigTIFF if safer.

    Deflate at level 1, because every reader knows it; on an upscaled Landsat scene (2 cores) it took 70 % of the raw
    size at 119 MB/s, where level 6 took 71 % at 88 MB/s and LZW 85 % at 91 MB/s. `COMPRESS=ZSTD`, at its level 1, is
    four times as fast, for readers that know it.

    Raises:
        OutputError: a key or a value that there is not.
    """
    asked = {key.upper(): _checked(path, key.upper(), value.upper()) for key, value in (options or {}).items()}
    form = asked.pop("FORMAT", "GTIFF")
    is_cog = asked.pop("COG", "YES" if form == "COG" else "NO") == "YES"
    resampling, levels = asked.pop("OVERVIEW_RESAMPLING", None), asked.pop("OVERVIEW_COUNT", None)
    if (resampling or levels) and not is_cog:
        raise OutputError(f"{path.name} has no overviews unless FORMAT=COG is given too.")
    block = _block((_BLOCK, _BLOCK) if is_cog else shape, asked)
    if is_cog and block[0] != block[1]:
        raise OutputError(f"A COG has square blocks; BLOCKYSIZE and BLOCKXSIZE ask for {block}.")
    compress = asked.pop("COMPRESS", "DEFLATE")
    if compress == "DEFLATE":
        asked.setdefault("ZLEVEL", "1")
    if compress == "ZSTD":
        asked.setdefault("ZSTD_LEVEL", "1")
    if compress in _PREDICTABLE:
        asked.setdefault("PREDICTOR", "3" if dtype.kind == "f" else "2")
    asked.setdefault("BIGTIFF", "IF_SAFER")
    if is_cog:
        return Creation(_scratch(block), block, _cog(asked, compress, resampling, levels, block))
    small = count * dtype.itemsize * block[0] * block[1] <= _LARGEST_PIXEL_BLOCK
    # Interleaved by pixel, a block of all bands must fit into the cache, or it would be compressed twice.
    asked.setdefault("INTERLEAVE", "PIXEL" if interleave == "pixel" and small else "BAND")
    return Creation({**_tiled(block), "COMPRESS": compress, **asked}, block)


def _checked(path: Path, key: str, value: str) -> str:
    if key in _WORDS:
        if value not in _WORDS[key]:
            raise OutputError(f"{path.name}: {key} is one of {', '.join(_WORDS[key])}; '{value}' is not.")
        return value
    if key not in _NUMBERS:
        raise OutputError(f"{path.name}: there is no option {key}; there are {', '.join([*_WORDS, *_NUMBERS])}.")
    low, high = _NUMBERS[key]
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high or (key.startswith("BLOCK") and number % 16):
        multiple = ", a multiple of 16" if key.startswith("BLOCK") else ""
        raise OutputError(f"{path.name}: {key} is a number from {low} to {high}{multiple}; '{value}' is not.")
    return value


def _block(shape: Shape, asked: dict[str, str]) -> Shape:
    both = asked.pop("BLOCKSIZE", None)
    keys = (asked.pop("BLOCKYSIZE", both), asked.pop("BLOCKXSIZE", both))
    # A block larger than the image would only store padding.
    return tuple(int(float(key)) if key else min(_BLOCK, -(-n // 16) * 16) for n, key in zip(shape, keys, strict=True))


def _tiled(block: Shape) -> dict[str, Any]:
    return {"TILED": "YES", "BLOCKYSIZE": block[0], "BLOCKXSIZE": block[1], "NUM_THREADS": "ALL_CPUS"}


def _scratch(block: Shape) -> dict[str, Any]:
    """The tiled file from which GDAL copies the COG: written and read once, so fast rather than small."""
    return {**_tiled(block), "COMPRESS": "ZSTD", "ZSTD_LEVEL": 1, "BIGTIFF": "YES", "INTERLEAVE": "BAND"}


def _cog(
    asked: dict[str, str], compress: str, resampling: str | None, levels: str | None, block: Shape
) -> dict[str, str]:
    out = {"COMPRESS": compress, "BLOCKSIZE": str(block[0]), "NUM_THREADS": "ALL_CPUS", "BIGTIFF": asked["BIGTIFF"]}
    if "PREDICTOR" in asked:
        out["PREDICTOR"] = {"1": "NO", "2": "STANDARD", "3": "FLOATING_POINT"}[asked["PREDICTOR"]]
    level = next((asked[key] for key in _LEVELS if key in asked), None)
    if level is not None and compress != "NONE":
        out["LEVEL"] = level
    if "JPEG_QUALITY" in asked or "WEBP_LEVEL" in asked:
        out["QUALITY"] = asked.get("JPEG_QUALITY", asked.get("WEBP_LEVEL", "75"))
    if "MAX_Z_ERROR" in asked:
        out["MAX_Z_ERROR"] = asked["MAX_Z_ERROR"]
    if resampling:
        out["OVERVIEW_RESAMPLING"] = resampling
    if levels:
        out["OVERVIEW_COUNT"] = levels
    return out
