"""Writes the reference of networks, losses and degradations from the code: python -m docs.make

A test compares the pages with what this gives, so they say what the code says.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from geomedsr import registry
from geomedsr.losses._loss import Loss
from geomedsr.networks._network import Network
from geomedsr.task import Task

__all__ = ["PAGES", "degradations", "losses", "networks"]

FACTORS = ((2, 2), (4, 4), (2, 2, 2), (1, 1, 4))

_NETWORKS = """\
# Networks

This page is written from the code by `python -m docs.make`.

A recipe names a network and changes its settings where it wants to: `network: {name: edsr, width: 48}`. Every network
is one file in `networks/`, works in 2 and 3 axes, with any number of channels and with any whole factor on each axis.

- **Shape.** A batch `(B, C, *S)` becomes `(B, C, *(S * factor))`. The axes are in the order of the file.
- **Units.** What goes in and comes out is in the network's units: physical values, mapped by the recipe's `intensity`.
- **Reach.** How many input voxels a network looks beyond the one it works on, on each axis. Tiles that overlap by the
  reach give the result of the whole image, so nothing is blended. Tiles start at multiples of `multiple of`.
- **Skip.** All but `interpolate` add what they learn to an interpolation of the input, and begin with nothing to add:
  an untrained network is the interpolation that its setting `skip` names.

Parameters and reach below are those of the default settings with one channel.
"""

_DEGRADATIONS = """\
# Degradations

This page is written from the code by `python -m docs.make`.

A recipe names how its fine images are made coarse: `degradation: {name: kspace, apodisation: 0.5}`. Every degradation
is one file in `degradations/`, and works in 2 and 3 axes and with any whole factor on each axis. None of them shifts
the image: a coarse voxel is centred on the fine ones that it stands for.

- **Ranges.** Most settings are a number, or a range as in `blur: [0.1, 0.5]`, out of which each image of a batch draws
  its own.
- **Noise.** `noise: 0.01` is a level of the degradation's own kind of noise, in the network's units, where 1 is about
  the brightest tissue or ground. `noise: {name: rician, sigma: [0, 0.02]}` is of another kind: `gaussian` (`sigma`),
  `rician` (`sigma`; magnitudes of MRI), `poisson_gaussian` (`gain`, `sigma`; photons and electronics), `speckle`
  (`looks`; radar).
"""

_LOSSES = """\
# Losses

This page is written from the code by `python -m docs.make`.

A recipe names one or several losses and their weights: `losses: [{name: l1}, {name: gradient, weight: 0.1}]`; what is
minimised is the weighted sum. Every loss is one file in `losses/`, and works in 2 and 3 axes and with any number of
channels unless it says otherwise.

- **Shape.** The network's result and the truth, both `(B, C, *S)`, become one number.
- **Units.** Both are in the network's units: physical values, mapped by the recipe's `intensity`, so that tissue or
  ground lies between 0 and about 1. Weights and ranges are meant for that scale.
- **Learning.** Some losses learn while the network does, such as the critic of the adversarial loss. A checkpoint holds
  what they have learnt.
"""


def networks() -> str:
    """The page on networks."""
    built = {name: [_built(name, factor) for factor in FACTORS] for name in registry.names("networks")}
    head = [
        "network",
        *(f"parameters at {_by(f)}" for f in FACTORS),
        "multiple of",
        *(f"reach at {_by(f)}" for f in FACTORS),
    ]
    rows = []
    for name, found in built.items():
        counts = [f"{network.parameter_count:,}" for network in found]
        reaches = ["everywhere" if n.reach is None else _by(n.reach) for n in found]
        rows.append([f"[{name}](#{name})", *counts, str(found[0].multiple_of), *reaches])
    sections = [_section(name, registry.load("networks", name), type(found[0]), 2) for name, found in built.items()]
    return "\n".join([_NETWORKS, _table(head, rows), *sections])


def losses() -> str:
    """The page on losses."""
    found = {name: registry.load("losses", name) for name in registry.names("losses")}
    kinds = {name: _kind(module, Loss) for name, module in found.items()}
    rows = [
        [f"[{name}](#{name})", _first_line(found[name]), "yes" if getattr(kinds[name], "learns", False) else "no"]
        for name in found
    ]
    sections = [_section(name, module, kinds[name], 1) for name, module in found.items()]
    return "\n".join([_LOSSES, _table(["loss", "what it is", "learns"], rows), *sections])


def degradations() -> str:
    """The page on degradations."""
    found = {name: registry.load("degradations", name) for name in registry.names("degradations")}
    rows = [[f"[{name}](#{name})", _first_line(module)] for name, module in found.items()]
    sections = [_section(name, module, _kind(module, object), 1) for name, module in found.items()]
    return "\n".join([_DEGRADATIONS, _table(["degradation", "what it is"], rows), *sections])


PAGES = {"networks.md": networks, "losses.md": losses, "degradations.md": degradations}


def _built(name: str, factor: tuple[int, ...]) -> Network:
    with torch.device("meta"):
        network: Network = registry.load("networks", name).build(Task(len(factor), 1, factor))
    return network


def _kind(module: ModuleType, base: type) -> type:
    """The module's own class of that kind: the one that its last line builds."""
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and issubclass(kind, base)]
    return next(kind for kind in own if kind.__module__ == module.__name__ and kind.__name__ in module.__all__)


def _section(name: str, module: ModuleType, kind: type, skipped: int) -> str:
    """What the code says of one plugin; `skipped` is how many arguments of its class are no settings."""
    told = dict.fromkeys([*_paragraphs(module.__doc__), *_paragraphs(kind.__doc__)])
    parts = [f"\n## {name}\n", *told]
    own = "__init__" in vars(kind)
    settings = list(inspect.signature(kind).parameters.values())[skipped - 1 :] if own else []
    given = ", ".join(f"`{one.name}` = {_told(one.default)}" for one in settings)
    return "\n".join([*parts, f"Settings: {given or 'none'}.", *_sources(module.__doc__), *_sources(kind.__doc__)])


def _paragraphs(text: str | None) -> Iterator[str]:
    """A docstring without its sections, each paragraph followed by an empty line."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        kept = re.split(r"^(?:Reference|Example|Shape|Raises|Units):", paragraph, flags=re.MULTILINE)[0].strip()
        if kept and not kept.startswith(">>>"):
            yield f"{kept}\n"


def _sources(text: str | None) -> Iterator[str]:
    found = re.search(
        r"^Reference:(.*?)(?=^[A-Z][a-z]+:|\n\n|\Z)", inspect.cleandoc(text or ""), flags=re.MULTILINE | re.DOTALL
    )
    if found:
        yield f"\nSource: {' '.join(found[1].split())}"


def _first_line(module: ModuleType) -> str:
    sentence = " ".join(next(_paragraphs(module.__doc__)).split())
    return sentence.split(". ")[0].rstrip(".")


def _told(value: Any) -> str:  # noqa: ANN401 - any default
    return "needed" if value is inspect.Parameter.empty else f"`{value}`"


def _by(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    for file, page in PAGES.items():
        (Path(__file__).parent / file).write_text(page() + "\n", encoding="utf-8")
