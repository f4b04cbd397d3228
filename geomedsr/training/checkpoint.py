"""Where a training stands, in safetensors and JSON: enough to go on to the same bits."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from geomedsr.errors import GeomedsrError, RecipeError, WriteFailedError
from geomedsr.recipe import Recipe

__all__ = ["Progress", "exists", "restore", "save"]

_FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """What is counted: steps done, the stage and the step that it began after, the best score and its step.

    `waited` counts validations since the best one, `ended` says that the stage has no more steps, `lost` counts the
    last steps in a row whose loss was not finite, `skipped` all of them. `stages` tells of the stages that are over,
    `seconds` how long all runs took that came to here.
    """

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    stage: int = 0
    began: int = 0
    waited: int = 0
    ended: bool = False
    lost: int = 0
    skipped: int = 0
    seconds: float = 0.0
    stages: list[dict[str, Any]] = field(default_factory=list)


def save(folder: Path, progress: Progress, recipe: Recipe, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes a checkpoint; the one before it stays until the new one is complete.

    `parts` are state dicts (network, average, optimizer, losses), nested as torch nests them.

    Raises:
        WriteFailedError: the disk is full, or refuses.
    """
    tensors: dict[str, Tensor] = {}
    shapes = {name: _flatten(name, state, tensors) for name, state in parts.items()}
    meta = {"progress": vars(progress), "recipe": recipe.to_json(), "parts": shapes}
    partial = folder / f"{_FILE}.partial"
    try:
        save_file(tensors, partial, metadata={"geomedsr": json.dumps(meta)})
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, folder / _FILE)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise WriteFailedError(
            f"The checkpoint of step {progress.step} could not be written to {folder} ({error}); "
            "the one before it is whole. Make room and pass --resume."
        ) from error


def exists(folder: Path) -> bool:
    """Whether a training was stopped here and can be gone on with."""
    return (folder / _FILE).exists()


def restore(folder: Path, recipe: Recipe) -> tuple[Progress, dict[str, Any]] | None:
    """What `save` wrote last, or None where there is nothing.

    Raises:
        RecipeError: the checkpoint is broken, or of another recipe; the message names the keys that differ.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as handle:
            meta = json.loads(handle.metadata()["geomedsr"])
        tensors = load_file(path)
        # Read as a recipe: one that was written before a key existed has that key's default.
        stored, progress = Recipe.from_values(meta["recipe"], str(path)).to_json(), Progress(**meta["progress"])
        parts = {name: _unflatten(shape, tensors) for name, shape in meta["parts"].items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, GeomedsrError) as error:
        raise RecipeError(
            f"The checkpoint {path} is broken ({error}); remove it, or train without --resume."
        ) from error
    asked = recipe.to_json()
    if stored != asked:
        keys = ", ".join(sorted(key for key in asked if stored[key] != asked[key]))
        raise RecipeError(f"The checkpoint {path} is of another recipe: {keys} differ; train into another folder.")
    return progress, parts


def _flatten(name: str, value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401 - JSON values
    """The value with each tensor replaced by its name in `tensors`."""
    if isinstance(value, Tensor):
        # A copy: two names for one storage (a shared step counter, say) cannot be stored otherwise.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": [[key, _flatten(f"{name}.{key}", item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(f"{name}.{i}", item, tensors) for i, item in enumerate(value)]}
    return {"value": value}


def _unflatten(shape: dict[str, Any], tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - what was flattened
    if "tensor" in shape:
        return tensors[shape["tensor"]]
    if "map" in shape:
        return {key: _unflatten(item, tensors) for key, item in shape["map"]}
    if "list" in shape:
        return [_unflatten(item, tensors) for item in shape["list"]]
    return shape["value"]
