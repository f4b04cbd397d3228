"""`geomedsr models`."""

from __future__ import annotations

import click

from geomedsr.commands._shared import JSON, VERBOSE
from geomedsr.terminal import show

__all__ = ["models"]


@click.group(short_help="Show the models at hand.")
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
