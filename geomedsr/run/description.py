"""What an image is, and where: `geomedsr info`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from geomedsr.grid import Grid
from geomedsr.image import ImageSpec
from geomedsr.io import format_of
from geomedsr.run.inputs import expand
from geomedsr.run.provenance import read_provenance

__all__ = ["crs_name", "describe", "facts", "is_placeless", "lines", "orientation"]


def describe(path: Path) -> Iterator[dict[str, Any]]:
    """Each image in a file, a folder or an archive, as plain JSON values.

    Raises:
        GeomedsrError: it cannot be read.
    """
    for found in expand([str(path)]):
        source = format_of(found.path).open_source(found.path)
        try:
            yield {"path": str(found.path), **facts(source.spec)}
        finally:
            source.close()


def facts(spec: ImageSpec) -> dict[str, Any]:
    """What an image is, and where, as plain JSON values."""
    corners = spec.grid.corners
    nodata = spec.nodata
    return {
        "shape": list(spec.grid.shape),
        "channels": list(spec.channels),
        "dtype": str(spec.dtype),
        "nodata": "nan" if nodata is not None and np.isnan(nodata) else nodata,
        "spacing": list(spec.grid.spacing),
        "units": spec.grid.units,
        "placed": not is_placeless(spec.grid),
        "orientation": orientation(spec.grid),
        "crs": spec.grid.crs,
        "extent": [corners.min(axis=0).tolist(), corners.max(axis=0).tolist()],
        "affine": [list(row) for row in spec.grid.affine],
        "chunks": list(spec.chunks) if spec.chunks else None,
        "bytes": spec.nbytes,
        "provenance": read_provenance(spec.provenance),
        "warnings": list(cast(tuple[str, ...], spec.extra.get("warnings", ()))),
    }


def orientation(grid: Grid) -> str:
    """Where the axes point: as in NIfTI for a volume (`RAS+`), in words for a raster, "unknown" without a place.

    Example:
        >>> orientation(Grid.of((4, 4, 4), np.eye(4), units="mm"))
        'RAS+'
        >>> orientation(Grid.plain((4, 4, 4)))
        'unknown'
    """
    if is_placeless(grid):
        return "unknown"
    directions = grid.matrix[:-1, :-1] / np.array(grid.spacing)
    if grid.ndim == 3:
        axes = [int(np.abs(column).argmax()) for column in directions.T]
        letters = [("LR", "PA", "IS")[axis][int(directions[axis, i] > 0)] for i, axis in enumerate(axes)]
        return "".join(letters) + ("+" if np.allclose(np.abs(directions).max(axis=0), 1) else "+ (oblique)")
    if np.allclose(directions, [[0, 1], [-1, 0]]):
        return "north up"
    return "south up" if np.allclose(directions, [[0, 1], [1, 0]]) else "rotated"


def is_placeless(grid: Grid) -> bool:
    """Whether nothing is known of where voxels lie: no CRS, no units, and axes that do no more than count."""
    counts = np.abs(np.diag(grid.matrix))
    return grid.crs is None and not grid.units and np.array_equal(grid.matrix, np.diag(counts))


def lines(facts: dict[str, Any]) -> str:
    """The facts as a person reads them."""
    low, high = facts["extent"]
    rows = {
        "shape": " x ".join(map(str, facts["shape"])),
        "channels": f"{len(facts['channels'])} ({', '.join(f'{name:.80}' for name in facts['channels'][:16])})",
        "data type": facts["dtype"],
        "nodata": "none" if facts["nodata"] is None else facts["nodata"],
        "spacing": f"{' x '.join(f'{value:.6g}' for value in facts['spacing'])} {facts['units']}".rstrip(),
        "orientation": facts["orientation"],
        "CRS": crs_name(facts["crs"]),
        "extent": ", ".join(f"{a:.6f} to {b:.6f}" for a, b in zip(low, high, strict=True)),
        "place": None if facts["placed"] else "unknown: spacing and extent are in voxels",
        "chunks": " x ".join(map(str, facts["chunks"])) if facts["chunks"] else "none",
        "size": f"{facts['bytes'] / 1e6:.1f} MB uncompressed",
        "made": _made(facts["provenance"]),
        "warning": " ".join(facts["warnings"]) or None,
    }
    return "\n".join([facts["path"], *(f"  {name:<12} {value}" for name, value in rows.items() if value is not None)])


def _made(provenance: dict[str, Any] | None) -> str | None:
    """How the image was made, where it says so."""
    if provenance is None:
        return None
    model, source = provenance.get("model") or {}, provenance.get("input") or {}
    hashes = [str(one.get("sha256", ""))[:12] for one in (model, source)]
    model_name, name = (
        f"{one.get('name')}{f' ({h})' if h else ''}" for one, h in zip((model, source), hashes, strict=True)
    )
    return f"{provenance.get('date')} by geomedsr {provenance['geomedsr']} with {model_name} from {name}"


def crs_name(crs: str | None) -> str:
    """The name and the code of a CRS that is written as WKT; other texts as they are.

    Example:
        >>> crs_name('PROJCRS["WGS 84 / UTM zone 33N",BASEGEOGCRS["WGS 84"],ID["EPSG",32633]]')
        'WGS 84 / UTM zone 33N (EPSG:32633)'
    """
    name = re.match(r'\w+\["([^"]+)"', crs or "")
    code = re.search(r'ID\["(\w+)",\s*"?(\w+)"?\]\]$', crs or "")
    if name is None:
        return crs or "none"
    return f"{name[1]} ({code[1]}:{code[2]})" if code else name[1]
