"""Curves and bars as SVG that takes its colours from the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from geomedsr.report.evidence import Histogram
from geomedsr.report.spectrum import Spectrum

__all__ = ["histogram_plot", "spectrum_plot"]

_NAMES = {"input": "Input", "cubic": "Cubic interpolation", "result": "Output", "reference": "Reference"}
_DWARFS = 4
"""How many times the next bin a bin must be to end at the top: the air around a head is."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 16, 46


@dataclass(frozen=True)
class _Frame:
    """From values to places in a picture of `width` x `height`."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """The place of a value on the horizontal axis."""
        share = (value - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def down(self, value: float) -> float:
        """The place of a value on the vertical axis, which points up."""
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def path(self, points: list[tuple[float, float]]) -> str:
        """A line through points."""
        return "M" + "L".join(f"{self.across(x):.1f} {self.down(y):.1f}" for x, y in points)

    def axes(self, x_label: str, y_label: str, y_ticks: list[tuple[float, str]]) -> list[str]:
        """The frame with its ticks and its words."""
        left, right, bottom = _LEFT, self.width - _RIGHT, self.height - _BOTTOM
        parts = [f'<path class="axis" d="M{left} {_TOP}V{bottom}H{right}"/>']
        for value, label in y_ticks:
            y = self.down(value)
            parts.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
            parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        for value in _round_values(*self.x):
            x = self.across(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v5"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{value:g}</text>')
        parts.append(_text((left + right) / 2, self.height - 6, x_label))
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<text class="label" transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
            f"{escape(y_label)}</text>"
        )
        return parts


def spectrum_plot(spectrum: Spectrum) -> Markup:
    """The power of each image by spatial frequency, with the input's Nyquist marked and what lies beyond shaded."""
    logs = {name: [(f, math.log10(p)) for f, p in curve] for name, curve in spectrum.curves.items() if curve}
    powers = [power for curve in logs.values() for _, power in curve]
    # What lies more than nine decades below the highest is rounding.
    high = math.ceil(max(powers) + 0.1)
    low = max(math.floor(min(powers)), high - 9)
    frame = _Frame(760, 340, (0.0, spectrum.limit), (low, high))
    x, bottom = frame.across(spectrum.nyquist), frame.height - _BOTTOM
    right = frame.width - _RIGHT
    units = f"cycles per {spectrum.units}" if spectrum.units else "cycles per unit of length"
    parts = [f'<rect class="beyond" x="{x:.1f}" y="{_TOP}" width="{right - x:.1f}" height="{bottom - _TOP}"/>']
    parts += frame.axes(f"Spatial frequency ({units})", "Power", [(n, f"1e{n}") for n in range(low, high + 1, 2)])
    parts.append(f'<path class="nyquist" d="M{x:.1f} {_TOP}V{bottom}"/>')
    parts.append(f'<text class="note" x="{x + 8:.1f}" y="{_TOP + 16}">beyond the input’s Nyquist</text>')
    for name, curve in logs.items():
        inside = [(f, max(p, low)) for f, p in curve]
        parts.append(f'<path class="curve {name}" d="{frame.path(inside)}"/>')
    return _svg(frame, parts, f"Power by spatial frequency of {_listed(list(logs))}")


def histogram_plot(histogram: Histogram) -> Markup:
    """The share of voxels by value, of the input and of the output; a bin that dwarfs all others ends at the top."""
    tallest = [100 * max(pair) for pair in zip(histogram.before, histogram.after, strict=True)]
    peak = max(tallest)
    next_highest = sorted(tallest)[-2] if len(tallest) > 1 else peak
    highest = max(1.3 * next_highest if peak > _DWARFS * next_highest > 0 else peak, 1e-9)
    frame = _Frame(420, 230, (histogram.edges[0], histogram.edges[-1]), (0.0, highest * 1.08))
    ticks = [(value, f"{value:g}") for value in _round_values(0.0, highest, 4)]
    parts = frame.axes("Value", "Voxels (%)", ticks)
    for name, shares in (("input", histogram.before), ("result", histogram.after)):
        steps = [
            (edge, min(100 * share, highest)) for i, share in enumerate(shares) for edge in histogram.edges[i : i + 2]
        ]
        parts.append(f'<path class="curve {name}" d="{frame.path(steps)}"/>')
    if peak > highest:
        x = frame.across(histogram.edges[tallest.index(peak) + 1])
        parts.append(f'<text class="note" x="{x + 6:.1f}" y="{_TOP + 10}">to {peak:.3g} %</text>')
    return _svg(frame, parts, f"Histogram of {histogram.channel}")


def _svg(frame: _Frame, parts: list[str], title: str) -> Markup:
    head = f'<svg class="plot" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}">'
    return Markup("".join([head, *parts, "</svg>"]))


def _text(x: float, y: float, words: str) -> str:
    return f'<text class="label" x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(words)}</text>'


def _listed(names: list[str]) -> str:
    return ", ".join(_NAMES[name].lower() for name in names)


def _round_values(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two, about as many as asked for.

    Example:
        >>> _round_values(0.0, 0.1)
        [0.0, 0.02, 0.04, 0.06, 0.08, 0.1]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * 0.99)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) + 0.0 for n in range(first, last + 1)]
