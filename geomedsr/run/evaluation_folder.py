"""What an evaluation leaves in a folder: its numbers, a box plot, and the worst and the best case of each method."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geomedsr.errors import FailedError, OutputError
from geomedsr.io._staging import Staging, write_errors
from geomedsr.run.evaluating import Case
from geomedsr.run.targets import check_folder
from geomedsr.trust.evaluation import Evaluation

__all__ = ["EvaluationFolder", "as_json"]


@dataclass
class EvaluationFolder:
    """A folder that is shown each case while it is open, and written in the end.

    Raises:
        OutputError: it cannot be written, or holds an evaluation already that may not be replaced.
    """

    path: Path
    overwrite: bool = False
    _extremes: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_folder(self.path)
        if (self.path / "evaluation.json").exists() and not self.overwrite:
            raise OutputError(f"{self.path} holds an evaluation already; pass --overwrite to replace it.")

    def see(self, case: Case) -> None:
        """Draws the case where it is the worst or the best of its method so far, by its first metric."""
        from geomedsr.metrics import all_metrics

        name, value = next(iter(case.score.values.items()), ("", math.nan))
        if not name or math.isnan(value):
            return
        rises = all_metrics()[name].BETTER == "higher"
        for end, is_further in (("best", rises), ("worst", not rises)):
            key = (case.score.method, end)
            before = self._extremes.get(key)
            if before is None or (value > before if is_further else value < before):
                self._extremes[key] = value
                self._draw(case, end)

    def _draw(self, case: Case, end: str) -> None:
        from geomedsr.report.figures import before_after

        self.path.mkdir(exist_ok=True)
        score = case.score
        name, value = next(iter(score.values.items()))
        before_after(
            case.reference,
            case.prediction,
            self.path / f"{end}-{_plain(score.method)}.png",
            title=f"{score.image}, {end} by {name} ({value:.4g})",
            labels=("reference", score.method),
        )

    def write(self, found: Evaluation, note: Callable[[str], None]) -> None:
        """Writes the numbers, then the box plot, or a note why there is none."""
        from geomedsr.report.box_plot import box_plot

        self.path.mkdir(exist_ok=True)
        _put(self.path / "evaluation.json", json.dumps(as_json(found), indent=2) + "\n")
        _put(self.path / "images.csv", _table([score.to_json() for score in found.scores]))
        _put(self.path / "paired.csv", _table([_flat(one.to_json()) for one in found.paired]))
        try:
            box_plot(found, self.path / "boxplot.png")
        except FailedError as error:
            note(str(error))


def as_json(found: Evaluation) -> dict[str, Any]:
    """The evaluation with no number that JSON has not: None where one is infinite."""

    def finite(value: Any) -> Any:  # noqa: ANN401 - JSON values
        if isinstance(value, dict):
            return {key: finite(one) for key, one in value.items()}
        if isinstance(value, list):
            return [finite(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    plain: dict[str, Any] = finite(found.to_json())
    return plain


def _plain(name: str) -> str:
    """A method's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    low, high = row.pop("interval") or (None, None)
    return {**row, "low": low, "high": high}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _put(path: Path, text: str) -> None:
    staging = Staging(path)
    try:
        with write_errors(path):
            staging.path.write_text(text, encoding="utf-8")
        staging.publish()
    finally:
        staging.discard()
