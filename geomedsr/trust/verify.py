"""What was found when an output was held against its input: a list of checks, as values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Check", "Status", "Verification", "judged"]

Status = Literal["ok", "warn", "fail"]
_ORDER: tuple[Status, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, what the limit is, and what it means.

    `found` and `limit` are in `unit`; `channel` is empty where a check is about the whole image.
    """

    name: str
    status: Status
    found: float
    limit: float
    unit: str = ""
    channel: str = ""
    explanation: str = ""

    def to_json(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        return {
            "name": self.name,
            "status": self.status,
            "found": _finite(self.found),
            "limit": _finite(self.limit),
            "unit": self.unit,
            "channel": self.channel,
            "explanation": self.explanation,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """All checks of an output against its input. `model` is the name of the model that made it, "" if unknown."""

    input: str
    output: str
    model: str = ""
    checks: tuple[Check, ...] = field(default=())

    @property
    def status(self) -> Status:
        """The worst of the checks."""
        return max((check.status for check in self.checks), key=_ORDER.index, default="ok")

    @property
    def exit_code(self) -> int:
        """1 where a check failed, else 0."""
        return int(self.status == "fail")

    def to_json(self) -> dict[str, Any]:
        """The verification as plain JSON values."""
        return {
            "input": self.input,
            "output": self.output,
            "model": self.model,
            "status": self.status,
            "checks": [check.to_json() for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Verification:
        """The verification that `to_json` wrote."""
        checks: Sequence[dict[str, Any]] = data["checks"]
        return cls(data["input"], data["output"], data["model"], tuple(Check(**check) for check in checks))


def judged(
    name: str,
    found: float,
    warn: float,
    fail: float,
    *,
    unit: str = "",
    channel: str = "",
    explanation: str = "",
) -> Check:
    """The check of a figure that should be small: above `warn` it warns, above `fail` it fails.

    The limit that is told is the one that was passed, or the next that would be.

    Example:
        >>> judged("shift", 0.08, 0.05, 0.1, unit="voxel").status
        'warn'
    """
    status: Status = "fail" if found > fail else "warn" if found > warn else "ok"
    return Check(name, status, float(found), float(fail if found > fail else warn), unit, channel, explanation)


def _finite(value: float) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None
