"""Everything about an upscaling that is decided before a voxel is read, and all the checks that need none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.grid import Factor, Shape
from geomedsr.image import ImageSpec
from geomedsr.io import format_of, limits
from geomedsr.run.catalogue import load_model
from geomedsr.run.choosing import AUTO, choose, thick_slices
from geomedsr.run.contrast import contrast_warning
from geomedsr.run.fit import BASELINES, Fit, fit, scale_factor
from geomedsr.run.inputs import told
from geomedsr.run.levels import finest_fitting, spec_of
from geomedsr.run.maps import check_maps
from geomedsr.run.provenance import provenance_of
from geomedsr.run.sidecar import check_bids
from geomedsr.run.targets import FORMATS, Job, check_conversion, check_space
from geomedsr.run.tying import check_damping

if TYPE_CHECKING:
    from geomedsr.data.intensity import IntensityRule
    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.model import Model

__all__ = ["Plan", "Settings", "asked", "creation_options", "plan", "promised", "selected", "stamped", "upscaler_for"]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@dataclass(frozen=True)
class Settings:
    """How to upscale; what is None is chosen by the image and the machine.

    Raises:
        GeomedsrError: a choice that there is not, or two that contradict each other.
    """

    model: str
    scale: tuple[int, ...] | None = None
    bands: str | None = None
    axes: tuple[int, ...] | None = None
    device: str = "auto"
    precision: str = "float32"
    backend: str = "auto"
    tile: Shape | None = None
    memory: int | None = None
    dtype: str | None = None
    form: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False
    skip_existing: bool = False
    sidecar: bool = False
    bids: bool = False
    consistent: bool = False
    damping: str | float | None = None
    uncertainty: Path | None = None
    hallucination: Path | None = None

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise GeomedsrError("--overwrite and --skip-existing cannot both be; choose one.")
        if self.consistent and self.precision != "float32":
            raise GeomedsrError(f"--consistent is exact, which --precision {self.precision} is not; leave one out.")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise GeomedsrError(f"There is no --dtype {self.dtype}; there are {', '.join(DTYPES)}.")
        if self.form is not None and self.form not in FORMATS:
            raise GeomedsrError(f"There is no --format {self.form}; there are {', '.join(FORMATS)}.")
        check_damping(self.damping, consistent=self.consistent)

    @property
    def is_measured(self) -> bool:
        """Whether what the network runs with is found out by measuring."""
        return self.precision == "auto" or (self.backend == "auto" and self.precision != "float32")

    @property
    def maps(self) -> dict[str, Path]:
        """The maps to write beside the output, by kind: a file, or a folder for several outputs."""
        wanted = {"uncertainty": self.uncertainty, "hallucination": self.hallucination}
        return {kind: path for kind, path in wanted.items() if path is not None}


@dataclass(frozen=True)
class Plan:
    """A job that has passed all checks that need no voxel."""

    job: Job
    model: Model
    fit: Fit
    before: ImageSpec
    factor: Factor

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may spoil the result."""
        return self.fit.warnings


def plan(job: Job, settings: Settings) -> Plan:
    """A job with everything decided: model, channels, axes, factor and the output's spec.

    Raises:
        GeomedsrError: the input cannot be read, the model does not fit, or the output cannot be.
    """
    before = spec_of(job.source)
    check_conversion(job.target, before)
    if settings.bids:
        check_bids(job.source.name, before.grid.units)
    model, why = _model_for(job, settings, before)
    level, note = finest_fitting(job.source, model, settings.axes)
    if note is not None:
        job, before = replace(job, source=level), spec_of(level)
    chosen = fit(model, before, told(job.source), settings.bands, settings.axes)
    doubt = contrast_warning(model, job.source.name)
    notes = (*why, *chosen.notes, *((note,) if note else ()))
    chosen = replace(chosen, notes=notes, warnings=(*chosen.warnings, *((doubt,) if doubt else ())))
    factor = upscaler_for(model, chosen, settings).factor_for(selected(before, chosen))
    made = Plan(job, model, chosen, before, factor)
    check_maps(made.job, model, before)
    _check_settings(made, settings)
    after = promised(made, before, settings)
    limits().check_voxels(f"The output {job.target}", math.prod(after.shape))
    sizes = {job.target: after.nbytes, **dict.fromkeys(job.maps.values(), 4 * math.prod(after.shape))}
    warnings = tuple(text for path, size in sizes.items() if (text := check_space(path, size)))
    doubts = cast(tuple[str, ...], before.extra.get("warnings", ()))  # those of the format, about the file
    return replace(made, fit=replace(chosen, warnings=(*doubts, *chosen.warnings, *warnings)))


