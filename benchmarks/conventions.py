"""Claim: a zarr store comes out in the conventions that others read, in exactly the right place.

Upscales each store by the command line, then lets xarray, rioxarray, odc-geo and GDAL tell the CRS and transform of
rasters, and ome-zarr-models and ome-zarr-py the scale and translation of OME-Zarr.

    python -m benchmarks.conventions STORE... [--model cubic] [--scale 2] [--co KEY=VALUE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
import zarr


def main() -> int:
    """Prints what each library tells of each output; exits with the number of stores that were not written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+")
    parser.add_argument("--model", default="cubic")
    parser.add_argument("--scale", default="2")
    parser.add_argument("--co", action="append", default=[])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = 0
    for path in arguments.stores:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "out.zarr"
            print(f"{path.name}, {arguments.model} x {arguments.scale} {' '.join(arguments.co)}")
            failed += not written(path, out, arguments)
            for row in told(out) if out.exists() else ():
                print(f"  {row}")
    return failed


def written(path: Path, out: Path, arguments: argparse.Namespace) -> bool:
    """Whether the store was upscaled; the program's own words are shown."""
    command = [sys.executable, "-m", "geomedsr", "upscale", str(path), "-o", str(out), "-m", arguments.model]
    command += ["--scale", arguments.scale, *(part for option in arguments.co for part in ("--co", option))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print("\n".join(f"  geomedsr         {line}" for line in done.stderr.strip().splitlines()))
    return done.returncode == 0


def told(path: Path) -> Iterator[str]:
    """What others tell of a store, a row each."""
    attributes = dict(zarr.open_group(str(path), mode="r").attrs)
    ome: Any = attributes.get("ome", attributes)
    yield from of_volume(path) if "multiscales" in ome else of_raster(path)


def of_volume(path: Path) -> Iterator[str]:
    """Scale and translation by the libraries of OME-Zarr."""
    import ome_zarr_models
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    model: Any = ome_zarr_models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
    multiscale = getattr(model, "ome_attributes", model.attributes).multiscales[0]
    scale, translation = multiscale.datasets[0].coordinateTransformations
    axes = "".join(axis.name for axis in multiscale.axes)
    numbers = f"scale {scale.scale}, translation {translation.translation}"
    yield f"ome-zarr-models  {type(model).__module__}, {axes}, {numbers}"
    located = parse_url(path)
    assert located is not None
    (node,) = list(Reader(located)())
    for level, transformations in zip(node.data, node.metadata["coordinateTransformations"], strict=True):
        numbers = ", ".join(f"{one['type']} {one[one['type']]}" for one in transformations)
        yield f"ome-zarr-py      {level.shape}, {numbers}"


def of_raster(path: Path) -> Iterator[str]:
    """CRS and transform by the libraries of rasters."""
    import odc.geo.xr
    import rioxarray
    import xarray

    assert rioxarray, "registers .rio"
    assert odc.geo.xr, "registers .odc"
    dataset = xarray.open_zarr(path, decode_coords="all")
    name = next(iter(dataset.data_vars))
    image = dataset[name]
    names = f"variables {list(dataset.data_vars)}, coordinates {list(dataset.coords)}"
    yield f"xarray           {dict(dataset.sizes)}, {names}"
    yield f"rioxarray        EPSG:{image.rio.crs.to_epsg()}, {tuple(image.rio.transform())[:6]}"
    yield f"odc-geo          EPSG:{image.odc.crs.epsg}, {tuple(image.odc.transform)[:6]}"
    yield f"GDAL {rasterio.__gdal_version__}      {by_gdal(path, str(name))}"


def by_gdal(path: Path, name: str) -> str:
    """CRS and transform by GDAL, or why it cannot read the store."""
    try:
        with rasterio.open(f'ZARR:"{path}":/{name}') as dataset:
            code = dataset.crs.to_epsg() if dataset.crs else None
            return f"EPSG:{code}, {tuple(dataset.transform)[:6]}, {dataset.count} bands"
    except rasterio.errors.RasterioIOError as error:
        return f"cannot read it: {error}"


if __name__ == "__main__":
    sys.exit(main())
