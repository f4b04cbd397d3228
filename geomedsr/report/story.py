"""What a page says in words: the verdict, the facts at a glance, how to cite, what to be careful with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geomedsr.report.evidence import Evidence
from geomedsr.report.exhibit import Exhibit
from geomedsr.report.tables import number

__all__ = ["Maker", "Story", "cautions", "checks_summary", "citation", "geometry_rows", "glance", "verdict"]


@dataclass(frozen=True)
class Maker:
    """What made the output, as far as it is known. `is_baseline` says that it interpolates, and predicts nothing."""

    name: str = ""
    about: str = ""
    sha256: str = ""
    licence: str = ""
    attribution: str = ""
    parameters: int = 0
    is_baseline: bool = False

    @property
    def called(self) -> str:
        """What sentences call it."""
        return self.name or "a model that the file does not name"


@dataclass(frozen=True)
class Story:
    """What is told of a pair beside its voxels: `before` and `after` are the facts of `geomedsr info`.

    `is_from_input` says whether the output was made from this very input, by its own word; None: it does not say.
    """

    title: str
    subtitle: str
    before: dict[str, Any]
    after: dict[str, Any]
    maker: Maker
    version: str
    provenance: dict[str, Any] = field(default_factory=dict)
    is_from_input: bool | None = None


def verdict(shown: Exhibit, evidence: Evidence, maker: Maker) -> list[str]:
    """What of the picture was measured and what was predicted: one sentence, and one that says how it is known."""
    coarse, units = shown.pair.grids[0], shown.pair.grids[0].units
    finer = [step for step, f in zip(coarse.spacing, shown.pair.factor, strict=True) if f > 1]
    size = f"{number(2 * max(finer), 3)} {units}" if units else "two input voxels"
    how = "interpolated from its neighbours by" if maker.is_baseline else "predicted by"
    share = "" if evidence.beyond is None else f", {_percent(evidence.beyond)} of this picture’s contrast energy,"
    return [
        f"Detail of {size} and coarser was measured; finer detail{share} was {how} {maker.called}.",
        f"{size[0].upper()}{size[1:]} is two voxels of the input, the finest that its sampling can hold (Nyquist). "
        "Measured detail near that limit may have been sharpened as well; the frequency plot shows by how much.",
    ]


def _percent(share: float) -> str:
    return "less than 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %"


def glance(shown: Exhibit, story: Story) -> list[dict[str, str]]:
    """The facts that a reader wants first."""
    before, after, maker = story.before, story.after, story.maker
    factor = " × ".join(map(str, shown.pair.factor))
    place = before["crs"] if before["crs"] != "none" else ("patient space" if shown.pair.view.ends else "not stated")
    what = "Volume" if shown.pair.grids[0].ndim == 3 else "Raster"
    names = shown.pair.names
    channels = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    about = maker.about or ("named in the output" if maker.name else "the output does not say")
    return [
        _fact("What", f"{what}, {len(names)} channel{'s' * (len(names) > 1)}", channels),
        _fact("Where", place, f"orientation {before['orientation']}"),
        _fact("Finer by", f"{factor} times", f"{_sizes(before)} became {_sizes(after)}"),
        _fact("Voxels", _shape(after), f"from {_shape(before)}"),
        _fact("Model", maker.name or "not known", about),
    ]


def _fact(name: str, value: str, note: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _sizes(facts: dict[str, Any]) -> str:
    return f"{' × '.join(f'{step:.4g}' for step in facts['spacing'])} {facts['units']}".rstrip()


def _shape(facts: dict[str, Any]) -> str:
    return " × ".join(map(str, facts["shape"]))


def geometry_rows(shown: Exhibit, story: Story) -> list[dict[str, str]]:
    """The geometry of input and output side by side."""
    sides = story.before, story.after
    taken = [story.before["channels"][i] for i in shown.pair.matched]
    table = {
        "Voxels": [_shape(facts) for facts in sides],
        "Spacing": [_sizes(facts) for facts in sides],
        "Orientation": [facts["orientation"] for facts in sides],
        "CRS": [facts["crs"] for facts in sides],
        "Extent": [_extent(facts) for facts in sides],
        "Affine (of voxel edges)": [_affine(facts) for facts in sides],
        "Data type": [facts["dtype"] for facts in sides],
        "Nodata": ["none" if facts["nodata"] is None else str(facts["nodata"]) for facts in sides],
    }
    table["Channels"] = [", ".join(taken), ", ".join(shown.pair.names)]
    return [{"name": name, "before": str(one), "after": str(other)} for name, (one, other) in table.items()]


def _extent(facts: dict[str, Any]) -> str:
    low, high = facts["extent"]
    return "; ".join(f"{a:.10g} to {b:.10g}" for a, b in zip(low, high, strict=True))


def _affine(facts: dict[str, Any]) -> str:
    return "; ".join(" ".join(f"{value:.8g}" for value in row) for row in facts["affine"][:-1])


def checks_summary(checks: Sequence[Mapping[str, str]]) -> str:
    """How the checks went, in a sentence."""
    if not checks:
        return "No checks were made."
    counts = {status: sum(check["status"] == status for check in checks) for status in ("ok", "warn", "fail")}
    words = {"ok": "passed", "warn": "asked for a closer look", "fail": "failed"}
    return f"Of {len(checks)} checks, {', '.join(f'{n} {words[status]}' for status, n in counts.items() if n)}."


def citation(maker: Maker, version: str) -> str:
    """A sentence for a paper's methods."""
    weights = f" (weights SHA-256 {maker.sha256[:12]}…)" if maker.sha256 else ""
    kind = f"{maker.name} interpolation" if maker.is_baseline else f"the model {maker.name}{weights}"
    made = kind if maker.name else "a model that the file does not name"
    credit = f" {maker.attribution}" if maker.attribution else ""
    licence = f" Licence of the weights: {maker.licence}." if maker.licence and not maker.is_baseline else ""
    return f"Images were made finer with geomedsr {version} and {made}.{licence}{credit}"


def cautions(shown: Exhibit, story: Story, *, has_reference: bool) -> list[str]:
    """What a reader must not take this picture for."""
    said = ["Detail beyond the input’s Nyquist was not measured. It is what the model takes for likely, not evidence."]
    if story.maker.is_baseline:
        said = ["Interpolation adds voxels, not detail: nothing here is finer than what was measured."]
    if shown.pair.grids[0].ndim == 3:
        said.append(
            "Not a medical device. Do not diagnose, plan or measure lesions by detail that only the output shows."
        )
    else:
        said.append(
            "Do not count, outline or date objects by detail that only the output shows; look at the input, too."
        )
    if not has_reference:
        said.append("There was no finer image of this place to compare with, so the error of this output is not known.")
    if story.is_from_input is False:
        said.insert(0, "The output says that it was made from another file than this input: their SHA-256 differ.")
    said.append("A model is for images like those it was trained on; its card says which they are.")
    return said
