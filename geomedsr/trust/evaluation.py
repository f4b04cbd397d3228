"""What was found when predictions were held against references: a score an image, and differences between methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evaluation", "Paired", "Score", "Summary"]


@dataclass(frozen=True, slots=True)
class Score:
    """How one method did on one image, metric by metric (a metric that says nothing of such an image is left out)."""

    image: str
    method: str
    values: Mapping[str, float]
    data_range: float

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON values."""
        return {"image": self.image, "method": self.method, "data_range": self.data_range, **self.values}


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and standard deviation of a metric over the images of a method."""

    method: str
    metric: str
    images: int
    mean: float
    std: float

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return {
            "method": self.method,
            "metric": self.metric,
            "images": self.images,
            "mean": self.mean,
            "std": self.std,
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean difference of a metric between two methods on the same images, and its 95 % interval.

    The interval is None where one image alone leaves nothing to resample. `better` is on how many images `method`
    did better than `against`.
    """

    method: str
    against: str
    metric: str
    images: int
    difference: float
    interval: tuple[float, float] | None
    better: int

    def to_json(self) -> dict[str, Any]:
        """The difference as plain JSON values."""
        return {
            "method": self.method,
            "against": self.against,
            "metric": self.metric,
            "images": self.images,
            "difference": self.difference,
            "interval": list(self.interval) if self.interval else None,
            "better": self.better,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of an evaluation. `metrics` tells of each its units and which way is better."""

    scores: tuple[Score, ...]
    summary: tuple[Summary, ...]
    paired: tuple[Paired, ...]
    data_range: str
    metrics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        return {
            "images": [score.to_json() for score in self.scores],
            "summary": [one.to_json() for one in self.summary],
            "paired": [one.to_json() for one in self.paired],
            "data_range": self.data_range,
            "metrics": {name: dict(facts) for name, facts in self.metrics.items()},
        }
