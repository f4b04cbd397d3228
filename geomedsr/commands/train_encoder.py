"""`geomedsr train-encoder`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geomedsr.commands._shared import EXISTING_FOLDER, EXIT_CODES, FOLDER, LIMITS, RECIPE, VERBOSE
from geomedsr.options import key_value

__all__ = ["train_encoder"]


@click.command(epilog=EXIT_CODES, short_help="Teach the encoder of a perceptual loss.")
@click.argument("recipe", type=RECIPE)
@click.option("--data", type=EXISTING_FOLDER, required=True, help="The folder of the recipe's images, or a pack.")
@click.option("--out", type=FOLDER, required=True, help="The folder that the encoder goes into.")
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a recipe's key.")
@click.option("--steps", type=click.IntRange(min=1), default=1500, show_default=True, help="How long it is taught.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@LIMITS
@VERBOSE
def train_encoder(recipe: Path, data: Path, out: Path, changes: Sequence[tuple[str, str]], **choices: Any) -> None:  # noqa: ANN401
    """Teach an encoder on the images that RECIPE (a YAML file) trains on, without labels, and write it as a folder.

    A recipe names it in its perceptual loss: {name: perceptual, encoder: FOLDER}.
    """
    from geomedsr.recipe import read_recipe
    from geomedsr.run.encoder import train_encoder_files

    click.echo(train_encoder_files(read_recipe(recipe, dict(changes)), data, out, **choices))
