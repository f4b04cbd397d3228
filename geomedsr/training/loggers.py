"""Where the figures of `log.csv` go besides: TensorBoard, Weights & Biases, MLflow. Each is an optional package.

Nothing leaves the machine unless the user says so: W&B runs offline unless WANDB_MODE is set, MLflow writes beside the
log unless MLFLOW_TRACKING_URI is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from geomedsr.errors import RecipeError
from geomedsr.recipe import Recipe

__all__ = ["Logger", "check_loggers", "open_loggers"]


class Logger(Protocol):
    """What takes figures and pictures of steps."""

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """A PNG file."""
        ...

    def close(self) -> None:
        """There will be no more."""
        ...


class TensorBoard:
    """Event files in the folder `tensorboard` beside the log."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        module = _optional("torch.utils.tensorboard", "tensorboard")
        self._writer: Any = module.SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("recipe", f"```\n{recipe.to_json()}\n```")

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name."""
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)

    def picture(self, step: int, path: Path) -> None:
        """A PNG file."""
        with Image.open(path) as image:
            self._writer.add_image("validation", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """All is written."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases in the folder `wandb` beside the log."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._wandb = _optional("wandb", "wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        quiet = self._wandb.Settings(silent=True, console="off")
        self._run: Any = self._wandb.init(
            project="geomedsr", name=recipe.name, dir=str(folder), mode=mode, settings=quiet
        )
        self._run.config.update(recipe.to_json())

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name."""
        self._run.log(dict(figures), step=step)

    def picture(self, step: int, path: Path) -> None:
        """A PNG file."""
        self._run.log({"validation": self._wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        """All is written."""
        self._run.finish()


class MLflow:
    """A run of MLflow, in the file `mlflow.db` beside the log unless MLFLOW_TRACKING_URI says where."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._mlflow: Any = _optional("mlflow", "mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self._mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        if self._mlflow.get_experiment_by_name("geomedsr") is None:
            self._mlflow.create_experiment("geomedsr", artifact_location=(folder / "mlflow").resolve().as_uri())
        self._mlflow.set_experiment("geomedsr")
        self._mlflow.start_run(run_name=recipe.name)
        self._mlflow.log_dict(recipe.to_json(), "recipe.json")

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures by name."""
        self._mlflow.log_metrics(dict(figures), step=step)

    def picture(self, step: int, path: Path) -> None:
        """A PNG file."""
        self._mlflow.log_artifact(str(path), "images")

    def close(self) -> None:
        """All is written."""
        self._mlflow.end_run()


_KINDS: dict[str, Callable[[Path, Recipe], Logger]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def open_loggers(recipe: Recipe, folder: Path) -> list[Logger]:
    """The loggers of a recipe.

    Raises:
        RecipeError: the package of one is not installed.
    """
    return [_KINDS[name](folder, recipe) for name in recipe.loggers]


def check_loggers(recipe: Recipe) -> None:
    """Refuses a logger whose package is not installed.

    Raises:
        RecipeError: it is not.
    """
    for name in recipe.loggers:
        _optional("torch.utils.tensorboard" if name == "tensorboard" else name, name)


def _optional(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(f"loggers: {package} is not installed; pip install {package}, or leave it out.") from error
