"""Scores on images that training never sees, always beside cubic interpolation of the same coarse image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from geomedsr.data.sampling import Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.encoders import domain
from geomedsr.encoders._features import Features
from geomedsr.errors import RecipeError
from geomedsr.grid import Shape
from geomedsr.metrics.ssim import mean_similarity
from geomedsr.networks._blocks import true_float32
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import upsample
from geomedsr.recipe import Recipe
from geomedsr.training.likeness import Likeness, likeness

__all__ = ["Pair", "Score", "check_sizes", "encoder_of", "judge_of", "mean", "planes_of", "score"]

_CPU = torch.device("cpu")

_SMALLEST = 11
"""The window of SSIM."""

_KNOWN = ("psnr", "ssim", "psnr_cubic", "ssim_cubic", "gain")

_LARGEST = 1024
"""Planes larger than this are scored on their middle: it bounds memory and time."""


@dataclass(frozen=True, slots=True)
class Score:
    """How one image came out, and how cubic interpolation of the same coarse image did.

    `likeness` says how unlike the true image they look (None: not asked for).

    The data range of both metrics is that of the fine image: largest minus smallest value.
    """

    name: str
    psnr: float
    ssim: float
    psnr_cubic: float
    ssim_cubic: float
    likeness: Likeness | None = None
    likeness_cubic: Likeness | None = None

    @property
    def gain(self) -> float:
        """How many dB over cubic."""
        return self.psnr - self.psnr_cubic


def encoder_of(recipe: Recipe) -> Features | None:
    """The domain encoder that judges a training in stages, whose last may trade PSNR for likeness; else none."""
    name = {"mri": "mri", "optical": "sentinel2"}.get(recipe.modality)
    if not recipe.then or name is None:
        return None
    encoder = domain.load(name)
    return encoder if encoder.channels == recipe.task.channels else None


def mean(scores: Sequence[Score]) -> dict[str, float]:
    """Means and standard deviations over images."""
    table: dict[str, float] = {"images": len(scores)}
    for key in _KNOWN:
        values = [float(getattr(s, key)) for s in scores]
        table[key], table[f"{key}_std"] = float(np.mean(values)), float(np.std(values))
    for end in ("", "_cubic"):
        found = [getattr(one, f"likeness{end}") for one in scores]
        if found and None not in found:
            for field in fields(Likeness):
                values = [float(getattr(one, field.name)) for one in found]
                key = field.name + end
                table[key], table[f"{key}_std"] = float(np.mean(values)), float(np.std(values))
    return table


@torch.no_grad()
def score(
    network: Network,
    subjects: Sequence[Subject],
    degradation: Degradation,
    planes: int,
    seed: int,
    *,
    bf16: bool = False,
    encoder: Features | None = None,
) -> list[Score]:
    """One score for each image: `planes` slices of a volume, evenly spread over it; the whole of a plain image."""
    was_training = network.training
    network.eval()
    with true_float32():
        found = [_score(network, subject, degradation, planes, seed, bf16, encoder) for subject in subjects]
    network.train(was_training)
    return found


def _score(
    network: Network,
    subject: Subject,
    degradation: Degradation,
    planes: int,
    seed: int,
    bf16: bool,
    encoder: Features | None,
) -> Score:
    device = next(network.parameters()).device
    noise = torch.Generator().manual_seed(seed)
    hrs, srs, cubics = [], [], []
    for pair in planes_of(subject, degradation, network, planes, noise, judge_of(device)):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            sr = network(pair.lr.to(device)).to(pair.hr)
        hrs.append(pair.hr[0])
        srs.append(sr[0].masked_fill(pair.hr[0].isnan(), torch.nan))
        cubics.append(upsample(pair.lr, "cubic", network.task.factor)[0])
    found = _compare(subject.name, hrs, srs, cubics)
    if encoder is None:
        return found
    encoder = encoder.to(hrs[0].device)
    return replace(found, likeness=likeness(srs, hrs, encoder), likeness_cubic=likeness(cubics, hrs, encoder))


def judge_of(device: torch.device) -> torch.device:
    """Where the outputs of a network on `device` are judged: there, if it computes in double precision."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass(frozen=True, slots=True)
