"""Claim: every model in the package is above cubic on every image, of its own domain or not, however made coarse.

Each model is judged on the test images of its recipe, and on images that it has never seen of other scanners,
contrasts, patients, countries and sensors (`models.yaml`), made coarse by its own degradation and by others, beside
cubic, lanczos and the tiny model of the same task. A JSON file for each model holds all figures, `models.md` the
tables. What is there already is not judged again, unless its weights have changed.

    GEOMEDSR_DATA=... python -m benchmarks.models --out judged [--models mri-t1-x2 ct-x2] [--folder runs/mri-t1-x4]
    GEOMEDSR_DATA=... python -m benchmarks.models --reproduce pipelines/mri_t1_x2.yaml [--steps 200]

The second form trains by a pipeline twice and compares the weights, bit by bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks._bench import table
from benchmarks._judging import judged
from geomedsr.recipe import read_recipe
from geomedsr.run.catalogue import find_model, shipped, summary
from geomedsr.run.judgement import OWN, Judgement, Row
from geomedsr.run.training import train_files


def main() -> None:
    """Judges, writes and prints; ends with 1 where a model is below cubic, or a training ends otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[], help="names of the package's models; default: all of them")
    parser.add_argument("--folder", nargs="*", default=[], help="model folders of your own, instead or besides")
    parser.add_argument("--out", type=Path, default=Path("judged"), help="where the figures go")
    parser.add_argument("--again", action="store_true", help="judge anew what was judged already")
    parser.add_argument("--precision", default="float32", choices=["float32", "auto"], help="for the times alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reproduce", nargs="*", type=Path, default=[], help="pipelines to train by twice")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Path(os.environ["GEOMEDSR_DATA"])
    if arguments.reproduce:
        same = [reproduced(path, data, arguments.steps) for path in arguments.reproduce]
        sys.exit(0 if all(same) else 1)
    named = [*arguments.models, *arguments.folder] or [*shipped()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {find_model(name): judgement(name, data, arguments) for name in named}
    text = report(found)
    (arguments.out / "models.md").write_text(text, encoding="utf-8")
    print(text)
    if min(one.worst.gain for one in found.values()) <= 0:
        sys.exit(1)


def judgement(name: str, data: Path, arguments: argparse.Namespace) -> Judgement:
    """The judgement of a model: the one that is there, where it is of these weights, else a new one."""
    folder = find_model(name)
    known, path = json.loads((folder / "config.json").read_text()), arguments.out / f"{folder.name}.json"
    if path.exists() and not arguments.again:
        found = Judgement.of(json.loads(path.read_text(encoding="utf-8")), str(path))
        if found.sha256 == known["sha256"]:
            return found
    found = judged(
        folder, data, precision=arguments.precision, tell=lambda text: print(text, file=sys.stderr, flush=True)
    )
    path.write_text(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def report(found: dict[Path, Judgement]) -> str:
    """All tables: an overview, then each model by domain and degradation, and image by image."""
    head = (
        "model",
        "parameters",
        "MB",
        "gain on its test images / dB",
        "on other images / dB",
        "least of all / dB",
        "where",
        "seconds",
    )
    rows = [_overview(folder, one) for folder, one in found.items()]
    parts = ["# Models", table(head, rows)]
    for folder, one in found.items():
        parts += [f"## {folder.name}", f"Judged on {one.pieces}.", by_degradation(one), by_image(one), _extras(one)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(folder: Path, one: Judgement) -> tuple[str, ...]:
    known, worst = summary(str(folder)), one.worst
    size = (folder / "model.safetensors").stat().st_size
    speed = f"{one.speed['seconds']:g} for {' x '.join(map(str, one.speed['input']))}" if one.speed else "-"
    gains = [_spread([row.gain for row in one.chosen(domain, OWN)], "+.2f") for domain in ("in", "out")]
    where = f"{worst.image}, {worst.degradation}"
    return (folder.name, f"{known.parameters:,}", f"{size / 1e6:.2f}", *gains, f"{worst.gain:+.2f}", where, speed)


def by_degradation(one: Judgement) -> str:
    """Means and spreads over the images, for each domain and degradation."""
    metrics = [*one.rows[0].scores["model"]]
    head = (
        "domain",
        "made coarse by",
        "images",
        "least gain / dB",
        *(f"{m} {metric}" for metric in metrics for m in one.methods),
    )
    rows = [
        (domain, degradation, len(rows), f"{min(row.gain for row in rows):+.2f}", *(_cells(rows, metrics, one.methods)))
        for domain, degradation, rows in one.groups()
    ]
    return table(head, rows)


def _cells(rows: Sequence[Row], metrics: Sequence[str], methods: Sequence[str]) -> list[str]:
    digits = {"psnr": ".2f", "ssim": ".4f"}
    return [
        _spread([row.scores[m][metric] for row in rows if metric in row.scores[m]], digits.get(metric, ".3f"))
        for metric in metrics
        for m in methods
    ]


def by_image(one: Judgement) -> str:
    """The gain over cubic, image by image."""
    head = ("image", "what it is", "domain", *(f"{name} / dB" for name in one.degradations))
    rows = []
    for image in dict.fromkeys(row.image for row in one.rows):
        mine = {row.degradation: row for row in one.rows if row.image == image}
        first = next(iter(mine.values()))
        gains = [f"{mine[name].gain:+.2f}" for name in one.degradations]
        rows.append((Path(image).name, first.about, first.domain, *gains))
    return table(head, rows)


def _extras(one: Judgement) -> str:
    lines = []
    if one.coverage:
        told = ", ".join(f"{share:.1%} on {domain}-domain images" for domain, share in one.coverage.items())
        lines.append(f"The 90 % interval holds the truth of {told}.")
    for method, values in one.likeness.items():
        lines.append(f"{method}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    return "\n".join(lines)


def _spread(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}} ({np.std(values):{form.removeprefix('+')}})" if len(values) else "-"


def reproduced(pipeline: Path, data: Path, steps: int) -> bool:
    """Whether a training by a pipeline, made twice from nothing, ends with the same weights."""
    schedule = {
        "schedule.steps": str(steps),
        "schedule.warmup": str(min(steps // 4, 100)),
        "schedule.validate_every": str(steps),
    }
    recipe = read_recipe(pipeline, schedule)
    short = {"data": recipe.data.model_copy(update={"validate_": (), "test": ()}), "then": ()}
    with tempfile.TemporaryDirectory() as scratch:
        hashes = []
        for turn in ("first", "second"):
            folder = Path(scratch) / turn
            train_files(recipe.model_copy(update=short), data, folder, quiet=True)
            hashes.append(hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
    same = hashes[0] == hashes[1]
    told = " and ".join(one[:16] for one in hashes)
    print(f"{pipeline}: {steps} steps twice, {told}: {'equal' if same else 'DIFFERENT'}", flush=True)
    return same


if __name__ == "__main__":
    main()
