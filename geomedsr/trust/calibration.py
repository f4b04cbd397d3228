"""What held-out images teach about a model's errors, kept in the model's folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomedsr.errors import ModelError, RecipeError
from geomedsr.model import Model
from geomedsr.networks._blocks import true_float32
from geomedsr.trust.hallucination import Evidence, Habit, Habits, fit_habits
from geomedsr.trust.instrument import instrument_of
from geomedsr.trust.uncertainty import LEVEL, Answers, Widening, fit_widening

__all__ = ["HEADING", "Calibration", "calibrate", "calibration_of", "varied"]

HEADING = "## Calibration"
_FEWEST = 1000


@dataclass(frozen=True)
class Calibration:
    """How wide the interval is that holds the truth of a share `level` of the voxels, and what detail is usual.

    `voxels` of `images` taught it; those around which the fine image does not vary at all did not count.
    """

    level: float
    images: tuple[str, ...]
    voxels: int
    widening: Widening
    habits: Habits

    def to_json(self) -> dict[str, Any]:
        """The calibration as `config.json` holds it."""
        habits = {"unseen": self.habits.unseen.to_json(), "missing": self.habits.missing.to_json()}
        return {
            "level": self.level,
            "images": list(self.images),
            "voxels": self.voxels,
            "uncertainty": self.widening.to_json(),
            "hallucination": habits,
        }

    def section(self) -> str:
        """What the model's card says of it."""
        names = ", ".join(f"`{name}`" for name in self.images)
        return (
            f"{HEADING}\n\nThe {self.level:.0%} interval of `--uncertainty` and the usual detail of `--hallucination` "
            f"were learnt from {self.voxels:,} voxels of held-out images: {names}. They hold for images of that kind."
        )


def calibration_of(model: Model) -> Calibration:
    """A model's calibration.

    Raises:
        ModelError: it has none, or its config.json is not understood.
    """
    values = model.calibration
    if not values:
        how = "choose a model that was trained" if model.recipe is None else "run geomedsr calibrate on its folder"
        raise ModelError(
            f"The model {model.name} has no calibration, so that nothing is known of its errors; {how}, or leave out "
            "--uncertainty and --hallucination."
        )
    try:
        habits = values["hallucination"]
        return Calibration(
            float(values["level"]),
            tuple(map(str, values["images"])),
            int(values["voxels"]),
            Widening.of(values["uncertainty"]),
            Habits(Habit.of(habits["unseen"]), Habit.of(habits["missing"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The model {model.name} has a calibration that is not understood ({error}); run geomedsr calibrate again."
        ) from error


@torch.no_grad()
def calibrate(model: Model, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> Calibration:
    """The calibration that held-out images teach: their names, coarse and fine batches in the network's units.

    The batches are on the network's device.

    Shape: (1, C, *S) and (1, C, *(S * factor)), the fine ones NaN where invalid

    Raises:
        RecipeError: there are too few voxels to learn from.
    """
    assert model.recipe is not None
    instrument = instrument_of(model.recipe, model.task.factor)
    answers, evidence = Answers(model.network, model.recipe.sampling.turns).eval(), Evidence(instrument)
    names: dict[str, None] = {}
    features, errors, signs = [], [], []
    with true_float32():
        for name, lr, hr in pairs:
            names[name] = None
            sr, known = answers(lr)
            counted = varied(hr)
            features.append(known[counted].cpu())
            errors.append((hr - sr).abs()[counted].cpu())
            signs.append(evidence(sr, lr)[counted].cpu())
    count = sum(map(len, errors))
    if count < _FEWEST:
        raise RecipeError(
            f"data.validate: a calibration needs {_FEWEST} voxels that vary; there are {count}. Name more images."
        )
    widening = fit_widening(torch.cat(features), torch.cat(errors), model.recipe.sampling.turns)
    return Calibration(LEVEL, tuple(names), count, widening, fit_habits(torch.cat(signs)))


def varied(hr: Tensor) -> Tensor:
    """Where a fine batch is valid and is not constant (the air around a brain) within two voxels on each axis.

    Shape: (B, C, *S) to the same
    """
    pool = torch.nn.functional.max_pool2d if hr.ndim == 4 else torch.nn.functional.max_pool3d
    low, high = -pool(-hr.nan_to_num(), 5, 1, 2), pool(hr.nan_to_num(), 5, 1, 2)
    return (high > low) & hr.isfinite()
