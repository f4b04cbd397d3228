"""Every network of the folder learns: after a short training it is above cubic on slices that it has never seen.

`benchmarks/learning.py` does the same on the sample head, in 300 steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support import SMALL_RECIPE

from geomedsr import registry
from geomedsr.data.sampling import Subject, prepare
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Subjects, train

SIZES: Mapping[str, Mapping[str, Any]] = {
    "edsr": {"width": 8, "blocks": 2},
    "fsrcnn": {"width": 16, "narrow": 6, "layers": 2},
    "isrnet": {"width": 8, "depth": 1},
    "liif": {"width": 8, "blocks": 1, "hidden": 16, "layers": 2},
    "rrdb": {"width": 8, "blocks": 1, "growth": 4},
    "span": {"width": 8, "blocks": 2},
    "spsr": {"width": 8, "blocks": 1, "growth": 4, "taps": 1},
    "srresnet": {"width": 8, "blocks": 1, "kernel": 5},
    "swinir": {"width": 8, "groups": 1, "depth": 2, "heads": 2, "window": 4},
}
SAMPLE = Path(__file__).parent.parent.parent / "sample_data" / "mri_t1.nii.gz"
NAMES = [name for name in registry.names("networks") if name != "interpolate"]


@pytest.mark.parametrize("name", NAMES)
def test_a_short_training_ends_above_cubic(name: str, tmp_path: Path) -> None:
    changes = {
        "network": {"name": name, **SIZES.get(name, {})},
        "sampling": {"patch": [32, 32], "batch": 4, "contrast": 0.05},
        "schedule": {"steps": 150, "warmup": 20},
        "optimizer": {"rate": 4e-3},
        "data": {"train": ["a*"], "test": ["c*"]},
    }
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small", {key: json.dumps(value) for key, value in changes.items()})
    images = Subjects([slices(recipe, 6, 18)], [], [slices(recipe, 24, 27)])
    model = train(recipe, images, tmp_path / "m", quiet=True)
    assert model.scores["gain"] > 0.1


def slices(recipe: Recipe, first: int, stop: int) -> Subject:
    """The middle of some slices of the sample head."""
    source = format_of(SAMPLE).open_source(SAMPLE)
    box = Box((48, 64, first), (144, 160, stop))
    image = Image.of(source.read(box), source.spec.grid.cropped(box))
    return prepare("head", image, 2, recipe.intensity, (0, 1))
