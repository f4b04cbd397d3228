"""What commands share: options that several have, and what a command tells the program about its failure."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import click

__all__ = ["ANYWHERE", "EXISTING_FOLDER", "EXIT_CODES", "FOLDER", "JSON", "RECIPE", "VERBOSE", "State"]

EXIT_CODES = """\b
Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 nothing matched,
4 some inputs failed, 130 interrupted."""

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
RECIPE = click.Path(path_type=Path, exists=True, dir_okay=False)
ANYWHERE = click.Path(path_type=Path)


@dataclass
class State:
    """What a command tells `run_command` about how to report its failure."""

    verbose: bool = False
    training: Path | None = None


def _verbose(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """`-v`: tracebacks, and the libraries' own warnings; without it they are nobody's business."""
    context.ensure_object(State).verbose = value
    if not value:
        warnings.simplefilter("ignore")
    return value


VERBOSE = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    callback=_verbose,
    expose_value=False,
    help="Show tracebacks and libraries' warnings.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Results as JSON, one object a line.")
