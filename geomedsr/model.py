"""A model is a folder: `config.json`, `model.safetensors`, `README.md`. Only safetensors are read; no pickle ever is.

`config.json` holds the recipe, so that inference asks nobody for what training knew, and the network's weights are
checked against it: names, shapes, finiteness, and the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from geomedsr import registry
from geomedsr.data.intensity import IntensityRule
from geomedsr.degradations._degradation import Degradation
from geomedsr.errors import GeomedsrError, ModelError, RecipeError
from geomedsr.grid import Factor
from geomedsr.networks._consistency import AxisMatrix, Consistent
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, Interpolate
from geomedsr.recipe import Part, Recipe, built
from geomedsr.task import Task

__all__ = [
    "BASELINES",
    "STORED",
    "Model",
    "baseline",
    "build_degradation",
    "build_network",
    "check_weights",
    "start_weights",
]

BASELINES = tuple(KERNELS)
"""The interpolations: models without weights, for any factor, axes and channels."""

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""The types that weights are stored in, by name: every bfloat16 number is a float32 number."""

FORMAT = 1
_LARGEST_WEIGHTS = 4 << 30
_SHIPPED = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Model:
    """A network and all that is known of it. A baseline has no recipe.

    `stored` is the type of the weights in the file (the network computes in float32 whatever it is), `judged` what was
    found on images of its own domain and of others after the training.
    """

    name: str
    network: Network
    recipe: Recipe | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)
    stored: str = "float32"
    judged: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """Axes, channels and factor."""
        return self.network.task

    @property
    def intensity(self) -> IntensityRule:
        """How an image's values become the network's."""
        return self.recipe.intensity if self.recipe else IntensityRule()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels that the network takes, in its order (empty for a baseline: any)."""
        return self.recipe.channels if self.recipe else ()

    @property
    def modality(self) -> str:
        """What kind of image it is for: mri, ct, optical or any."""
        return self.recipe.modality if self.recipe else "any"

    @property
    def spacing(self) -> tuple[float, float] | None:
        """The smallest and largest input spacing it was trained for, in `units`."""
        return self.recipe.scope.spacing if self.recipe else None

    @property
    def units(self) -> str:
        """The units of `spacing`."""
        return self.recipe.scope.units if self.recipe else ""

    @property
    def values(self) -> tuple[float, float] | None:
        """The smallest and largest physical value it was trained for."""
        return self.recipe.scope.values if self.recipe else None

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self.recipe.licence if self.recipe else "Apache-2.0"

    @property
    def about(self) -> str:
        """One sentence on what it is."""
        return self.recipe.about if self.recipe else f"{self.name} interpolation, the baseline"

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return self.network.parameter_count

    def save(self, folder: Path, card: str) -> None:
        """Writes the folder; each file appears complete."""
        assert self.recipe is not None
        folder.mkdir(parents=True, exist_ok=True)
        weights = save_tensors({k: _stored(v, self.stored) for k, v in self.network.state_dict().items()})
        config = {
            "geomedsr": FORMAT,
            "name": self.name,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "parameters": self.parameters,
            "stored": self.stored,
            "network": {"name": self.recipe.network.name, **self.network.settings},
            "recipe": self.recipe.to_json(),
            "scores": self.scores,
            "training": self.training,
            **({"calibration": self.calibration} if self.calibration else {}),
            **({"judged": self.judged} if self.judged else {}),
        }
        _put(folder / "model.safetensors", weights)
        _put(folder / "README.md", card.encode())
        _put(folder / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())

    def save_findings(self, folder: Path, card: str) -> None:
        """Writes what was found after the training (the calibration, the judgement), and the card that tells of it,
        into the folder that the model was loaded from.
        """
        found = {"calibration": self.calibration, "judged": self.judged}
        config = {**_config(folder), **{key: values for key, values in found.items() if values}}
        _put(folder / "README.md", card.encode())
        _put(folder / "config.json", (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Model:
        """The model in a folder.

        Raises:
            ModelError: a file is missing, broken, or does not belong to the others.
        """
        config = _config(folder)
        try:
            recipe = Recipe.from_values(config["recipe"], f"{folder / 'config.json'}, recipe")
            network = build_network(recipe, config["network"])
            scores, training, name = dict(config["scores"]), dict(config["training"]), str(config["name"])
            calibration, judged = dict(config.get("calibration", {})), dict(config.get("judged", {}))
            stored = _known(str(config.get("stored", "float32")))
        except (KeyError, TypeError, ValueError, GeomedsrError) as error:
            raise ModelError(f"The model {folder} has a config.json that is not understood: {error}.") from error
        raw = _weights(folder, str(config.get("sha256", "")))
        network.load_state_dict(check_weights(raw, network, folder / "model.safetensors"))
        return cls(name, network.eval(), recipe, scores, training, config["sha256"], calibration, stored, judged)


def baseline(name: str, ndim: int, factor: Factor) -> Model:
    """An interpolation as a model: nearest, linear, cubic or lanczos."""
    return Model(name, Interpolate(Task(ndim, 1, factor), name).eval())


def build_network(recipe: Recipe, part: dict[str, Any] | None = None) -> Network:
    """The recipe's network with its first weights; `part` stands for the recipe's own network settings.

    Raises:
        RecipeError: there is no such network, or it takes no such setting, or there can be no data consistency.
    """
    chosen = recipe.network if part is None else type(recipe.network).model_validate(part)

    def make(**settings: Any) -> Network:  # noqa: ANN401 - JSON values
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # said below, as an error
            network: Network = registry.load("networks", chosen.name).build(recipe.task, **settings)
        if any(parameter.numel() == 0 for parameter in network.parameters()):
            raise ValueError("a setting of 0 leaves a layer without weights")
        return network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network: Network = built("network", chosen, make)
    return network if recipe.consistency is None else _consistent(network, recipe)


def build_degradation(recipe: Recipe, part: Part | None = None) -> Degradation:
    """The recipe's degradation, or another one in its place.

    Raises:
        RecipeError: there is no such degradation, or it takes no such setting.
    """
    part = part or recipe.degradation
    degradation: Degradation = built("degradation", part, registry.load("degradations", part.name).build)
    return degradation


def _consistent(network: Network, recipe: Recipe) -> Network:
    assert recipe.consistency is not None
    degradation, factor = build_degradation(recipe), max(recipe.factor)
    try:
        matrix: AxisMatrix = degradation.matrix  # type: ignore[attr-defined]
        matrix(8 * factor, factor)
    except (AttributeError, ValueError) as error:
        why = f": {error}" if isinstance(error, ValueError) else ", which is no linear map on each axis"
        raise RecipeError(f"consistency cannot be had with the degradation {recipe.degradation.name}{why}.") from error
    return Consistent(network, matrix, recipe.consistency.damping)


def _known(stored: str) -> str:
    if stored not in STORED:
        raise ValueError(f"weights are stored as {' or '.join(STORED)}, not as {stored}")
    return stored


def _stored(weights: Tensor, stored: str) -> Tensor:
    """Weights as the file holds them: numbers that are not real stay as they are."""
    dtype = STORED[stored] if weights.is_floating_point() else weights.dtype
    return weights.detach().cpu().to(dtype).contiguous()


def check_weights(raw: dict[str, Tensor], network: Network, path: Path) -> dict[str, Tensor]:
    """The weights in the network's own types, when they are this network's: same names, same shapes, every number
    finite, of a type that becomes the network's without loss.

    Raises:
        ModelError: they are not; the message names the first difference.
    """
    expected = network.state_dict()
    if raw.keys() != expected.keys():
        first = sorted(raw.keys() ^ expected.keys())[0]
        side = "lacks" if first in expected else "has an unknown"
        raise ModelError(f"{path} does not hold this network's weights: it {side} {first}.")
    for name, tensor in raw.items():
        if tensor.shape != expected[name].shape:
            found, asked = tuple(tensor.shape), tuple(expected[name].shape)
            raise ModelError(f"{path} does not hold this network's weights: {name} is {found}, not {asked}.")
        if torch.promote_types(tensor.dtype, expected[name].dtype) != expected[name].dtype:
            types = " or ".join(STORED)
            raise ModelError(
                f"{path} has weights that cannot be taken as they are: {name} is {tensor.dtype}; take {types}."
            )
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"{path} has weights that are not finite, in {name}; it is of no use.")
    return {name: tensor.to(expected[name].dtype) for name, tensor in raw.items()}


def start_weights(name: str, network: Network) -> dict[str, Tensor]:
    """The weights of the model `name` (a folder, or one in the package), when they are this network's.

    Raises:
        ModelError: there is no such model, or it has another network; the message names the first difference.
    """
    folder = _SHIPPED / name if (_SHIPPED / name / "config.json").is_file() else Path(name)
    config = _config(folder)
    return check_weights(_weights(folder, str(config.get("sha256", ""))), network, folder / "model.safetensors")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no model: it has no config.json.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(config, dict) or config.get("geomedsr") != FORMAT:
        raise ModelError(f"{path} is no geomedsr model of format {FORMAT}; make it again with this version.")
    return config


def _weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS:
            raise ModelError(f"{path} has {path.stat().st_size} bytes; a model has at most {_LARGEST_WEIGHTS}.")
        raw = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ModelError(f"{path} is not the file that config.json was written for: its SHA-256 differs.")
    try:
        return dict(load_tensors(raw))
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file: {error}.") from error


def _put(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, path)
