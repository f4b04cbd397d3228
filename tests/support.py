"""What several tests share: a recipe that trains in a second, and images to train on."""

from __future__ import annotations

import numpy as np
import torch

from geomedsr.data.sampling import Subject, prepare
from geomedsr.image import Image
from geomedsr.recipe import Recipe

SMALL_RECIPE = """
name: small
modality: mri
channels: [T1w]
factor: [2, 2]
data: {train: [{files: "a*"}], validate: [{files: "b*"}], test: [{files: "c*"}]}
intensity: {name: percentile, high: 99}
degradation: {name: kspace}
network: {name: edsr, width: 8, blocks: 1}
losses: [{name: l1}]
sampling: {patch: [24, 24], batch: 4}
schedule: {steps: 6, warmup: 2, validate_every: 3, checkpoint_every: 3}
ema: 0.9
"""


def shapes(seed: int, shape: tuple[int, ...] = (1, 48, 40)) -> Image:
    """An image of random rectangles: sharp edges that a network can learn to bring back."""
    rng = np.random.default_rng(seed)
    voxels = np.zeros(shape, np.float32)
    for _ in range(40):
        start = [int(rng.integers(0, n - 4)) for n in shape[1:]]
        box = tuple(slice(a, a + int(rng.integers(3, 14))) for a in start)
        voxels[(slice(None), *box)] += rng.uniform(20, 100, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32)
    return Image.of(voxels)


def subjects(recipe: Recipe, seeds: range, shape: tuple[int, ...] = (1, 48, 40)) -> list[Subject]:
    """Subjects of random rectangles."""
    torch.manual_seed(0)
    return [prepare(f"image {s}", shapes(s, shape), recipe.task.ndim, recipe.intensity, None) for s in seeds]
