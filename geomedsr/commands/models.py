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


@models.command("shrink")
@click.argument("name")
@JSON
@VERBOSE
def shrink(name: str, as_json: bool) -> None:
    """Store a model's weights as bfloat16, in half the space, and tell how far that moves its results.

    A judgement of the former weights is dropped: judge it again.
    """
    from dataclasses import asdict

    from geomedsr.run import carding

    found = carding.shrink(name)
    is_same = math.isinf(found.psnr)
    far = "the same results" if is_same else f"results {found.psnr:.1f} dB (PSNR) from what they were"
    told = f"{name}: {found.before:,} bytes became {found.after:,}, {far}"
    show({**asdict(found), "psnr": None if is_same else found.psnr} if as_json else told, as_json=as_json)
