"""A page of what became of an image, or of many: `geomedsr report`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geomedsr import __version__
from geomedsr.errors import OutputError
from geomedsr.image import Source
from geomedsr.io import format_of
from geomedsr.io._staging import Staging, write_errors
from geomedsr.run.couples import Couple, are_folders, couples
from geomedsr.run.description import crs_name, facts
from geomedsr.run.opened import Opened, opened
from geomedsr.run.targets import check_folder
from geomedsr.run.upscaling import Listener
from geomedsr.run.verifying import verify

if TYPE_CHECKING:
    from geomedsr.report.evidence import Evidence
    from geomedsr.report.page import Card
    from geomedsr.report.story import Story
    from geomedsr.report.tables import Table

__all__ = ["Wanted", "run_report"]

_LIMIT = 9_500_000
_BUDGETS = {2: 7_000_000, 3: 14_000_000}
_INDEX = "index.html"


@dataclass(frozen=True)
class Wanted:
    """What the user asks for: files or folders, and how to show them."""

    before: Path
    after: Path
    out: Path
    reference: Path | None = None
    uncertainty: Path | None = None
    hallucination: Path | None = None
    verify: Path | None = None
    evaluate: Path | None = None
    model: str | None = None
    bands: str | None = None
    at: tuple[int, ...] | None = None
    png: Path | None = None
    overwrite: bool = False


def run_report(wanted: Wanted, listener: Listener) -> Iterator[Path]:
    """Writes the page, or the folder of pages, and the figures; gives the paths of what was written.

    Raises:
        GeomedsrError: the images do not belong together, or nothing can be written there; nothing is left behind.
    """
    many = are_folders(wanted.before, wanted.after)
    extras = {key: getattr(wanted, key) for key in ("reference", "uncertainty", "hallucination", "verify")}
    found = couples(wanted.before, wanted.after, extras)
    _check_out(wanted, many)
    for couple in found:
        with opened(couple, wanted.bands, wanted.model) as images:  # what does not fit is told before any work
            if images.note is not None:
                listener.note(images.note)
    told = _write_folder(found, wanted, listener) if many else [_write_page(found[0], wanted, listener)]
    yield wanted.out / _INDEX if many else wanted.out
    if wanted.png is not None:
        for couple, one in zip(found, told, strict=True):
            yield from _draw(couple, one.evidence, wanted.png)


def _check_out(wanted: Wanted, many: bool) -> None:
    out = wanted.out
    if not many and out.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"The report of one pair is a page; {out} does not end with .html.")
    if many and out.suffix.lower() in (".html", ".htm"):
        raise OutputError(f"The reports of two folders are a folder; {out} would be one page.")
    check_folder(out if many else out.parent)
    if not out.parent.is_dir():
        raise OutputError(f"The folder {out.parent} does not exist; make it first, or choose another output.")
    if wanted.png is not None:
        check_folder(wanted.png)
    if os.path.lexists(out) and not wanted.overwrite and not (many and out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"{out} exists already; pass --overwrite to replace it.")
    if many and out.is_dir():
        _check_ours(out)


def _check_ours(folder: Path) -> None:
    """Only a folder of nothing but our pages is replaced."""
    others = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"]
    pages = [path for path in folder.rglob("*.html") if b'content="geomedsr ' not in path.read_bytes()[:4096]]
    foreign = sorted([*others, *pages])
    if foreign:
        raise OutputError(
            f"The folder {folder} holds more than reports, {foreign[0].name} for one; choose another output."
        )


@dataclass(frozen=True)
class _Judged:
    """What others found of an output: the checks against its input, and an evaluation's tables."""

    checks: list[dict[str, str]]
    tables: list[Table]

    @classmethod
    def of(cls, images: Opened, wanted: Wanted) -> _Judged:
        """The checks and tables out of the files that were named; without one the checks are made here."""
        from geomedsr.report.tables import check_rows, evaluation_tables, read_json

        couple = images.couple
        if couple.verify is not None:
            checks = check_rows(read_json(couple.verify, "a verification"), str(couple.verify))
        else:
            bands = ",".join(str(i + 1) for i in images.pair.matched)
            found = verify(couple.after, couple.before, model=wanted.model, bands=bands)
            checks = check_rows(found.to_json(), str(couple.after))
        if wanted.evaluate is None:
            return cls(checks, [])
        return cls(checks, evaluation_tables(read_json(wanted.evaluate, "an evaluation"), str(wanted.evaluate)))


@dataclass
class _Told:
    """A page, and what the index says of it."""

    html: str
    card: Card
    evidence: Evidence


def _write_page(couple: Couple, wanted: Wanted, listener: Listener) -> _Told:
    told = _told(couple, wanted, "", listener)
    staging = Staging(wanted.out)
    try:
        with write_errors(wanted.out):
            staging.path.write_text(told.html, encoding="utf-8")
        staging.publish()
    finally:
        staging.discard()
    return told


