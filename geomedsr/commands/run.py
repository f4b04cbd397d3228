"""`geomedsr run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geomedsr.commands._shared import (
    EXIT_CODES,
    JOB,
    JSON,
    LIMITS,
    ON_ERROR,
    RECIPE,
    VERBOSE,
    State,
    show_status,
    ways_of,
)
from geomedsr.options import amount, key_value
from geomedsr.terminal import Terminal

__all__ = ["run"]


@click.command(epilog=EXIT_CODES, short_help="Run a model over an archive, resumably.")
@click.argument("pipeline", type=RECIPE)
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a pipeline's key.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave inputs alone whose output exists.")
@ON_ERROR
@click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing.")
@JOB
@LIMITS
@JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes; warnings and errors only.")
@VERBOSE
def run(pipeline: Path, changes: Sequence[tuple[str, str]], status: bool, **arguments: Any) -> int:  # noqa: ANN401
    """Run the model that PIPELINE (a YAML file) names over all of its images.

    Whatever ends it, the same command goes on from there, to the same bits.
    """
    from geomedsr.pipeline import read_pipeline
    from geomedsr.run.command import run_pipeline

    terminal = Terminal(quiet=arguments.pop("quiet"), as_json=arguments.pop("as_json"))
    read = read_pipeline(pipeline, dict(changes))
    if status:
        show_status(read.output.place, as_json=terminal.as_json)
        return 0
    click.get_current_context().ensure_object(State).out = read.output.place
    memory = None if read.memory is None else amount(read.memory)
    return run_pipeline(read, terminal, ways_of(arguments), memory=memory, **arguments)
