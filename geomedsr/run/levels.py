"""Of an image that is stored in several resolutions, the one that a model fits: the finest that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.image import ImageSpec
from geomedsr.io import format_of, levels_of
from geomedsr.run.fit import spacing_warning

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["finest_fitting", "spec_of"]


def spec_of(path: Path) -> ImageSpec:
    """What an image is.

    Raises:
        InputError: it cannot be read.
    """
    source = format_of(path).open_source(path)
    try:
        return source.spec
    finally:
        source.close()


def finest_fitting(path: Path, model: Model, axes: tuple[int, ...] | None) -> tuple[Path, str | None]:
    """The path of the resolution to take, and what to say where that is not the finest.

    Without a resolution that the model was trained on, or where the image has but one, it is the finest.

    Raises:
        InputError: one cannot be read.
    """
    levels = levels_of(path)
    if model.spacing is None or len(levels) < 2:
        return path, None
    for number, level in enumerate(levels):
        spec = spec_of(level)
        if spacing_warning(model, spec, axes, path.name) is None:
            if number == 0:
                return path, None
            low, high = model.spacing
            return level, (
                f"Of the {len(levels)} resolutions of {path.name}, {level.name} is the finest that {model.name} was "
                f"trained on ({low:g} to {high:g} {model.units}); name another to choose it."
            )
    return path, None
