"""The page: all is there, nothing is loaded, and nothing that comes from a file is ever taken for markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report.support_report import raster_pair, report, shapes, viewer_data, volume_pair, write

from geomedsr.grid import Grid
from geomedsr.image import Image
from geomedsr.io import format_of

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=\"alert('2')\">{{ 7 * 7 }}"
SECTIONS = ["glance", "look", "metrics", "verify", "frequency", "histogram", "geometry", "provenance", "cite"]


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


@pytest.fixture(scope="module")
def raster_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("raster")
    before, after = raster_pair(folder)
    assert report(before, after, "-o", folder / "page.html") == 0
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def volume_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("volume")
    before, after = volume_pair(folder)
    assert report(before, after, "-o", folder / "page.html") == 0
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(params=["raster", "volume"])
def page(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_page")
    return found


def test_every_section_is_there_and_has_a_heading(page: str) -> None:
    tags = Tags(page)
    assert [heading["id"] for heading in tags.of("h2")] == SECTIONS
    assert [section["aria-labelledby"] for section in tags.of("section")] == SECTIONS
    assert len(tags.of("h1")) == 1
    assert "was measured; finer detail" in page


def test_nothing_is_loaded(page: str) -> None:
    tags = Tags(page)
    for _, attributes in tags.found:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"data:image/(png|jpeg);base64,|#|$", attributes.get(name) or ""), attributes
    assert not {"link", "iframe", "object", "embed", "base", "form", "video", "audio"} & {tag for tag, _ in tags.found}
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    assert not re.search(r"url\(|@import|@font-face", style[1])


def test_only_the_scripts_of_the_page_may_run(page: str) -> None:
    policy = next(meta["content"] for meta in Tags(page).of("meta") if meta.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == digests


def test_light_dark_and_paper_have_their_styles(page: str) -> None:
    for part in ("light-dark(", '[data-theme="dark"]', "@media print", "prefers-reduced-motion", "color-scheme: light"):
        assert part in page
    assert {meta["content"] for meta in Tags(page).of("meta") if meta.get("name") == "color-scheme"} == {"light dark"}
    stills = [image for image in Tags(page).of("img") if (image["src"] or "").startswith("data:image/jpeg")]
    assert stills
    assert all(image["alt"] for image in stills)


def test_whatever_can_be_focused_has_a_name(page: str) -> None:
    tags = Tags(page)
    for button in re.findall(r"<button[^>]*>(.*?)</button>", page):
        assert button.strip()
    for attributes in tags.of("div"):
        if attributes.get("role") in ("slider", "group"):
            assert attributes["aria-label"]


def test_a_page_is_small(page: str) -> None:
    assert len(page.encode()) < 10_000_000


def test_volumes_carry_niivue_with_its_licence_and_rasters_do_not(raster_page: str, volume_page: str) -> None:
    assert "niivue" not in raster_page.lower()
    assert "NiiVue 0.69.0 (BSD 2-Clause licence" in volume_page
    assert "THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS" in volume_page
    assert "Radiological convention" in volume_page


def test_what_niivue_is_is_what_its_readme_says() -> None:
    folder = Path(__file__).parents[2] / "geomedsr/report/page/niivue"
    digest = hashlib.sha256((folder / "niivue.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text(encoding="utf-8")


def hostile_files(folder: Path) -> list[object]:
    """A report's arguments in which everything that can hold words holds markup."""
    before, after = raster_pair(folder, ("B2", HOSTILE, "B4"))
    check = {"name": HOSTILE, "status": "warn", "found": HOSTILE, "limit": 1, "unit": HOSTILE, "channel": HOSTILE}
    verify = folder / "verify.json"
    verify.write_text(json.dumps({"checks": [{**check, "explanation": HOSTILE}]}), encoding="utf-8")
    one = {"method": HOSTILE, "metric": HOSTILE, "images": 3, "mean": 1.0, "std": 0.1}
    pair = {"method": HOSTILE, "against": HOSTILE, "metric": HOSTILE, "images": 3, "difference": 1, "better": 2}
    evaluation = {"summary": [one], "paired": [{**pair, "interval": [0, 1]}], "data_range": HOSTILE, "metrics": {}}
    evaluate = folder / "evaluate.json"
    evaluate.write_text(json.dumps(evaluation), encoding="utf-8")
    named = after.rename(folder / "<b>fine<.tif")
    return [before, named, "--verify", verify, "--evaluate", evaluate]


