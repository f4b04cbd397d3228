"""`geomedsr pack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from geomedsr.commands._shared import EXISTING_FOLDER, EXIT_CODES, FOLDER, LIMITS, RECIPE, VERBOSE
from geomedsr.options import key_value
from geomedsr.terminal import show

__all__ = ["pack"]


@click.command(epilog=EXIT_CODES, short_help="Pack the images of a recipe for another machine.")
@click.argument("recipe", type=RECIPE)
@click.option("--data", type=EXISTING_FOLDER, required=True, help="The folder of the recipe's images.")
@click.option("--out", type=FOLDER, required=True, help="The folder that the pack goes into.")
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a recipe's key.")
@LIMITS
@VERBOSE
def pack(recipe: Path, data: Path, out: Path, changes: Sequence[tuple[str, str]]) -> None:
    """Pack all images that RECIPE (a YAML file) names into one folder, which is a training's --data on any machine.

    Neither the files nor the libraries of their formats are needed there, but zarr.
    """
    from geomedsr.recipe import read_recipe
    from geomedsr.run.packing import pack_files

    for path in pack_files(read_recipe(recipe, dict(changes)), data, out):
        show(path, as_json=False)
