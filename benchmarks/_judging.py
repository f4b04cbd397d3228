"""One model on many images: what `benchmarks.models` measures of each."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from geomedsr.data.sampling import Subject, planar_axes, prepare
from geomedsr.errors import ModelError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, Source, Voxels
from geomedsr.inference.upscaler import Upscaler
from geomedsr.io import format_of
from geomedsr.metrics import Compared, all_metrics
from geomedsr.metrics.ssim import WINDOW
from geomedsr.model import Model, build_degradation
from geomedsr.networks.interpolate import upsample
from geomedsr.recipe import Files, Recipe
from geomedsr.run.catalogue import find_model, shipped, summary
from geomedsr.run.channels import Selected, parse_bands
from geomedsr.run.judgement import OWN, Judgement, Row
from geomedsr.run.simulating import Judge
from geomedsr.stage import Part
from geomedsr.training.likeness import likeness
from geomedsr.training.validation import Pair, planes_of
from geomedsr.trust.calibration import calibration_of, varied
from geomedsr.trust.hallucination import split
from geomedsr.trust.uncertainty import Answers

__all__ = ["Shown", "degradations", "judged", "methods", "seconds", "shown"]

TABLE = Path(__file__).with_name("models.yaml")
PLANES = 4
PLANE, VOLUME, SCENE = 176, (80, 80, 64), 352
"""The piece of an image that is judged: planes of a volume, a part of one, a part of a scene; in fine voxels."""

MARGIN = 32
"""How much more of it on each side is made coarse, so that no border comes into what is judged."""

METRICS = {"mri": ("psnr", "ssim"), "ct": ("psnr", "ssim"), "optical": ("psnr", "ssim", "sam", "ergas")}
PIECES = {
    "planar": f"{PLANES} evenly spread planes of each volume, the middle {PLANE} x {PLANE} voxels of each",
    "volume": f"the middle {' x '.join(map(str, VOLUME))} voxels of each volume",
    "scene": f"the middle {SCENE} x {SCENE} pixels of each scene",
}


@dataclass(frozen=True)
class Shown:
    """An image to judge by."""

    file: str
    about: str = ""
    bands: tuple[str | int, ...] | None = None
    axes: tuple[int, int] | None = None
    scale: float = 1.0
    offset: float = 0.0
    subject: str | None = None
    planar: bool = False
    domain: str = "out"

    def opened(self, data: Path) -> Source:
        """The image, its bands chosen."""
        path = data / self.file
        source = format_of(path).open_source(path)
        if self.bands is None:
            return source
        return Selected(source, parse_bands(",".join(map(str, self.bands)), source.spec.channels, path.name))


def shown(recipe: Recipe, data: Path) -> list[Shown]:
    """The recipe's test images, then those of the table that it has not seen in any way, where there are such."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))[recipe.modality]["images"]
    every = [one for one in (Shown(**values) for values in table) if (data / one.file).exists()]
    known = {one.file: one for one in every}
    tests = [one for files in recipe.data.test for one in _tests(files, recipe, data)]
    seen = {file for files in _learnt_from(recipe) for file in _matched(files, data)}
    seen |= {one.file for one in tests}
    subjects = {known[file].subject for file in seen if file in known} - {None}
    solid = recipe.task.ndim == 3
    new = [one for one in every if one.file not in seen and one.subject not in subjects and not (one.planar and solid)]
    if not new:  # few images, all of them used: those that chose the weights have at least taught nothing
        chose = {file for files in recipe.data.validate_ for file in _matched(files, data)}
        new = [replace(one, about=f"{one.about}; it chose the weights") for one in every if one.file in chose]
    return [replace(one, about=known[one.file].about) if one.file in known else one for one in tests] + new


def _learnt_from(recipe: Recipe) -> Iterator[Files]:
    """What the model, and the one that it began with, was trained on and chosen by."""
    yield from (*recipe.data.train, *recipe.data.validate_)
    if recipe.start is not None:
        before = Model.load(find_model(recipe.start)).recipe
        assert before is not None
        yield from _learnt_from(before)


def _tests(files: Files, recipe: Recipe, data: Path) -> Iterator[Shown]:
    scale = recipe.intensity.digital / files.digital if files.digital else 1.0
    for file in _matched(files, data):
        yield Shown(file, bands=files.bands, axes=files.axes, scale=scale, domain="in")


