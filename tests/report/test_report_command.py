"""`geomedsr report`: one pair, many pairs, and every mistake told in one sentence before anything is written."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from report.support_report import block_means, raster_pair, report, scene_grid, shapes, viewer_data, volume_pair, write

from geomedsr.cli import run_command
from geomedsr.grid import Box, Grid
from geomedsr.image import Image
from geomedsr.io import format_of


def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of two pairs, one of them in a folder below."""
    for name in ("a", "deep/b & c"):
        raster_pair(tmp_path / "made")
        for file, folder in (("scene.tif", "in"), ("scene_fine.tif", "out")):
            target = tmp_path / folder / f"{name}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "made" / file).rename(target)
    return tmp_path / "in", tmp_path / "out"


def test_two_folders_become_an_index_and_a_page_each(tmp_path: Path) -> None:
    before, after = folders(tmp_path)
    assert report(before, after, "-o", tmp_path / "reports") == 0
    found = sorted(str(path.relative_to(tmp_path / "reports")) for path in (tmp_path / "reports").rglob("*.html"))
    assert found == ["a.html", "deep/b & c.html", "index.html"]
    index = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert re.findall(r'<h2><a href="([^"]+)">', index) == ["a.html", "deep/b%20%26%20c.html"]
    assert index.count("data:image/jpeg") == 2
    assert "b &amp; c" in index
    assert '<a href="../index.html">' in (tmp_path / "reports/deep/b & c.html").read_text(encoding="utf-8")
    # The same again needs to be asked for, and then replaces it.
    assert report(before, after, "-o", tmp_path / "reports") == 2
    assert report(before, after, "-o", tmp_path / "reports", "--overwrite") == 0


