"""The command line: arguments in, one call into `geomedsr.run`, messages out; `--help` imports nothing heavy."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from geomedsr import __version__, registry
from geomedsr.commands._shared import EXIT_CODES, State
from geomedsr.errors import GeomedsrError
from geomedsr.terminal import harmless, say

__all__ = ["commands", "main", "run_command"]


_SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_TOGETHER = 0.3
"""Seconds within which a second signal is the first one heard twice: `timeout` and job schedulers send both to a
program and to its group."""


class StoppedError(BaseException):
    """A signal came. It is no Exception, so that nothing swallows it, and no KeyboardInterrupt, because Python ends
    itself with the signal, whatever the exit code, once one has passed through an `exec` of its own.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"geomedsr: {_SAID[signal.Signals(number)]}")


def main() -> NoReturn:
    """The program."""
    _catch_signals()
    code = run_command(sys.argv[1:])
    for number in _SAID:
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
        with suppress(OSError):  # the terminal that hung up
            say(f"{error}{_left(state)}")
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (the last line of defence: nobody sees a traceback unasked)
        return _failed(error, state)


def _left(state: State) -> str:
    """What is there after an interruption."""
    if state.out is not None and (done := _done(state.out)):
        return f"; {done} are done: the same command goes on from there."
    if state.training is None:
        return "; what was not finished has left nothing behind."
    if any(state.training.glob("checkpoint*")):
        return f"; its last checkpoint is in {state.training}: the same command with --resume goes on from there."
    return f" before the first checkpoint; at most a log is in {state.training}, and training starts anew."


def _done(out: Path) -> str | None:
    from geomedsr.run.archive import under_way

    return under_way(out)


def _failed(error: Exception, state: State) -> int:
    known = isinstance(error, GeomedsrError)
    say(f"geomedsr: error: {harmless(error if known else f'{type(error).__name__}: {error}', lines=False)}")
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
    """The first signal unwinds the work, which cleans up; the second ends the program where it stands.

    The second one is heard by a thread, as Python's own handlers wait until a call into a library returns. What such
    an end leaves beside the output, the next run sweeps.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        if len(caught) == 1:
            raise StoppedError(number)

    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=_end_at_the_second, args=(heard,), name="geomedsr-signals", daemon=True).start()
    for number in _SAID:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)


def _end_at_the_second(heard: int) -> None:
    first = None
    while number := os.read(heard, 1):
        if number[0] not in _SAID:
            continue
        if first is not None and time.monotonic() - first > _TOGETHER:
            with suppress(OSError):
                os.write(2, b"geomedsr: ended at once; what was there before is as it was.\n")
            os._exit(128 + number[0])
        first = first or time.monotonic()


class Commands(click.Group):
    """The commands of the folder `commands`; only the module of the one that is asked for is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return [name.replace("_", "-") for name in registry.names("commands")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One by its name, or None."""
        module = cmd_name.replace("-", "_")
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(registry.load("commands", module), module)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EXIT_CODES
)
@click.version_option(__version__, "--version", prog_name="geomedsr", message="%(prog)s %(version)s")
def commands() -> None:
    """Make medical volumes and satellite rasters finer, and keep them exactly where they are."""