def _matched(files: Files, data: Path) -> list[str]:
    return [str(path.relative_to(data)) for pattern in files.files for path in sorted(data.glob(pattern))]


def degradations(recipe: Recipe) -> dict[str, Part]:
    """What makes images coarse, by name; the recipe's own first."""
    kind = "mri-slices" if recipe.modality == "mri" and min(recipe.factor) == 1 else recipe.modality
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))[kind]["degradations"]
    others = {name: Part.model_validate(values) for name, values in table.items()}
    return {OWN: recipe.nominal, **{name: part for name, part in others.items() if part != recipe.nominal}}


def methods(folder: Path, model: Model) -> dict[str, str]:
    """What is held against each other: the model and the others by the names that `load_model` takes."""
    beside = {path.parent.name: path.parent for path in sorted(folder.parent.glob("*/config.json"))}
    others = {name: str(path) for name, path in {**shipped(), **beside}.items() if name != model.name}
    alike = [name for name, path in others.items() if _is_alike(model, path)]
    tiny = next((name for name in alike if name.endswith("-tiny")), None)
    pixel = next((name for name in alike if name == model.name.removesuffix("-gan")), None)
    known = {"tiny": tiny, "pixel": pixel}
    found = {"model": str(folder), **{label: others[name] for label, name in known.items() if name}}
    return {**found, "lanczos": "lanczos", "cubic": "cubic"}


def _is_alike(model: Model, path: str) -> bool:
    try:
        other = summary(path)
    except ModelError:  # whatever else lies beside the model
        return False
    return (other.modality, other.factor, other.channels) == (model.modality, model.task.factor, model.channel_names)


