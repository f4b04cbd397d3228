"""`--consistent`: the model's output is tied to its input, and afterwards the file is asked whether it held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Box
from geomedsr.image import Source
from geomedsr.io import boundless, format_of

if TYPE_CHECKING:
    from torch import Tensor

    from geomedsr.data.intensity import Intensity
    from geomedsr.inference.layout import Layout
    from geomedsr.model import Model
    from geomedsr.networks._network import Network
    from geomedsr.trust.instrument import Instrument

__all__ = ["TiedModel", "check_damping", "tie"]

_PROBE = {2: 192, 3: 48}
"""How many coarse voxels on each of the network's axes are looked at before the work begins, and after it."""


def check_damping(damping: str | float | None, *, consistent: bool) -> None:
    """Refuses a damping that is none.

    Raises:
        GeomedsrError: it is neither auto nor a number from 0, or there is nothing to damp.
    """
    if damping is None:
        return
    if not consistent:
        raise GeomedsrError("--damping weakens --consistent, which was not asked for; pass both or neither.")
    try:
        good = damping == "auto" or 0 <= float(damping) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise GeomedsrError(f"--damping is auto or the input's noise in its own units, at least 0; got {damping}.")


@dataclass(frozen=True)
class TiedModel:
    """A model whose output degrades to its input, and how far it did before, on a part of the image."""

    model: Model
    instrument: Instrument
    probe: _Probe
    before: float
    noise: float | None

    def told(self, source: Source, target: Path) -> str:
        """One line on what was assumed and what became of it in the file, where it was looked at."""
        from geomedsr.trust.instrument import WHOLE

        text = f"consistent with {self.instrument.name}"
        if self.instrument.assumption:
            text += f" ({self.instrument.assumption})"
        if self.noise is not None:
            text += f", down to a noise of {self.noise:.4g}"
        if max(self.instrument.reach) >= WHOLE and not self.probe.is_whole:
            return text
        with boundless():
            written = format_of(target).open_source(target)
        try:
            after, mostly = self.probe.off(source, written, self.instrument)
        finally:
            written.close()
        rounded = ", rounding included" if written.spec.dtype.kind in "iu" else ""
        return (
            f"{text}: off by at most {after:.4g} (99% of voxels: {mostly:.4g}; before: {self.before:.4g}) "
            f"in the middle of the image{rounded}"
        )


def tie(model: Model, source: Source, axes: tuple[int, ...] | None, damping: str | float | None) -> TiedModel:
    """The model, tied to its input by its own degradation or, without a linear one, by the plain average."""
    import torch

    from geomedsr.trust.consistency import Tied, bare, damping_for, noise_of, padded
    from geomedsr.trust.instrument import instrument_of

    instrument = instrument_of(model.recipe, model.task.factor)
    probe = _Probe.of(model, source, axes, instrument)
    network = bare(model.network)
    with torch.inference_mode():
        lr = probe.batch(source)
        residual = lr - instrument.degraded(padded(network, lr).float())
    before, _ = probe.largest(residual)
    noise, strength = None, 0.0
    if damping is not None:
        noise = noise_of(lr) if damping == "auto" else float(damping) / probe.intensity.scale
        strength = damping_for(residual, instrument, noise)
        noise *= probe.intensity.scale
    tied: Network = Tied(network, instrument, strength).eval()
    return TiedModel(replace(model, network=tied), instrument, probe, before, noise)


@dataclass(frozen=True)
class _Probe:
    """A part of the image: all of it on the axes that the instrument looks along from end to end, else its middle."""

    box: Box
    margin: tuple[int, ...]
    is_whole: bool
    layout: Layout
    intensity: Intensity
    factor: tuple[int, ...]

    @classmethod
    def of(cls, model: Model, source: Source, axes: tuple[int, ...] | None, instrument: Instrument) -> _Probe:
        """The part of an image that a model is judged on."""
        from geomedsr.inference.layout import layout_of
        from geomedsr.trust.instrument import WHOLE

        task, shape = model.task, source.spec.grid.shape
        layout = layout_of(task, source.spec, axes)
        reach = layout.on_image(instrument.reach, 0)
        whole = task.ndim == 2 and max(instrument.reach) >= WHOLE
        most = layout.on_image((max(shape) if whole else _PROBE[task.ndim],) * task.ndim, 1)
        lengths = [min(n, m) for n, m in zip(shape, most, strict=True)]
        start = [(n - length) // 2 for n, length in zip(shape, lengths, strict=True)]
        box = Box(tuple(start), tuple(a + n for a, n in zip(start, lengths, strict=True)))
        # At the border of the image the instrument repeats the border; at the border of the part it must not.
        margin = tuple(min(r, n // 3) if n < full else 0 for r, n, full in zip(reach, lengths, shape, strict=True))
        return cls(box, margin, whole, layout, model.intensity.fit(source), layout.on_image(task.factor, 1))

    def batch(self, source: Source) -> Tensor:
        """The part as the network sees it."""
        import torch

        from geomedsr.inference import fill

        voxels = self.intensity.apply(source.read(self.box))
        return torch.from_numpy(self.layout.to_batch(fill.fill(voxels, self.layout.axes)))

    def largest(self, residual: Tensor) -> tuple[float, float]:
        """The largest of what is off, and its 99th percentile, in the image's units, away from the part's border."""
        shape = tuple(self.box.shape[axis] for axis in self.layout.others)
        voxels = self.layout.from_batch(np.asarray(residual.float().numpy(), np.float32), shape)
        inner = tuple(slice(m, n - m) for m, n in zip(self.margin, self.box.shape, strict=True))
        off = np.abs(voxels[(slice(None), *inner)]) * self.intensity.scale
        return float(off.max()), float(np.percentile(off, 99))

    def off(self, source: Source, written: Source, instrument: Instrument) -> tuple[float, float]:
        """By how much the input and what the instrument makes of the output differ where both are valid: `largest`."""
        import torch

        from geomedsr.inference import fill

        fine = written.read(self.box.scaled(self.factor))
        invalid = ~np.isfinite(fine)
        filled = fill.fill(self.intensity.apply(fine), self.layout.axes)
        x, holes = (torch.from_numpy(self.layout.to_batch(one)) for one in (filled, invalid.astype(np.float32)))
        residual = (self.batch(source) - instrument.degraded(x)) * (instrument.degraded(holes).abs() < 1e-3)
        return self.largest(residual)
