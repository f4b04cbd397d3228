"""geomedsr: super-resolution that scientists can trust.

The public names, each imported when it is first asked for:

    import geomedsr

    geomedsr.upscale("scan.nii.gz", "fine.nii.gz", model="cubic", scale=(2,))
    geomedsr.open_image("fine.nii.gz").spec.grid.spacing
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomedsr.errors import GeomedsrError
    from geomedsr.grid import Box, Grid
    from geomedsr.image import Image, ImageSpec
    from geomedsr.model import Model
    from geomedsr.recipe import Recipe
    from geomedsr.run.library import open_image, upscale
    from geomedsr.task import Task

__version__ = "0.1.0"

__all__ = [
    "Box",
    "GeomedsrError",
    "Grid",
    "Image",
    "ImageSpec",
    "Model",
    "Recipe",
    "Task",
    "__version__",
    "open_image",
    "upscale",
]

_HOMES = {
    "Box": "grid",
    "GeomedsrError": "errors",
    "Grid": "grid",
    "Image": "image",
    "ImageSpec": "image",
    "Model": "model",
    "Recipe": "recipe",
    "Task": "task",
    "open_image": "run.library",
    "upscale": "run.library",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'geomedsr' has no attribute '{name}'")
    return getattr(import_module(f"geomedsr.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
