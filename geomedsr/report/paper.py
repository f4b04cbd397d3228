"""Figures for papers: PNG at 300 dots per inch, drawn by matplotlib, on white."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr.errors import FailedError
from geomedsr.io._staging import Staging, write_errors
from geomedsr.report.evidence import Evidence, Histogram
from geomedsr.report.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figures"]

_DPI = 300
_STYLE: dict[str, dict[str, Any]] = {
    "input": {"color": "#6a737b", "linestyle": (0, (5, 3)), "label": "Input"},
    "cubic": {"color": "#a86a00", "linestyle": (0, (1.5, 1.5)), "label": "Cubic interpolation"},
    "result": {"color": "#0a5a9c", "linestyle": "-", "label": "Output"},
    "reference": {"color": "#1d7a4a", "linestyle": (0, (6, 2, 1, 2)), "label": "Reference"},
}
_TEXT = {"font.size": 8, "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False}


def figures(evidence: Evidence, stem: Path) -> list[Path]:
    """Writes `<stem>_spectrum.png` and `<stem>_histogram.png` and gives their paths.

    Raises:
        FailedError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise FailedError("--png needs matplotlib; pip install geomedsr[report] brings it.") from error
    with mpl.rc_context(_TEXT):
        drawn = {"histogram": _histograms(evidence.histograms)}
        if evidence.spectrum is not None:
            drawn["spectrum"] = _spectrum(evidence.spectrum)
        return [_saved(figure, stem.with_name(f"{stem.name}_{name}.png")) for name, figure in drawn.items()]


def _spectrum(spectrum: Spectrum) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5, 2.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in spectrum.curves.items():
        axes.semilogy(*zip(*curve, strict=True), linewidth=1.1, **_STYLE[name])
    axes.axvline(spectrum.nyquist, color="#0a5a9c", linewidth=0.7, linestyle=":")
    axes.text(
        spectrum.nyquist, 1.01, "input’s Nyquist", transform=axes.get_xaxis_transform(), ha="center", fontsize=6.5
    )
    axes.set(xlabel=f"Spatial frequency (cycles per {spectrum.units or 'unit of length'})", ylabel="Power")
    axes.set_xlim(0, spectrum.limit)
    axes.legend(frameon=False, fontsize=7)
    return figure


def _histograms(histograms: tuple[Histogram, ...]) -> Figure:
    from matplotlib.figure import Figure

    columns = min(len(histograms), 2)
    rows = -(-len(histograms) // columns)
    figure = Figure(figsize=(3.5 * columns, 2.1 * rows), layout="constrained")
    for axes, one in zip(figure.subplots(rows, columns, squeeze=False).flat, histograms, strict=False):
        for name, shares in (("input", one.before), ("result", one.after)):
            axes.stairs([100 * share for share in shares], one.edges, linewidth=1.1, **_STYLE[name])
        axes.set(title=one.channel, xlabel="Value", ylabel="Voxels (%)")
    for axes in figure.axes[len(histograms) :]:
        axes.remove()
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


def _saved(figure: Figure, path: Path) -> Path:
    staging = Staging(path)
    try:
        with write_errors(path):
            figure.savefig(staging.path, dpi=_DPI, format="png")
        staging.publish()
    finally:
        staging.discard()
    return path
