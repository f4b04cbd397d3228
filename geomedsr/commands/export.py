"""`geomedsr export`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import ANYWHERE, JSON, VERBOSE
from geomedsr.terminal import show

__all__ = ["export"]


@click.command(short_help="Write a model for other runtimes.")
@click.argument("model")
@click.option("--to", "form", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="The format.")
@click.option("-o", "--out", type=ANYWHERE, required=True, help="The file to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@JSON
@VERBOSE
def export(model: str, form: str, out: Path, overwrite: bool, as_json: bool) -> int:
    """Write a model (a name or a folder) as ONNX: any batch, any lengths, checked against torch before it appears."""
    from geomedsr.run.export import export as exported

    del form  # there is but one
    metadata = exported(model, out, overwrite=overwrite)
    show({"output": str(out), **metadata} if as_json else out, as_json=as_json)
    return 0
