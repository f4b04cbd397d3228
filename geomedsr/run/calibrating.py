"""Calibrating a model: what its held-out images teach about its errors goes into its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.errors import ModelError, OutputError, RecipeError, WriteFailedError
from geomedsr.run.catalogue import find_model
from geomedsr.run.fit import BASELINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from geomedsr.data.sampling import Subject
    from geomedsr.model import Model
    from geomedsr.trust.calibration import Calibration

__all__ = ["calibrate_files", "calibrate_trained", "with_section"]

_PLANES = 12
"""How many planes of a volume are looked at."""


def calibrate_files(name: str, data: Path) -> Calibration:
    """Calibrates a model on the validation images of its recipe, found below `data`, and writes it into its folder.

    Raises:
        RecipeError: the recipe names none, they are not there, or they have too little to learn from.
        ModelError: the model is an interpolation, or broken.
        OutputError: nothing can be written into its folder.
    """
    from geomedsr.model import Model
    from geomedsr.run.training import open_subjects

    if name in BASELINES:
        raise ModelError(
            f"{name} is an interpolation: it has no folder that a calibration could go into. Name a model."
        )
    folder = find_model(name)
    model = Model.load(folder)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"Nothing can be written into the folder {folder}: it is read-only; calibrate a copy of it.")
    assert model.recipe is not None
    if not model.recipe.data.validate_:
        raise RecipeError(f"data.validate: the recipe of {name} names no held-out images to learn from.")
    held_out = model.recipe.data.model_copy(update={"train": model.recipe.data.validate_, "validate_": (), "test": ()})
    # They are looked at whole: they need not be as large as a patch of the training.
    sampling = model.recipe.sampling.model_copy(update={"patch": model.recipe.factor})
    try:
        subjects = open_subjects(model.recipe.model_copy(update={"data": held_out, "sampling": sampling}), data)
    except RecipeError as error:
        raise RecipeError(str(error).replace("data.train", "data.validate")) from error
    return _store(model, folder, subjects.train)


def calibrate_trained(model: Model, folder: Path, subjects: Sequence[Subject], device: str = "cpu") -> Model:
    """The model that was just trained, calibrated where its recipe held images out that are enough to learn from.

    Of several processes that trained together the first alone does it.
    """
    if not subjects or os.environ.get("RANK", "0") != "0":
        return model
    try:
        return replace(model, calibration=_store(model, folder, subjects, device).to_json())
    except RecipeError:  # too little varies in them; the model is complete without
        return model


def _store(model: Model, folder: Path, subjects: Sequence[Subject], device: str = "cpu") -> Calibration:
    import torch

    from geomedsr.training.validation import judge_of
    from geomedsr.trust.calibration import calibrate

    place = judge_of(torch.device(device))
    model.network.to(place)
    try:
        found = calibrate(model, _pairs(model, subjects, place))
    finally:
        model.network.cpu()
    path = folder / "README.md"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        replace(model, calibration=found.to_json()).save_findings(folder, with_section(text, found.section()))
    except OSError as error:
        raise WriteFailedError(f"{folder} could not be written: {error.strerror or error}.") from error
    return found


def _pairs(model: Model, subjects: Sequence[Subject], device: torch.device) -> Iterator[tuple[str, Tensor, Tensor]]:
    import torch

    from geomedsr.model import build_degradation
    from geomedsr.training.validation import planes_of

    assert model.recipe is not None
    degradation, noise = build_degradation(model.recipe), torch.Generator().manual_seed(model.recipe.seed)
    for subject in subjects:
        for pair in planes_of(subject, degradation, model.network, _PLANES, noise, device):
            yield subject.name, pair.lr, pair.hr


def with_section(card: str, section: str) -> str:
    """The card with a section in place of the one with the same heading, or before `## Data`, or at its end."""
    heading = section.splitlines()[0]
    blocks = [block.rstrip("\n") for block in card.split("\n## ")]
    kept = [blocks[0], *(block for block in blocks[1:] if f"## {block}".splitlines()[0] != heading)]
    place = next((i for i, block in enumerate(kept) if block.startswith("Data\n")), len(kept))
    kept.insert(place, section.removeprefix("## "))
    return "\n\n## ".join(kept) + "\n"
