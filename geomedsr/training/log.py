"""What a training says while it runs: a CSV beside the weights, and a line or a bar on stderr."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Log"]

_FIELDS = ("step", "loss", "rate", "seconds", "psnr", "ssim", "psnr_cubic", "ssim_cubic")


class Log:
    """Rows in `log.csv`, told to people on stderr; rows beyond the step that a resumed run starts from are dropped."""

    def __init__(self, folder: Path, total: int, start: int, quiet: bool) -> None:
        self._path = folder / "log.csv"
        self._total, self._quiet, self._began, self._start = total, quiet, time.monotonic(), start
        kept = self._rows(start) if start else []
        self._handle = open(self._path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        self._writer = csv.DictWriter(self._handle, _FIELDS)
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Log:
        if not self._quiet and sys.stderr.isatty():
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
        self._handle.close()
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int, loss: float, rate: float) -> None:
        """A step is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"loss {loss:.5f}")
        if step % 50 == 0 or step == self._total:
            self._write(step=step, loss=f"{loss:.6g}", rate=f"{rate:.3g}")
            if step % 250 == 0:
                self.say(f"step {step} of {self._total}, loss {loss:.5f}, {self._pace(step)}")

    def score(self, step: int, scores: dict[str, float]) -> None:
        """The validation images were scored."""
        figures = {key: f"{scores[key]:.4f}" for key in ("psnr", "ssim", "psnr_cubic", "ssim_cubic")}
        self._write(step=step, **figures)
        self.say(
            f"step {step}: {scores['psnr']:.2f} dB, {scores['gain']:+.2f} dB over cubic; "
            f"SSIM {scores['ssim']:.4f} (cubic {scores['ssim_cubic']:.4f})"
        )

    def say(self, sentence: str) -> None:
        """A line for people."""
        if self._bar is not None:
            self._bar.console.print(sentence, highlight=False)
        elif not self._quiet:
            sys.stderr.write(sentence + "\n")
            sys.stderr.flush()

    def _pace(self, step: int) -> str:
        pace = (time.monotonic() - self._began) / max(step - self._start, 1)
        return f"{1 / pace:.1f} steps/s, {(self._total - step) * pace / 60:.0f} min left"

    def _write(self, **row: object) -> None:
        self._writer.writerow({"seconds": f"{time.monotonic() - self._began:.1f}", **row})
        self._handle.flush()

    def _rows(self, start: int) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with open(self._path, newline="", encoding="utf-8") as handle:
            return [row for row in csv.DictReader(handle) if row.get("step") and int(row["step"]) <= start]
