"""The page: one HTML file that loads nothing. What comes from files is escaped, and only our own scripts may run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from geomedsr.report.evidence import Evidence
from geomedsr.report.exhibit import PERCENTILES, Exhibit
from geomedsr.report.plot import histogram_plot, spectrum_plot
from geomedsr.report.stills import stills
from geomedsr.report.story import Story, cautions, checks_summary, citation, geometry_rows, glance, verdict
from geomedsr.report.tables import Table, number, scores_table
from geomedsr.report.viewer import raster_viewer, volume_viewer

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Card", "index_page", "report_page", "thumbnail"]

_FOLDER = Path(__file__).parent / "page"
_NIIVUE = "0.69.0"
_CURVES = {"input": "Input", "cubic": "Cubic interpolation", "result": "Output", "reference": "Reference"}
_PLANES, _SIDES = ("Axial", "Coronal", "Sagittal"), ("Left to right", "Back to front", "Feet to head")
_AXES = tuple(f"Axis {n}" for n in (1, 2, 3))


def report_page(
    shown: Exhibit,
    evidence: Evidence,
    story: Story,
    *,
    checks: Sequence[dict[str, str]] = (),
    evaluation: Sequence[Table] = (),
    index: str = "",
) -> str:
    """The page of one pair; `index` is the link to a page of many."""
    volume = shown.pair.grids[0].ndim == 3
    words = {
        "title": story.title,
        "subtitle": story.subtitle,
        "index": index,
        "verdict": verdict(shown, evidence, story.maker),
        "glance": glance(shown, story),
        "checks": checks,
        "checks_summary": checks_summary(checks),
        "evaluation": evaluation,
        "geometry": geometry_rows(shown, story),
        "corner_error": number(shown.pair.corner_error, 2),
        "citation": citation(story.maker, story.version),
        "cautions": cautions(shown, story, has_reference=bool(evidence.scores)),
        **_provenance(story),
    }
    scripts = ("niivue/niivue.js", "volume.js") if volume else ("raster.js",)
    return _rendered(
        "report.html", scripts, version=story.version, **words, **_pictures(shown), **_figures(shown, evidence)
    )


def _pictures(shown: Exhibit) -> dict[str, Any]:
    anatomical, volume = shown.pair.view.ends is not None, shown.pair.grids[0].ndim == 3
    lower, upper = PERCENTILES[shown.pair.grids[0].ndim]
    low, high = shown.stretch.low[0], shown.stretch.high[0]
    return {
        "viewer_template": "volume.html" if volume else "raster.html",
        "viewer": volume_viewer(shown) if volume else raster_viewer(shown),
        "planes": _PLANES if anatomical else _AXES,
        "sides": _SIDES if anatomical else _AXES,
        "lower": f"{lower:g}",
        "upper": f"{upper:g}",
        "window": f"{number(low)} to {number(high)}",
        "niivue": _NIIVUE if volume else "",
        "niivue_licence": _text("niivue/LICENSE"),
        **stills(shown),
    }


def _figures(shown: Exhibit, evidence: Evidence) -> dict[str, Any]:
    grid, share = shown.pair.grids[0], f"{100 * evidence.share:.3g} % of the voxels"
    methods = {"result": "Output", "cubic": "Cubic"}
    seen = f"{evidence.windows} window{'s' * (evidence.windows > 1)} spread over the image, {share}"
    range_note = f"Means over {seen}. Data range: {number(evidence.data_range)}, the input’s contrast as it is drawn."
    return {
        "scores": scores_table(
            {methods[name]: evidence.scores[name] for name in methods if name in evidence.scores},
            ("value", grid.units),
            range_note,
        ),
        "spectrum": spectrum_plot(evidence.spectrum) if evidence.spectrum else None,
        "spectrum_key": [(name, _CURVES[name]) for name in evidence.spectrum.curves] if evidence.spectrum else [],
        "spectrum_note": f"Mean power of {seen}, by distance from the zero frequency. What the output has above cubic "
        "interpolation is what the model added; to the right of the dashed line no input voxel could have shown it.",
        "histograms": [{"channel": one.channel, "plot": histogram_plot(one)} for one in evidence.histograms],
        "histogram_note": f"The share of valid voxels by value, from {seen}; the outermost bins hold what lies beyond.",
    }


def _provenance(story: Story) -> dict[str, str]:
    told = story.provenance or {"input": story.before, "output": story.after}
    title = "What the output says of how it was made" if story.provenance else "What is known of both files"
    words = {
        True: "The output was made from this very input: the SHA-256 that it carries is that of the file.",
        False: "The output was made from another file than this input: the SHA-256 that it carries is another.",
        None: "The output does not say which file it was made from.",
    }
    return {
        "provenance": json.dumps(told, indent=2, ensure_ascii=False, default=str),
        "provenance_title": title,
        "provenance_words": words[story.is_from_input],
    }


class Card(dict[str, Any]):
    """A pair on the page of many: link, title, thumbnail, figures and the worst of its checks."""


def index_page(title: str, subtitle: str, cards: Sequence[Card], version: str) -> str:
    """The page that leads to many."""
    return _rendered("index.html", (), version=version, title=title, subtitle=subtitle, cards=cards)


def thumbnail(shown: Exhibit) -> str:
    """A part of the output, small, as a data URL."""
    return str(stills(shown)["stills"][1]["source"])


def _rendered(template: str, scripts: Sequence[str], **values: Any) -> str:  # noqa: ANN401  (what the templates ask for)
    texts = [_script(name) for name in ("theme.js", *scripts)]
    return (
        _environment()
        .get_template(template)
        .render(
            date=date.today().isoformat(),
            style=Markup(_text("style.css")),
            scripts=[Markup(text) for text in texts],
            policy=_policy(texts),
            **values,
        )
    )


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is loaded, and no script runs but these, letter by letter."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = number
    return environment


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _script(name: str) -> str:
    text = _text(name)
    assert "</script" not in text.lower(), name
    return text
