"""The models at hand: those in the package, folders of the user's own, and the baselines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr.errors import ModelError
from geomedsr.grid import Factor
from geomedsr.image import ImageSpec
from geomedsr.run.fit import BASELINES, kind_of
from geomedsr.run.judgement import Judgement

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["Summary", "card", "find_model", "fitting", "load_model", "shipped", "summaries", "summary", "table"]

_FOLDER = Path(__file__).parent.parent / "models"


def shipped() -> dict[str, Path]:
    """The models in the package by name."""
    return {config.parent.name: config.parent for config in sorted(_FOLDER.glob("*/config.json"))}


def find_model(name: str) -> Path:
    """The folder of a model: one of the package's by name, or a folder by its path.

    Raises:
        ModelError: there is none.
    """
    if name in shipped():
        return shipped()[name]
    folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"The folder {folder} is no model: it has no config.json.")
    raise ModelError(f"There is no model {name}; there are {', '.join((*shipped(), *BASELINES))}, or a model's folder.")


@lru_cache(maxsize=16)
def load_model(name: str, ndim: int = 2, factor: Factor | None = None) -> Model:
    """A model by name or folder; a baseline is made for `ndim` axes and `factor`."""
    from geomedsr.model import Model, baseline

    if name in BASELINES and factor is not None:
        return baseline(name, ndim, factor)
    return Model.load(find_model(name))


@dataclass(frozen=True)
class Summary:
    """What a list of models tells of one, read from its config.json. A baseline's factor is empty: any.

    `bytes` is the size of its weights; `scores` is from the training, `judged` what was found afterwards.
    """

    name: str
    about: str
    modality: str = "any"
    factor: tuple[int, ...] = ()
    channels: tuple[str, ...] = ()
    spacing: tuple[float, float] | None = None
    units: str = ""
    values: tuple[float, float] | None = None
    parameters: int = 0
    scores: dict[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"
    folder: str | None = None
    bytes: int = 0
    judged: dict[str, Any] = field(default_factory=dict)

    @property
    def gain(self) -> float | None:
        """Decibels over cubic on its test images: as judged, by the nominal degradation, else as trained."""
        found = self.judged.get("gain_in", self.scores.get("gain"))
        return None if found is None else float(found)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return asdict(self)


def summary(name: str) -> Summary:
    """The summary of a model by name or folder.

    Raises:
        ModelError: there is none, or its config.json is not understood.
    """
    if name in BASELINES:
        return Summary(name, f"{name} interpolation: no network, any factor (--scale), any image")
    folder = find_model(name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        recipe, scope = config["recipe"], config["recipe"]["scope"]
        return Summary(
            config["name"],
            recipe["about"],
            recipe["modality"],
            tuple(recipe["factor"]),
            tuple(recipe["channels"]),
            tuple(scope["spacing"]) if scope["spacing"] else None,
            scope["units"],
            tuple(scope["values"]) if scope["values"] else None,
            config["parameters"],
            {key: value for key, value in config["scores"].items() if key != "each"},
            recipe["licence"],
            str(folder),
            _size(folder / "model.safetensors"),
            _judged(config.get("judged", {}).get("figures"), folder),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"The model {folder} has a config.json that is not understood: {error}.") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _judged(figures: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
    return Judgement.of(figures, f"What {folder / 'config.json'} has").summary() if figures else {}


def summaries() -> list[Summary]:
    """The models in the package, then the baselines."""
    return [summary(name) for name in (*shipped(), *BASELINES)]


def fitting(spec: ImageSpec) -> list[str]:
    """The names of the models that are made for an image of this kind, then the baselines."""
    kind = kind_of(spec)
    wanted = {"medical": ("mri", "ct", "any"), "raster": ("optical", "any")}.get(
        kind or "", ("mri", "ct", "optical", "any")
    )
    return [one.name for one in summaries() if one.modality in wanted]


def table(rows: list[Summary]) -> str:
    """The summaries as a person reads them, one line each."""
    cells = [("name", "factor", "for", "channels", "spacing", "MB", "over cubic", "elsewhere", "least", "what")]
    cells += [
        (
            one.name,
            "x".join(map(str, one.factor)) or "--scale",
            one.modality,
            ",".join(one.channels) or "any",
            f"{one.spacing[0]:g}-{one.spacing[1]:g} {one.units}".rstrip() if one.spacing else "any",
            f"{one.bytes / 1e6:.1f}" if one.bytes else "",
            _decibels(one.gain),
            _decibels(one.judged.get("gain_out")),
            _decibels(one.judged.get("gain_least")),
            one.about,
        )
        for one in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(9)]
    lines = ["  ".join((*(f"{row[i]:<{widths[i]}}" for i in range(9)), row[9])).rstrip() for row in cells]
    return "\n".join((*lines, "", _LEGEND))


_LEGEND = (
    "over cubic: gain in PSNR on its test images; elsewhere: on images of other kinds; least: the smallest of all, "
    "also where they were made coarse in other ways."
)


def _decibels(gain: float | None) -> str:
    return "" if gain is None else f"{gain:+.2f} dB"


def card(name: str) -> str:
    """The model's card, in Markdown; a baseline has one sentence."""
    if name in BASELINES:
        return f"{name}: {summary(name).about}."
    path = find_model(name) / "README.md"
    try:
        return path.read_text(encoding="utf-8").rstrip()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
