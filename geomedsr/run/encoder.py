"""An encoder from files: the images that a recipe trains on teach one, and it becomes a folder with its card."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr.errors import OutputError, WriteFailedError
from geomedsr.run.training import open_subjects

if TYPE_CHECKING:
    from geomedsr.encoders.domain import DomainEncoder
    from geomedsr.recipe import Recipe

__all__ = ["train_encoder_files"]

_PATCH = {2: 48, 3: 32}


def train_encoder_files(recipe: Recipe, data: Path, out: Path, *, steps: int = 1500, quiet: bool = False) -> Path:
    """Teaches an encoder on the recipe's training images alone (never on those that judge), and writes its folder.

    Raises:
        RecipeError: a pattern matches nothing, or no image is as large as a patch.
        OutputError: `out` holds an encoder already, or nothing can be written there.
        WriteFailedError: the disk is full, or refuses.
    """
    from geomedsr.encoders.domain import write
    from geomedsr.training.encoder import Lesson, train_encoder

    if (out / "encoder.json").exists():
        raise OutputError(f"{out} holds an encoder already; choose another folder, or remove it.")
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise OutputError(f"Nothing can be written into {out}: it is read-only; choose another folder.")
    sampling, ndim = recipe.sampling, recipe.task.ndim
    lesson = Lesson(
        (_PATCH[ndim],) * ndim,
        steps,
        gain=sampling.gain,
        contrast=sampling.contrast,
        seed=recipe.seed,
        precision=recipe.precision,
    )
    subjects, losses, began = open_subjects(recipe, data).train, [], time.monotonic()

    def listen(step: int, loss: float) -> None:
        losses.append(loss)
        if not quiet and step % 50 == 0:
            sys.stderr.write(f"step {step} of {steps}, loss {sum(losses[-50:]) / 50:.4f}\n")

    encoder = train_encoder(subjects, lesson, listen)
    tail = losses[-50:]
    about = {
        "channel_names": list(recipe.channels),
        "intensity": recipe.intensity.model_dump(mode="json"),
        "licence": recipe.licence,
        "attribution": recipe.attribution,
        "images": [subject.name for subject in subjects],
        "training": {
            "steps": steps,
            "batch": lesson.batch,
            "patch": list(lesson.patch),
            "seed": lesson.seed,
            "precision": lesson.precision,
            "first_loss": round(losses[0], 4),
            "last_loss": round(sum(tail) / len(tail), 4),
            "minutes": round((time.monotonic() - began) / 60, 1),
        },
    }
    try:
        write(encoder, out, about, _card(out.name, encoder, recipe, about))
    except OSError as error:
        raise WriteFailedError(f"{out} could not be written: {error.strerror or error}.") from error
    return out


def _card(name: str, encoder: DomainEncoder, recipe: Recipe, about: dict[str, Any]) -> str:
    done = about["training"]
    patch = " x ".join(map(str, done["patch"]))
    count = sum(parameter.numel() for parameter in encoder.parameters())
    return f"""---
license: {recipe.licence or "other"}
library_name: geomedsr
tags: [feature-extraction, {recipe.modality}]
---

# Encoder {name}

Features that images of one kind are compared by, in the loss `perceptual` and in the perceptual distance. It makes
nothing finer and classifies nothing.

- Input: {encoder.ndim} axes, {", ".join(recipe.channels)}, in the values that `intensity` of `encoder.json` gives.
- Layers: {", ".join(encoder.layers)}, with {", ".join(map(str, encoder.widths))} features; {count:,} parameters.
- Training: without labels. {done["steps"]} steps of {done["batch"]} patches of {patch} voxels, each changed by a
  known blur, sharpening and noise and half hidden: it told the changes' amounts and filled in what was hidden. The
  loss fell from {done["first_loss"]:g} to {done["last_loss"]:g} in {done["minutes"]:g} minutes, seed {done["seed"]}.
- Data: {len(about["images"])} images, {", ".join(f"`{image}`" for image in about["images"])}. {recipe.attribution}
- Licence: {recipe.licence or "as that of the data"}.

It was never judged against the eyes of readers or analysts: a smaller distance is no proof of a better image.
"""