def _write_folder(found: Sequence[Couple], wanted: Wanted, listener: Listener) -> list[_Told]:
    from geomedsr.report.page import index_page

    staging, pages = Staging(wanted.out, as_folder=True), []
    try:
        for number, couple in enumerate(found, start=1):
            listener.note(f"report {number} of {len(found)}")
            page = couple.name.with_name(f"{couple.name.name}.html")
            told = _told(couple, wanted, "../" * (len(page.parts) - 1) + _INDEX, listener)
            with write_errors(wanted.out):
                (staging.path / page).parent.mkdir(parents=True, exist_ok=True)
                (staging.path / page).write_text(told.html, encoding="utf-8")
            told.card["link"] = quote(page.as_posix())
            pages.append(replace(told, html=""))
        cards = [told.card for told in pages]
        subtitle = f"{len(cards)} images of {wanted.before}, made finer"
        with write_errors(wanted.out):
            (staging.path / _INDEX).write_text(
                index_page(wanted.after.name, subtitle, cards, __version__), encoding="utf-8"
            )
        staging.publish()
    finally:
        staging.discard()
    return pages


def _told(couple: Couple, wanted: Wanted, index: str, listener: Listener) -> _Told:
    """The page of a couple, small enough: with smaller pictures where they would not fit."""
    with opened(couple, wanted.bands, wanted.model) as images:
        if couple.verify is None:
            listener.note(f"{couple.name}: holding the output against the input")
        judged = _Judged.of(images, wanted)
        listener.note(f"{couple.name}: reading both images for pictures and figures")
        budget = _BUDGETS[images.pair.grids[0].ndim]
        while True:
            told = _composed(images, judged, wanted.at, index, budget)
            if len(told.html.encode()) <= _LIMIT:
                return told
            budget = budget * 2 // 3


def _composed(images: Opened, judged: _Judged, at: tuple[int, ...] | None, index: str, budget: int) -> _Told:
    from geomedsr.report.evidence import gather
    from geomedsr.report.exhibit import exhibit
    from geomedsr.report.page import Card, report_page, thumbnail
    from geomedsr.report.tables import worst

    shown = exhibit(images.pair, images.companions, budget, at=at)
    evidence = gather(images.pair, shown.channels, shown.stretch, images.companions.reference, shown.first[0])
    html = report_page(shown, evidence, _story(images), checks=judged.checks, evaluation=judged.tables, index=index)
    card = Card(
        title=str(images.couple.name),
        link="",
        thumbnail=thumbnail(shown),
        figures=_key_figures(images, evidence),
        status=worst(judged.checks),
    )
    return _Told(html, card, evidence)


def _story(images: Opened) -> Story:
    from geomedsr.report.story import Story

    couple = images.couple
    before, after = (_facts(source) for source in images.pair.sources)
    subtitle = f"{couple.after.name}, made from {couple.before.name}"
    origin = images.origin
    same = origin.is_from(couple.before)
    return Story(couple.name.name, subtitle, before, after, origin.maker(), __version__, origin.provenance, same)


def _key_figures(images: Opened, evidence: Evidence) -> list[tuple[str, str]]:
    """What the index says of a pair beside its checks."""
    from geomedsr.report.tables import number

    factor = " × ".join(map(str, images.pair.factor))
    figures = [("Finer by", factor), ("Voxels", " × ".join(map(str, images.pair.grids[1].shape)))]
    if evidence.beyond is not None:
        figures.append(("Beyond Nyquist", f"{100 * evidence.beyond:.2g} % of contrast"))
    psnr = {name: scores["psnr"] for name, scores in evidence.scores.items() if "psnr" in scores}
    if len(psnr) == 2:
        gain = psnr["result"] - psnr["cubic"]
        figures.append(("PSNR", f"{number(psnr['result'])} dB ({gain:+.2f} over cubic)"))
    return figures


def _facts(source: Source) -> dict[str, Any]:
    told = facts(source.spec)
    return {**told, "crs": crs_name(told["crs"])}


def _draw(couple: Couple, evidence: Evidence, folder: Path) -> Iterator[Path]:
    """The figures for papers of a couple."""
    from geomedsr.report.figures import before_after
    from geomedsr.report.paper import figures

    stem = folder / couple.name
    stem.parent.mkdir(parents=True, exist_ok=True)
    sources = [format_of(path).open_source(path) for path in (couple.before, couple.after)]
    try:
        path = stem.with_name(f"{stem.name}_before_after.png")
        yield before_after(sources[0], sources[1], path, title=couple.name.name)
    finally:
        for source in sources:
            source.close()
    yield from figures(evidence, stem)
