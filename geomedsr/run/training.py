"""Training from files: the recipe's patterns become opened images, the loop does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geomedsr.data.sampling import Subject, prepare
from geomedsr.errors import OutputError, RecipeError
from geomedsr.image import Source
from geomedsr.io import format_of
from geomedsr.recipe import Files, Recipe, read_recipe
from geomedsr.run.channels import Selected, choose_channels, parse_bands

__all__ = ["matched", "train_recipe"]


def train_recipe(
    path: Path, data: Path, out: Path, changes: Mapping[str, str], *, resume: bool, device: str = "cpu", quiet: bool
) -> Path:
    """Trains what a recipe file describes on the images below `data`, and gives the model's folder.

    Raises:
        RecipeError: the recipe cannot be, or its patterns match nothing.
        OutputError: the output folder holds a model already.
    """
    from geomedsr.training.loop import Subjects, train

    recipe = read_recipe(path, changes)
    if (out / "config.json").exists() and not resume:
        raise OutputError(f"{out} holds a model already; pass --resume to go on with it, or choose another folder.")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    parts = matched(recipe, data)
    opened = [[_subject(recipe, files, file, data) for files, file in part] for part in parts]
    train(recipe, Subjects(*opened), out, resume=resume, device=device, quiet=quiet)
    return out


Part = list[tuple[Files, Path]]


def matched(recipe: Recipe, data: Path) -> tuple[Part, Part, Part]:
    """The files of the recipe's three parts.

    Raises:
        RecipeError: a pattern matches nothing, or a file is in two parts.
    """
    split = recipe.data
    parts = [_files(chosen, data) for chosen in (split.train, split.validate_, split.test)]
    seen: set[Path] = set()
    for part in parts:
        paths = {path for _, path in part}
        if paths & seen:
            raise RecipeError(f"{min(paths & seen)} is in two parts of the split; a file is in one part only.")
        seen |= paths
    return parts[0], parts[1], parts[2]


def _files(chosen: Sequence[Files], data: Path) -> Part:
    part: dict[Path, Files] = {}
    for files in chosen:
        for pattern in files.files:
            found = sorted(data.glob(pattern))
            if not found:
                raise RecipeError(f"No file below {data} matches {pattern}, which the recipe names.")
            part.update((path, files) for path in found)
    return [(files, path) for path, files in part.items()]


def _subject(recipe: Recipe, files: Files, path: Path, data: Path) -> Subject:
    source = _select(recipe, files, path, format_of(path).open_source(path))
    return prepare(str(path.relative_to(data)), source, recipe.task.ndim, recipe.intensity, files.axes)


def _select(recipe: Recipe, files: Files, path: Path, source: Source) -> Source:
    present = source.spec.channels
    if files.bands is not None:
        return Selected(source, parse_bands(",".join(map(str, files.bands)), present, path.name))
    index, _ = choose_channels(recipe.name, recipe.channels, present, path.name)
    return source if index is None else Selected(source, index)
