"""What a network makes of the validation images, as one small picture: nearest, cubic, the network, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from geomedsr.data.sampling import Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import upsample
from geomedsr.training.validation import judge_of, planes_of

__all__ = ["save_picture"]

_ROWS, _LARGEST, _GAP = 3, 160, 4
_WIDE = 2
"""How many picture elements a voxel has on each axis."""


@torch.no_grad()
def save_picture(
    path: Path, network: Network, subjects: Sequence[Subject], degradation: Degradation, seed: int
) -> None:
    """Writes a PNG: a row for each of the first subjects; nearest, cubic, the network's and the true image in it.

    The middle of a middle plane is shown, the mean of the channels, in greys from the truth's 1st to 99th percentile.
    """
    rows = [_row(network, subject, degradation, seed) for subject in subjects[:_ROWS]]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]))) for row in rows]
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(padded)[:-_GAP]).save(path, optimize=True)


def _row(network: Network, subject: Subject, degradation: Degradation, seed: int) -> NDArray[np.uint8]:
    device, factor = next(network.parameters()).device, network.task.factor
    noise = torch.Generator().manual_seed(seed)
    pair = next(planes_of(subject, degradation, network, 1, noise, judge_of(device)))
    coarse, fine = (part.cpu() for part in _middle(pair.lr, pair.hr, factor, network.multiple_of))
    training = network.training
    sr = network.eval()(coarse.to(device)).float().cpu()
    network.train(training)
    made = [upsample(coarse, "nearest", factor), upsample(coarse, "cubic", factor), sr, fine]
    low, high = np.nanpercentile(fine.numpy(), [1, 99])
    return np.concatenate([_grey(image, factor, low, high) for image in made], axis=1)


def _middle(
    lr: torch.Tensor, hr: torch.Tensor, factor: Sequence[int], multiple: int
) -> tuple[torch.Tensor, torch.Tensor]:
    for axis, f in enumerate(factor, start=2):
        length = min(lr.shape[axis], max(_LARGEST // f // multiple, 1) * multiple)
        start = (lr.shape[axis] - length) // 2
        lr, hr = lr.narrow(axis, start, length), hr.narrow(axis, start * f, length * f)
    return lr, hr


def _grey(image: torch.Tensor, factor: Sequence[int], low: float, high: float) -> NDArray[np.uint8]:
    flat = image[0].mean(0).numpy()
    if flat.ndim == 3:
        axis = int(np.argmin(factor))  # across the axis that was made the least finer
        flat = np.take(flat, flat.shape[axis] // 2, axis)
    shown = np.nan_to_num((flat - low) / max(high - low, 1e-12)).clip(0, 1) * 255
    wide = np.kron(shown.round().astype(np.uint8), np.ones((_WIDE, _WIDE), np.uint8))
    return np.pad(wide, ((0, 0), (0, _GAP)))