class Pair:
    """A plane of an image (all of one with as many axes as the network) and its coarse one.

    Shape: lr (1, C, *S), finite; hr (1, C, *(S * factor)), NaN where invalid
    """

    lr: Tensor
    hr: Tensor


def planes_of(
    subject: Subject,
    degradation: Degradation,
    network: Network,
    count: int,
    noise: torch.Generator,
    device: torch.device = _CPU,
) -> Iterator[Pair]:
    """Evenly spread planes with their coarse ones: true ones where the subject has them, else made on `device`.

    Planes that are all but empty (the air above a head) are left out: they would flatter every method.
    """
    factor, start, stop, planes = network.task.factor, *_places(subject, network, count)
    read = [subject.read(start, stop, plane) for plane in planes]
    busy = [float(np.nanstd(fine)) for fine in read] if len(read) > 1 else [1.0]
    for plane, fine, spread in zip(planes, read, busy, strict=True):
        if spread > 0.05 * max(busy):
            hr = torch.from_numpy(fine)[None].to(device)
            true = subject.read_coarse(start, stop, plane, factor)
            given = None if true is None else torch.from_numpy(true)[None].to(device)
            lr = degradation(torch.nan_to_num(hr), factor, noise) if given is None else given
            inside = subject.inside(start, stop, plane)
            counted = hr if inside is None else hr.masked_fill(~torch.from_numpy(inside).to(device), torch.nan)
            yield Pair(torch.nan_to_num(lr), counted)


def check_sizes(subjects: Sequence[Subject], network: Network) -> None:
    """Whether each image is large enough to be scored, before any time is spent on training.

    Raises:
        RecipeError: one is not; the message names it.
    """
    for subject in subjects:
        start, stop, _ = _places(subject, network, 1)
        if min(b - a for a, b in zip(start, stop, strict=True)) < _SMALLEST:
            size = " x ".join(map(str, subject.shape))
            raise RecipeError(f"{subject.name} has {size} voxels; an image to judge by has {_SMALLEST} on each axis.")


def _places(subject: Subject, network: Network, count: int) -> tuple[Shape, Shape, list[Shape]]:
    """Where the planes start and stop, cut to what the network takes and to their middle where they are very large."""
    start, stop = [], []
    for n, f in zip(subject.shape, network.task.factor, strict=True):
        grain = f * network.multiple_of
        length = min(n, _LARGEST) // grain * grain
        start.append((n - length) // 2 // f * f)
        stop.append(start[-1] + length)
    total = math.prod(subject.planes)
    indices = (
        np.unique(np.linspace(0, total - 1, min(count, total) + 2).round().astype(int)[1:-1]) if total > 1 else [0]
    )
    planes = [tuple(int(i) for i in np.unravel_index(int(index), subject.planes)) for index in indices]
    return tuple(start), tuple(stop), planes if subject.planes else [()]


def _compare(name: str, hrs: list[Tensor], srs: list[Tensor], cubics: list[Tensor]) -> Score:
    high, low = (max(float((sign * hr).nan_to_num(nan=-torch.inf).amax()) for hr in hrs) for sign in (1, -1))
    span = high + low

    def similarity(made: list[Tensor]) -> float:
        return float(np.mean([mean_similarity(one, hr, span) for one, hr in zip(made, hrs, strict=True)]))

    return Score(name, _psnr(srs, hrs, span), similarity(srs), _psnr(cubics, hrs, span), similarity(cubics))


def _psnr(made: list[Tensor], hrs: list[Tensor], span: float) -> float:
    """The PSNR of all planes together."""
    errors = [(one.double() - hr).square() for one, hr in zip(made, hrs, strict=True)]
    error = sum(float(one.nansum()) for one in errors) / sum(int(one.isfinite().sum()) for one in errors)
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)
