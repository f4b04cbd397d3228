"""What was measured elsewhere, as the page's tables: scores, checks, an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomedsr.errors import InputError
from geomedsr.metrics import all_metrics

__all__ = ["Row", "Scores", "Table", "check_rows", "evaluation_tables", "number", "read_json", "scores_table", "worst"]

_LARGEST = 64 << 20
_STATUS = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Row:
    """A metric's line: a value for each method, and which one is best (None: all are alike, or one is missing)."""

    label: str
    unit: str
    values: tuple[str, ...]
    best: int | None
    better: str


@dataclass(frozen=True)
class Scores:
    """The metrics of several methods side by side."""

    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str


@dataclass(frozen=True)
class Table:
    """Any table of words: the first column names the line."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def number(value: float | None, digits: int = 4) -> str:
    """A number as people read it.

    Example:
        >>> number(0.000123456), number(1234.5678), number(float("nan"))
        ('0.0001235', '1235', '–')
    """
    if value is None or not math.isfinite(value):
        return "–" if value is None or math.isnan(value) else ("∞" if value > 0 else "−∞")
    return (
        f"{value:.{digits}g}" if abs(value) < 1e6 and (abs(value) >= 1e-4 or value == 0) else f"{value:.{digits - 1}e}"
    )


def scores_table(scores: Mapping[str, Mapping[str, float]], units: tuple[str, str], note: str) -> Scores | None:
    """The scores of each method as a table, the better one marked; `units` are those of values and of space."""
    if not scores:
        return None
    names = [name for name in all_metrics() if any(name in values for values in scores.values())]
    return Scores(tuple(scores), tuple(_row(name, scores, units) for name in names), note)


def _row(name: str, scores: Mapping[str, Mapping[str, float]], units: tuple[str, str]) -> Row:
    metric = all_metrics()[name]
    unit = {"image": units[0], "space": units[1]}.get(metric.UNITS, metric.UNITS)
    values = [values.get(name) for values in scores.values()]
    known = [value for value in values if value is not None]
    best = None
    if len(known) == len(values) and len(set(known)) > 1:
        best = values.index(max(known) if metric.BETTER == "higher" else min(known))
    return Row(metric.LABEL, unit, tuple(number(value) for value in values), best, metric.BETTER)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: it is missing, too large, or holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is {path.stat().st_size / 1e6:.0f} MB, too large to be the JSON of {what}.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise InputError(f"{path} cannot be read as the JSON of {what}: {reason}.") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is not the JSON of {what}: it holds no object.")
    return data


def check_rows(data: Mapping[str, Any], source: str) -> list[dict[str, str]]:
    """The checks of a verification, as words.

    Raises:
        InputError: it is none; `source` is what it is called.
    """
    checks = data.get("checks")
    if not isinstance(checks, list) or not all(
        isinstance(check, dict) and check.get("status") in _STATUS for check in checks
    ):
        raise InputError(f"{source} is not what geomedsr verify --json writes: it has no list of checks with a status.")
    return [_check(group) for group in _grouped(checks)]


def _grouped(checks: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The checks, those that passed alike in several channels together; what did not pass stands alone."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for place, check in enumerate(checks):
        alike = [str(check.get(key)) for key in ("name", "limit", "unit", "explanation")]
        passed = check["status"] == "ok" and isinstance(check.get("found"), int | float)
        groups.setdefault((*alike, "" if passed else str(place)), []).append(check)
    return list(groups.values())


def _check(group: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    check = group[0] if len(group) == 1 else max(group, key=lambda one: abs(one["found"]))
    unit = f" {check['unit']}" if check.get("unit") else ""
    figures = {key: _figure(check.get(key)) for key in ("found", "limit")}
    return {
        **{key: str(check.get(key, "")) for key in ("name", "status", "explanation")},
        "channel": ", ".join(str(one.get("channel", "")) for one in group).strip(", "),
        "found": f"{'at most ' if len(group) > 1 else ''}{figures['found']}{unit}" if figures["found"] else "",
        "limit": f"{figures['limit']}{unit}" if figures["limit"] else "",
    }


def _figure(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return number(value)


def worst(checks: Sequence[Mapping[str, str]]) -> str:
    """The worst status of some checks, "" of none."""
    return max((check["status"] for check in checks), key=_STATUS.index, default="")


def evaluation_tables(data: Mapping[str, Any], source: str) -> list[Table]:
    """An evaluation's means and paired differences, as tables.

    Raises:
        InputError: it is none; `source` is what it is called.
    """
    try:
        tables = [_means(data["summary"], data["metrics"], str(data["data_range"]))]
        return tables + ([_pairs(data["paired"])] if data["paired"] else [])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source} is not what geomedsr evaluate writes: it has no summary by method and metric."
        ) from error


def _means(summary: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any], data_range: str) -> Table:
    methods = tuple(dict.fromkeys(str(one["method"]) for one in summary))
    found = {(str(one["metric"]), str(one["method"])): one for one in summary}
    rows = [
        (_named(name, metrics), *(_mean(found.get((name, method))) for method in methods))
        for name in dict.fromkeys(str(one["metric"]) for one in summary)
    ]
    images = max((int(one["images"]) for one in summary), default=0)
    note = f"Mean and standard deviation over {images} images; data range: {data_range}."
    return Table("Evaluation", ("Metric", *methods), tuple(rows), note)


def _named(name: str, metrics: Mapping[str, Any]) -> str:
    facts = metrics.get(name, {})
    unit = facts.get("units") or facts.get("unit")
    return f"{facts.get('label', name)}{f' ({unit})' if unit else ''}"


def _mean(one: Mapping[str, Any] | None) -> str:
    return "–" if one is None else f"{number(one['mean'])} ± {number(one['std'], 2)}"


def _pairs(paired: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            f"{one['metric']}: {one['method']} against {one['against']}",
            number(one["difference"]),
            " to ".join(number(end) for end in one["interval"]) if one["interval"] else "–",
            f"{one['better']} of {one['images']}",
        )
        for one in paired
    )
    head = ("Difference on the same images", "Mean", "95 % interval", "Better on")
    return Table("Paired differences", head, rows, "The intervals are from bootstrap samples of the images.")
