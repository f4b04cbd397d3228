"""`geomedsr evaluate`: predictions held against references, or models against references that they make coarse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from geomedsr.errors import GeomedsrError, InputError
from geomedsr.grid import Box, Factor
from geomedsr.image import Image, Source
from geomedsr.io import format_of
from geomedsr.run.channels import Selected, parse_bands
from geomedsr.run.inputs import expand
from geomedsr.run.pairing import Match, check_alike, matched
from geomedsr.run.simulating import BASELINE, Judge
from geomedsr.trust.evaluation import Evaluation, Score

if TYPE_CHECKING:
    from geomedsr.stage import Part

__all__ = ["Case", "Question", "asked", "evaluate", "table"]

Told = Callable[[str], None]

_SHOWN = ("psnr", "ssim", "ms_ssim", "nrmse", "fourier", "sam", "ergas")


@dataclass(frozen=True)
class Question:
    """What is asked: which metrics, by which data range (None: that of each reference, largest less smallest value)."""

    metrics: tuple[str, ...] = ()
    data_range: float | None = None
    bands: str | None = None

    def __post_init__(self) -> None:
        if self.data_range is not None and not self.data_range > 0:
            raise GeomedsrError(f"--data-range is a number above 0, not {self.data_range:g}.")


@dataclass(frozen=True)
class Case:
    """One prediction and its reference, and how it did."""

    score: Score
    prediction: Source = field(repr=False)
    reference: Source = field(repr=False)


def asked(
    predictions: Sequence[str],
    references: Sequence[str],
    models: tuple[str, ...],
    data: Sequence[str],
    bands: str | None,
    axes: tuple[int, ...] | None,
    seed: int,
    degradation: str | None = None,
) -> Judge | None:
    """The judge of models where models are asked for, None where predictions are.

    Raises:
        GeomedsrError: neither or both are, or a half of one.
    """
    if predictions and references and not models and not data:
        return None
    if models and data and not predictions and not references:
        return Judge(models, bands, axes, seed, _part(degradation))
    raise GeomedsrError(
        "evaluate takes predictions with --against their references, or --model with --data; "
        f"got {len(predictions)} predictions, {len(references)} --against, {len(models)} --model, {len(data)} --data."
    )


def _part(text: str | None) -> Part | None:
    """A degradation by its name, or with its settings as a recipe has them."""
    from geomedsr.stage import Part
    from geomedsr.strict import values_of

    if text is None:
        return None
    values = values_of(text, "--degradation")
    try:
        return Part.model_validate({"name": values} if isinstance(values, str) else values)
    except ValidationError as error:
        raise GeomedsrError(f"--degradation is a name, or settings as a recipe has them; got {text}.") from error


def evaluate(
    question: Question,
    *,
    predictions: Sequence[str] = (),
    references: Sequence[str] = (),
    judge: Judge | None = None,
    data: Sequence[str] = (),
    tell: Told = lambda text: None,
    see: Callable[[Case], None] = lambda case: None,
) -> Evaluation:
    """The scores of all predictions, or of the judge's models on all data; `see` is shown each case while it is open.

    Raises:
        GeomedsrError: a pair cannot be compared, or a model does not fit.
    """
    from geomedsr.metrics import all_metrics
    from geomedsr.trust.paired import paired, summarised

    unknown = sorted({*question.metrics} - {*all_metrics()})
    if unknown:
        raise GeomedsrError(f"There is no metric {', '.join(unknown)}; there are {', '.join(all_metrics())}.")
    cases = _paired(matched(predictions, references), question) if judge is None else _simulated(judge, data, question)
    scores, units = [], set()
    for case in cases:
        scores.append(case.score)
        units.add(case.reference.spec.grid.units or "voxels")
        tell(_line(case.score))
        see(case)
    base = BASELINE if judge is not None else scores[0].method
    told = "of each reference: largest less smallest valid value" if question.data_range is None else "as given"
    words = {"space": " or ".join(sorted(units)), "image": "image units"}
    facts = {
        name: {"label": metric.LABEL, "units": words.get(metric.UNITS, metric.UNITS), "better": metric.BETTER}
        for name, metric in all_metrics().items()
    }
    better = {name: fact["better"] for name, fact in facts.items()}
    return Evaluation(tuple(scores), summarised(scores), paired(scores, base, better), told, facts)


def _paired(matches: Sequence[Match], question: Question) -> Iterator[Case]:
    for match in matches:
        prediction, reference = (format_of(p).open_source(p) for p in (match.prediction, match.reference))
        try:
            if question.bands is not None:
                index = parse_bands(question.bands, reference.spec.channels, match.reference.name)
                reference = Selected(reference, index)
            check_alike(prediction.spec, reference.spec, str(match.prediction), str(match.reference))
            yield _judged(match.image, match.method, prediction, reference, (), question, str(match.prediction))
        finally:
            prediction.close()
            reference.close()


def _simulated(judge: Judge, data: Sequence[str], question: Question) -> Iterator[Case]:
    for found in expand(data):
        source = format_of(found.path).open_source(found.path)
        try:
            for method, prediction, reference in judge.simulated(found.path, source):
                factor = judge.model.task.factor
                yield _judged(str(found.relative), method, prediction, reference, factor, question, str(found.path))
        finally:
            source.close()


def _judged(
    image: str, method: str, prediction: Source, reference: Source, factor: Factor, question: Question, file: str
) -> Case:
    from geomedsr.metrics import Compared, all_metrics

    whole, spec = Box.whole(reference.spec.grid.shape), reference.spec
    sr, hr = prediction.read(whole), reference.read(whole)
    both = np.isfinite(sr) & np.isfinite(hr)
    if not both.any():
        raise InputError(f"{file} and its reference have no voxel that is valid in both: there is nothing to compare.")
    valid = hr[np.isfinite(hr)]
    span = question.data_range or float(valid.max() - valid.min()) or 1.0
    pair = Compared(sr, hr, span, spec.grid.spacing, spec.grid.units, factor, spec.channels)
    names = question.metrics or tuple(all_metrics())
    values = {name: value for name in names if (value := all_metrics()[name].measure(pair)) is not None}
    return Case(Score(image, method, values, span), Image(prediction.spec, sr), Image(spec, hr))


def _line(score: Score) -> str:
    shown = [f"{name} {score.values[name]:.4g}" for name in _SHOWN if name in score.values]
    return f"{score.image}, {score.method}: {', '.join(shown[:3])}"


def table(found: Evaluation) -> str:
    """Means of each method, then the paired differences, as a person reads them."""
    from geomedsr.metrics import all_metrics

    methods = list(dict.fromkeys(score.method for score in found.scores))
    labels = {name: metric.LABEL for name, metric in all_metrics().items()}
    rows = [["metric", *methods, ""]]
    for name in dict.fromkeys(one.metric for one in found.summary):
        cells = {one.method: f"{one.mean:.5g} ± {one.std:.2g}" for one in found.summary if one.metric == name}
        units = found.metrics[name]["units"]
        better = f"{found.metrics[name]['better']} is better"
        rows.append([f"{labels[name]} {units}".strip(), *(cells.get(method, "-") for method in methods), better])
    text = [_aligned(rows)]
    if found.paired:
        head = [["difference", "method", "mean", "95 % interval", "better on"]]
        lines = [
            [
                labels[one.metric],
                f"{one.method} - {one.against}",
                f"{one.difference:+.4g}",
                f"{one.interval[0]:+.4g} to {one.interval[1]:+.4g}" if one.interval else "one image: none",
                f"{one.better} of {one.images}",
            ]
            for one in found.paired
        ]
        text.append(_aligned(head + lines))
    return "\n\n".join([*text, f"data range: {found.data_range}"])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
