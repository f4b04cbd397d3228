"""References made coarse as a model learnt it, and made fine again by several methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geomedsr.errors import InputError, ModelError
from geomedsr.grid import Box, Factor
from geomedsr.image import Image, Source
from geomedsr.run.catalogue import load_model
from geomedsr.run.channels import Selected
from geomedsr.run.fit import BASELINES, Fit, fit
from geomedsr.run.planning import Settings, upscaler_for

if TYPE_CHECKING:
    from geomedsr.model import Model
    from geomedsr.stage import Part

__all__ = ["BASELINE", "Judge"]

BASELINE = "cubic"


@dataclass(frozen=True)
class Judge:
    """The models to be judged beside cubic. The first that has a recipe says how references are made coarse, unless
    `degradation` stands for its own. `margin` fine voxels at each end of the axes that become finer are made coarse
    with the rest, so that nothing ends there for the degradation, and then left out.

    Raises:
        ModelError: none has a recipe, or they make an image finer by different factors.
    """

    names: tuple[str, ...]
    bands: str | None = None
    axes: tuple[int, ...] | None = None
    seed: int = 0
    degradation: Part | None = None
    margin: int = 0

    def __post_init__(self) -> None:
        trained = [name for name in self.names if name not in BASELINES]
        if not trained:
            raise ModelError(
                f"{', '.join(self.names)} cannot say how references are made coarse: name a model with a recipe, too."
            )
        factors = {name: load_model(name).task.factor for name in trained}
        if len(set(factors.values())) > 1:
            told = ", ".join(f"{name} {' x '.join(map(str, factor))}" for name, factor in factors.items())
            raise ModelError(f"The models make an image finer by different factors ({told}): judge them one by one.")

    @property
    def model(self) -> Model:
        """The model whose recipe counts."""
        return load_model(next(name for name in self.names if name not in BASELINES))

    def simulated(self, path: Path, source: Source) -> Iterator[tuple[str, Image, Image]]:
        """Each method with its prediction and the reference, which is cut to whole coarse voxels.

        Raises:
            GeomedsrError: a model does not fit the image, or it is too small.
        """
        chosen = fit(self.model, source.spec, path.name, self.bands, self.axes)
        picked = source if chosen.channels is None else Selected(source, chosen.channels)
        factor = upscaler_for(self.model, chosen, _settings(self.model.name)).factor_for(picked.spec)
        hr = _whole(picked, factor, path)
        hr, lr = self._inside(hr, self._coarse(hr, factor), factor)
        for name in dict.fromkeys((*self.names, BASELINE)):
            yield name, _finer(name, lr, factor, replace(chosen, channels=None), path), hr

    def _inside(self, hr: Image, lr: Image, factor: Factor) -> tuple[Image, Image]:
        """Both without their margin, or without a quarter at each end where they are small."""
        if self.margin == 0:
            return hr, lr
        shape = lr.spec.grid.shape
        ends = [min(self.margin // f, n // 4) if f > 1 else 0 for n, f in zip(shape, factor, strict=True)]
        box = Box(tuple(ends), tuple(n - end for n, end in zip(shape, ends, strict=True)))
        return _cropped(hr, box.scaled(factor)), _cropped(lr, box)

    def _coarse(self, hr: Image, factor: Factor) -> Image:
        """The coarse image, as training makes it: by the degradation, on the network's intensities."""
        import torch

        from geomedsr.inference.fill import fill
        from geomedsr.model import build_degradation

        model = self.model
        assert model.recipe is not None
        degradation = build_degradation(model.recipe, self.degradation or model.recipe.nominal)
        intensity = model.intensity.fit(hr)
        invalid = ~np.isfinite(hr.voxels)
        axes = tuple(range(hr.spec.grid.ndim))
        filled = fill(intensity.apply(hr.voxels), axes) if invalid.any() else intensity.apply(hr.voxels)
        noise = torch.Generator().manual_seed(self.seed)
        lr = degradation(torch.from_numpy(filled)[None], factor, noise)[0].numpy()
        voxels = intensity.invert(lr).astype(np.float32)
        voxels[_any(invalid, factor)] = np.nan
        spec = replace(hr.spec, grid=hr.spec.grid.downscaled(factor), dtype=np.dtype(np.float32), chunks=None)
        return Image(spec, voxels)


def _settings(name: str) -> Settings:
    return Settings(model=name)


def _cropped(image: Image, box: Box) -> Image:
    return Image(replace(image.spec, grid=image.spec.grid.cropped(box)), image.read(box))


def _whole(source: Source, factor: Factor, path: Path) -> Image:
    """The image from its first voxel to the last whole coarse one."""
    shape = tuple(n // f * f for n, f in zip(source.spec.grid.shape, factor, strict=True))
    if min(n // f for n, f in zip(shape, factor, strict=True)) < 1:
        raise InputError(f"{path.name} of {source.spec.grid.shape} voxels is too small to be made {factor} coarser.")
    box = Box.whole(shape)
    spec = replace(source.spec, grid=source.spec.grid.cropped(box), extra={}, scaling=(), dtype=np.dtype(np.float32))
    voxels = source.read(box)
    if not np.isfinite(voxels).any():
        raise InputError(f"{path.name} has no valid voxel: there is nothing to judge by.")
    return Image(spec, voxels)


def _finer(name: str, lr: Image, factor: Factor, chosen: Fit, path: Path) -> Image:
    if name in BASELINES:
        model, used = load_model(name, lr.spec.grid.ndim, factor), Fit(None, None)
    else:
        model = load_model(name)
        used = replace(chosen, axes=fit(model, lr.spec, path.name, None, chosen.axes).axes)
    sink = Image.empty(lr.spec.upscaled(factor))
    upscaler_for(model, used, _settings(name)).run(lr, sink)
    return sink


def _any(invalid: np.ndarray, factor: Factor) -> np.ndarray:
    """Which coarse voxels cover an invalid one."""
    shape = [invalid.shape[0]]
    for n, f in zip(invalid.shape[1:], factor, strict=True):
        shape += [n // f, f]
    return np.asarray(invalid.reshape(shape).any(axis=tuple(range(2, len(shape), 2))))
