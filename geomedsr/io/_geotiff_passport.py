"""All that a raster says besides its voxels, as one value: read once, made finer, written again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.rpc import RPC
from rasterio.transform import Affine

from geomedsr.grid import Factor, Grid
from geomedsr.image import Scaling
from geomedsr.io._coding import PLAIN, holds

__all__ = [
    "Band",
    "ControlPoint",
    "Passport",
    "Tags",
    "affine_of",
    "grid_of",
    "passport_of",
    "rescaled_gcps",
    "rescaled_rpcs",
    "wkt_of",
]

Tags = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Each namespace ("" is the default one) with its keys and values."""

MaskKind = Literal["none", "mask", "alpha", "band"]
"""What besides nodata says that a voxel is invalid: nothing, one mask, an alpha band, or a mask for each band."""

_UNITS = {"metre": "m", "meter": "m", "kilometre": "km", "US survey foot": "us-ft", "foot": "ft", "degree": "degree"}

# Structure, not content; or geometry in the coarse image's own voxels, which is written anew.
_NOT_KEPT = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "GEOLOCATION", "TIFF")
_NOT_KEPT_XML = ("xml:gml", "xml:BOX", "xml:VRT", "xml:IPR")


_PROVENANCE = "GEOMEDSR_PROVENANCE"


class ControlPoint(NamedTuple):
    """Where a point of the raster (row and column count edges) is in the world."""

    row: float
    col: float
    x: float
    y: float
    z: float
    id: str
    info: str


@dataclass(frozen=True, slots=True)
class Band:
    """What a raster says of one band; `index` counts from 1, as GDAL does."""

    index: int
    description: str | None = None
    nodata: float | None = None
    scaling: Scaling = PLAIN
    unit: str | None = None
    colour: str = "undefined"
    tags: Tags = ()

    @property
    def name(self) -> str:
        """What the channel is called: the description, else red, green or blue, else the place in the file."""
        colour = self.colour if self.colour in ("red", "green", "blue") else None
        return self.description or colour or f"band {self.index}"


@dataclass(frozen=True)
class Passport:
    """All that a raster says besides its voxels. Picklable.

    `path` is empty when the image came from another format; `nodata` is that of the file's first band; `placed` says
    whether `grid` was read from a transform; `alpha` is the band that is kept as a mask and is not among `bands`.
    """

    path: Path
    grid: Grid
    dtype: np.dtype[Any]
    bands: tuple[Band, ...]
    nodata: float | None = None
    placed: bool = True
    mask: MaskKind = "none"
    alpha: Band | None = None
    tags: Tags = ()
    gcps: tuple[ControlPoint, ...] = ()
    gcps_crs: str | None = None
    rpcs: RPC | None = None
    colormap: tuple[tuple[int, tuple[int, int, int, int]], ...] = ()
    interleave: str = "band"

    @property
    def is_foreign(self) -> bool:
        """Whether the image came from another format."""
        return self.path == Path()

    @property
    def names(self) -> tuple[str, ...]:
        """What the channels are called; a name that several would have says nothing, and they are counted."""
        names = [band.name for band in self.bands]
        alone = [band.description is not None or names.count(band.name) == 1 for band in self.bands]
        return tuple(band.name if one else f"band {band.index}" for band, one in zip(self.bands, alone, strict=True))

    @property
    def has_holes(self) -> bool:
        """Whether voxels may be invalid: by a mask, a nodata of any band, or as NaN."""
        masked = self.mask != "none" or self.dtype.kind == "f"
        return masked or any(band.nodata is not None and holds(self.dtype, band.nodata) for band in self.bands)

    @property
    def has_finite_points(self) -> bool:
        """Whether all control points and RPCs are numbers that mean a place."""
        numbers = [number for point in self.gcps for number in point[:5]]
        told = self.rpcs.to_dict().values() if self.rpcs else ()
        for value in told:
            numbers += value if isinstance(value, list) else [value or 0.0]
        return bool(np.isfinite(np.array(numbers, dtype=np.float64)).all())

    @property
    def is_point(self) -> bool:
        """Whether the file says that its voxels are points (AREA_OR_POINT)."""
        return dict(dict(self.tags).get("", ())).get("AREA_OR_POINT", "").lower() == "point"

    @property
    def provenance(self) -> str | None:
        """The JSON text that says how the image was made."""
        return dict(dict(self.tags).get("", ())).get(_PROVENANCE)

    def with_provenance(self, text: str | None) -> Passport:
        """The passport with that text among its tags, in the default namespace, which a COG keeps, too."""
        if text is None:
            return self
        namespaces = dict(self.tags)
        namespaces[""] = tuple({**dict(namespaces.get("", ())), _PROVENANCE: text}.items())
        return replace(self, tags=tuple(namespaces.items()))

    def with_bands(self, index: tuple[int, ...]) -> Passport:
        """The passport of some of the bands, counted from 0."""
        return replace(self, bands=tuple(self.bands[i] for i in index))


