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
from pathlib import Path

import torch

from benchmarks._judging import judged
from geomedsr.recipe import read_recipe
from geomedsr.run import card_sections
from geomedsr.run.catalogue import find_model, shipped, summary
from geomedsr.run.judgement import Judgement
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
    head = ("model", "parameters", "MB", "gain: test / dB", "others / dB", "least / dB", "where", "seconds")
    parts = ["# Models", card_sections.table(head, [_overview(folder, one) for folder, one in found.items()])]
    for folder, one in found.items():
        sections = (card_sections.by_degradation, card_sections.by_image, card_sections.held, card_sections.likenesses)
        parts += [f"## {folder.name}", f"Judged on {one.pieces}.", *(section(one) for section in sections)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(folder: Path, one: Judgement) -> tuple[str, ...]:
    known, worst, gains = summary(str(folder)), one.worst, one.summary()
    told = ("-" if gains[key] is None else f"{gains[key]:+.2f}" for key in ("gain_in", "gain_out", "gain_least"))
    speed = f"{one.speed['seconds']:g} for {' x '.join(map(str, one.speed['input']))}"
    size = f"{(folder / 'model.safetensors').stat().st_size / 1e6:.2f}"
    return (folder.name, f"{known.parameters:,}", size, *told, f"{worst.image}, {worst.degradation}", speed)


def reproduced(pipeline: Path, data: Path, steps: int) -> bool:
    """Whether a training by a pipeline, made twice from nothing, ends with the same weights."""
    later = range(len(read_recipe(pipeline).then))
    each = steps // (1 + len(later))
    shorter = {"steps": each, "warmup": min(each // 4, 100), "validate_every": each, "patience": None}
    places = ("schedule", *(f"then.{number}.schedule" for number in later))
    changes = {f"{place}.{key}": json.dumps(value) for place in places for key, value in shorter.items()}
    recipe = read_recipe(pipeline, changes)
    short = {"data": recipe.data.model_copy(update={"validate_": (), "test": ()})}
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
