"""The command line: arguments in, one call into `geomedsr.run`, messages out; `--help` imports nothing heavy."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from geomedsr import __version__
from geomedsr.errors import GeomedsrError
from geomedsr.options import amount, key_value, numbers
from geomedsr.terminal import Terminal, say, show

__all__ = ["commands", "main", "run_command"]

EXIT_CODES = """\b
Exit codes: 0 done, 1 failed, 2 usage or bad input, 3 nothing matched,
4 some inputs failed, 130 interrupted."""

FOLDER = click.Path(path_type=Path, file_okay=False)
ANYWHERE = click.Path(path_type=Path)

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class State:
    """What a command tells `run_command` about how to report its failure."""

    verbose: bool = False
    training: Path | None = None


class StoppedError(BaseException):
    """SIGINT or SIGTERM came. It is no Exception, so that nothing swallows it, and no KeyboardInterrupt, because
    Python ends itself with the signal, whatever the exit code, once one has passed through an `exec` of its own.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"geomedsr: {'interrupted' if number == signal.SIGINT else 'terminated'}")


def main() -> NoReturn:
    """The program."""
    _catch_signals()
    code = run_command(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # all is done and said; what libraries tidy up now is not to be torn
    if code:
        _hush()
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Runs one command line and gives its exit code."""
    state = State()
    try:
        return int(commands.main(list(arguments), prog_name="geomedsr", standalone_mode=False, obj=state) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StoppedError as error:
        say(f"{error}{_left(state)}")
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (the last line of defence: nobody sees a traceback unasked)
        return _failed(error, state)


def _left(state: State) -> str:
    """What is there after an interruption."""
    if state.training is None:
        return "; what was not finished has left nothing behind."
    if any(state.training.glob("checkpoint*")):
        return f"; its last checkpoint is in {state.training}: the same command with --resume goes on from there."
    return f" before the first checkpoint; at most a log is in {state.training}, and training starts anew."


def _failed(error: Exception, state: State) -> int:
    known = isinstance(error, GeomedsrError)
    say(f"geomedsr: error: {error if known else f'{type(error).__name__}: {error}'}")
    if state.verbose:
        say("".join(traceback.format_exception(error)))
    elif not known:
        say("This is a fault of geomedsr's own; run it again with -v to see where it happened.")
    return error.exit_code if isinstance(error, GeomedsrError) else 1


def _hush() -> None:
    """After a failure, what libraries still have to say while the interpreter ends tells the user nothing."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda _: None


def _catch_signals() -> None:
    """The first SIGINT or SIGTERM unwinds the work, which cleans up; only the third one stops at once."""
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if len(caught) == 1:
            raise StoppedError(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXIT_CODES)
@click.version_option(__version__, "--version", prog_name="geomedsr", message="%(prog)s %(version)s")
def commands() -> None:
    """Make medical volumes and satellite rasters finer, and keep them exactly where they are."""


@commands.command(epilog=EXIT_CODES, short_help="Make images finer.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=ANYWHERE,
    required=True,
    help="The output file, or a folder in which the outputs keep the inputs' names.",
)
@click.option("-m", "--model", help="A model's name or folder; see: geomedsr models list.")
@click.option(
    "--scale", type=numbers, metavar="2|1,1,4", help="How many times finer, for nearest, linear, cubic, lanczos."
)
@click.option(
    "--bands", metavar="1,2,3,7|B02,B03", help="The input's channels in the model's order: numbers from 1, or names."
)
@click.option("--axes", type=numbers, metavar="0,1", help="The volume's axes that a model of 2 axes works on.")
@click.option("--format", "form", type=click.Choice(["nii", "nii.gz", "tif", "cog", "zarr"]), help="The output format.")
@click.option("--dtype", metavar="TYPE", help="The output's data type; else the input's own.")
@click.option("--co", "options", type=key_value, multiple=True, metavar="KEY=VALUE", help="A format's creation option.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where the network runs.")
@click.option("--precision", type=click.Choice(["float32", "bf16"]), default="float32", show_default=True)
@click.option("--tile", type=numbers, metavar="512,512", help="The tile in the input's voxels; else chosen by memory.")
@click.option("--memory", type=amount, metavar="4GB", help="The memory to use at most; else chosen by the machine's.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave inputs alone whose output exists.")
@click.option("--on-error", type=click.Choice(["stop", "continue"]), default="stop", show_default=True)
@click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing.")
@JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes; warnings and errors only.")
@VERBOSE
def upscale(**arguments: Any) -> int:  # noqa: ANN401  (the options above, passed on as they are)
    """Make images finer: files, folders, quoted globs, arrays inside a zarr.

    \b
    geomedsr upscale scan.nii.gz -o scan_fine.nii.gz -m mri-t1-x2
    geomedsr upscale scenes/ -o fine/ -m s2-rgbn-x2 --format cog
    geomedsr upscale 'raw/**/*.nii.gz' -o fine/ -m cubic --scale 1,1,4
    """  # noqa: D301  (click's own mark for lines to keep)
    from geomedsr.run.command import upscale_command

    terminal = Terminal(quiet=arguments.pop("quiet"), as_json=arguments.pop("as_json"))
    try:
        return upscale_command(terminal, **arguments)
    except GeomedsrError as error:
        terminal.refuse(arguments["inputs"], arguments["out"], error)
        raise


@commands.command(epilog=EXIT_CODES, short_help="Train a model from a recipe.")
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Images.")
@click.option("--out", type=FOLDER, required=True, help="The folder that the model and its checkpoints go into.")
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a recipe's key.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the output folder.")
@click.option("--cache", type=FOLDER, help="A folder in which the images are unpacked once, for quick reading.")
@click.option("--device", default="cpu", show_default=True, metavar="cpu|cuda", help="Where the network runs.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@VERBOSE
def train(recipe: Path, data: Path, out: Path, changes: Sequence[tuple[str, str]], **choices: Any) -> None:  # noqa: ANN401
    """Train the model that RECIPE (a YAML file) describes, and write it as a folder."""
    from geomedsr.recipe import read_recipe
    from geomedsr.run.training import train_files

    click.get_current_context().ensure_object(State).training = out
    train_files(read_recipe(recipe, dict(changes)), data, out, **choices)
    show(out, as_json=False)


@commands.command(epilog=EXIT_CODES, short_help="Teach the encoder of a perceptual loss.")
@click.argument("recipe", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Images.")
@click.option("--out", type=FOLDER, required=True, help="The folder that the encoder goes into.")
@click.option("--set", "changes", type=key_value, multiple=True, metavar="KEY=VALUE", help="Change a recipe's key.")
@click.option("--steps", type=click.IntRange(min=1), default=1500, show_default=True, help="How long it is taught.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@VERBOSE
def train_encoder(recipe: Path, data: Path, out: Path, changes: Sequence[tuple[str, str]], **choices: Any) -> None:  # noqa: ANN401
    """Teach an encoder on the images that RECIPE (a YAML file) trains on, without labels, and write it as a folder.

    A recipe names it in its perceptual loss: {name: perceptual, encoder: FOLDER}.
    """
    from geomedsr.recipe import read_recipe
    from geomedsr.run.encoder import train_encoder_files

    click.echo(train_encoder_files(read_recipe(recipe, dict(changes)), data, out, **choices))


@commands.group()
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


@commands.command(short_help="Show what an image is, and where.")
@click.argument("path", type=ANYWHERE)
@JSON
@VERBOSE
def info(path: Path, as_json: bool) -> None:
    """Show an image's shape, spacing, place, data type and channels."""
    from geomedsr.run.description import describe, lines

    for member in describe(path):
        show(member if as_json else lines(member), as_json=as_json)


@commands.command(short_help="Show whether all is well with this installation.")
@JSON
@VERBOSE
def doctor(as_json: bool) -> int:
    """Show versions, devices and memory, and try each format with a small image."""
    from geomedsr.run.doctor import examine, lines

    findings = examine()
    show(findings if as_json else lines(findings), as_json=as_json)
    return 0 if findings["well"] else 1


@commands.command(short_help="Upscale the sample images and draw the results.")
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True, help="The folder for the results.")
@click.option("--data", type=FOLDER, help="The folder with the sample images; else the one beside the package.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.")
@VERBOSE
def demo(out: Path, data: Path | None, quiet: bool) -> None:
    """Upscale a sample scan and a sample scene, check their geometry, and draw before and after."""
    from geomedsr.run.demo import run_demo

    for path in run_demo(out, data, Terminal(quiet=quiet)):
        show(path, as_json=False)
