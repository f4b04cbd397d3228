"""`geomedsr models`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from geomedsr.commands._shared import EXISTING_FOLDER, JSON, VERBOSE
from geomedsr.terminal import show

__all__ = ["models"]


FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(short_help="Show the models at hand, and make yours ready to share.")
def models() -> None:
    """The models at hand."""


@models.command("list")
@JSON
@VERBOSE
def list_models(as_json: bool) -> None:
    """List the models in the package and the baselines."""
    from geomedsr.run.catalogue import summaries, table

    rows = summaries()
    for shown in [row.to_json() for row in rows] if as_json else [table(rows)]:
        show(shown, as_json=as_json)


@models.command("show")
@click.argument("name")
@JSON
@VERBOSE
def show_model(name: str, as_json: bool) -> None:
    """Show what a model (a name or a folder) is for, and what it scored."""
    from geomedsr.run.catalogue import card, summary

    show(summary(name).to_json() if as_json else card(name), as_json=as_json)


@models.command("card")
@click.argument("name")
@click.option("--judged", type=FILE, help="A judgement of it, as benchmarks/models.py writes one.")
@click.option("--samples", type=EXISTING_FOLDER, help="The sample images: draw failure cases on them.")
@JSON
@VERBOSE
def write_card(name: str, judged: Path | None, samples: Path | None, as_json: bool) -> None:
    """Write a model's card anew, with a judgement and failure cases where given; both are kept in its folder."""
    from geomedsr.run import carding

    path = carding.write_card(name, judged, samples)
    show({"card": str(path)} if as_json else path, as_json=as_json)


@models.command("pack")
@click.argument("name")
@click.option("--to", "stored", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
@JSON
@VERBOSE
def pack(name: str, stored: str, as_json: bool) -> None:
    """Store a model's weights in half the space, and tell how far that moves its results.

    A judgement of the former weights is dropped: judge it again.
    """
    from dataclasses import asdict

    from geomedsr.run.carding import pack_weights

    packed = pack_weights(name, stored)
    far = "the same results" if math.isinf(packed.psnr) else f"results {packed.psnr:.1f} dB from what they were"
    told = f"{name}: {packed.before:,} bytes became {packed.after:,} ({packed.stored}), {far}"
    facts = {**asdict(packed), "psnr": None if math.isinf(packed.psnr) else packed.psnr}
    show(facts if as_json else told, as_json=as_json)
