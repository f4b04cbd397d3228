"""What a card tells of a judgement, in Markdown: by degradation, image by image, what it costs, where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geomedsr.run.judgement import OWN, Judgement, Row

__all__ = ["by_degradation", "by_image", "cost", "curve", "failures", "held", "judged", "likenesses", "table"]

_DIGITS = {"psnr": ".2f", "ssim": ".4f", "sam": ".2f", "ergas": ".2f"}
_LABELS = {"psnr": "PSNR / dB", "ssim": "SSIM", "sam": "SAM / °", "ergas": "ERGAS"}
_DOMAINS = {"in": "test", "out": "others"}
_PLAIN = ("model", "cubic")
_KINDS = {
    "perceptual": "perceptual distance",
    "frechet": "Fréchet distance",
    "spectrum": "spectral distance / dB",
    "improvement": "share improved",
    "omission": "share left as blurred",
    "hallucination": "share invented",
}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def judged(one: Judgement) -> str:
    """The section on images of its own domain and of others."""
    bad = sorted((row for row in one.rows if row.gain <= 0), key=lambda row: row.gain)
    worst = f"{one.worst.gain:+.2f} dB ({_name(one.worst)}, {one.worst.degradation})"
    count = len({row.image for row in one.rows})
    verdict = f"On none of the {count} images was it below cubic: the least gain was {worst}."
    if bad:
        verdict = f"**It was below cubic in {len(bad)} of {len(one.rows)} cases**, most of all by {worst}."
    text = (
        f'Judged after the training on {one.pieces}, made coarse by the model\'s own degradation ("{OWN}") and by '
        "others. Test images are those of the recipe; the others come from elsewhere and were not trained on. The data "
        f"range is that of each fine piece. {verdict}"
    )
    parts = ["## Judged on other images", text, by_degradation(one), "Gain over cubic (PSNR / dB), image by image:"]
    return "\n\n".join(part for part in (*parts, by_image(one), likenesses(one)) if part)


def by_degradation(one: Judgement) -> str:
    """Means and spreads over the images, for each domain and degradation: a table for PSNR, one for all else."""
    others = [metric for metric in one.rows[0].scores["model"] if metric != "psnr"]
    head = ["images", "made coarse by", "number", "gain / dB", "least / dB"]
    head += [f"PSNR / dB: {method}" for method in one.methods]
    more = [f"{_LABELS[metric]}: {method}" for metric in others for method in _PLAIN]
    rows, besides = [], []
    for domain, degradation, found in one.groups():
        gains = [row.gain for row in found]
        first = (_DOMAINS[domain], degradation)
        cells = (_cell(found, method, "psnr") for method in one.methods)
        rows.append((*first, len(found), _spread(gains, "+.2f"), f"{min(gains):+.2f}", *cells))
        besides.append((*first, *(_cell(found, method, metric) for metric in others for method in _PLAIN)))
    tables = [table(head, rows), table([*head[:2], *more], besides)]
    return "Means over the images, their standard deviations in brackets.\n\n" + "\n\n".join(tables)


def by_image(one: Judgement) -> str:
    """The gain over cubic, image by image."""
    head = ["image", "what it is", "images", *one.degradations]
    rows = []
    for image in dict.fromkeys(row.image for row in one.rows):
        mine = {row.degradation: row for row in one.rows if row.image == image}
        first = next(iter(mine.values()))
        gains = [f"{mine[name].gain:+.2f}" if name in mine else "-" for name in one.degradations]
        rows.append((_name(first), first.about or "of the recipe", _DOMAINS[first.domain], *gains))
    return table(head, rows)


def likenesses(one: Judgement) -> str:
    """How unlike true images the results look and what they invent, where that was measured."""
    if not one.likeness:
        return ""
    kinds = [kind for kind in _KINDS if all(kind in values for values in one.likeness.values())]
    rows = [(_KINDS[kind], *(f"{values[kind]:.4g}" for values in one.likeness.values())) for kind in kinds]
    told = (
        "How much the results for the test images look like true ones (of distances, less is better), and what became "
        "of the voxels that interpolation gets most wrong: improved, left as blurred as they were, or invented."
    )
    return f"### Likeness and invention\n\n{told}\n\n{table(['', *one.likeness], rows)}"


def held(one: Judgement) -> str:
    """How often the stated 90 % interval held the truth."""
    told = {"in": "on the test images", "out": "on the other images"}
    found = [
        f"{one.coverage[domain]:.1%} of the voxels that vary {words}"
        for domain, words in told.items()
        if domain in one.coverage
    ]
    return f"Judged afterwards, the interval held the truth of {' and '.join(found)}." if found else ""


def cost(parameters: int, stored: str, size: int, one: Judgement | None) -> str:
    """The section on size and time."""
    text = f"## Cost\n\n{parameters:,} parameters, {size / 1e6:.2f} MB of {stored} weights."
    if one is None or not one.speed:
        return text
    speed = one.speed
    asked, part = (" x ".join(map(str, speed[key])) for key in ("input", "measured"))
    threads = "one thread" if speed["threads"] == 1 else f"{speed['threads']} threads"
    return (
        f"{text} An input of {asked} voxels takes {speed['seconds']:,.0f} s with {threads} of {speed['machine']} "
        f"({speed['backend']}, {speed['precision']}), measured on {part} voxels and scaled; `--precision auto` may be "
        "quicker."
    )


def curve(log: Sequence[Mapping[str, str]]) -> str:
    """The section on how training went: at most eight of its validations."""
    scored = [row for row in log if row.get("psnr")]
    if not scored:
        return ""
    kept = sorted({round(i) for i in np.linspace(0, len(scored) - 1, min(8, len(scored)))})
    keys = ("step", "psnr", "psnr_cubic", "ssim", "ssim_cubic")
    rows = [[scored[i].get(key) or "-" for key in keys] for i in kept]
    head = ("step", "PSNR / dB", "cubic / dB", "SSIM", "cubic SSIM")
    return f"## Curve\n\nOn the validation images, as `log.csv` has it.\n\n{table(head, rows)}"


def failures(cases: Sequence[Mapping[str, str]], modality: str) -> str:
    """The section on failure cases, with pictures."""
    stand_in = (
        " There is no sample of CT: the head stands in, its values spread over air to bone." if modality == "ct" else ""
    )
    parts = [
        "## Failure cases",
        "On the project's own simulated sample, made coarse as the headings say. Each picture is the place where the "
        f"model is farthest from the truth: cubic, the model, the truth.{stand_in}",
    ]
    for case in cases:
        parts += [f"### {case['name']}", f"![{case['name']}]({case['picture']})", case["told"]]
    return "\n\n".join(parts)


def _name(row: Row) -> str:
    return Path(row.image).name


def _cell(rows: Sequence[Row], method: str, metric: str) -> str:
    found = [row.scores[method][metric] for row in rows if metric in row.scores.get(method, {})]
    return _spread(found, _DIGITS[metric])


def _spread(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}} ({np.std(values):{form.removeprefix('+')}})" if values else "-"