def _check_settings(made: Plan, settings: Settings) -> None:
    """Refuses here what would fail only when the work starts: the device, the tile, the format's options."""
    from geomedsr.inference.backend import find_device
    from geomedsr.inference.choice import check_asked

    find_device(settings.device)
    check_asked(settings.backend, settings.precision, settings.device)
    ndim, tile = made.before.grid.ndim, settings.tile
    if tile is not None and (len(tile) not in (1, ndim) or min(tile) < 1):
        numbers = ",".join(map(str, tile))
        raise ModelError(
            f"--tile is one number, or {ndim} for {told(made.job.source)}, each at least 1; got {numbers}."
        )
    target = made.job.target
    format_of(target).check_options(target, asked(made, made.before, settings), creation_options(settings))


def creation_options(settings: Settings) -> Mapping[str, str]:
    """The format's own options, those that a choice of format brings among them."""
    return {"COG": "YES", **settings.options} if settings.form == "cog" else settings.options


def _model_for(job: Job, settings: Settings, spec: ImageSpec) -> tuple[Model, tuple[str, ...]]:
    """The model, and what to say of the choice."""
    if settings.model in BASELINES:
        factor = scale_factor(settings.model, None, settings.scale, spec.grid.shape)
        return load_model(settings.model, spec.grid.ndim, factor), ()
    if settings.model == AUTO:
        choice = choose(job.source, spec, settings.scale, settings.bands)
        return load_model(choice.name), (choice.why,)
    model = load_model(settings.model)
    scale_factor(model.name, model.task.factor, settings.scale, spec.grid.shape)
    hint = thick_slices(spec, settings.model)
    return model, (hint,) if hint else ()


def selected(spec: ImageSpec, chosen: Fit) -> ImageSpec:
    """The spec of the channels that a model takes."""
    return spec if chosen.channels is None else spec.with_channels(chosen.channels)


def asked(plan: Plan, spec: ImageSpec, settings: Settings) -> ImageSpec:
    """The spec of the finer image, as the output's format is asked to write it."""
    after = selected(spec, plan.fit).upscaled(plan.factor)
    return replace(after, dtype=np.dtype(settings.dtype)) if settings.dtype else after


def stamped(plan: Plan, settings: Settings) -> ImageSpec:
    """The spec that an output is asked for, with how it was made.

    Raises:
        GeomedsrError: SOURCE_DATE_EPOCH is no number.
    """
    return replace(asked(plan, plan.before, settings), provenance=provenance_of(plan, settings))


def promised(plan: Plan, spec: ImageSpec, settings: Settings) -> ImageSpec:
    """What will be read back from the output: all that its format can hold of what was asked."""
    return format_of(plan.job.target).target_spec(plan.job.target, asked(plan, spec, settings))


def upscaler_for(
    model: Model,
    chosen: Fit,
    settings: Settings,
    intensity: IntensityRule | None = None,
    tell: Callable[[str], None] | None = None,
) -> Upscaler:
    """What streams an image through a model; `intensity` stands for the model's own, and `tell` hears what was chosen
    for it by measuring.
    """
    from geomedsr.inference.upscaler import Upscaler

    return Upscaler(
        model.network,
        intensity or model.intensity,
        axes=chosen.axes,
        device=settings.device,
        precision=settings.precision,
        tile=settings.tile,
        memory=settings.memory,
        backend=settings.backend,
        tell=tell,
    )
