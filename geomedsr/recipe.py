"""A run is a value: a `Recipe` says what is trained, on what, and how. YAML in, JSON out.

A misspelt key, a wrong type or an impossible value is one sentence that names the key, before anything starts.

A recipe may have several stages: what stands at the top is the first, `then` lists those after it. Each goes on from
the weights that the one before it kept, and says only what is new:

    losses: [{name: l1}]
    schedule: {steps: 4000}
    then:
      - losses:
          - {name: l1, weight: 0.01}
          - {name: adversarial, weight: 0.005}
        optimizer: {rate: 1.0e-4}
        schedule: {steps: 2000, warmup: 0}
        keep: last
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from geomedsr.data.intensity import IntensityRule
from geomedsr.errors import GeomedsrError, RecipeError
from geomedsr.grid import Factor, Shape
from geomedsr.stage import Keep, LossPart, Optimizer, Part, Schedule, Section, Stage
from geomedsr.strict import read_text, sentence, values_of
from geomedsr.task import Task

__all__ = [
    "Consistency",
    "Data",
    "Files",
    "LossPart",
    "Optimizer",
    "Part",
    "Recipe",
    "Sampling",
    "Schedule",
    "Scope",
    "Stage",
    "read_recipe",
]


class Files(Section):
    """Some files, and what of them is used.

    `files` are glob patterns below the data folder; `bands` names or numbers (from 1) of channels; `axes` the two
    axes that a network of two axes works on in a volume; `digital` stands for the intensity's own where a producer
    scaled differently.

    `lr` and `mask` name one file beside each of `files`, by a pattern from the image's own folder in which `{name}` is
    the image's name without its suffix and `{first}` that name up to its first underscore. `lr` is a true coarse image
    of the same place, which takes the degradation's part. `mask` is 0 where the image may not be learnt from.
    `weight` is the share of the patches that come from these files; without it, images count by their voxels.
    """

    files: tuple[str, ...] = Field(min_length=1)
    bands: tuple[str | int, ...] | None = None
    axes: tuple[int, int] | None = None
    digital: float | None = Field(default=None, gt=0)
    lr: str | None = None
    mask: str | None = None
    weight: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _one_pattern(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if isinstance(value, str):
            return {"files": (value,)}
        if isinstance(value, Mapping) and isinstance(value.get("files"), str):
            return {**value, "files": (value["files"],)}
        return value


class Data(Section):
    """Which files train, which choose the best weights, which judge. No file may be in two of them."""

    train: tuple[Files, ...] = Field(min_length=1)
    validate_: tuple[Files, ...] = Field(default=(), alias="validate")
    test: tuple[Files, ...] = ()

    @model_validator(mode="after")
    def _weights_compare(self) -> Data:
        if any(files.weight is not None for files in (*self.validate_, *self.test)):
            raise ValueError("weight: only the entries of train have one")
        if len({files.weight is None for files in self.train}) > 1:
            raise ValueError("train: some entries have a weight and some have none; give it to all or to none")
        return self


class Sampling(Section):
    """How patches are drawn: `patch` fine voxels on each axis, `batch` at once, none flatter than `contrast`.

    `contrast` is a standard deviation in the network's units. `gain` is the largest relative change of brightness,
    `offset` the largest shift of its level, in the network's units: haze, or a producer's own zero.
    Of `candidates` places one is taken, by its gradient energy (1: all places are alike). At least the share `inside`
    of a patch lies in its image's mask. `resident` keeps all images on the device and makes the pairs there, by other
    random choices; unless it is said, a GPU does so where they fit.
    """

    patch: Shape
    batch: int = Field(default=16, gt=0)
    contrast: float = Field(default=0.01, ge=0)
    margin: int = Field(default=32, ge=0)
    flips: bool = True
    turns: bool = True
    gain: float = Field(default=0.0, ge=0, lt=1)
    offset: float = Field(default=0.0, ge=0)
    candidates: int = Field(default=1, ge=1, le=64)
    inside: float = Field(default=1.0, gt=0, le=1)
    resident: bool | None = None


class Consistency(Section):
    """The network ends with the projection to what degrades to its input; `damping` is above 0 for noisy data."""

    damping: float = Field(default=0.0, ge=0)


class Scope(Section):
    """What the model may be used for: a spacing (on the axes it works on) and physical values, low to high."""

    spacing: tuple[float, float] | None = None
    units: str = ""
    values: tuple[float, float] | None = None
    note: str = ""


class Recipe(Section):
    """All of a training: what, on which data, with which degradation, network and losses, in which stages.

    - `losses`, `optimizer`, `schedule`, `ema`, `keep` are the first stage; `then` are those after it. A stage that
      leaves a key out has that of the stage before it, also inside `optimizer` and `schedule`.
    - `start` is the model (a folder, or the name of one in the package) whose weights the first stage begins with.
    - `consistency` ends the network with data consistency, by the recipe's own degradation.
    - `auxiliary` is the weight of the loss that a network brings for itself, such as that of a gradient branch.
    - `precision_check` compares bf16 with float32 before the start, and stays with float32 where they differ; with
      three axes it is always done. `compile` runs the network through torch.compile.
    - `loggers` also take the figures of `log.csv`: tensorboard, wandb (offline unless WANDB_MODE says otherwise),
      mlflow.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    about: str = ""
    licence: str = ""
    attribution: str = ""
    modality: Literal["mri", "ct", "optical", "any"] = "any"
    channels: tuple[str, ...] = ("image",)
    factor: Factor
    data: Data
    intensity: IntensityRule = IntensityRule()
    degradation: Part
    network: Part
    consistency: Consistency | None = None
    auxiliary: float = Field(default=0.5, ge=0)
    start: str | None = None
    losses: tuple[LossPart, ...] = Field(min_length=1)
    sampling: Sampling
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    ema: float = Field(default=0.999, ge=0, lt=1)
    keep: Keep = "psnr"
    then: tuple[Stage, ...] = ()
    precision: Literal["float32", "bf16"] = "float32"
    precision_check: bool = False
    compile: bool = False
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    seed: int = Field(default=0, ge=0)
    scope: Scope = Scope()

    @model_validator(mode="before")
    @classmethod
    def _each_stage_takes_over(cls, values: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if not isinstance(values, dict) or not isinstance(values.get("then"), list | tuple):
            return values
        before, stages = values, []
        for stage in values["then"]:
            if isinstance(stage, dict):
                stage = {**{key: before[key] for key in Stage.model_fields if key in before}, **stage}
                for key in ("optimizer", "schedule"):
                    if isinstance(stage.get(key), dict) and isinstance(before.get(key), dict):
                        stage[key] = {**before[key], **stage[key]}
                before = stage
            stages.append(stage)
        return {**values, "then": stages}

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if not 2 <= len(self.factor) <= 3 or min(self.factor) < 1 or max(self.factor) < 2:
            raise ValueError(f"factor: 2 or 3 whole numbers, one of them at least 2, not {list(self.factor)}")
        if len(self.sampling.patch) != len(self.factor):
            raise ValueError(f"sampling.patch: {len(self.factor)} numbers, as factor has, not {self.sampling.patch}")
        if any(n % f or n < f for n, f in zip(self.sampling.patch, self.factor, strict=True)):
            raise ValueError(f"sampling.patch: {list(self.sampling.patch)} is not divisible by {list(self.factor)}")
        if not self.data.validate_ and any(stage.schedule.patience for stage in self.stages):
            raise ValueError(
                "schedule.patience: there are no validation images to wait for; name some in data.validate"
            )
        for stage in self.stages:
            if self.sampling.batch % stage.optimizer.parts:
                parts, batch = stage.optimizer.parts, self.sampling.batch
                raise ValueError(f"optimizer.parts: a batch of {batch} does not divide into {parts} parts")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages, the first included."""
        first = Stage(
            losses=self.losses, optimizer=self.optimizer, schedule=self.schedule, ema=self.ema, keep=self.keep
        )
        return (first, *self.then)

    @property
    def nominal(self) -> Part:
        """The degradation that results are held against: of a mixture the first, drawn for no image at random.

        Example:
            >>> mixture = Part.model_validate({"name": "mixture", "of": [{"name": "kspace"}, {"name": "blind"}]})
            >>> Recipe.model_construct(degradation=mixture).nominal.name
            'kspace'
        """
        first = self.degradation.settings.get("of", [])[:1] if self.degradation.name == "mixture" else []
        return Part.model_validate(first[0]) if first else self.degradation

    @property
    def task(self) -> Task:
        """What the network is asked to do."""
        return Task(len(self.factor), len(self.channels), self.factor)

    @classmethod
    def from_yaml(cls, text: str, origin: str, changes: Mapping[str, str] | None = None) -> Recipe:
        """The recipe in a YAML text, with some keys changed (`{"schedule.steps": "100"}`).

        Raises:
            RecipeError: it is no recipe; the message names `origin` and the keys.
        """
        return cls.from_values(values_of(text, origin, changes), origin)

    @classmethod
    def from_values(cls, values: object, origin: str) -> Recipe:
        """The recipe of plain values, as JSON or YAML gives them.

        Raises:
            RecipeError: it is no recipe; the message names `origin` and the keys.
        """
        if not isinstance(values, dict):
            raise RecipeError(f"{origin} is no recipe: it holds no keys.")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecipeError(f"{origin}: {sentence(error)}") from error

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values; `from_values` reads them."""
        return self.model_dump(mode="json", by_alias=True)


def read_recipe(path: Path, changes: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        RecipeError: there is no such file, or it is no recipe.
    """
    return Recipe.from_yaml(read_text(path, "The recipe"), str(path), changes)


def built(kind: str, part: Part, make: Any) -> Any:  # noqa: ANN401 - any plugin
    """What `make(**settings)` gives, with a wrong setting told as a mistake in the recipe.

    Raises:
        RecipeError: the plugin takes no such setting, or no such value.
    """
    try:
        return make(**part.settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, GeomedsrError) as error:
        raise RecipeError(f"{kind} {part.name}: {error}.".replace("..", ".")) from error
