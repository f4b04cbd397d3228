"""The curves of a page: what dwarfs the rest does not hide it."""

from __future__ import annotations

from geomedsr.report.evidence import Histogram
from geomedsr.report.plot import histogram_plot, spectrum_plot
from geomedsr.report.spectrum import Spectrum


def test_a_bin_of_air_does_not_flatten_the_others() -> None:
    edges = (0.0, 1.0, 2.0, 3.0)
    tall = str(histogram_plot(Histogram("T1w", edges, (0.9, 0.06, 0.04), (0.9, 0.05, 0.05))))
    even = str(histogram_plot(Histogram("T1w", edges, (0.4, 0.3, 0.3), (0.4, 0.3, 0.3))))
    assert "to 90 %" in tall
    assert ">to " not in even


def test_a_spectrum_marks_what_the_input_cannot_hold() -> None:
    curves = {"input": [(0.1, 10.0), (0.4, 1.0)], "result": [(0.1, 10.0), (0.9, 1e-30)]}
    plot = str(spectrum_plot(Spectrum(curves, 0.5, 1.0, "mm")))
    assert 'class="beyond"' in plot
    assert "cycles per mm" in plot
    assert 'class="curve cubic"' not in plot
