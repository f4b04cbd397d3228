"""Claim: every network learns from few images: after 300 steps on a CPU it is above cubic on slices it has never seen.

The sample head is cut across its slices: the first 23 train, two are left out, the last eleven judge. Every
network of the folder is trained at a size that suits a CPU, with two axes and once with three, by the recipe and the
training that the program itself uses: the outer half of k-space is left out, l1, AdamW, 300 steps.

    python -m benchmarks.learning [--networks edsr,span] [--steps 300] [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geomedsr import registry
from geomedsr.grid import Box
from geomedsr.io import format_of
from geomedsr.recipe import Recipe
from geomedsr.run.training import train_files

SAMPLE = Path(__file__).parent.parent / "sample_data" / "mri_t1.nii.gz"
PARTS = {"train": (0, 23), "test": (25, 36)}
"""Slices of the head, first and one past the last."""

SIZES: Mapping[str, Mapping[str, Any]] = {
    "edsr": {"width": 16, "blocks": 4},
    "fsrcnn": {"width": 32, "narrow": 8, "layers": 3},
    "isrnet": {"width": 16, "depth": 2},
    "liif": {"width": 16, "blocks": 4, "hidden": 32, "layers": 2},
    "rrdb": {"width": 16, "blocks": 1, "growth": 8},
    "span": {"width": 16, "blocks": 3},
    "spsr": {"width": 16, "blocks": 1, "growth": 8, "taps": 1},
    "srresnet": {"width": 16, "blocks": 4},
    "swinir": {"width": 16, "groups": 2, "depth": 2, "heads": 2, "window": 8},
}
"""Networks whose published size would take hours here."""

PLANAR = {"factor": [2, 2], "patch": [48, 48], "batch": 8, "axes": [0, 1]}
SOLID = {"factor": [2, 2, 1], "patch": [32, 32, 8], "batch": 4, "axes": None}


def main() -> None:
    """Prints a row for each network, and ends with 1 where one is not above cubic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(n for n in registry.names("networks") if n != "interpolate"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = [(name, PLANAR) for name in arguments.networks.split(",")] + [("edsr", SOLID)]
    print("| network | factor | parameters | PSNR / dB | cubic / dB | gain / dB | SSIM | cubic SSIM | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for part, (first, stop) in PARTS.items():
            cut(first, stop, folder / f"{part}.nii.gz")
        gains = [learnt(name, case, folder, arguments.steps) for name, case in cases]
    if min(gains) <= 0:
        sys.exit(1)


def cut(first: int, stop: int, path: Path) -> None:
    """Some slices of the sample as a file."""
    source = format_of(SAMPLE).open_source(SAMPLE)
    rows, columns, _ = source.spec.grid.shape
    box = Box((0, 0, first), (rows, columns, stop))
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, chunks=None)
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(box.shape), source.read(box))
    sink.commit()


def learnt(name: str, case: Mapping[str, Any], folder: Path, steps: int) -> float:
    """Trains a network, prints its row and gives its gain over cubic."""
    began = time.perf_counter()
    chosen = recipe(name, case, steps)
    model = train_files(chosen, folder, folder / f"{name}-{len(chosen.factor)}", quiet=True)
    scores = model.scores
    cells = (
        name,
        " x ".join(map(str, chosen.factor)),
        f"{model.parameters:,}",
        *(f"{scores[key]:.2f}" for key in ("psnr", "psnr_cubic")),
        f"{scores['gain']:+.2f}",
        *(f"{scores[key]:.4f}" for key in ("ssim", "ssim_cubic")),
        f"{time.perf_counter() - began:.0f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    return float(scores["gain"])


def recipe(name: str, case: Mapping[str, Any], steps: int) -> Recipe:
    """The same training for every network."""
    values = {
        "name": name,
        "modality": "mri",
        "channels": ["T1w"],
        "factor": case["factor"],
        "data": {part: [{"files": f"{part}.nii.gz", "axes": case["axes"]}] for part in PARTS},
        "intensity": {"name": "percentile", "high": 99},
        "degradation": {"name": "kspace"},
        "network": {"name": name, **SIZES.get(name, {})},
        "losses": [{"name": "l1"}],
        "sampling": {"patch": case["patch"], "batch": case["batch"], "contrast": 0.05},
        "optimizer": {"name": "adamw", "rate": 2e-3},
        "schedule": {"steps": steps, "warmup": 30},
        "ema": 0.98,
        "seed": 3,
    }
    return Recipe.from_values(values, name)


if __name__ == "__main__":
    main()
