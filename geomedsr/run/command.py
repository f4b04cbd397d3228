"""`geomedsr upscale` and `geomedsr run` as one call each: from the options to the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.io import format_of
from geomedsr.pipeline import Pipeline
from geomedsr.run.catalogue import fitting
from geomedsr.run.choosing import choose
from geomedsr.run.inputs import expand
from geomedsr.run.listing import listed
from geomedsr.run.planning import Settings
from geomedsr.run.upscaling import Listener, Report, upscale_all, upscale_found
from geomedsr.run.ways import Ways

__all__ = ["run_pipeline", "upscale_command"]


def upscale_command(
    listener: Listener,
    *,
    inputs: Sequence[str],
    out: Path,
    model: str | None,
    on_error: str,
    dry_run: bool,
    options: Sequence[tuple[str, str]],
    ways: Ways,
    **choices: Any,  # noqa: ANN401  (the fields of Settings, as the command line names them)
) -> int:
    """Upscales, reports each output, and gives the exit code.

    Raises:
        GeomedsrError: the options cannot be, before any work.
    """
    settings = Settings(model=model or "", options=dict(options), **choices)
    if model is None:
        raise ModelError(_which_model(inputs, settings.scale, settings.bands))
    reports = []
    keep_going = on_error == "continue"
    for report in upscale_all(inputs, out, settings, listener, keep_going=keep_going, dry_run=dry_run, ways=ways):
        listener.report(report)
        reports.append(report)
    return exit_code(reports)


def run_pipeline(
    pipeline: Pipeline,
    listener: Listener,
    ways: Ways,
    *,
    memory: int | None = None,
    on_error: str = "stop",
    dry_run: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> int:
    """Runs a pipeline as a job, reports each output, and gives the exit code.

    Raises:
        GeomedsrError: the pipeline cannot be run, or cannot go on.
    """
    output, keep_going = pipeline.output, on_error == "continue"
    settings = Settings(
        pipeline.model,
        scale=pipeline.scale,
        bands=pipeline.band_list,
        axes=pipeline.axes,
        device=pipeline.device,
        precision=pipeline.precision,
        backend=pipeline.backend,
        tile=pipeline.tile,
        memory=memory,
        dtype=pipeline.dtype,
        form=output.format,
        options=output.creation,
        overwrite=overwrite,
        skip_existing=skip_existing,
    )
    found = listed(pipeline, keep_going=keep_going)
    reports = []
    for report in upscale_found(
        found, output.place, settings, listener, keep_going=keep_going, dry_run=dry_run, ways=ways, as_job=True
    ):
        listener.report(report)
        reports.append(report)
    return exit_code(reports)


def _which_model(inputs: Sequence[str], scale: tuple[int, ...] | None, bands: str | None) -> str:
    """What to say to somebody who named no model: which fit the first input, and which would be chosen."""
    path = expand(inputs)[0].path
    source = format_of(path).open_source(path)
    try:
        spec = source.spec
    finally:
        source.close()
    try:
        chosen = f" With -m auto, {choose(path, spec, scale, bands).why}"
    except GeomedsrError:
        chosen = ""
    names = ", -m ".join(fitting(spec))
    return f"No model was named. For {path.name} there are -m {names} (the last four with --scale 2).{chosen}"


def exit_code(reports: Sequence[Report]) -> int:
    """0 where all went well, 4 where some failed, and the first failure's own code where nothing was done."""
    failed = [report for report in reports if report.failure is not None]
    if not failed:
        return 0
    return 4 if len(failed) < len(reports) else failed[0].exit_code
