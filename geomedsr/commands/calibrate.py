"""`geomedsr calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import EXISTING_FOLDER, EXIT_CODES, JSON, LIMITS, VERBOSE
from geomedsr.terminal import show

__all__ = ["calibrate"]


@click.command(epilog=EXIT_CODES, short_help="Learn how far a model's outputs may be off.")
@click.argument("model")
@click.option("--data", type=EXISTING_FOLDER, required=True, help="Images: the recipe's validation images lie below.")
@LIMITS
@JSON
@VERBOSE
def calibrate(model: str, data: Path, as_json: bool) -> None:
    """Learn from held-out images how far the outputs of MODEL (a folder) may be off, and store it in the folder.

    `upscale --uncertainty` and `--hallucination` need it. Training does it by itself at its end.
    """
    from geomedsr.run.calibrating import calibrate_files

    found = calibrate_files(model, data)
    text = f"{model}: calibrated on {found.voxels:,} voxels of held-out images: {', '.join(found.images)}"
    show(found.to_json() if as_json else text, as_json=as_json)
