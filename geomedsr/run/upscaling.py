"""Upscaling files: all is planned and checked first, then the work is done, then its result is read back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Sink, Source, Voxels
from geomedsr.io import format_of, suffix_of
from geomedsr.run.catalogue import find_model
from geomedsr.run.channels import Selected
from geomedsr.run.check import Checked, check_output
from geomedsr.run.description import is_placeless
from geomedsr.run.fit import BASELINES
from geomedsr.run.inputs import archive_of, expand
from geomedsr.run.planning import Plan, Settings, asked, creation_options, plan, promised, upscaler_for
from geomedsr.run.targets import Inputs, Job, check_apart, check_target, is_file_target, make_folder, plan_targets
from geomedsr.run.values import value_warnings

if TYPE_CHECKING:
    from geomedsr.inference.upscaler import Outcome

__all__ = ["Listener", "Report", "upscale", "upscale_all"]


class Listener(Protocol):
    """Who hears how the work goes."""

    def begin(self, job: Job) -> None:
        """An image is begun."""
        ...

    def progress(self, done: int, total: int) -> None:
        """So many of its voxels are done."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing."""
        ...

    def warn(self, text: str) -> None:
        """Something that may spoil the result."""
        ...

    def end(self) -> None:
        """The image is done, or given up."""
        ...

    def report(self, report: Report) -> None:
        """What became of one input."""
        ...


@dataclass(frozen=True)
class Report:
    """What became of one input; `status` is done, planned, skipped or failed."""

    input: Path
    output: Path
    status: str
    model: str = ""
    before: ImageSpec | None = None
    after: ImageSpec | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    failure: Exception | None = field(default=None, compare=False)
    outcome: Outcome | None = field(default=None, compare=False)

    @property
    def error(self) -> str | None:
        """What went wrong, in one sentence."""
        if self.failure is None or isinstance(self.failure, GeomedsrError):
            return None if self.failure is None else str(self.failure)
        return f"{type(self.failure).__name__}: {self.failure}"

    @property
    def exit_code(self) -> int:
        """What the program would answer if this were its only input."""
        if self.failure is None:
            return 0
        return self.failure.exit_code if isinstance(self.failure, GeomedsrError) else 1

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        shapes = {"shape_before": self.before, "shape_after": self.after}
        return {
            "input": str(self.input),
            "output": str(self.output),
            "status": self.status,
            "model": self.model,
            **{name: list(spec.grid.shape) if spec else None for name, spec in shapes.items()},
            "spacing_before": list(self.before.grid.spacing) if self.before else None,
            "spacing_after": list(self.after.grid.spacing) if self.after else None,
            "units": self.before.grid.units if self.before else None,
            "channels": list(self.after.channels) if self.after else None,
            "dtype": str(self.after.dtype) if self.after else None,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "error": self.error,
            **self._ran_with(),
        }

    def _ran_with(self) -> dict[str, Any]:
        """What the network ran with; the distance from float32 in dB, null where none was measured or there is none."""
        choice = self.outcome.choice if self.outcome else None
        psnr = choice.psnr if choice and choice.psnr is not None and math.isfinite(choice.psnr) else None
        return {
            "device": self.outcome.device if self.outcome else None,
            "backend": choice.backend if choice else None,
            "precision": choice.precision if choice else None,
            "speedup": round(choice.speedup, 2) if choice and choice.speedup else None,
            "psnr_to_float32": round(psnr, 2) if psnr is not None else None,
        }


def upscale(plan: Plan, settings: Settings, listener: Listener) -> Report:
    """Does what was planned, and reads the result back.

    Raises:
        GeomedsrError: it failed; nothing was left behind, and an older output is as it was.
    """
    began = time.perf_counter()
    job, made = plan.job, make_folder(plan.job.target.parent)
    try:
        source = _open(plan)
        try:
            warnings = _announce(plan, source, settings, listener)
            checked, outcome = _stream(plan, source, settings, listener)
        finally:
            source.close()
        listener.note(f"check ok: {job.target}: {checked}")
    finally:
        _remove_empty(made)
    seconds = time.perf_counter() - began
    report = Report(job.source, job.target, "done", plan.model.name, plan.before, checked.spec, seconds, warnings)
    return replace(report, outcome=outcome)


def _open(plan: Plan) -> Source:
    source = format_of(plan.job.source).open_source(plan.job.source)
    return source if plan.fit.channels is None else Selected(source, plan.fit.channels)


