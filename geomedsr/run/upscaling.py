"""Upscaling files: all is planned and checked first, then the work is done, then its result is read back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Sink, Source, Voxels
from geomedsr.io import boundless, exists_at, format_of, suffix_of
from geomedsr.run.catalogue import find_model
from geomedsr.run.channels import Selected
from geomedsr.run.check import Checked, check_output
from geomedsr.run.choosing import AUTO
from geomedsr.run.description import is_placeless
from geomedsr.run.fit import BASELINES
from geomedsr.run.glance import Glance, Seen
from geomedsr.run.inputs import Found, archive_of, expand, told
from geomedsr.run.maps import Maps, with_maps
from geomedsr.run.planning import Plan, Settings, asked, creation_options, plan, promised, stamped, upscaler_for
from geomedsr.run.sidecar import check_sidecar, describe_dataset, write_sidecar
from geomedsr.run.targets import Inputs, Job, check_apart, check_target, is_file_target, make_folder, plan_targets
from geomedsr.run.tying import tie
from geomedsr.run.values import value_warnings

if TYPE_CHECKING:
    from geomedsr.inference.choice import Choice
    from geomedsr.inference.upscaler import Outcome
    from geomedsr.run.ways import Ways

__all__ = ["Listener", "Report", "announce", "open_planned", "seen_again", "upscale", "upscale_all", "upscale_found"]


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
    """What became of one input, and what it ran with; `status` is done, planned, skipped or failed."""

    input: Path
    output: Path
    status: str
    model: str = ""
    before: ImageSpec | None = None
    after: ImageSpec | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    maps: Mapping[str, Path] = field(default_factory=dict)
    failure: Exception | None = field(default=None, compare=False)
    device: str | None = None
    choice: Choice | None = field(default=None, compare=False)

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
            "maps": {kind: str(path) for kind, path in self.maps.items()},
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
            "error": self.error,
            **self._ran_with(),
        }

    def _ran_with(self) -> dict[str, Any]:
        """What the network ran with; the distance from float32 in dB, null where none was measured or there is none."""
        choice = self.choice
        psnr = choice.psnr if choice and choice.psnr is not None and math.isfinite(choice.psnr) else None
        return {
            "device": self.device,
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
    job = plan.job
    made = [folder for path in (job.target, *job.maps.values()) for folder in make_folder(path.parent)]
    try:
        source = open_planned(plan)
        try:
            warnings = announce(plan, source, settings, listener)
            tied = tie(plan.model, source, plan.fit.axes, settings.damping) if settings.consistent else None
            plan = replace(plan, model=tied.model) if tied else plan
            checked, outcome = _stream(plan, source, settings, listener)
            listener.note(f"check ok: {job.target}: {checked}")
            if tied:
                listener.note(tied.told(source, job.target))
        finally:
            source.close()
        if (doubt := checked.seen.doubt) is not None:
            listener.warn(doubt)
            warnings = (*warnings, doubt)
    finally:
        _remove_empty(made)
    seconds = time.perf_counter() - began
    report = Report(job.source, job.target, "done", plan.model.name, plan.before, checked.spec, seconds, warnings)
    return replace(report, maps=job.maps, device=outcome.device, choice=outcome.choice)


def open_planned(plan: Plan) -> Source:
    """The image of a plan, with the channels that its model takes."""
    source = format_of(plan.job.source).open_source(plan.job.source)
    return source if plan.fit.channels is None else Selected(source, plan.fit.channels)


def seen_again(plan: Plan) -> Seen:
    """What a glance at a complete output sees, where nobody saw all of it on its way."""
    source = open_planned(plan)
    with boundless():
        written = format_of(plan.job.target).open_source(plan.job.target)
    try:
        glance = Glance(source, plan.factor)
        glance.read(written)
        return glance.seen(plan.model)
    finally:
        source.close()
        written.close()


def announce(plan: Plan, source: Source, settings: Settings, listener: Listener) -> tuple[str, ...]:
    """Tells notes and warnings, the sampled values' among them."""
    after = promised(plan, plan.before, settings)
    warnings = (*plan.warnings, *value_warnings(plan.model, source, after, told(plan.job.source)))
    if suffix_of(archive_of(plan.job.source) or plan.job.source) == ".zarr" and is_placeless(plan.before.grid):
        listener.note(
            f"Where {told(plan.job.source)} lies and how large its voxels are is not known (it carries no convention "
            "for that which is read here); the output counts in voxels of the input."
        )
    for text in (*cast(tuple[str, ...], plan.before.extra.get("notes", ())), *plan.fit.notes):
        listener.note(text)
    for text in warnings:
        listener.warn(text)
    return warnings


def _stream(plan: Plan, source: Source, settings: Settings, listener: Listener) -> tuple[Checked, Outcome]:
    """The output is read back before it takes its place, so that an older one gives way to a right one only."""
    target, upscaler = plan.job.target, upscaler_for(plan.model, plan.fit, settings, tell=listener.note)
    if settings.is_measured:
        choice = upscaler.chosen_for(source, asked(plan, plan.before, settings))
        settings = replace(settings, backend=choice.backend, precision=choice.precision)  # what the output says
    spec = stamped(plan, settings)
    exact = replace(settings, precision="float32", backend="torch")  # a map is made of small differences
    with Maps(plan.job, plan.model, plan.before, listener.progress) as maps:
        maps.write(source, spec, lambda model, intensity: upscaler_for(model, plan.fit, exact, intensity))
        bare = format_of(target).create_sink(target, spec, creation_options(settings))
        sink = _Verified(bare, plan, promised(plan, plan.before, settings), Glance(source, plan.factor))
        try:
            outcome = upscaler.run(source, sink, maps.progress)
        finally:
            sink.abort()  # nothing to do after a commit
        maps.commit()
    assert sink.checked is not None
    if settings.sidecar or settings.bids:
        write_sidecar(target, plan.job.source, spec.provenance or "", spec.grid.spacing, bids=settings.bids)
    return sink.checked, outcome


