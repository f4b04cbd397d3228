"""Training from files: the recipe's patterns become opened images, split by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.errors import OutputError, RecipeError
from geomedsr.grid import Box
from geomedsr.image import Image, Source
from geomedsr.run.channels import Selected, parse_bands

if TYPE_CHECKING:
    from geomedsr.data.sampling import Subject
    from geomedsr.model import Model
    from geomedsr.recipe import Files, Recipe
    from geomedsr.training.loop import Subjects

__all__ = ["open_subjects", "train_files"]

_KEPT_IN_MEMORY = 4 << 30
"""Images are held in memory while all of them together have fewer bytes; beyond that they are read as needed."""

Opener = Callable[[Path], Source]


def train_files(
    recipe: Recipe, data: Path, out: Path, *, resume: bool = False, device: str = "cpu", quiet: bool = False
) -> Model:
    """Trains by a recipe on the files below `data` and writes the model folder `out`.

    Raises:
        RecipeError: a pattern matches nothing, or a file is in two parts of the split.
        OutputError: `out` holds a model already, and this is no resumed run.
    """
    from geomedsr.training.loop import train

    if (out / "config.json").exists() and not resume:
        raise OutputError(f"{out} holds a model already; choose another folder, or remove it.")
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    return train(recipe, open_subjects(recipe, data), out, resume=resume, device=device, quiet=quiet)


def open_subjects(recipe: Recipe, data: Path, opener: Opener | None = None) -> Subjects:
    """The images of a recipe, opened, their intensity maps fitted.

    Raises:
        RecipeError: a pattern matches nothing, or a file is in two parts of the split.
    """
    from geomedsr.training.loop import Subjects

    if not data.is_dir():
        raise RecipeError(f"The data folder {data} does not exist.")
    parts = {"train": recipe.data.train, "validate": recipe.data.validate_, "test": recipe.data.test}
    found = {name: [pair for files in chosen for pair in _match(files, data)] for name, chosen in parts.items()}
    _check_split({name: [path for path, _ in pairs] for name, pairs in found.items()})
    room = _KEPT_IN_MEMORY
    opened: dict[str, list[Subject]] = {}
    for name, pairs in found.items():
        opened[name] = []
        for path, files in pairs:
            subject, room = _open(path, files, recipe, opener or _open_image, room)
            opened[name].append(subject)
    return Subjects(opened["train"], opened["validate"], opened["test"])


def _match(files: Files, data: Path) -> Iterator[tuple[Path, Files]]:
    for pattern in files.files:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise RecipeError(f"The pattern {pattern} leaves the data folder; give patterns below it.")
        paths = sorted(data.glob(pattern))
        if not paths:
            raise RecipeError(f"No file below {data} matches {pattern}.")
        yield from ((path, files) for path in paths)


def _check_split(parts: dict[str, list[Path]]) -> None:
    seen: dict[Path, str] = {}
    for name, paths in parts.items():
        for path in paths:
            if path in seen:
                raise RecipeError(f"{path} is in data.{seen[path]} and again in data.{name}; no image may be in two.")
            seen[path] = name


def _open_image(path: Path) -> Source:
    from geomedsr import io

    return io.format_of(path).open_source(path)


def _open(path: Path, files: Files, recipe: Recipe, opener: Opener, room: int) -> tuple[Subject, int]:
    from geomedsr.data.sampling import prepare

    source = opener(path)
    if files.bands is not None:
        bands = ",".join(str(band) for band in files.bands)
        source = Selected(source, parse_bands(bands, source.spec.channels, path.name))
    spec = source.spec
    size = 4 * len(spec.channels) * Box.whole(spec.grid.shape).size
    if size <= room:
        room -= size
        kept = Image(spec, source.read(Box.whole(spec.grid.shape)))
        source.close()
        source = kept
    rule = recipe.intensity if files.digital is None else recipe.intensity.model_copy(update={"digital": files.digital})
    return prepare(path.name, source, recipe.task.ndim, rule, files.axes), room
