"""A domain's encoder, taught by its fine images alone: no labels, no other data.

Two lessons at once. A patch is changed by a known blur, sharpening and noise, and half of it is hidden: the encoder
says how much of each change there was (so its features tell sharp from soft and texture from noise), and fills in what
was hidden (so they know what the images of the domain look like).

Reference: He et al. 2022, arXiv:2111.06377 (what is hidden); Madhusudana et al. 2022, arXiv:2110.13266 (what changed)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from geomedsr.data.sampling import PatchSampler, Subject
from geomedsr.encoders.domain import WIDTHS, DomainEncoder, seeded
from geomedsr.errors import FailedError, RecipeError
from geomedsr.grid import Shape
from geomedsr.networks._blocks import PixelShuffle

__all__ = ["Lesson", "train_encoder"]

_RIM = 8
"""Voxels around a patch that are cut off again: a change made in the Fourier domain wraps around there."""
_HIDDEN = 8
"""The edge of a hidden block."""
_CHANGES = (1.5, 1.5, 0.1)
"""The strongest blur (sigma in voxels), sharpening (share of what a blur of one voxel takes) and noise (sigma)."""


@dataclass(frozen=True)
class Lesson:
    """How an encoder is taught: `steps` of `batch` patches of `patch` voxels."""

    patch: Shape
    steps: int = 1000
    batch: int = 16
    rate: float = 2e-3
    gain: float = 0.3
    contrast: float = 0.01
    seed: int = 0
    widths: tuple[int, ...] = WIDTHS
    precision: str = "float32"


def train_encoder(
    subjects: Sequence[Subject], lesson: Lesson, listen: Callable[[int, float], None] = lambda step, loss: None
) -> DomainEncoder:
    """An encoder of the subjects' channels; `listen` hears each step and its loss.

    The same lesson and subjects give the same bits (CPU, same number of threads).

    Raises:
        RecipeError: the patch does not divide by the encoder's steps down, or no image is as large.
        FailedError: the loss was not finite.
    """
    down = 2 ** (len(lesson.widths) - 1)
    if any(n % math.lcm(down, _HIDDEN) for n in lesson.patch):
        raise RecipeError(f"An encoder's patch is a multiple of {math.lcm(down, _HIDDEN)}; {lesson.patch} is not.")
    ndim, channels = len(lesson.patch), len(subjects[0].source.spec.channels)
    pupil = _Pupil(seeded(ndim, channels, lesson.widths, lesson.seed), lesson.seed)
    patches = PatchSampler(subjects, tuple(n + 2 * _RIM for n in lesson.patch), (1,) * ndim, 0, lesson.contrast)
    optimizer = torch.optim.AdamW(pupil.parameters(), lesson.rate, weight_decay=1e-4)
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    pupil.to(memory_format=layout).train()  # type: ignore[call-overload]
    for step in range(1, lesson.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = lesson.rate * min(step / 50, 0.51 + 0.5 * math.cos(math.pi * step / lesson.steps))
        rng = np.random.default_rng([lesson.seed, step])
        image, amounts = _changed(_batch(patches, lesson, rng), rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=lesson.precision == "bf16"):
            loss = pupil(image, amounts, _hidden(image, rng))
        if not math.isfinite(loss.item()):
            raise FailedError(f"The encoder's loss was not finite at step {step}: lower the rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        listen(step, loss.item())
    pupil.encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return _standardised(pupil.encoder, patches, lesson)


def _standardised(encoder: DomainEncoder, patches: PatchSampler, lesson: Lesson) -> DomainEncoder:
    """The encoder, frozen, its features standardised on four batches of unchanged patches."""
    encoder.eval().requires_grad_(False)
    rim = (slice(None), slice(None), *(slice(_RIM, -_RIM) for _ in lesson.patch))
    rng = np.random.default_rng([lesson.seed, lesson.steps + 1])
    encoder.standardise(torch.cat([_batch(patches, lesson, rng)[rim] for _ in range(4)]))
    return encoder


class _Pupil(nn.Module):
    """The encoder and the two heads that are thrown away afterwards."""

    def __init__(self, encoder: DomainEncoder, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        step = 2 ** (len(encoder.widths) - 1)
        layer = nn.Conv2d if encoder.ndim == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.amounts = nn.Linear(sum(encoder.widths), len(_CHANGES))
            self.paint = layer(encoder.widths[-1], encoder.channels * step**encoder.ndim, 1)
        self.shuffle = PixelShuffle((step,) * encoder.ndim)

    def forward(self, image: Tensor, amounts: Tensor, hidden: Tensor) -> Tensor:
        """What was said wrong: of the changes, and of the hidden voxels (relative to the image's spread)."""
        layers = self.encoder(image.masked_fill(hidden, 0.0))
        pooled = torch.cat([f.float().abs().flatten(2).mean(2) for f in layers.values()], 1)
        wrong = (self.amounts(pooled).float() - amounts).square().mean()
        painted = self.shuffle(self.paint(layers[self.encoder.layers[-1]])).float()
        spread = image.flatten(1).std(1).clamp(min=1e-3).view(-1, *[1] * (image.ndim - 1))
        missed = ((painted - image).abs() / spread * hidden).sum() / (hidden.sum() * image.shape[1])
        total: Tensor = wrong + 0.5 * missed
        return total


def _batch(patches: PatchSampler, lesson: Lesson, rng: np.random.Generator) -> Tensor:
    """Patches with their rim, flipped, turned and brightened at random."""
    drawn = []
    for _ in range(lesson.batch):
        patch = patches.draw(rng)
        voxels = torch.from_numpy(patch.context[(slice(None), *patch.inner.slices)])
        voxels = voxels.flip([axis for axis in range(1, voxels.ndim) if rng.random() < 0.5])
        if voxels.shape[1] == voxels.shape[2] and rng.random() < 0.5:
            voxels = voxels.transpose(1, 2)
        drawn.append(voxels * float(rng.uniform(1 - lesson.gain, 1 + lesson.gain)))
    return torch.stack(drawn)


def _changed(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The images without their rim, each blurred, sharpened and made noisy by its own amounts, and these (0 to 1).

    Shape: (B, C, *S) to (B, C, *(S - 16)) and (B, 3)
    """
    batch, axes = image.shape[0], tuple(range(2, image.ndim))
    drawn = rng.uniform(0, 1, (batch, len(_CHANGES))) * (rng.random((batch, len(_CHANGES))) < 0.6)
    amounts = torch.from_numpy(drawn.astype(np.float32))
    blur, sharpen, noise = (amounts * torch.tensor(_CHANGES)).view(batch, 3, 1, *[1] * len(axes)).unbind(1)
    rates = [
        torch.fft.fftfreq(n) if axis < axes[-1] else torch.fft.rfftfreq(n)
        for axis, n in zip(axes, image.shape[2:], strict=True)
    ]
    square = torch.stack(torch.meshgrid(*rates, indexing="ij")).square().sum(0) * (2 * math.pi**2)
    response = torch.exp(-square * blur**2) * (1 + sharpen * (1 - torch.exp(-square)))
    filtered = torch.fft.irfftn(torch.fft.rfftn(image, dim=axes) * response, s=image.shape[2:], dim=axes)
    grain = torch.from_numpy(rng.standard_normal(tuple(image.shape), np.float32))
    noisy = filtered + noise * grain
    return noisy[(..., *(slice(_RIM, -_RIM) for _ in axes))].contiguous(), amounts


def _hidden(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Which voxels are hidden: about half of the blocks of 8.

    Shape: (B, C, *S) to (B, 1, *S), bool
    """
    blocks = tuple(n // _HIDDEN for n in image.shape[2:])
    mask = torch.from_numpy(rng.random((image.shape[0], 1, *blocks)) < 0.5)
    for axis in range(2, image.ndim):
        mask = mask.repeat_interleave(_HIDDEN, axis)
    return mask