class _Verified:
    """A sink whose file is compared with what was promised before it appears."""

    def __init__(self, sink: Sink, plan: Plan, promised: ImageSpec, glance: Glance) -> None:
        self._sink, self._plan, self._promised, self._glance = sink, plan, promised, glance
        self.checked: Checked | None = None

    @property
    def spec(self) -> ImageSpec:
        """What is written."""
        return self._sink.spec

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box."""
        self._glance.write(box, voxels)
        self._sink.write(box, voxels)

    def commit(self, verify: Callable[[Path], None] | None = None) -> None:
        """The file appears when it is right."""
        self._sink.commit(verify or self._check)

    def abort(self) -> None:
        """Nothing appears."""
        self._sink.abort()

    def _check(self, staged: Path) -> None:
        checked = check_output(staged, self._promised, self._plan.before, name=self._plan.job.target)
        self.checked = replace(checked, seen=self._glance.seen(self._plan.model))


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
    ways: Ways | None = None,
) -> Iterator[Report]:
    """Upscales all that the inputs name, one report each; everything is checked before any work starts.

    The first failure is the last report, unless `keep_going`. What is read from a zarr and written to one is a job: it
    is journaled, and the same call takes it up again; so is everything where `ways` say how it is to be run.

    Raises:
        GeomedsrError: an input or output cannot be; with `keep_going` that is a report, too.
    """
    found = expand(inputs, None if is_file_target(out) else out, keep_going=keep_going)
    yield from upscale_found(found, out, settings, listener, keep_going=keep_going, dry_run=dry_run, ways=ways)


def upscale_found(
    found: Sequence[Found],
    out: Path,
    settings: Settings,
    listener: Listener,
    *,
    keep_going: bool = False,
    dry_run: bool = False,
    ways: Ways | None = None,
    as_job: bool = False,
) -> Iterator[Report]:
    """The same for images that were found already; `as_job` says that all of it is a job, whatever its files are.

    Raises:
        GeomedsrError: an input or output cannot be; with `keep_going` that is a report, too.
    """
    from geomedsr.run.archive import make_way, own_targets, run_job
    from geomedsr.run.ways import Ways, is_job

    ways = ways or Ways()
    broken = {one.path: one.failure for one in found if one.failure is not None}
    named = found if is_file_target(out) else [one for one in found if one.path not in broken]
    targets = plan_targets(named, out, settings.form, bids=settings.bids)
    jobs = [job for job in with_maps(targets, named, settings.maps, settings.form) if job.source not in broken]
    if settings.model not in (*BASELINES, AUTO):
        find_model(settings.model)
    for path, failure in broken.items():
        yield Report(path, out, "failed", settings.model, failure=failure)
    taken = Inputs([job.source for job in jobs])
    journaled = is_job(jobs, settings, ways, as_job=as_job)
    ours = own_targets(out, restart=ways.restart) if journaled else frozenset()
    if not journaled and not (ways.restart and dry_run):
        make_way(out, {job.target for job in jobs}, restart=ways.restart)
    plans: list[Plan] = []
    for job in jobs:
        step = _prepare(job, taken, settings, keep_going, ours)
        if isinstance(step, Plan):
            plans.append(step)
        else:
            yield step
    if settings.bids and plans and not dry_run and not is_file_target(out):
        out.mkdir(exist_ok=True)
        describe_dataset(out, plans[0].job.source)
    if plans and not dry_run and journaled:
        yield from run_job(plans, out, settings, ways, listener)
        return
    for ready in plans:
        report = _planned(ready, settings, listener) if dry_run else _work(ready, settings, listener)
        yield report
        if report.failure and not keep_going:
            return


def _prepare(job: Job, taken: Inputs, settings: Settings, keep_going: bool, ours: Collection[Path]) -> Plan | Report:
    """The plan of a job, or the report that there is nothing to do or that it cannot be.

    `ours` are the outputs that the same job has already made.
    """
    try:
        check_apart(job, taken)
        if job.target in ours:
            return plan(job, settings)
        if settings.skip_existing and exists_at(job.target):
            return Report(job.source, job.target, "skipped", settings.model)
        for path in (job.target, *job.maps.values()):
            check_target(Job(job.source, path), taken, replace=settings.overwrite)
        if settings.sidecar or settings.bids:
            check_sidecar(job.target, replace=settings.overwrite)
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


def _planned(ready: Plan, settings: Settings, listener: Listener) -> Report:
    for text in ready.fit.notes:
        listener.note(text)
    job, after = ready.job, promised(ready, ready.before, settings)
    return Report(
        job.source, job.target, "planned", ready.model.name, ready.before, after, 0.0, ready.warnings, job.maps
    )
