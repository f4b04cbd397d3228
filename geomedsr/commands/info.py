"""`geomedsr info`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import ANYWHERE, JSON, LIMITS, VERBOSE
from geomedsr.terminal import show

__all__ = ["info"]


@click.command(short_help="Show what an image is, and where.")
@click.argument("path", type=ANYWHERE)
@LIMITS
@JSON
@VERBOSE
def info(path: Path, as_json: bool) -> None:
    """Show an image's shape, spacing, place, data type and channels."""
    from geomedsr.run.description import describe, lines

    for member in describe(path):
        show(member if as_json else lines(member), as_json=as_json)
