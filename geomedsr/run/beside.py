"""The file that lies beside an image, such as its mask or its true coarse image, found by a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from geomedsr.errors import RecipeError
from geomedsr.io import suffix_of

__all__ = ["beside", "plain_stem"]


def beside(image: Path, pattern: str, data: Path, key: str, name: str) -> Path:
    """The one file that `pattern` names from the folder of `image`.

    `{name}` stands for the image's `name` without its suffix, `{first}` for that name up to its first underscore.

    Raises:
        RecipeError: not one file matches, or the pattern leaves the data folder; `key` names the key in the recipe.
    """
    wanted = pattern.replace("{name}", glob.escape(name)).replace("{first}", glob.escape(name.split("_")[0]))
    if "{" in wanted or "}" in wanted:
        raise RecipeError(f"{key}: {pattern} has braces around something else than {{name}} or {{first}}.")
    place = os.path.normpath(os.path.join(glob.escape(str(image.parent)), wanted))
    if Path(pattern).is_absolute() or not Path(place).is_relative_to(os.path.normpath(glob.escape(str(data)))):
        raise RecipeError(f"{key}: {pattern} leaves the data folder; keep the files below it.")
    found = sorted(glob.glob(place))
    if len(found) != 1:
        many = f"{len(found)} files match" if found else "no file matches"
        raise RecipeError(f"{key}: beside {image} {many} {wanted}; there must be one for each image.")
    return Path(found[0])


def plain_stem(path: Path) -> str:
    """A file's name without its suffix."""
    return path.name.removesuffix(suffix_of(path) or "")
