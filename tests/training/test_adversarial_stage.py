"""A second stage with a critic does what it is for: texture like that of true images, for some PSNR."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support import SMALL_RECIPE

from geomedsr.data.sampling import Subject, prepare
from geomedsr.image import Image
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Subjects, train

CRITIC = {"name": "patch", "width": 8, "layers": 1}
THEN = {
    "losses": [
        {"name": "l1", "weight": 0.3},
        {"name": "adversarial", "weight": 0.1, "kind": "hinge", "rate": 2e-3, "delay": 10, "critic": CRITIC},
    ],
    "optimizer": {"rate": 1e-3},
    "schedule": {"steps": 80, "warmup": 0, "shape": "constant"},
    "keep": "last",
}


def grain(recipe: Recipe, seed: int) -> Subject:
    """Soft noise: nobody can tell its finest part from a coarse image, but how strong it is can be learnt."""
    noise = np.random.default_rng(seed).standard_normal((1, 64, 64)).astype(np.float32)
    soft = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2) + np.roll(noise, (1, 1), (1, 2))
    return prepare(f"grain {seed}", Image.of(100 + 10 * soft), 2, recipe.intensity, None)


def test_the_adversarial_loss_brings_texture_and_the_card_says_what_it_cost(tmp_path: Path) -> None:
    changes = {
        "network": {"name": "edsr", "width": 12, "blocks": 2},
        "data": {"train": ["a*"], "test": ["c*"]},
        "optimizer": {"rate": 4e-3},
        "schedule": {"steps": 60, "warmup": 5},
        "then": [THEN],
    }
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small", {key: json.dumps(value) for key, value in changes.items()})
    images = Subjects([grain(recipe, i) for i in range(4)], [], [grain(recipe, i) for i in (5, 6)])
    model = train(recipe, images, tmp_path / "m", quiet=True)
    before, after = model.training["stages"][0]["scores"], model.scores
    assert before["psnr"] > before["psnr_cubic"]
    assert after["spectrum"] < 0.6 * before["spectrum"]
    assert after["frechet"] < 0.8 * before["frechet"]
    cost = before["psnr"] - after["psnr"]
    assert cost > 0, "what is likely is not what was there"
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"It cost {cost:.2f} dB of PSNR" in card
    assert f"| Fréchet distance | {before['frechet']:.4f} | {after['frechet']:.4f} |" in card
