"""The main job on the sample images: a scan and a scene are upscaled, checked, and drawn before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geomedsr.errors import InputError
from geomedsr.io import format_of
from geomedsr.run.planning import Settings, plan
from geomedsr.run.targets import Inputs, Job, check_folder, check_target
from geomedsr.run.upscaling import Listener, upscale

__all__ = ["SAMPLES", "Sample", "run_demo", "sample_folder"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample image, the model that is made for it, and what the results are called."""

    file: str
    model: str
    result: str
    picture: str


SAMPLES = (
    Sample("mri_t1.nii.gz", "mri-t1-x2", "mri_t1_x2.nii.gz", "mri.png"),
    Sample("scene.tif", "s2-rgbn-x2", "scene_x2.tif", "scene.png"),
)


def sample_folder(data: Path | None) -> Path:
    """The folder with the sample images: the one named, else the one beside the package.

    Raises:
        InputError: they are not there.
    """
    folder = data or Path(__file__).parents[2] / "sample_data"
    if all((folder / sample.file).is_file() for sample in SAMPLES):
        return folder
    names = " and ".join(sample.file for sample in SAMPLES)
    raise InputError(f"There is no {names} in {folder}; they come with the source code. Name their folder with --data.")


def run_demo(out: Path, data: Path | None, listener: Listener) -> Iterator[Path]:
    """Does the main job and gives the paths of what was written, each when it is there.

    Raises:
        GeomedsrError: it failed.
    """
    folder = sample_folder(data)
    check_folder(out)
    for sample in SAMPLES:
        job = Job(folder / sample.file, out / sample.result)
        check_target(job, Inputs([job.source]), replace=True)
        yield _upscaled(job, sample.model, listener)
        yield _drawn(job, sample.model, out / sample.picture)


def _upscaled(job: Job, model: str, listener: Listener) -> Path:
    settings = Settings(model=model, overwrite=True, precision="auto")
    listener.begin(job)
    try:
        upscale(plan(job, settings), settings, listener)
    finally:
        listener.end()
    return job.target


def _drawn(job: Job, model: str, picture: Path) -> Path:
    from geomedsr.report.figures import before_after

    before, after = (format_of(path).open_source(path) for path in (job.source, job.target))
    try:
        return before_after(before, after, picture, title=job.source.name, labels=("input", model))
    finally:
        before.close()
        after.close()