@dataclass
class _Bench:
    """A model with the images that it is shown."""

    folder: Path
    model: Model
    data: Path
    scratch: dict[tuple[str, int], Image] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """How it takes an image: planar, volume or scene."""
        return "scene" if self.model.modality == "optical" else "volume" if self.model.task.ndim == 3 else "planar"

    def piece(self, one: Shown, part: int = 1) -> tuple[Image, tuple[int, ...]]:
        """What of an image is judged, 1 / `part` as long on each axis, and the axes that the model works on."""
        source = one.opened(self.data)
        try:
            grid = source.spec.grid
            axes = (one.axes or planar_axes(grid.spacing, grid.shape)) if self.kind == "planar" else range(grid.ndim)
            made = self._cut(source, tuple(axes), part)
        finally:
            source.close()
        names = self.model.channel_names if len(self.model.channel_names) > 1 else source.spec.channels
        spec = replace(made.spec, channels=names)
        return Image(spec, (made.voxels * one.scale + one.offset).astype(np.float32)), tuple(axes)

    def _cut(self, source: Source, axes: tuple[int, ...], part: int) -> Image:
        grid, multiple = source.spec.grid, self.model.network.multiple_of
        sizes: dict[str, Sequence[int]] = {"planar": (PLANE, PLANE), "volume": VOLUME, "scene": (SCENE, SCENE)}
        start, stop = [0] * grid.ndim, list(grid.shape)
        for axis, size, f in zip(axes, sizes[self.kind], self.model.task.factor, strict=True):
            size = size // part + (2 * MARGIN if f > 1 else 0)
            size = min(size, grid.shape[axis]) // (f * multiple) * (f * multiple)
            start[axis] = (grid.shape[axis] - size) // 2
            stop[axis] = start[axis] + size
        if self.kind != "planar":
            return _image(source, [Box(tuple(start), tuple(stop))], 0, grid)
        (across,) = set(range(grid.ndim)) - set(axes)
        places = np.linspace(0.25, 0.75, PLANES) if part == 1 else [0.5]
        boxes = []
        for place in places:
            start[across] = int(place * grid.shape[across])
            stop[across] = start[across] + 1
            boxes.append(Box(tuple(start), tuple(stop)))
        return _image(source, boxes, across, grid)

    def scores(self, sr: Image, hr: Image, axes: tuple[int, ...]) -> dict[str, float]:
        """The metrics of one result; similarity is that of each plane where planes are judged."""
        spec, valid = hr.spec, hr.voxels[np.isfinite(hr.voxels)]
        span = float(valid.max() - valid.min()) or 1.0
        facts = (span, spec.grid.spacing, spec.grid.units, self.model.task.factor, spec.channels)
        whole = Compared(sr.voxels, hr.voxels, *facts)
        found: dict[str, float] = {}
        for name in METRICS[self.model.modality]:
            pairs = [whole]
            if name == "ssim" and self.kind == "planar":
                (across,) = set(range(spec.grid.ndim)) - set(axes)
                planes = [
                    [np.take(x.voxels, [i], across + 1) for x in (sr, hr)] for i in range(spec.grid.shape[across])
                ]
                pairs = [Compared(a, b, span, channels=spec.channels) for a, b in planes]
            if name != "ssim" or min(n for n in pairs[0].masked[0].shape[1:]) >= WINDOW:
                values = [all_metrics()[name].measure(pair) for pair in pairs]
                found[name] = round(float(np.mean([value for value in values if value is not None])), 5)
        return found

    def subject(self, one: Shown, part: int) -> Subject:
        """An image as the training's own scores see it."""
        made, axes = self.piece(one, part)
        return prepare(
            one.file, made, self.model.task.ndim, self.model.intensity, axes if self.kind == "planar" else None
        )

    def pairs(self, one: Shown, part: int) -> list[Pair]:
        """Coarse and fine planes (or the whole) of an image, by the model's own degradation, without the margin."""
        assert self.model.recipe is not None
        noise = torch.Generator().manual_seed(self.model.recipe.seed)
        degradation = build_degradation(self.model.recipe, self.model.recipe.nominal)
        found = planes_of(self.subject(one, part), degradation, self.model.network, PLANES, noise)
        return [self._inside(pair) for pair in found]

    def _inside(self, pair: Pair) -> Pair:
        lr, hr = pair.lr, pair.hr
        for axis, f in enumerate(self.model.task.factor, start=2):
            end = min(MARGIN // f, lr.shape[axis] // 4) if f > 1 else 0
            lr = lr.narrow(axis, end, lr.shape[axis] - 2 * end)
            hr = hr.narrow(axis, end * f, hr.shape[axis] - 2 * end * f)
        return Pair(lr.contiguous(), hr.contiguous())


def _image(source: Source, boxes: Sequence[Box], across: int, grid: Grid) -> Image:
    voxels = np.concatenate([source.read(box) for box in boxes], axis=across + 1)
    placed = grid.cropped(boxes[0]).with_shape(voxels.shape[1:])
    spec = replace(source.spec, grid=placed, extra={}, scaling=(), dtype=np.dtype(np.float32), chunks=None)
    return Image(spec, voxels)


def judged(folder: Path, data: Path, *, precision: str, tell: Any) -> Judgement:  # noqa: ANN401
    """All that is measured of a model."""
    bench = _Bench(folder, Model.load(folder), data)
    assert bench.model.recipe is not None
    images = shown(bench.model.recipe, data)
    rows = []
    for one in images:
        found = list(_rows(bench, one))
        rows += found
        tell(f"{bench.model.name}: {one.file}: " + ", ".join(f"{row.degradation} {row.gain:+.2f} dB" for row in found))
    tests = [one for one in images if one.domain == "in"]
    with torch.inference_mode():
        covered = {
            domain: covered
            for domain in ("in", "out")
            if (covered := _coverage(bench, [one for one in images if one.domain == domain])) is not None
        }
        alike = _likeness(bench, tests) if bench.kind != "volume" else {}
    speed = seconds(bench.model, bench.kind, precision)
    return Judgement(bench.model.sha256, PIECES[bench.kind], tuple(rows), speed, covered, alike)


def _rows(bench: _Bench, one: Shown) -> Iterator[Row]:
    assert bench.model.recipe is not None
    made, axes = bench.piece(one)
    names = methods(bench.folder, bench.model)
    planar = (axes[0], axes[1]) if bench.kind == "planar" else None
    for name, part in degradations(bench.model.recipe).items():
        judge = Judge(tuple(names.values()), None, planar, bench.model.recipe.seed, part, MARGIN)
        results = {method: bench.scores(sr, hr, axes) for method, sr, hr in judge.simulated(Path(one.file), made)}
        yield Row(one.file, one.about, one.domain, name, {label: results[path] for label, path in names.items()})


def _coverage(bench: _Bench, images: Sequence[Shown]) -> float | None:
    """The share of the voxels that vary whose stated interval holds the truth, on a part of each image."""
    if not bench.model.calibration or not images:
        return None
    widening = calibration_of(bench.model).widening
    answers, held = Answers(bench.model.network, widening.quarter).eval(), []
    for one in images:
        for pair in bench.pairs(one, 2):
            sr, features = answers(pair.lr)
            counted = varied(pair.hr)
            held.append(((pair.hr - sr).abs() <= widening.widths(features))[counted].double())
    return round(float(torch.cat(held).mean()), 4)


def _likeness(bench: _Bench, images: Sequence[Shown]) -> dict[str, dict[str, float]]:
    """How unlike true images the results of the model, of its pixel twin and of cubic look, and what they invent."""
    from geomedsr.encoders import domain

    name = {"mri": "mri", "optical": "sentinel2"}.get(bench.model.modality)
    encoder = domain.load(name) if name else None
    if encoder is None or encoder.channels != bench.model.task.channels or not images:
        return {}
    pairs = [pair for one in images for pair in bench.pairs(one, 1)]
    factor, names = bench.model.task.factor, methods(bench.folder, bench.model)
    results = {"model": [bench.model.network(pair.lr)[0].numpy() for pair in pairs]}
    if "pixel" in names:
        results["pixel"] = [Model.load(Path(names["pixel"])).network(pair.lr)[0].numpy() for pair in pairs]
    results["cubic"] = [upsample(pair.lr, "cubic", factor)[0].numpy() for pair in pairs]
    fine = [pair.hr[0].numpy() for pair in pairs]
    softer = [upsample(pair.lr, "linear", factor)[0].numpy() for pair in pairs]
    return {method: _alike(srs, fine, softer, encoder) for method, srs in results.items()}


def _alike(srs: Sequence[Voxels], fine: Sequence[Voxels], softer: Sequence[Voxels], encoder: Any) -> dict[str, float]:  # noqa: ANN401
    found, real = ([torch.from_numpy(one) for one in planes] for planes in (srs, fine))
    unlike = likeness(found, real, encoder)
    parts = [split(up, sr, hr)[0] for up, sr, hr in zip(softer, srs, fine, strict=True)]
    total = sum(part.voxels for part in parts)
    shares = {
        kind: round(sum(getattr(part, kind) * part.voxels for part in parts) / total, 4)
        for kind in ("improvement", "omission", "hallucination")
    }
    return {key: round(float(getattr(unlike, key)), 5) for key in ("perceptual", "frechet", "spectrum")} | shares


def seconds(model: Model, kind: str, precision: str) -> dict[str, Any]:
    """How long the usual work takes on this machine: measured on a part of it, and scaled by the voxels."""
    asked = {"planar": (256, 256, 256), "volume": (256, 256, 256), "scene": (1000, 1000)}[kind]
    part = {"planar": (256, 256, 4), "volume": (96, 96, 32), "scene": (400, 400)}[kind]
    source = _phantom(model, part)
    upscaler = Upscaler(model.network, model.intensity, axes=(0, 1) if kind == "planar" else None, precision=precision)
    spec = source.spec.upscaled(upscaler.factor_for(source.spec))
    upscaler.run(source, Image.empty(spec))
    began = time.perf_counter()
    outcome = upscaler.run(source, Image.empty(spec))
    took = time.perf_counter() - began
    share = float(np.prod(asked) / np.prod(part))
    return {
        "input": list(asked),
        "seconds": round(took * share, 1),
        "measured": list(part),
        "threads": torch.get_num_threads(),
        "machine": _machine(),
        "precision": outcome.precision,
        "backend": outcome.choice.backend,
    }


def _phantom(model: Model, shape: Sequence[int]) -> Image:
    """An image of noise and waves in the model's own range."""
    rng, low, high = np.random.default_rng(0), *(model.values or (0.0, 1000.0))
    waves = sum(
        np.sin(np.arange(n) / (5 + axis)).reshape(-1, *[1] * (len(shape) - 1 - axis)) for axis, n in enumerate(shape)
    )
    share = 0.3 + 0.05 * waves + 0.01 * rng.standard_normal((model.task.channels, *shape))
    return Image.of((low + (high - low) * 0.2 * share).astype(np.float32))


def _machine() -> str:
    """What processor this is, as its maker calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} processors seen"