def test_a_folder_that_holds_more_than_reports_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = folders(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/thesis.html").write_text("mine")
    assert report(before, after, "-o", tmp_path / "reports", "--overwrite") == 2
    assert "holds more than reports, thesis.html for one" in capsys.readouterr().err
    assert (tmp_path / "reports/thesis.html").read_text() == "mine"


def test_figures_for_papers(tmp_path: Path) -> None:
    before, after = raster_pair(tmp_path)
    assert report(before, after, "-o", tmp_path / "page.html", "--png", tmp_path / "figures") == 0
    found = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert found == [f"scene_fine_{name}.png" for name in ("before_after", "histogram", "spectrum")]
    with Picture.open(tmp_path / "figures/scene_fine_spectrum.png") as picture:
        assert picture.width >= 1000


def test_bands_are_matched_by_value_where_no_name_tells(tmp_path: Path) -> None:
    voxels = shapes((5, 96, 128))
    for band in range(5):
        voxels[band] = np.roll(voxels[band], 17 * band, axis=1) + 100 * band
    coarse = write(tmp_path / "a.tif", Image.of(block_means(voxels, (2, 2)), scene_grid((48, 64))))
    fine = write(tmp_path / "b.tif", Image.of(voxels[[3, 1]], scene_grid((48, 64)).upscaled((2, 2))))
    assert report(coarse, fine, "-o", tmp_path / "page.html") == 0
    assert "channel 4, channel 2" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_volume_that_does_not_say_where_it_lies_has_no_sides(tmp_path: Path) -> None:
    before, after = (format_of(path).open_source(path) for path in volume_pair(tmp_path))
    paths = []
    for name, source in (("a.zarr", before), ("b.zarr", after)):
        voxels = source.read(Box.whole(source.spec.grid.shape))
        paths.append(write(tmp_path / name, Image.of(voxels, source.spec.grid)))
    assert report(*paths, "-o", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert viewer_data(page)["anatomical"] is False
    assert "Radiological convention" not in page


def test_what_the_output_says_of_itself_is_told(tmp_path: Path) -> None:
    before, _ = raster_pair(tmp_path)
    other, _ = raster_pair(tmp_path / "other", seed=1)
    fine = tmp_path / "fine.tif"
    assert run_command(["upscale", str(before), "-o", str(fine), "-m", "cubic", "--scale", "2", "-q"]) == 0
    for source, words in ((before, "made from this very input"), (other, "made from another file than this input")):
        assert report(source, fine, "-o", tmp_path / "page.html", "--overwrite") == 0
        page = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert words in page
        assert "was interpolated from its neighbours by cubic." in page
        assert "&#34;geomedsr&#34;" in page


def test_what_evaluate_writes_is_understood(tmp_path: Path) -> None:
    before, after = raster_pair(tmp_path / "pair")
    scores = ["evaluate", str(after), "--against", str(after), "-o", str(tmp_path / "scores"), "--metrics", "psnr,mae"]
    assert run_command([*scores, "-q"]) == 0
    (found,) = (tmp_path / "scores").glob("*.json")
    assert report(before, after, "-o", tmp_path / "page.html", "--evaluate", found) == 0
    assert "Mean and standard deviation over 1 images" in (tmp_path / "page.html").read_text(encoding="utf-8")


def mistakes(tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    """Arguments that cannot be, and what is said of them."""
    before, after = raster_pair(tmp_path)
    grid = scene_grid((48, 64)).upscaled((2, 2))
    four = shapes((4, 96, 128))

    def image(name: str, where: Grid = grid, voxels: np.ndarray = four) -> Path:  # type: ignore[type-arg]
        return write(tmp_path / name, Image.of(voxels, where))

    moved = np.array(grid.affine)
    moved[0, 2] += 500
    (tmp_path / "no.json").write_text("[1]")
    (tmp_path / "text.json").write_text("<html>")
    (tmp_path / "other.json").write_text(json.dumps({"checks": [{"status": "fine"}]}))
    volume = volume_pair(tmp_path)
    (tmp_path / "pairs").mkdir()
    folders(tmp_path / "pairs")
    image("pairs/out/alone.tif")
    return {
        "missing": ([before, tmp_path / "none.tif"], "There is no file"),
        "shape": ([before, image("odd.tif", scene_grid((50, 60)), shapes((4, 50, 60)))], "is no whole multiple"),
        "same": ([before, before], "is not finer than"),
        "axes": ([before, volume[1]], "is no finer image of"),
        "place": (
            [before, image("moved.tif", Grid.of(grid.shape, moved, grid.crs, "m"))],
            "do not cover the same place",
        ),
        "crs": ([before, image("crs.tif", replace(grid, crs="EPSG:32633"))], "has the CRS"),
        "channels": ([before, image("six.tif", voxels=shapes((6, 96, 128)))], "has 6 channels and scene.tif has 4"),
        "bands": ([before, after, "--bands", "1,2"], "--bands names 2 bands; the output has 4"),
        "reference": ([before, after, "--reference", before], "must have the 96 x 128 of"),
        "crs of reference": (
            [before, after, "--reference", image("r.tif", replace(grid, crs="EPSG:32633"))],
            "or has another CRS",
        ),
        "bands of reference": (
            [before, after, "--reference", image("two.tif", voxels=shapes((2, 96, 128)))],
            "has 2 channels",
        ),
        "no reference": ([before, after, "--reference", tmp_path / "none.tif"], "There is no file"),
        "at": ([before, after, "--at", "48,0"], "is not inside the input"),
        "at of 3": ([before, after, "--at", "1,2,3"], "is not inside the input"),
        "list": ([before, after, "--verify", tmp_path / "no.json"], "it holds no object"),
        "text": ([before, after, "--evaluate", tmp_path / "text.json"], "it is no JSON"),
        "other": ([before, after, "--verify", tmp_path / "other.json"], "is not what geomedsr verify"),
        "other evaluation": ([before, after, "--evaluate", tmp_path / "other.json"], "is not what geomedsr evaluate"),
        "no json": ([before, after, "--verify", tmp_path / "none.json"], "There is no file"),
        "model": ([before, after, "-m", "nobody"], "There is no model nobody"),
        "mixed": ([tmp_path / "pairs/in", after], "is a folder and"),
        "alone": ([tmp_path / "pairs/in", tmp_path / "pairs/out"], "1 of the 3 images in"),
    }


CASES = [
    "missing", "shape", "same", "axes", "place", "crs", "channels", "bands", "reference", "crs of reference",
    "bands of reference", "no reference", "at", "at of 3", "list", "text", "other", "other evaluation", "no json",
    "model", "mixed", "alone",
]  # fmt: skip


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[object], str]]:
    return mistakes(tmp_path_factory.mktemp("wrong"))


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    case: str, wrong: dict[str, tuple[list[object], str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = wrong[case]
    out = tmp_path / ("reports" if case == "alone" else "page.html")
    assert report(*arguments, "-o", out) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_every_case_is_tried(wrong: dict[str, tuple[list[object], str]]) -> None:
    assert set(wrong) == set(CASES)


@pytest.mark.parametrize(
    ("out", "words"),
    [("page.txt", "does not end with .html"), ("none/page.html", "does not exist"), ("there.html", "exists already")],
)
def test_where_a_page_cannot_go(out: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = raster_pair(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    assert report(before, after, "-o", tmp_path / out) == 2
    assert words in capsys.readouterr().err
    assert (tmp_path / "there.html").read_text() == "mine"


def test_the_page_on_reports_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs/report.md"
    monkeypatch.chdir(tmp_path)
    raster_pair(tmp_path)
    folders(tmp_path)
    (tmp_path / "in").rename("scenes")
    (tmp_path / "out").rename("fine")
    for line in "".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "geomedsr"
        assert run_command([*arguments, "-q"]) == 0, line
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "reports/index.html").exists()
