"""What the user sees: results on stdout, everything else on stderr (a bar on a terminal, plain lines elsewhere)."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from geomedsr.run.targets import Job
    from geomedsr.run.upscaling import Report

__all__ = ["Terminal", "harmless", "say", "show"]

_STRANGE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_STRANGE_IN_LINE = re.compile(rf"{_STRANGE.pattern[:-1]}\n\t]")

_SOONEST, _LATEST, _STEP = 10.0, 60.0, 0.1
"""Where stderr is no terminal, a line comes after 10 s when a tenth more is done, and after 60 s anyway."""


def say(text: str) -> None:
    """A line on stderr."""
    click.echo(harmless(text), err=True)


def show(value: object, *, as_json: bool) -> None:
    """A result on stdout: JSON in one line, or as text."""
    click.echo(json.dumps(value) if as_json else harmless(str(value)))


def harmless(text: object, *, lines: bool = True) -> str:
    r"""A text without what would steer a terminal: names in files come from anywhere.

    Example:
        >>> print(harmless("red\x1b[2J"), harmless("two\nlines", lines=False))
        red\x1b[2J two\nlines
    """
    strange = _STRANGE if lines else _STRANGE_IN_LINE
    return strange.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


@dataclass
class Terminal:
    """Hears how the work goes and tells the user."""

    quiet: bool = False
    as_json: bool = False
    _job: Job | None = None
    _began: float = 0.0
    _last_line: tuple[float, float] = (0.0, 0.0)
    _bar: Progress | None = None
    _task: TaskID | None = None

    def begin(self, job: Job) -> None:
        """An image is begun."""
        self._job, self._began = job, time.monotonic()
        self._last_line = (self._began, 0.0)
        if not self.quiet and sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(harmless(job.source.name, lines=False), total=None)
            self._bar.start()

    def progress(self, done: int, total: int) -> None:
        """So many of its voxels are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif not self.quiet and self._is_due(done / total):
            self._last_line = (time.monotonic(), done / total)
            say(self._line(done, total))

    def _is_due(self, share: float) -> bool:
        waited = time.monotonic() - self._last_line[0]
        return waited >= _LATEST or (waited >= _SOONEST and share >= self._last_line[1] + _STEP)

    def _line(self, done: int, total: int) -> str:
        rate = max(done, 1) / (time.monotonic() - self._began)
        name = self._job.source.name if self._job else ""
        return f"{name}: {done / total:.0%}, {rate / 1e6:.2f} million voxels/s, {(total - done) / rate:.0f} s left"

    def note(self, text: str) -> None:
        """Something worth knowing."""
        if not self.quiet:
            self._tell(text)

    def warn(self, text: str) -> None:
        """Something that may spoil the result: also told when quiet."""
        self._tell(f"geomedsr: warning: {harmless(text, lines=False)}")

    def _tell(self, text: str) -> None:
        if self._bar is None:
            say(text)
        else:  # above the bar, which is being drawn
            self._bar.console.print(harmless(text), markup=False, highlight=False)

    def end(self) -> None:
        """The image is done, or given up."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def report(self, report: Report) -> None:
        """The result of one input: on stdout where there is one, on stderr where there is none."""
        if report.error is not None:
            say(f"geomedsr: error: {harmless(report.error, lines=False)}")
        if self.as_json:
            show(report.to_json(), as_json=True)
        elif report.status in ("done", "planned"):
            show(report.output, as_json=False)
        if report.status == "skipped":
            self.note(f"{report.output} exists already; {report.input} was skipped.")
        if report.status == "planned":
            self._plan(report)

    def refuse(self, inputs: Sequence[str], out: Path, error: Exception) -> None:
        """Nothing was done at all: who reads JSON is told there, too, with an input where there is but one."""
        if self.as_json:
            named = inputs[0] if len(inputs) == 1 else None
            refused = {"input": named, "output": str(out), "status": "failed", "error": str(error)}
            show(refused, as_json=True)

    def _plan(self, report: Report) -> None:
        for warning in report.warnings:
            self.warn(warning)
        if report.before and report.after:
            from geomedsr.io import size

            shapes = [" x ".join(map(str, spec.grid.shape)) for spec in (report.before, report.after)]
            room = f"{report.after.dtype}, {size(report.after.nbytes)} before compression"
            self.note(f"{report.input}: {shapes[0]} would become {shapes[1]} voxels ({room}).")


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed / 1e6:.2f} million voxels/s" if task.speed else "")

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")]
    return Progress(*columns, Rate(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
