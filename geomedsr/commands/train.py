"""`geomedsr train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geomedsr.commands._shared import EXISTING_FOLDER, EXIT_CODES, FOLDER, LIMITS, RECIPE, VERBOSE, State
from geomedsr.options import key_value
from geomedsr.terminal import show

__all__ = ["train"]


@click.command(epilog=EXIT_CODES, short_help="Train a model from a recipe.")
@click.argument("recipe", type=RECIPE)
@click.option("--data", type=EXISTING_FOLDER, required=True, help="The folder of the recipe's images, or a pack.")
@click.option("--out", type=FOLDER, required=True, help="The folder that the model and its checkpoints go into.")
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a recipe's key.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the output folder.")
@click.option("--finish", is_flag=True, help="Take no more steps: the last checkpoint becomes the model.")
@click.option("--cache", type=FOLDER, help="A folder in which the images are unpacked once, for quick reading.")
@click.option("--device", default="cpu", show_default=True, metavar="cpu|cuda", help="Where the network runs.")
@click.option(
    "--speed",
    type=click.Choice(["auto", "eager"]),
    default="auto",
    show_default=True,
    help="auto: a GPU plays each step as a recorded graph; eager: it never does.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@LIMITS
@VERBOSE
def train(recipe: Path, data: Path, out: Path, changes: Sequence[tuple[str, str]], **choices: Any) -> None:  # noqa: ANN401
    """Train the model that RECIPE (a YAML file) describes, and write it as a folder."""
    from geomedsr.recipe import read_recipe
    from geomedsr.run.training import train_files

    click.get_current_context().ensure_object(State).training = out
    train_files(read_recipe(recipe, dict(changes)), data, out, **choices)
    show(out, as_json=False)