def passport_of(path: Path, dataset: DatasetReader, placed: bool) -> Passport:
    """What an open dataset says."""
    gcps, gcps_crs = dataset.gcps
    alpha = _alpha(dataset)
    bands = [_band(dataset, i) for i in dataset.indexes]
    # rasterio gives the identity where there is no transform, without a word when points or RPCs are there instead.
    placed = placed and not ((gcps or dataset.rpcs) and dataset.transform == Affine.identity())
    return Passport(
        path=path.resolve(),
        grid=grid_of(dataset, placed),
        dtype=np.result_type(*(np.dtype(name) for name in dataset.dtypes)),
        bands=(kept := tuple(band for band in bands if band.index != alpha)),
        nodata=kept[0].nodata,
        placed=placed,
        mask=_mask(dataset, alpha),
        alpha=bands[alpha - 1] if alpha else None,
        tags=_tags(dataset, 0),
        gcps=tuple(ControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0, p.id, p.info or "") for p in gcps),
        gcps_crs=wkt_of(gcps_crs) if gcps else None,
        rpcs=dataset.rpcs,
        colormap=_colormap(dataset),
        interleave=dataset.interleaving.value.lower() if dataset.interleaving else "band",
    )


def grid_of(dataset: DatasetReader, placed: bool) -> Grid:
    """Where the voxels of an open dataset are; a plain grid where it does not say."""
    crs = wkt_of(dataset.crs)
    if not placed:
        return replace(Grid.plain(dataset.shape), crs=crs)
    t = dataset.transform
    affine = np.array([[t.b, t.a, t.c], [t.e, t.d, t.f], [0.0, 0.0, 1.0]])
    return Grid.of(dataset.shape, affine, crs, _units(dataset.crs))


def affine_of(grid: Grid) -> Affine:
    """GDAL's transform of a grid: columns before rows."""
    (b, a, c), (e, d, f), _ = grid.affine
    return Affine(a, b, c, d, e, f)


def rescaled_gcps(points: tuple[ControlPoint, ...], factor: Factor, shift: float = 0.0) -> list[GroundControlPoint]:
    """Control points on the grid that is `factor` times finer, each then moved by `shift` rows and columns."""
    rows, columns = factor
    return [GroundControlPoint(p.row * rows + shift, p.col * columns + shift, *p[2:]) for p in points]


def rescaled_rpcs(rpcs: RPC, factor: Factor) -> RPC:
    """Rational polynomials on the grid that is `factor` times finer.

    RPCs count from the centre of the first voxel, so an offset moves by half of what each voxel is cut into.
    """
    rows, columns = factor
    moved = {
        "line_off": rows * rpcs.line_off + (rows - 1) / 2,
        "line_scale": rows * rpcs.line_scale,
        "samp_off": columns * rpcs.samp_off + (columns - 1) / 2,
        "samp_scale": columns * rpcs.samp_scale,
    }
    return RPC(**{**rpcs.to_dict(), **moved})


def _band(dataset: DatasetReader, index: int) -> Band:
    i = index - 1
    nodata = dataset.nodatavals[i]
    return Band(
        index,
        description=dataset.descriptions[i] or None,
        nodata=None if nodata is None else float(nodata),
        scaling=Scaling(float(dataset.scales[i]), float(dataset.offsets[i])),
        unit=dataset.units[i] or None,
        colour=dataset.colorinterp[i].name,
        tags=_tags(dataset, index),
    )


def _alpha(dataset: DatasetReader) -> int | None:
    """The band that says how opaque each voxel is, if any.

    Writers mark the fourth of four 8-bit bands as alpha unless told otherwise, so a band that is called something
    else ("B08", "nir") is data whatever the mark says.
    """
    if dataset.count < 2:
        return None
    for index, colour in zip(dataset.indexes, dataset.colorinterp, strict=True):
        name = (dataset.descriptions[index - 1] or "alpha").lower()
        if colour == ColorInterp.alpha and any(word in name for word in ("alpha", "mask", "opacity")):
            return int(index)
    return None


def _mask(dataset: DatasetReader, alpha: int | None) -> MaskKind:
    if alpha:
        return "alpha"
    flags = [set(enums) for enums in dataset.mask_flag_enums]
    if any(not enums for enums in flags):
        return "band"
    shared = any(MaskFlags.per_dataset in enums and MaskFlags.alpha not in enums for enums in flags)
    return "mask" if shared else "none"


def _tags(dataset: DatasetReader, index: int) -> Tags:
    kept = []
    for namespace in ["", *dataset.tag_namespaces(index)]:
        if namespace in _NOT_KEPT or namespace.startswith(_NOT_KEPT_XML):
            continue
        items = dataset.tags(index, ns=namespace or None).items()
        # Statistics are those of the coarse voxels.
        pairs = tuple((str(k), str(v)) for k, v in items if not k.startswith("STATISTICS_"))
        if pairs:
            kept.append((namespace, pairs))
    return tuple(kept)


def _colormap(dataset: DatasetReader) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
    if dataset.colorinterp[0] != ColorInterp.palette:
        return ()
    return tuple((int(key), tuple(colour)) for key, colour in dataset.colormap(1).items())


def wkt_of(crs: CRS | None) -> str | None:
    """The whole text of a CRS, as new as GDAL can write it; None where there is none."""
    if not crs:
        return None
    try:
        return str(crs.to_wkt(version="WKT2_2019"))
    except CRSError:
        return str(crs.to_wkt())


def _units(crs: CRS | None) -> str:
    if not crs:
        return ""
    try:
        name = crs.units_factor[0]
    except CRSError:
        return ""
    return _UNITS.get(name, str(name))
