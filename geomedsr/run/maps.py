"""The maps beside an output: how far it may be off, and where its detail is not supported by the input.

Each is a pass of its own through a network that gives the map in place of the image, so that it is tiled, filled and
masked as the output is. The maps are written first and appear after the output does, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from geomedsr.errors import OutputError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Sink, Source, Voxels
from geomedsr.io import format_of
from geomedsr.run.check import check_output
from geomedsr.run.inputs import Found
from geomedsr.run.targets import Job, check_conversion, is_file_target, plan_targets

if TYPE_CHECKING:
    from geomedsr.data.intensity import IntensityRule
    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.model import Model
    from geomedsr.networks._network import Network

__all__ = ["Maps", "check_maps", "map_network", "with_maps"]


def with_maps(jobs: Sequence[Job], found: Sequence[Found], maps: Mapping[str, Path], form: str | None) -> list[Job]:
    """The jobs with their maps: the file itself, or a folder's file of the same name as the output.

    Raises:
        OutputError: one file for the maps of several images, or a map where an output or another map goes.
    """
    each: list[dict[str, Path]] = [{} for _ in jobs]
    for kind, out in maps.items():
        planned = plan_targets(found, out, None if is_file_target(out) else form)
        for own, job in zip(each, planned, strict=True):
            own[kind] = job.target
    _check_apart([job.target.resolve() for job in jobs], each)
    return [replace(job, maps=own) for job, own in zip(jobs, each, strict=True)]


def _check_apart(outputs: Sequence[Path], each: Sequence[Mapping[str, Path]]) -> None:
    taken = dict.fromkeys(outputs, "output")
    for own in each:
        for kind, path in own.items():
            place = path.resolve()
            inside = next((one for one in (place, *place.parents) if one in taken), None)
            if inside is not None:
                raise OutputError(
                    f"The {kind} map {path} would go where an {taken[inside]} goes; choose another place."
                )
            taken[place] = f"{kind} map"


def check_maps(job: Job, model: Model, before: ImageSpec) -> None:
    """Refuses maps that the model or the format cannot give.

    Raises:
        ModelError: the model has no calibration.
        OutputError: the format cannot hold the image.
    """
    if not job.maps:
        return
    from geomedsr.trust.calibration import calibration_of

    calibration_of(model)
    for path in job.maps.values():
        check_conversion(path, before)


class Maps:
    """The maps of one output, as they come to be: written, then committed after it; thrown away otherwise."""

    def __init__(self, job: Job, model: Model, before: ImageSpec, progress: Callable[[int, int], None]) -> None:
        self._job, self._model, self._before, self._told = job, model, before, progress
        self._held: list[_Held] = []
        self._networks = {kind: map_network(kind, model) for kind in job.maps}
        self._shares = [cost for _, _, cost in self._networks.values()] + [1]
        self._passed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for held in self._held:
            held.discard()

    def write(self, source: Source, spec: ImageSpec, upscaler: Callable[[Model, IntensityRule], Upscaler]) -> None:
        """Writes all maps, on the grid of the output's `spec`, where nobody sees them yet."""
        for kind, path in self._job.maps.items():
            network, intensity, _ = self._networks[kind]
            shown = replace(spec, dtype=np.dtype(np.float32), nodata=float("nan"), scaling=(), has_holes=True)
            promised = format_of(path).target_spec(path, shown)
            held = _Held(format_of(path).create_sink(path, shown, {}), path, promised, self._before)
            self._held.append(held)
            upscaler(replace(self._model, network=network), intensity).run(source, held, self.progress)
            self._passed += 1

    def progress(self, done: int, total: int) -> None:
        """So many voxels of the present pass are done; a pass that runs the network often counts as often."""
        before = sum(self._shares[: self._passed]) * total
        self._told(before + done * self._shares[self._passed], total * sum(self._shares))

    def commit(self) -> None:
        """The maps appear."""
        for held in self._held:
            held.release()


def map_network(kind: str, model: Model) -> tuple[Network, IntensityRule, int]:
    """The network that gives a map, the way back to the image's units, and how often it runs the model's network."""
    from geomedsr.trust.calibration import calibration_of
    from geomedsr.trust.hallucination import Surprise
    from geomedsr.trust.instrument import instrument_of
    from geomedsr.trust.uncertainty import Widths
    from geomedsr.trust.units import Unitless, Widened

    calibration = calibration_of(model)
    if kind == "uncertainty":
        widths = Widths(model.network, calibration.widening)
        return widths.eval(), Widened(**model.intensity.model_dump()), len(widths.answers.turns)
    surprise = Surprise(model.network, instrument_of(model.recipe, model.task.factor), calibration.habits)
    return surprise.eval(), Unitless(**model.intensity.model_dump()), 1


class _Held:
    """A sink that is complete when it is committed, and appears when it is released."""

    def __init__(self, sink: Sink, path: Path, promised: ImageSpec, before: ImageSpec) -> None:
        self._sink, self._path, self._promised, self._before = sink, path, promised, before

    @property
    def spec(self) -> ImageSpec:
        """What is written."""
        return self._sink.spec

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box."""
        self._sink.write(box, voxels)

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """All is written; it is not shown yet."""

    def abort(self) -> None:
        """Nothing appears."""
        self._sink.abort()

    def release(self) -> None:
        """The file appears, when it is right."""
        self._sink.commit(self._check)

    discard = abort

    def _check(self, staged: Path) -> None:
        check_output(staged, self._promised, self._before, name=self._path)
