"""`geomedsr report`."""

from __future__ import annotations

from typing import Any

import click

from geomedsr.commands._shared import ANYWHERE, EXIT_CODES, FOLDER, LIMITS, VERBOSE
from geomedsr.options import numbers
from geomedsr.terminal import Terminal, show

__all__ = ["report"]


@click.command(epilog=EXIT_CODES, short_help="Show an image before and after, on one page.")
@click.argument("before", metavar="IN", type=ANYWHERE)
@click.argument("after", metavar="OUT", type=ANYWHERE)
@click.option("-o", "--out", type=ANYWHERE, required=True, help="The page (.html), or a folder for two folders.")
@click.option("-m", "--model", help="The model that made OUT, where OUT does not say so.")
@click.option("--reference", type=ANYWHERE, help="The true fine image: metrics and errors are shown.")
@click.option("--uncertainty", type=ANYWHERE, help="The map that upscale --uncertainty wrote.")
@click.option("--hallucination", type=ANYWHERE, help="The map that upscale --hallucination wrote.")
@click.option("--evaluate", type=ANYWHERE, metavar="JSON", help="What evaluate wrote.")
@click.option("--verify", type=ANYWHERE, metavar="JSON", help="What verify --json wrote.")
@click.option("--bands", metavar="4,3,2|B04", help="Which of IN's bands OUT has, where their names do not tell.")
@click.option("--at", type=numbers, metavar="120,80", help="The middle of the detail, in voxels of IN from 0.")
@click.option("--png", type=FOLDER, help="Also write figures for papers into this folder, as PNG.")
@click.option("--overwrite", is_flag=True, help="Replace what exists.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
@LIMITS
@VERBOSE
def report(quiet: bool, **arguments: Any) -> None:  # noqa: ANN401  (the options above, passed on as they are)
    """Show what became of an image, on one page that needs no network: what was measured, and what was predicted.

    \b
    geomedsr report scan.nii.gz scan_fine.nii.gz -o scan.html
    geomedsr report scenes/ fine/ -o reports/
    """  # noqa: D301  (click's own mark for lines to keep)
    from geomedsr.run.report import Wanted, run_report

    for path in run_report(Wanted(**arguments), Terminal(quiet=quiet)):
        show(path, as_json=False)