def _announce(plan: Plan, source: Source, settings: Settings, listener: Listener) -> tuple[str, ...]:
    """Tells notes and warnings, the sampled values' among them."""
    after = promised(plan, plan.before, settings)
    warnings = (*plan.warnings, *value_warnings(plan.model, source, after, plan.job.source.name))
    if suffix_of(archive_of(plan.job.source) or plan.job.source) == ".zarr" and is_placeless(plan.before.grid):
        listener.note(
            f"Where {plan.job.source.name} lies and how large its voxels are is not known (it carries no convention "
            "for that which is read here); the output counts in voxels of the input."
        )
    for text in plan.fit.notes:
        listener.note(text)
    for text in warnings:
        listener.warn(text)
    return warnings


def _stream(plan: Plan, source: Source, settings: Settings, listener: Listener) -> tuple[Checked, Outcome]:
    """The output is read back before it takes its place, so that an older one gives way to a right one only."""
    target, spec = plan.job.target, asked(plan, plan.before, settings)
    bare = format_of(target).create_sink(target, spec, creation_options(settings))
    sink = _Verified(bare, plan, promised(plan, plan.before, settings))
    try:
        outcome = upscaler_for(plan.model, plan.fit, settings, listener.note).run(source, sink, listener.progress)
    finally:
        sink.abort()  # nothing to do after a commit
    assert sink.checked is not None
    return sink.checked, outcome


class _Verified:
    """A sink whose file is compared with what was promised before it appears."""

    def __init__(self, sink: Sink, plan: Plan, promised: ImageSpec) -> None:
        self._sink, self._plan, self._promised = sink, plan, promised
        self.checked: Checked | None = None

    @property
    def spec(self) -> ImageSpec:
        """What is written."""
        return self._sink.spec

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box."""
        self._sink.write(box, voxels)

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The file appears when it is right."""
        self._sink.commit(verify or self._check)

    def abort(self) -> None:
        """Nothing appears."""
        self._sink.abort()

    def _check(self, staged: Path) -> None:
        self.checked = check_output(staged, self._promised, self._plan.before, name=self._plan.job.target)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def upscale_all(
    inputs: Sequence[str],
    out: Path,
    settings: Settings,
    listener: Listener,
    *,
    keep_going: bool = False,
    dry_run: bool = False,
) -> Iterator[Report]:
    """Upscales all that the inputs name, one report each; everything is checked before any work starts.

    The first failure is the last report, unless `keep_going`.

    Raises:
        GeomedsrError: an input or output cannot be; with `keep_going` that is a report, too.
    """
    found = expand(inputs, None if is_file_target(out) else out, keep_going=keep_going)
    broken = {one.path: one.failure for one in found if one.failure is not None}
    named = found if is_file_target(out) else [one for one in found if one.path not in broken]
    jobs = [job for job in plan_targets(named, out, settings.form) if job.source not in broken]
    if settings.model not in BASELINES:
        find_model(settings.model)
    for path, failure in broken.items():
        yield Report(path, out, "failed", settings.model, failure=failure)
    taken = Inputs([job.source for job in jobs])
    plans: list[Plan] = []
    for job in jobs:
        step = _prepare(job, taken, settings, keep_going)
        if isinstance(step, Plan):
            plans.append(step)
        else:
            yield step
    for ready in plans:
        report = _planned(ready, settings) if dry_run else _work(ready, settings, listener)
        yield report
        if report.failure and not keep_going:
            return


def _prepare(job: Job, taken: Inputs, settings: Settings, keep_going: bool) -> Plan | Report:
    """The plan of a job, or the report that there is nothing to do or that it cannot be."""
    try:
        check_apart(job, taken)
        if settings.skip_existing and job.target.exists():
            return Report(job.source, job.target, "skipped", settings.model)
        check_target(job, taken, replace=settings.overwrite)
        return plan(job, settings)
    except GeomedsrError as error:
        if not keep_going:
            raise
        return Report(job.source, job.target, "failed", settings.model, failure=error)


def _work(ready: Plan, settings: Settings, listener: Listener) -> Report:
    listener.begin(ready.job)
    try:
        return upscale(ready, settings, listener)
    except Exception as error:  # noqa: BLE001  (one image's failure is a report; the caller decides what it means)
        return Report(ready.job.source, ready.job.target, "failed", ready.model.name, failure=error)
    finally:
        listener.end()


def _planned(ready: Plan, settings: Settings) -> Report:
    job, after = ready.job, promised(ready, ready.before, settings)
    return Report(job.source, job.target, "planned", ready.model.name, ready.before, after, 0.0, ready.warnings)
