"""`geomedsr doctor`."""

from __future__ import annotations

import click

from geomedsr.commands._shared import JSON, VERBOSE
from geomedsr.terminal import show

__all__ = ["doctor"]


@click.command(short_help="Show whether all is well with this installation.")
@click.option("--benchmark", is_flag=True, help="Measure as well how fast networks run here; takes half a minute.")
@JSON
@VERBOSE
def doctor(benchmark: bool, as_json: bool) -> int:
    """Show versions, devices and memory, and try each format with a small image."""
    from geomedsr.run.doctor import examine, lines

    findings = examine(benchmark=benchmark)
    show(findings if as_json else lines(findings), as_json=as_json)
    return 0 if findings["well"] else 1
