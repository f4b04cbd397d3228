"""What can be looked at of a pair: the input, the result, their difference, and what else is known of each voxel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geomedsr.grid import Box, Factor
from geomedsr.image import Source, Voxels
from geomedsr.report._view import Stretch
from geomedsr.report.derived import Cubic, Difference
from geomedsr.report.pair import Pair
from geomedsr.report.preview import Preview, preview

__all__ = ["Companions", "Kind", "Layer", "Levels", "Scene", "fine_channels", "layers_of"]

Kind = Literal["image", "signed", "map"]


@dataclass(frozen=True)
class Companions:
    """Further images on the result's grid: the truth, the stated uncertainty, the map of what may be invented."""

    reference: Source | None = None
    uncertainty: Source | None = None
    hallucination: Source | None = None

    def close(self) -> None:
        """Lets go of their handles."""
        for source in (self.reference, self.uncertainty, self.hallucination):
            if source is not None:
                source.close()


@dataclass(frozen=True)
class Layer:
    """One image of several that show the same place. `coarse` says that it lies on the input's grid."""

    key: str
    label: str
    kind: Kind
    source: Source
    channels: tuple[int, ...]
    coarse: bool = False

    def preview(self, box: Box, pair: Pair, blocks: int) -> Preview:
        """Its view of a box of the input, averaged over `blocks` of the input's voxels on each axis; 0: not at all."""
        times = (1,) * len(pair.factor) if self.coarse or not blocks else pair.factor
        place = box if self.coarse else box.scaled(pair.factor)
        step = tuple(min(n, max(1, blocks) * f) for n, f in zip(place.shape, times, strict=True))
        return preview(self.source, place, step, self.channels)


def layers_of(pair: Pair, companions: Companions, shown: tuple[int, ...]) -> list[Layer]:
    """All that can be looked at, of these channels of the result."""
    cubic = Cubic(pair.before, pair.factor, pair.matched)
    layers = [
        Layer("before", "Input", "image", pair.before, pair.channels(0, shown), coarse=True),
        Layer("after", "Output", "image", pair.after, shown),
        Layer("difference", "Output minus cubic", "signed", Difference(pair.after, cubic), shown),
    ]
    if (reference := companions.reference) is not None:
        layers.append(Layer("reference", "Reference", "image", reference, shown))
        layers.append(Layer("error", "Output minus reference", "signed", Difference(pair.after, reference), shown))
    for key, label in (("uncertainty", "Uncertainty"), ("hallucination", "Unsupported detail")):
        source: Source | None = getattr(companions, key)
        if source is not None:
            several = len(source.spec.channels) > max(shown)
            layers.append(Layer(key, label, "map", source, shown if several else (0,)))
    return layers


@dataclass(frozen=True)
class Levels:
    """From physical values to the whole numbers 1 to 255 and back; 0 stands for an invalid voxel.

    One pair of ends for each channel.
    """

    ends: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, layer: Layer, voxels: Voxels, stretch: Stretch) -> Levels:
        """The levels of a layer: those of the input's contrast for an image, else by the layer's own largest values.

        Channels of a difference or a map share their ends, so that they can be compared.
        """
        if layer.kind == "image":
            return cls(tuple(zip(stretch.low, stretch.high, strict=True)))
        sizes = np.abs(voxels[np.isfinite(voxels)])
        most = float(np.percentile(sizes, 99.5)) if sizes.size else 0.0
        most = most or 1.0
        return cls(((-most if layer.kind == "signed" else 0.0, most),) * len(voxels))

    def apply(self, voxels: Voxels) -> NDArray[np.uint8]:
        """The voxels as whole numbers.

        Shape: (C, *S) to the same
        """
        ends = np.array(self.ends, dtype=np.float32).T.reshape(2, -1, *[1] * (voxels.ndim - 1))
        share = np.clip((voxels - ends[0]) / (ends[1] - ends[0]), 0, 1)
        return np.where(np.isfinite(share), np.rint(1 + 254 * np.nan_to_num(share)), 0).astype(np.uint8)


@dataclass(frozen=True)
class Scene:
    """A box of the input that all layers are shown in, with each layer's preview."""

    key: str
    label: str
    box: Box
    previews: dict[str, Preview]

    @classmethod
    def of(cls, key: str, label: str, box: Box, pair: Pair, layers: list[Layer], budget: int) -> Scene:
        """The scene with at most about `budget` voxels, averaged over as few voxels as that takes.

        All layers are averaged over the same places, so that none looks finer than another for it.
        """
        blocks = 0
        while fine_channels(layers) * _count(box, pair.factor, blocks) > budget and blocks < max(box.shape):
            blocks += 1
        return cls(key, label, box, {layer.key: layer.preview(box, pair, blocks) for layer in layers})

    @classmethod
    def at_full_resolution(cls, key: str, label: str, box: Box, pair: Pair, layers: list[Layer]) -> Scene:
        """The scene with every voxel as it is."""
        return cls(key, label, box, {layer.key: layer.preview(box, pair, 0) for layer in layers})

    @property
    def is_averaged(self) -> bool:
        """Whether a voxel that is shown is the mean of several."""
        return max(self.previews["after"].step) > 1


def fine_channels(layers: list[Layer]) -> int:
    """How many images of one channel lie on the result's grid; those on the input's are small beside them."""
    return sum(len(layer.channels) for layer in layers if not layer.coarse) + 1


def _count(box: Box, factor: Factor, blocks: int) -> int:
    """How many voxels of the result are left of a box of the input, averaged over blocks of its voxels."""
    sizes = zip(box.shape, factor, strict=True)
    return math.prod(-(-n // min(n, blocks)) if blocks else n * f for n, f in sizes)
