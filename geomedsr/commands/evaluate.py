"""`geomedsr evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from geomedsr.commands._shared import EXIT_CODES, FOLDER, JSON, LIMITS, VERBOSE
from geomedsr.options import numbers
from geomedsr.terminal import say, show

__all__ = ["evaluate"]


@click.command(epilog=EXIT_CODES, short_help="Score predictions, or models, against references.")
@click.argument("predictions", metavar="[PREDICTION]...", nargs=-1)
@click.option("--against", "references", multiple=True, help="The references: a file, a folder or a quoted glob.")
@click.option("-m", "--model", "models", multiple=True, help="A model to judge, beside cubic; may come several times.")
@click.option(
    "--data",
    multiple=True,
    help="Fine images that the first model's own degradation makes coarse (of a mixture, its first).",
)
@click.option(
    "--degradation",
    metavar="kspace|'{name: sensor, mtf: 0.2}'",
    help="What makes the data coarse; else the model's own.",
)
@click.option("-o", "--out", type=FOLDER, help="A folder for the numbers, a box plot, and the worst and best cases.")
@click.option("--metrics", metavar="psnr,ssim,...", help="Which metrics; else all.")
@click.option(
    "--data-range", type=float, help="What errors are held against; else each reference's largest less smallest."
)
@click.option(
    "--bands", metavar="1,2,3,7|B02,B03", help="The references' channels in the predictions' or model's order."
)
@click.option("--axes", type=numbers, metavar="0,1", help="The volume's axes that a model of 2 axes works on.")
@click.option("--seed", type=int, default=0, show_default=True, help="For the noise of the degradation.")
@click.option("--overwrite", is_flag=True, help="Replace an evaluation that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No line for each image.")
@LIMITS
@JSON
@VERBOSE
def evaluate(
    predictions: tuple[str, ...],
    references: tuple[str, ...],
    models: tuple[str, ...],
    data: tuple[str, ...],
    degradation: str | None,
    out: Path | None,
    metrics: str | None,
    data_range: float | None,
    bands: str | None,
    axes: tuple[int, ...] | None,
    seed: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score predictions against references of the same name, or models against references that they make coarse.

    \b
    geomedsr evaluate fine/ other/ --against truth/ -o scores/
    geomedsr evaluate -m mri-t1-x2 -m my-model --data scans/ -o scores/
    """  # noqa: D301  (click's own mark for lines to keep)
    from geomedsr.run import evaluating
    from geomedsr.run.evaluation_folder import EvaluationFolder
    from geomedsr.run.evaluation_folder import as_json as plain

    chosen = tuple(name.strip() for name in metrics.split(",")) if metrics else ()
    question = evaluating.Question(chosen, data_range, bands)
    judge = evaluating.asked(predictions, references, models, data, bands, axes, seed, degradation)
    folder = EvaluationFolder(out, overwrite) if out is not None else None
    found = evaluating.evaluate(
        question,
        predictions=predictions,
        references=references,
        judge=judge,
        data=data,
        tell=(lambda text: None) if quiet else say,
        see=folder.see if folder else lambda case: None,
    )
    if folder is not None:
        folder.write(found, say)
    show(plain(found) if as_json else evaluating.table(found), as_json=as_json)
