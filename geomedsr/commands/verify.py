"""`geomedsr verify`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import ANYWHERE, JSON, LIMITS, VERBOSE
from geomedsr.terminal import show

__all__ = ["verify"]

EXIT_CODES = """\b
Exit codes: 0 all checks passed (warnings too), 1 a check failed, 2 usage or bad input."""


@click.command(epilog=EXIT_CODES, short_help="Hold an output against its input.")
@click.argument("out", type=ANYWHERE)
@click.option("--against", type=ANYWHERE, required=True, help="The input that the output was made from.")
@click.option("-m", "--model", help="The model that made it: one of your own, or where the output does not say.")
@click.option("--bands", metavar="1,2,3,7|B02,B03", help="The input's channels in the output's order.")
@click.option("--map", "residual", type=ANYWHERE, help="A file for what the degraded output and the input differ in.")
@click.option("--overwrite", is_flag=True, help="Replace a map that exists.")
@LIMITS
@JSON
@VERBOSE
def verify(
    out: Path,
    against: Path,
    model: str | None,
    bands: str | None,
    residual: Path | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Hold an output against its input: place, shift, nodata, seams, clipping, drift, and what was invented.

    No truth is needed. The output is made coarse again as its model learnt it, and must give the input back.

    \b
    geomedsr verify fine.tif --against scene.tif
    geomedsr verify fine.nii.gz --against scan.nii.gz --map differs.nii.gz
    """  # noqa: D301  (click's own mark for lines to keep)
    from geomedsr.run.verifying import table
    from geomedsr.run.verifying import verify as verified

    found = verified(out, against, model=model, bands=bands, residual=residual, overwrite=overwrite)
    show(found.to_json() if as_json else table(found), as_json=as_json)
    return found.exit_code
