"""A box plot of an evaluation: for each metric how the methods did, every image a dot."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from geomedsr.errors import FailedError
from geomedsr.io._staging import Staging, write_errors
from geomedsr.trust.evaluation import Evaluation

__all__ = ["box_plot"]

_COLUMNS = 4
_PANEL = 3.2


def box_plot(found: Evaluation, path: Path) -> Path:
    """A PNG with a panel for each metric that has a finite figure.

    Raises:
        FailedError: matplotlib is not installed.
        OutputError: the picture's folder is missing or read-only.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FailedError("The box plot needs matplotlib: pip install 'geomedsr[report]'.") from error
    metrics = list(dict.fromkeys(one.metric for one in found.summary))
    methods = list(dict.fromkeys(score.method for score in found.scores))
    columns = max(1, min(_COLUMNS, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    figure = Figure(figsize=(_PANEL * columns, _PANEL * rows), layout="constrained")
    for index, metric in enumerate(metrics, 1):
        facts = found.metrics[metric]
        panel = figure.add_subplot(rows, columns, index)
        values = [_values(found, method, metric) for method in methods]
        panel.boxplot(values, tick_labels=methods, showfliers=False)
        for place, dots in enumerate(values, 1):
            panel.plot(
                place + 0.24 * (np.arange(len(dots)) + 0.5) / max(len(dots), 1) - 0.12,
                dots,
                ".",
                color="tab:blue",
                alpha=0.6,
            )
        units = f" ({facts['units']})" if facts["units"] else ""
        panel.set_title(f"{facts['label']}{units}\n{facts['better']} is better", fontsize=9)
        panel.tick_params(labelsize=8, axis="both")
        panel.tick_params(axis="x", rotation=20)
    staging = Staging(path)
    try:
        with write_errors(path):
            figure.savefig(staging.path, format="png", dpi=120, metadata={"Software": None})
        staging.publish()
    finally:
        staging.discard()
    return path


def _values(found: Evaluation, method: str, metric: str) -> list[float]:
    figures = [score.values.get(metric, math.nan) for score in found.scores if score.method == method]
    return [value for value in figures if math.isfinite(value)]
