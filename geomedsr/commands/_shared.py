"""What commands share: options that several have, and what a command tells the program about its failure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geomedsr.options import amount
from geomedsr.terminal import show

if TYPE_CHECKING:
    from geomedsr.run.ways import Ways

__all__ = [
    "ANYWHERE",
    "EXISTING_FOLDER",
    "EXIT_CODES",
    "FOLDER",
    "JOB",
    "JSON",
    "LIMITS",
    "ON_ERROR",
    "RECIPE",
    "VERBOSE",
    "State",
    "show_status",
    "ways_of",
]

EXIT_CODES = """\b
Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 nothing matched,
4 some inputs failed, 130 interrupted, 143 terminated, 129 hung up."""

FOLDER = click.Path(path_type=Path, file_okay=False)
EXISTING_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
RECIPE = click.Path(path_type=Path, exists=True, dir_okay=False)
ANYWHERE = click.Path(path_type=Path)


@dataclass
class State:
    """What a command tells `run_command` about how to report its failure."""

    verbose: bool = False
    training: Path | None = None
    out: Path | None = None


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
ON_ERROR = click.option(
    "--on-error",
    type=click.Choice(["stop", "continue"]),
    default="stop",
    show_default=True,
    help="At an input that fails: stop there, or do the others. A job that has begun does the others in any case.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Results as JSON, one object a line.")


def _limit(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401 - number or flag
    """Lets a limit of another size hold while the command runs."""
    if value is None or value is False:
        return
    from geomedsr.io import limits, within

    assert parameter.name is not None
    context.with_resource(within(replace(limits(), **{parameter.name: value})))


def LIMITS(command: Callable[..., Any]) -> Callable[..., Any]:  # noqa: N802 - used like the other options here
    """How much input files may ask for, and what they may reach."""
    count: dict[str, Any] = {"type": click.IntRange(1), "callback": _limit, "expose_value": False}
    nbytes: dict[str, Any] = {**count, "type": amount}
    flag: dict[str, Any] = {"is_flag": True, "callback": _limit, "expose_value": False}
    options = (
        click.option("--max-voxels", "voxels", metavar="N", help="The voxels of an image, at most.", **count),
        click.option("--max-channels", "channels", metavar="N", help="Its channels, at most.", **count),
        click.option("--max-unpacked", "unpacked", metavar="8GB", help="What a small file may unpack to.", **nbytes),
        click.option("--max-block", "block", metavar="2GB", help="What must be read of a file at once.", **nbytes),
        click.option("--max-text", "text", metavar="64MB", help="What a file may say about itself.", **nbytes),
        click.option("--allow-remote", "remote", help="Let files name others at URLs.", **flag),
        click.option("--allow-vrt-paths", "outside", help="Let files name others in any folder.", **flag),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _part(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", value or "1/1")
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"'{value}' is no part such as 2/8, the second of eight.")
    return int(match[1]), int(match[2])


def JOB(command: Callable[..., Any]) -> Callable[..., Any]:  # noqa: N802 - used like the other options here
    """How a job is run: an archive through a model, resumable."""
    options = (
        click.option("--dask", metavar="local[:N]|tcp://...", help="Run on a dask cluster."),
        click.option("--part", metavar="I/N", callback=_part, help="Do one part; other processes do theirs."),
        click.option("--status", is_flag=True, help="Show how far the job is, and do nothing."),
        click.option("--verify", is_flag=True, help="Do finished blocks again that have changed on the disk."),
        click.option("--finish", is_flag=True, help="Complete outputs; blocks that were set aside stay invalid."),
        click.option("--restart", is_flag=True, help="Throw away what an unfinished job has done, and begin anew."),
        click.option("--force-unlock", is_flag=True, help="Take the lock of a run that is gone for good."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def ways_of(arguments: dict[str, Any]) -> Ways:
    """How a job is to be run, taken out of a command's arguments."""
    from geomedsr.run.ways import Ways

    return Ways(
        **{name: arguments.pop(name) for name in ("dask", "part", "verify", "finish", "restart", "force_unlock")}
    )


def show_status(out: Path, *, as_json: bool) -> None:
    """Tells how far the job at an output is."""
    from geomedsr.run.archive import status_of

    status = status_of(out)
    show(status.to_json() if as_json else status, as_json=as_json)
