"""What a model was found to be worth after its training: on images of its own domain and of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geomedsr.errors import ModelError

__all__ = ["OWN", "Judgement", "Row"]

OWN = "its own"
"""What the degradation of a model's own recipe is called."""


@dataclass(frozen=True, slots=True)
class Row:
    """How several methods did on one image: metrics by method. `domain` is `in` for the recipe's test images, else
    `out`; `about` says what the image is; `degradation` is what made it coarse.
    """

    image: str
    about: str
    domain: str
    degradation: str
    scores: Mapping[str, Mapping[str, float]]

    @property
    def gain(self) -> float:
        """How many dB of PSNR over cubic."""
        return self.scores["model"]["psnr"] - self.scores["cubic"]["psnr"]

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        scores = {method: dict(values) for method, values in self.scores.items()}
        return {**{key: getattr(self, key) for key in ("image", "about", "domain", "degradation")}, "scores": scores}


@dataclass(frozen=True)
class Judgement:
    """All of it, for the weights with this SHA-256. `speed`, `coverage` and `likeness` are as the judge wrote them."""

    sha256: str
    pieces: str
    rows: tuple[Row, ...]
    speed: Mapping[str, Any] = field(default_factory=dict)
    coverage: Mapping[str, float] = field(default_factory=dict)
    likeness: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: str) -> Judgement:
        """The judgement in plain JSON values.

        Raises:
            ModelError: they are none; the message names `origin`.
        """
        try:
            rows = tuple(Row(**row) for row in values["rows"])
            if not rows or any({"model", "cubic"} - set(row.scores) for row in rows):
                raise ValueError("it has no rows that hold a model against cubic")
            parts = (dict(values.get(key, {})) for key in ("speed", "coverage", "likeness"))
            return cls(str(values["sha256"]), str(values["pieces"]), rows, *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{origin} is no judgement of a model: {error}.") from error

    def to_json(self) -> dict[str, Any]:
        """The judgement as plain JSON values."""
        return {
            "sha256": self.sha256,
            "pieces": self.pieces,
            "rows": [row.to_json() for row in self.rows],
            "speed": dict(self.speed),
            "coverage": dict(self.coverage),
            "likeness": {name: dict(values) for name, values in self.likeness.items()},
        }

    @property
    def worst(self) -> Row:
        """The row with the smallest gain over cubic."""
        return min(self.rows, key=lambda row: row.gain)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, the model first."""
        return tuple(self.rows[0].scores)

    @property
    def degradations(self) -> tuple[str, ...]:
        """What the images were made coarse by, the model's own first."""
        return tuple(dict.fromkeys(row.degradation for row in self.rows))

    def chosen(self, domain: str | None = None, degradation: str | None = None) -> tuple[Row, ...]:
        """The rows of a domain and of a degradation (None: of all)."""
        asked = {"domain": domain, "degradation": degradation}
        return tuple(row for row in self.rows if all(v is None or getattr(row, k) == v for k, v in asked.items()))

    def summary(self) -> dict[str, Any]:
        """What a list of models shows: mean gains over cubic (dB) in its domain and out of it, and the least."""
        found = {f"gain_{domain}": _mean(self.chosen(domain, OWN)) for domain in ("in", "out")}
        return {**found, "gain_least": self.worst.gain, "images": len({row.image for row in self.rows})}

    def groups(self) -> Iterator[tuple[str, str, tuple[Row, ...]]]:
        """The rows by domain and degradation, those that there are."""
        for domain in ("in", "out"):
            for degradation in self.degradations:
                rows = self.chosen(domain, degradation)
                if rows:
                    yield domain, degradation, rows


def _mean(rows: Sequence[Row]) -> float | None:
    return float(np.mean([row.gain for row in rows])) if rows else None
