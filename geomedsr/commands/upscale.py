"""`geomedsr upscale`."""

from __future__ import annotations

from typing import Any

import click

from geomedsr.commands._shared import (
    ANYWHERE,
    EXIT_CODES,
    JOB,
    JSON,
    LIMITS,
    ON_ERROR,
    VERBOSE,
    State,
    show_status,
    ways_of,
)
from geomedsr.errors import GeomedsrError
from geomedsr.options import amount, key_value, numbers
from geomedsr.terminal import Terminal

__all__ = ["upscale"]


@click.command(epilog=EXIT_CODES, short_help="Make images finer.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=ANYWHERE,
    required=True,
    help="The output file, or a folder in which the outputs keep the inputs' names.",
)
@click.option("-m", "--model", help="A model's name or folder (see: geomedsr models list), or auto: one that fits.")
@click.option(
    "--scale", type=numbers, metavar="2|1,1,4", help="How many times finer, for auto, nearest, linear, cubic, lanczos."
)
@click.option(
    "--bands", metavar="1,2,3,7|B02,B03", help="The input's channels in the model's order: numbers from 1, or names."
)
@click.option("--axes", type=numbers, metavar="0,1", help="The volume's axes that a model of 2 axes works on.")
@click.option("--format", "form", type=click.Choice(["nii", "nii.gz", "tif", "cog", "zarr"]), help="The output format.")
@click.option("--dtype", metavar="TYPE", help="The output's data type; else the input's own.")
@click.option("--co", "options", type=key_value, multiple=True, metavar="KEY=VALUE", help="A format's creation option.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda",
    help="Where the network runs; cuda is every GPU, and a list such as cuda:0,cuda:1 those that share the tiles.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16"]),
    default="float32",
    show_default=True,
    help="float32 is exact; auto takes what it measures to be fastest, never less than 60 dB (PSNR) from it.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is torch for float32, and else the faster one.",
)
@click.option("--tile", type=numbers, metavar="512,512", help="The tile in the input's voxels; else chosen by memory.")
@click.option("--memory", type=amount, metavar="4GB", help="The memory to use at most; else chosen by the machine's.")
@click.option("--sidecar", is_flag=True, help="Also write how it was made into a JSON file beside the output.")
@click.option("--bids", is_flag=True, help="Name outputs as BIDS derivatives (desc-sr), with sidecars.")
@click.option("--consistent", is_flag=True, help="Make the output degrade to the input, which no network does alone.")
@click.option("--damping", metavar="auto|NUMBER", help="With --consistent: the input's noise, which is not taken over.")
@click.option("--uncertainty", type=ANYWHERE, help="Also write by how much the output may be off; a file, or a folder.")
@click.option("--hallucination", type=ANYWHERE, help="Also write where detail is not supported by the input.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave inputs alone whose output exists.")
@ON_ERROR
@click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing.")
@JOB
@LIMITS
@JSON
@click.option("-q", "--quiet", is_flag=True, help="No progress, no notes; warnings and errors only.")
@VERBOSE
def upscale(**arguments: Any) -> int:  # noqa: ANN401  (the options above, passed on as they are)
    """Make images finer: files, folders, quoted globs, arrays inside a zarr.

    From a zarr to a zarr it is a job, which the same command takes up again after whatever ended it.

    \b
    geomedsr upscale scan.nii.gz -o scan_fine.nii.gz -m auto
    geomedsr upscale scenes/ -o fine/ -m s2-rgbn-x2 --format cog
    geomedsr upscale 'raw/**/*.nii.gz' -o fine/ -m cubic --scale 1,1,4
    """  # noqa: D301  (click's own mark for lines to keep)
    from geomedsr.run.command import upscale_command

    as_json = arguments.pop("as_json")
    terminal = Terminal(quiet=arguments.pop("quiet"), as_json=as_json)
    if arguments.pop("status"):
        show_status(arguments["out"], as_json=as_json)
        return 0
    click.get_current_context().ensure_object(State).out = arguments["out"]
    try:
        return upscale_command(terminal, ways=ways_of(arguments), **arguments)
    except GeomedsrError as error:
        terminal.refuse(arguments["inputs"], arguments["out"], error)
        raise
