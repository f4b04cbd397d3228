"""A small calibrated model in a folder, and images for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from support import SMALL_RECIPE, shapes
from torch import Tensor, nn

from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.model import Model, build_degradation, build_network
from geomedsr.networks._network import Network
from geomedsr.recipe import Recipe
from geomedsr.training.card import card
from geomedsr.trust.calibration import calibrate


def recipe(**changes: Any) -> Recipe:
    return Recipe.from_values({**yaml.safe_load(SMALL_RECIPE), **changes}, "the test")


def unsettled(network: Network) -> Network:
    """The network with weights that are not those of an interpolation, nor symmetric."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.02 if parameter.ndim > 1 else 0.0, generator=generator)
    return network.eval()


def pairs(chosen: Recipe, seeds: range) -> list[tuple[str, Tensor, Tensor]]:
    found = []
    for seed in seeds:
        image = shapes(seed)
        hr = torch.from_numpy(chosen.intensity.fit(image).apply(image.voxels))[None]
        found.append((f"image {seed}", build_degradation(chosen)(hr, chosen.factor, torch.Generator()), hr))
    return found


def model(**changes: Any) -> Model:
    """A model that knows its errors on images of rectangles."""
    chosen = recipe(**changes)
    bare = Model("small", unsettled(build_network(chosen)), chosen, training={"steps": 1, "chosen_step": 1})
    return replace(bare, calibration=calibrate(bare, pairs(chosen, range(3))).to_json())


def saved(folder: Path, **changes: Any) -> Path:
    made = model(**changes)
    training = {"steps": 1, "chosen_step": 1, "minutes": 0.1, "threads": 1, "torch": "2"}
    made = replace(made, training=training)
    made.save(folder, card(made))
    return folder


def written(path: Path, voxels: np.ndarray[Any, np.dtype[np.float32]], **changes: Any) -> Path:
    image = Image.of(voxels)
    sink = format_of(path).create_sink(path, replace(image.spec, **changes))
    sink.write(Box.whole(image.spec.grid.shape), voxels)
    sink.commit()
    return path


def read(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    source = format_of(path).open_source(path)
    return source.read(Box.whole(source.spec.grid.shape))