def test_nothing_from_a_file_is_taken_for_markup(tmp_path: Path, raster_page: str) -> None:
    assert report(*hostile_files(tmp_path), "-o", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    expected = {tag for tag, _ in Tags(raster_page).found}
    tags = Tags(page)
    assert {tag for tag, _ in tags.found} <= expected | {"h3", "svg"}
    assert len(tags.of("script")) == len(Tags(raster_page).of("script"))
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    assert HOSTILE not in page
    assert "&lt;img src=x onerror" in page
    assert "{{ 7 * 7 }}" in page  # it is shown, and was not computed
    assert "&lt;b&gt;fine&lt;" in page
    assert viewer_data(page)["channels"] == ["B2", HOSTILE, "B4"]


def test_a_large_image_is_averaged_and_a_detail_is_full(tmp_path: Path) -> None:
    # Noise does not compress: the worst that a page can be given.
    rng = np.random.default_rng(0)
    grid = Grid.of((600, 500), np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "EPSG:32632", "m")
    coarse = Image.of(rng.random((4, 600, 500)), grid)
    fine = Image(replace(coarse.spec, grid=grid.upscaled((2, 2))), rng.random((4, 1200, 1000), dtype=np.float32))
    paths = write(tmp_path / "a.tif", coarse), write(tmp_path / "b.tif", fine)
    assert report(*paths, "-o", tmp_path / "page.html", "--at", "300,250", "--verify", passed(tmp_path)) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 1_000_000 < len(page.encode()) < 10_000_000
    detail, whole = viewer_data(page)["scenes"]
    assert (detail["key"], detail["size"], detail["factor"]) == ("detail", [512, 512], [2, 2])
    assert (whole["key"], whole["size"], whole["factor"]) == ("whole", [1200, 1000], [1, 1])
    assert "each voxel shown is the mean of" in whole["note"]
    assert "at full resolution: 512 × 512 voxels" in detail["note"]


def passed(folder: Path) -> Path:
    path = folder / "passed.json"
    path.write_text(
        json.dumps({"checks": [{"name": "shift", "status": "ok", "found": 0, "limit": 1}]}), encoding="utf-8"
    )
    return path


def test_a_reference_is_measured_beside_cubic(tmp_path: Path) -> None:
    before, after = raster_pair(tmp_path)
    arguments = ("--reference", after, "--uncertainty", after, "--hallucination", after)
    assert report(before, after, "-o", tmp_path / "page.html", *arguments) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    keys = [layer["key"] for layer in viewer_data(page)["layers"]]
    assert keys == ["before", "after", "difference", "reference", "error", "uncertainty", "hallucination"]
    row = re.search(r'<th scope="row">PSNR</th><td>dB</td><td class="figure( better)?">([^<]*)</td>', page)
    assert row is not None
    assert row.groups() == (" better", "∞")
    assert "There was no reference" not in page


def test_a_failed_check_is_said_in_words(tmp_path: Path) -> None:
    before, after = raster_pair(tmp_path)
    image = Image.of(np.roll(shapes((4, 96, 128)), 3, axis=2))
    moved = write(tmp_path / "moved.tif", Image(replace(image.spec, grid=grid_of(after)), image.voxels))
    assert report(before, moved, "-o", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.search(r'<span class="status fail">.*?</svg>Failed</span>', page, re.S)
    assert re.search(r"Of \d+ checks, .*failed", page)


def grid_of(path: Path) -> Grid:
    return format_of(path).open_source(path).spec.grid


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_the_paper(scheme: int, raster_page: str) -> None:
    # Reference: WCAG 2.2, success criterion 1.4.3, level AA: 4.5 to 1.
    found = dict(re.findall(r"--([a-z]+): light-dark\((#\w{6}, #\w{6})\)", raster_page))
    colours = {name: pair.split(", ")[scheme] for name, pair in found.items()}
    for words in ("ink", "faint", "accent", "ok", "warn", "fail"):
        for ground in ("paper", "card", "soft"):
            high, low = sorted((luminance(colours[words]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (words, ground)


def test_images_without_a_valid_voxel_have_a_page(tmp_path: Path) -> None:
    grid = Grid.of((20, 24), np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), "EPSG:32632", "m")
    coarse = write(tmp_path / "a.tif", Image.of(np.full((2, 20, 24), np.nan), grid))
    fine = write(tmp_path / "b.tif", Image.of(np.full((2, 40, 48), np.nan), grid.upscaled((2, 2))))
    assert report(coarse, fine, "-o", tmp_path / "page.html", "--reference", fine, "--verify", passed(tmp_path)) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "too many invalid voxels, for a spectrum" in page
    assert "NaN" not in json.dumps(viewer_data(page))
