"""Claims: consistent outputs give their input back, intervals hold the truth as often as they say, invention is found.

On the test images of the models in the package, made coarse as the models' recipes say. Three tables: the largest
|D x - y| in the image's units and the PSNR, before and after the projection, rounded as the file would be, and damped;
the coverage of the stated 90 % interval over all voxels and over those that are not empty ground; and the area under
the ROC curve for finding planted structures (discs, lines and texture of 2 to 6 coarse voxels, of half to one and a
half times the local contrast, every second one made invisible to the instrument), beside a plain gradient map.

    GEOMEDSR_DATA=... python -m benchmarks.trust [--planes 4]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.data.sampling import Subject
from geomedsr.metrics import psnr
from geomedsr.model import Model, build_degradation
from geomedsr.networks._consistency import Projection
from geomedsr.networks.interpolate import upsample
from geomedsr.run.catalogue import find_model
from geomedsr.run.training import open_subjects
from geomedsr.training.validation import Pair, planes_of
from geomedsr.trust.calibration import calibration_of, varied
from geomedsr.trust.consistency import damping_for, noise_of
from geomedsr.trust.hallucination import Evidence, split
from geomedsr.trust.instrument import Instrument, instrument_of
from geomedsr.trust.local import gradient
from geomedsr.trust.uncertainty import Answers

MODELS = ("mri-t1-x2", "s2-rgbn-x2")
PLANTS = 12


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=4, help="planes of each volume for coverage and AUC")
    planes = parser.parse_args().planes
    for name in MODELS:
        model = Model.load(find_model(name))
        assert model.recipe is not None
        print(f"\n{name}", flush=True)
        for subject in open_subjects(model.recipe, Path(os.environ["GEOMEDSR_DATA"])).test:
            with torch.inference_mode():
                judge(model, subject, planes)


def judge(model: Model, subject: Subject, planes: int) -> None:
    """The rows of one image."""
    assert model.recipe is not None
    instrument, calibration = instrument_of(model.recipe, model.task.factor), calibration_of(model)
    print(f"  {subject.name}")
    consistency(model, instrument, subject)
    pairs = list(pairs_of(model, subject, planes))
    answers = Answers(model.network, calibration.widening.quarter).eval()
    found = [answers(pair.lr) for pair in pairs]
    srs = [sr for sr, _ in found]
    widths = [calibration.widening.widths(features) for _, features in found]
    tied = Projection(instrument.matrix, instrument.factor)
    fixed = [tied(sr, pair.lr) for pair, sr in zip(pairs, srs, strict=True)]
    coverage("coverage of the output", pairs, srs, widths)
    coverage("coverage, consistent output", pairs, fixed, widths)
    rng = np.random.default_rng(2026)
    areas = [invention(model, instrument, pair, sr, rng) for pair, sr in zip(pairs, srs, strict=True)]
    ours, plain = np.mean(areas, axis=0)
    print(f"    AUC for planted structures: hallucination map {ours:.3f}, gradient map {plain:.3f}")
    print(f"    opensr split: {shares(model, pairs, srs)}", flush=True)


def pairs_of(model: Model, subject: Subject, planes: int) -> Iterator[Pair]:
    """Planes of a volume, or the scene, with their coarse ones."""
    assert model.recipe is not None
    noise = torch.Generator().manual_seed(model.recipe.seed)
    yield from planes_of(subject, build_degradation(model.recipe), model.network, planes, noise)


def consistency(model: Model, instrument: Instrument, subject: Subject) -> None:
    """Prints the rows of the first table, over as many planes as the model's card is about."""
    scale, pairs = subject.intensity.scale, list(pairs_of(model, subject, 48))
    srs = [model.network(pair.lr) for pair in pairs]
    exact = Projection(instrument.matrix, instrument.factor)
    residual = pairs[0].lr - instrument.degraded(srs[0])
    noise = noise_of(pairs[0].lr)
    damped = Projection(instrument.matrix, instrument.factor, damping_for(residual, instrument, noise))
    fixed = [exact(sr, pair.lr) for pair, sr in zip(pairs, srs, strict=True)]
    eased = [damped(sr, pair.lr) for pair, sr in zip(pairs, srs, strict=True)]
    rounded = [stored(image * scale, subject.source.spec.dtype) / scale for image in fixed]
    print(f"    degraded by {instrument.name}; noise found {noise * scale:.4g}")
    for told, images in (("output", srs), ("consistent", fixed), ("  as stored", rounded), ("damped", eased)):
        rests = [(pair.lr - instrument.degraded(x)).abs() for pair, x in zip(pairs, images, strict=True)]
        worst = max(float(rest.max()) for rest in rests) * scale
        root = float(torch.stack([rest.square().mean() for rest in rests]).mean().sqrt()) * scale
        print(f"    {told:12} largest |Dx - y| {worst:10.4g}  rms {root:10.4g}  PSNR {score(pairs, images):.3f} dB")


