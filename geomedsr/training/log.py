"""What a training says while it runs: a CSV beside the weights, a line or a bar on stderr, and the recipe's loggers."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from geomedsr.training.loggers import Logger

__all__ = ["Log"]

_FIELDS = ("step", "loss", "rate", "seconds", "psnr", "ssim", "psnr_cubic", "ssim_cubic")


class Log:
    """Rows in `log.csv`, told to people on stderr; rows beyond the step that a resumed run starts from are dropped.

    Without a folder it writes and says nothing, as in a process that does not lead.
    """

    def __init__(
        self, folder: Path | None, total: int, start: int, quiet: bool, loggers: Sequence[Logger] = ()
    ) -> None:
        self._path = None if folder is None else folder / "log.csv"
        self._total, self._quiet, self._began, self._start = total, quiet, time.monotonic(), start
        self._loggers = loggers
        self._fields = list(_FIELDS)
        self._handle: Any = None
        self._open(self._rows(start) if start else [])
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Log:
        if self._path is not None and not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("training", total=self._total, completed=self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in self._loggers:
            logger.close()
        if self._handle is not None:
            self._handle.close()
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int, rate: float, loss: float, figures: Mapping[str, float]) -> None:
        """A step is done: its loss, and the figures of the losses where they are several or learn."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"loss {loss:.5f}")
        if step % 50 == 0 or step == self._total:
            self._write(step, {"loss": loss, **figures}, {"rate": f"{rate:.3g}"})
            if step % 250 == 0:
                self.say(f"step {step} of {self._total}, loss {loss:.5f}, {self._pace(step)}")

    def score(self, step: int, scores: Mapping[str, float], picture: Path | None) -> None:
        """The validation images were scored."""
        self._write(step, {key: scores[key] for key in ("psnr", "ssim", "psnr_cubic", "ssim_cubic")}, {})
        if picture is not None:
            for logger in self._loggers:
                logger.picture(step, picture)
        self.say(
            f"step {step}: {scores['psnr']:.2f} dB, {scores['gain']:+.2f} dB over cubic; "
            f"SSIM {scores['ssim']:.4f} (cubic {scores['ssim_cubic']:.4f})"
        )

    def say(self, sentence: str) -> None:
        """A line for people."""
        if self._bar is not None:
            self._bar.console.print(sentence, highlight=False)
        elif self._path is not None and not self._quiet:
            sys.stderr.write(sentence + "\n")
            sys.stderr.flush()

    def _pace(self, step: int) -> str:
        pace = (time.monotonic() - self._began) / max(step - self._start, 1)
        return f"{1 / pace:.1f} steps/s, {(self._total - step) * pace / 60:.0f} min left"

    def _write(self, step: int, figures: Mapping[str, float], words: Mapping[str, str]) -> None:
        if self._path is None:
            return
        if any(name not in self._fields for name in figures):
            # A loss tells of something for the first time: the file begins anew with one more column.
            self._fields += [name for name in figures if name not in self._fields]
            self._handle.close()
            self._open(self._rows(step))
        row = {name: f"{figure:.6g}" for name, figure in figures.items()}
        self._writer.writerow({"step": step, "seconds": f"{time.monotonic() - self._began:.1f}", **words, **row})
        self._handle.flush()
        for logger in self._loggers:
            logger.figures(step, figures)

    def _open(self, rows: Sequence[Mapping[str, str]]) -> None:
        if self._path is None:
            return
        self._fields += [name for row in rows[:1] for name in row if name not in self._fields]
        self._handle = open(self._path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._writer = csv.DictWriter(self._handle, self._fields)
        self._writer.writeheader()
        self._writer.writerows(rows)

    def _rows(self, last: int) -> list[dict[str, str]]:
        if self._path is None or not self._path.exists():
            return []
        with open(self._path, newline="", encoding="utf-8") as handle:
            return [row for row in csv.DictReader(handle) if row.get("step") and int(row["step"]) <= last]
