"""`geomedsr demo`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import FOLDER, VERBOSE
from geomedsr.terminal import Terminal, show

__all__ = ["demo"]


@click.command(short_help="Upscale the sample images and draw the results.")
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="The folder for the results.")
@click.option("--data", type=FOLDER, help="The folder with the sample images; else the one beside the package.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
@VERBOSE
def demo(out: Path, data: Path | None, quiet: bool) -> None:
    """Upscale a sample scan and a sample scene, check their geometry, and draw before and after."""
    from geomedsr.run.demo import run_demo

    for path in run_demo(out, data, Terminal(quiet=quiet)):
        show(path, as_json=False)
