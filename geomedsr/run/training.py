"""Training from files: the recipe's patterns become opened images, split by file, checked before anything starts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr.errors import OutputError, RecipeError, WriteFailedError
from geomedsr.grid import Box
from geomedsr.image import Image, Source
from geomedsr.run.beside import beside, plain_stem
from geomedsr.run.calibrating import calibrate_trained
from geomedsr.run.channels import Selected, parse_bands
from geomedsr.run.packing import is_pack, open_packed, stem_of

if TYPE_CHECKING:
    from geomedsr.data.intensity import IntensityRule
    from geomedsr.data.sampling import Subject
    from geomedsr.model import Model
    from geomedsr.recipe import Files, Recipe
    from geomedsr.training.loop import Speed, Subjects

__all__ = ["open_subjects", "train_files"]

_KEPT_IN_MEMORY = 4 << 30
"""Images are held in memory while all of them together have fewer bytes; beyond that they are read as needed."""

Opener = Callable[[Path], Source]


def train_files(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    finish: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    cache: Path | None = None,
    speed: Speed = "auto",
) -> Model:
    """Trains by a recipe on the files below `data` and writes the model folder `out`.

    Images are unpacked once into the folder `cache`, where there is one, and read from there. With `finish` the
    checkpoint in `out` becomes the model as it is.

    Raises:
        RecipeError: a pattern matches nothing, a file is in two parts of the split, or an image cannot be learnt from.
        OutputError: `out` holds something already and this is no resumed run, or nothing can be written there.
        WriteFailedError: the disk is full, or refuses.
    """
    from geomedsr.run.cache import cached
    from geomedsr.training.loop import train

    _check_out(out, resume or finish)
    plain = _opener_of(data)
    opener = plain if cache is None else lambda path: cached(path, cache, plain)
    subjects = open_subjects(recipe, data, opener)
    try:
        model = train(
            recipe, subjects, out, resume=resume or finish, finish=finish, device=device, quiet=quiet, speed=speed
        )
        return calibrate_trained(model, out, subjects.validate, model.training["device"])
    except OSError as error:
        raise WriteFailedError(f"{out} could not be written: {error.strerror or error}.") from error


def _check_out(out: Path, resume: bool) -> None:
    """Whether a training may begin, or go on, in this folder."""
    from geomedsr.training import checkpoint

    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    if resume:
        if not checkpoint.exists(out):
            raise OutputError(f"{out} holds no checkpoint to resume from; train without --resume.")
    elif checkpoint.exists(out) and not (out / "config.json").exists():
        raise OutputError(f"{out} holds a training that was stopped; pass --resume, or choose another folder.")
    elif out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose another folder, or remove it.")
    if not os.access(out if out.is_dir() else out.parent, os.W_OK):
        raise OutputError(f"Nothing can be written into the folder {out}: it is read-only.")


@dataclass(frozen=True)
class _Found:
    """A file of a part of the split, opened, its channels chosen."""

    path: Path
    files: Files
    source: Source
    key: str


def open_subjects(recipe: Recipe, data: Path, opener: Opener | None = None) -> Subjects:
    """The images of a recipe, opened, their intensity maps fitted.

    Raises:
        RecipeError: a pattern matches nothing, a file is in two parts of the split, or an image cannot be learnt from.
    """
    from geomedsr.training.loop import Subjects

    if not data.is_dir():
        raise RecipeError(f"The data folder {data} does not exist.")
    parts = {"train": recipe.data.train, "validate": recipe.data.validate_, "test": recipe.data.test}
    matched = {name: list(_matched(name, chosen, data)) for name, chosen in parts.items()}
    _check_split({name: [path for path, _, _ in found] for name, found in matched.items()})
    opening = _Opening(recipe, data, opener or _opener_of(data))
    found = {name: [opening.found(*one) for one in each] for name, each in matched.items()}
    _check_channels(recipe, [one for each in found.values() for one in each])
    subjects = {name: [opening.subject(one) for one in each] for name, each in found.items()}
    _check_sizes(recipe, subjects)
    return Subjects(_weighted(found["train"], subjects["train"]), subjects["validate"], subjects["test"])


class _Opening:
    """Opens images for a recipe, and keeps them in memory while there is room."""

    def __init__(self, recipe: Recipe, data: Path, opener: Opener) -> None:
        self.recipe, self.data, self.opener = recipe, data, opener
        self.stem = stem_of if is_pack(data) else plain_stem
        self.room = _KEPT_IN_MEMORY

    def found(self, path: Path, files: Files, key: str) -> _Found:
        """The image of a file, with the channels that its entry names."""
        return _Found(path, files, self._selected(path, files), key)

    def subject(self, found: _Found) -> Subject:
        """The image with what lies beside it, checked."""
        from geomedsr.data.subject import check_content, check_pair

        files, subject = found.files, self._prepared(found.path, found.source, found.files)
        check_content(subject)
        if files.lr is not None:
            path = self._beside(found, files.lr, "lr")
            coarse = self._prepared(path, self._selected(path, files), files, subject.axes)
            subject = replace(subject, coarse=coarse)
            check_pair(subject, self.recipe.factor)
        if files.mask is not None:
            subject = replace(subject, mask=self._mask(found))
        return subject

    def _beside(self, found: _Found, pattern: str, key: str) -> Path:
        return beside(found.path, pattern, self.data, f"{found.key}.{key}", self.stem(found.path))

    def _selected(self, path: Path, files: Files) -> Source:
        source = self.opener(path)
        if files.bands is None:
            return source
        bands = ",".join(str(band) for band in files.bands)
        return Selected(source, parse_bands(bands, source.spec.channels, path.name))

    def _prepared(self, path: Path, source: Source, files: Files, axes: tuple[int, ...] | None = None) -> Subject:
        from geomedsr.data.sampling import prepare

        rule = _rule(self.recipe, files)
        return prepare(path.name, self._kept(source), self.recipe.task.ndim, rule, axes or files.axes)

    def _mask(self, found: _Found) -> Source:
        assert found.files.mask is not None
        path = self._beside(found, found.files.mask, "mask")
        source = self.opener(path)
        image, mask = found.source.spec.grid, source.spec.grid
        if image.shape != mask.shape or not image.same_place(mask):
            raise RecipeError(
                f"The mask {path} has {mask.shape} voxels in its place, the image {found.path.name} {image.shape} in "
                "its own; a mask lies on its image's grid."
            )
        return self._kept(source)

    def _kept(self, source: Source) -> Source:
        """The source in memory, while there is room."""
        spec = source.spec
        size = 4 * len(spec.channels) * Box.whole(spec.grid.shape).size
        if size > self.room:
            return source
        self.room -= size
        kept = Image(spec, source.read(Box.whole(spec.grid.shape)))
        source.close()
        return kept


def _matched(part: str, chosen: Sequence[Files], data: Path) -> Iterator[tuple[Path, Files, str]]:
    for number, files in enumerate(chosen):
        key = f"data.{part}.{number}"
        for pattern in files.files:
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
                raise RecipeError(f"{key}: the pattern {pattern} leaves the data folder; give patterns below it.")
            paths = sorted(data.glob(pattern)) if pattern.strip("./") else []
            if not paths:
                raise RecipeError(f"{key}: no file below {data} matches {pattern}{_nearest(pattern, data)}.")
            yield from ((path, files, key) for path in paths)


def _nearest(pattern: str, data: Path) -> str:
    """What the pattern may have meant, where something there is spelt much like it."""
    folder = (data / pattern).parent
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    close = difflib.get_close_matches(Path(pattern).name, names, n=1)
    if close:
        return f"; the nearest name there is {close[0]}"
    return "" if folder.is_dir() or any(c in str(folder) for c in "*?[") else f"; there is no folder {folder}"


def _check_split(parts: dict[str, list[Path]]) -> None:
    seen: dict[Path, str] = {}
    for name, paths in parts.items():
        for path in paths:
            if path in seen:
                raise RecipeError(f"{path} is in data.{seen[path]} and again in data.{name}; no image may be in two.")
            seen[path] = name


def _check_channels(recipe: Recipe, found: Sequence[_Found]) -> None:
    """Refuses images with another number of channels than the recipe, all of them in one sentence."""
    wanted = len(recipe.channels)
    others = [one for one in found if len(one.source.spec.channels) != wanted]
    if not others:
        return
    told = ", ".join(f"{one.path.name} {len(one.source.spec.channels)}" for one in others[:5])
    more = f" and {len(others) - 5} files more" if len(others) > 5 else ""
    raise RecipeError(
        f"The recipe has {wanted} channels ({', '.join(recipe.channels)}), but these files have others: {told}{more}; "
        f"choose with {others[0].key}.bands."
    )


def _check_sizes(recipe: Recipe, subjects: dict[str, list[Subject]]) -> None:
    """Refuses training images that are all smaller than a patch, and others that are smaller than one coarse voxel."""
    patch = recipe.sampling.patch
    if not any(_fits(subject, patch) for subject in subjects["train"]):
        sizes = ", ".join(f"{one.name} {_by(one.shape)}" for one in subjects["train"][:5])
        raise RecipeError(
            f"sampling.patch: no training image is as large as a patch of {_by(patch)}: {sizes}; make the patch "
            "smaller."
        )
    for one in (*subjects["validate"], *subjects["test"]):
        if not _fits(one, recipe.factor):
            raise RecipeError(f"{one.name} has {_by(one.shape)} voxels, fewer than the factor {_by(recipe.factor)}.")


def _fits(subject: Subject, shape: Sequence[int]) -> bool:
    return all(n >= p for n, p in zip(subject.shape, shape, strict=True))


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _weighted(found: Sequence[_Found], subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects with the weights of their entries, shared within an entry by voxels."""
    totals: dict[str, float] = {}
    for one, subject in zip(found, subjects, strict=True):
        totals[one.key] = totals.get(one.key, 0.0) + subject.share
    return [
        subject
        if (weight := one.files.weight) is None
        else replace(subject, weight=weight * subject.share / totals[one.key])
        for one, subject in zip(found, subjects, strict=True)
    ]


def _rule(recipe: Recipe, files: Files) -> IntensityRule:
    return recipe.intensity if files.digital is None else recipe.intensity.model_copy(update={"digital": files.digital})


def _opener_of(data: Path) -> Opener:
    """What opens the images of a data folder, which may be a pack."""
    from geomedsr import io

    return open_packed if is_pack(data) else lambda path: io.format_of(path).open_source(path)