def stored(image: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """The values that a file of a data type gives back."""
    if dtype.kind not in "iu":
        return image
    return image.round().clamp(np.iinfo(dtype).min, np.iinfo(dtype).max)


def score(pairs: list[Pair], images: list[Tensor]) -> float:
    """PSNR over all planes, in the range of the fine image."""
    hr = torch.cat([pair.hr for pair in pairs]).numpy()
    return psnr(torch.cat(images).numpy(), hr, float(np.nanmax(hr) - np.nanmin(hr)))


def coverage(told: str, pairs: list[Pair], images: list[Tensor], widths: list[Tensor]) -> None:
    """Prints how often the interval holds the truth, and how much better it is than one width for all voxels."""
    valid = [pair.hr.isfinite() for pair in pairs]
    counted = [varied(pair.hr) for pair in pairs]
    errors = [(pair.hr - image).abs() for pair, image in zip(pairs, images, strict=True)]
    every, busy = (
        torch.cat([(e <= w)[v] for e, w, v in zip(errors, widths, masks, strict=True)]).double().mean()
        for masks in (valid, counted)
    )
    error, width = (torch.cat([x[v] for x, v in zip(xs, counted, strict=True)]) for xs in (errors, widths))
    constant = torch.full_like(width, float(error.sort().values[int(0.9 * len(error))]))
    gain = interval_score(error, constant) / interval_score(error, width)
    order = width.argsort()
    tenths = [float((error[part] <= width[part]).double().mean()) for part in order.tensor_split(10)]
    print(
        f"    {told:28} all {every:.3f}  where it varies {busy:.3f} (by tenth of width {min(tenths):.2f} to "
        f"{max(tenths):.2f}); {gain:.2f} times as sharp as one width"
    )


def interval_score(error: Tensor, width: Tensor, level: float = 0.9) -> float:
    """The mean interval score, smaller is better: Gneiting and Raftery 2007, DOI 10.1198/016214506000001437."""
    return float((2 * width + 2 / (1 - level) * (error - width).clamp(min=0)).mean())


def invention(
    model: Model, instrument: Instrument, pair: Pair, sr: Tensor, rng: np.random.Generator
) -> tuple[float, float]:
    """The areas under the ROC curves of the hallucination map and of a gradient map."""
    counted = varied(pair.hr)
    planted, where = plant(instrument, sr, counted[0, 0].numpy(), rng)
    found = calibration_of(model).habits.surprise(Evidence(instrument)(planted, pair.lr))
    label = where.expand_as(planted)[counted].numpy()
    plain = gradient(planted, 1.0)
    return area(found[counted].numpy(), label), area(plain[counted].numpy(), label)


def plant(
    instrument: Instrument, sr: Tensor, inside: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The output with invented structures, and where they are."""
    project, factor = Projection(instrument.matrix, instrument.factor), max(instrument.factor)
    places, added, where = np.argwhere(inside), torch.zeros_like(sr), torch.zeros_like(sr, dtype=torch.bool)
    grid = np.mgrid[: sr.shape[-2], : sr.shape[-1]].astype(np.float64)
    for number in range(PLANTS):
        y, x = places[rng.integers(len(places))]
        shape = torch.from_numpy(structure(grid - np.array([[[y]], [[x]]]), factor * rng.uniform(2, 6), rng)).float()
        shape = shape[None, None]
        if number % 2:
            coarse = [n // f for n, f in zip(shape.shape[2:], instrument.factor, strict=True)]
            shape = project(shape[:, :1], torch.zeros(1, 1, *coarse))
        shape = shape / shape.abs().max()
        near = sr[..., max(0, y - 8) : y + 8, max(0, x - 8) : x + 8]
        added += float(near.std()) * rng.uniform(0.5, 1.5) * rng.choice([-1, 1]) * shape
        where |= shape.abs() > 0.2
    return sr + added, where


def structure(place: NDArray[np.float64], size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A disc, a line or a patch of texture of about `size` fine voxels around the origin."""
    distance = np.hypot(*place)
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(1 / (1 + np.exp(np.clip(2 * (distance - size / 2), -50, 50))))
    if kind == 1:
        angle = rng.uniform(0, np.pi)
        along = place[0] * np.sin(angle) + place[1] * np.cos(angle)
        across = place[1] * np.sin(angle) - place[0] * np.cos(angle)
        return np.asarray(np.exp(-0.5 * (across / 0.7) ** 2) * (np.abs(along) < size / 2))
    return np.asarray(np.exp(-0.5 * (distance / (size / 3)) ** 2) * rng.standard_normal(distance.shape))


def area(score: NDArray[np.float32], label: NDArray[np.bool_]) -> float:
    """The chance that a planted voxel scores higher than another: the Mann-Whitney form of the area."""
    ranks = np.empty(len(score))
    ranks[np.argsort(score)] = np.arange(1, len(score) + 1)
    count = int(label.sum())
    return float((ranks[label].sum() - count * (count + 1) / 2) / (count * (len(label) - count)))


def shares(model: Model, pairs: list[Pair], images: list[Tensor]) -> str:
    """What share of the voxels was improved, omitted and invented."""
    parts = []
    for pair, image in zip(pairs, images, strict=True):
        up = upsample(pair.lr, "linear", model.task.factor)
        parts.append(split(up[0].numpy(), image[0].numpy(), pair.hr[0].numpy())[0])
    total = sum(part.voxels for part in parts)
    names = ("improvement", "omission", "hallucination")
    return ", ".join(f"{name} {sum(getattr(p, name) * p.voxels for p in parts) / total:.3f}" for name in names)


if __name__ == "__main__":
    main()
