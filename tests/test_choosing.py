"""`-m auto`: which model is taken for which image, why, and what is said where none fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from geomedsr.cli import run_command
from geomedsr.errors import ModelError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.io import format_of
from geomedsr.run import choosing
from geomedsr.run.catalogue import Summary
from geomedsr.run.choosing import choose, thick_slices
from geomedsr.run.contrast import contrast_warning
from geomedsr.run.fit import spacing_in

S2 = ("B2", "B3", "B4", "B8")
SAMPLES = Path(__file__).parents[1] / "sample_data"


def medical(name: str, factor: tuple[int, ...], gain: float, modality: str = "mri", **changes: Any) -> Summary:
    made = Summary(name, "", modality, factor, ("T1w",), (0.7, 2.2), "mm", scores={"gain": gain})
    return replace(made, **changes)


def optical(name: str, factor: tuple[int, ...], gain: float) -> Summary:
    return Summary(name, "", "optical", factor, S2, (8.0, 25.0), "m", scores={"gain": gain})


SHELF = (
    medical("t1-x2", (2, 2), 4.4),
    medical("t1-x2-tiny", (2, 2), 3.0),
    medical("t1-x4", (4, 4), 2.5),
    medical("t1-3d-x2", (2, 2, 2), 4.0),
    medical("thick-x3", (1, 1, 3), 3.0, spacing=(0.7, 6.0)),
    medical("thick-x4", (1, 1, 4), 3.0, spacing=(0.7, 6.0)),
    medical("ct-x2", (2, 2), 2.0, "ct", channels=("CT",), spacing=(0.6, 3.5)),
    optical("s2-x2", (2, 2), 4.0),
    optical("s2-x4", (4, 4), 2.0),
    optical("s2-x4-gan", (4, 4), 1.6),
)


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {one.name: one for one in SHELF}
    monkeypatch.setattr(choosing, "shipped", lambda: dict.fromkeys(known, Path()))
    monkeypatch.setattr(choosing, "summary", known.__getitem__)


def volume(path: Path, spacing: tuple[float, ...], shape: tuple[int, ...] = (24, 24, 24), low: float = 0) -> Path:
    voxels = np.random.default_rng(0).uniform(low, 900, (1, *shape)).astype(np.float32)
    grid = Grid.of(shape, np.diag([*spacing, 1.0]), units="mm")
    made = Image.of(voxels, grid)
    sink = format_of(path).create_sink(path, made.spec)
    sink.write(Box.whole(shape), voxels)
    sink.commit()
    return path


def scene(channels: tuple[str, ...] = S2, spacing: float = 10.0) -> ImageSpec:
    affine = np.array([[0.0, spacing, 5e5], [-spacing, 0.0, 5e6], [0.0, 0.0, 1.0]])
    return ImageSpec(Grid.of((64, 60), affine, "EPSG:32632", "m"), channels, np.dtype(np.uint16))


@pytest.mark.parametrize(
    ("spacing", "shape", "scale", "expected"),
    [
        ((1.0, 1.0, 1.0), (24, 24, 24), None, "t1-3d-x2"),
        ((1.0, 1.0, 1.0), (24, 24, 24), (2,), "t1-3d-x2"),
        ((1.0, 1.0, 1.0), (24, 24, 24), (2, 2), "t1-x2"),
        ((1.0, 1.0, 1.0), (24, 24, 24), (2, 2, 1), "t1-x2"),
        ((1.0, 1.0, 1.0), (24, 24, 24), (4,), "t1-x4"),
        ((1.0, 1.0, 1.7), (24, 24, 24), None, "t1-x2"),
        ((1.0, 1.0, 1.0), (24, 24, 4), None, "t1-x2"),
        ((1.0, 1.0, 3.0), (24, 24, 24), None, "thick-x3"),
        ((0.9, 0.9, 4.4), (24, 24, 24), None, "thick-x4"),
        ((0.9, 0.9, 4.4), (24, 24, 24), (1, 1, 3), "thick-x3"),
        ((0.9, 0.9, 4.4), (24, 24, 24), (2,), "t1-x2"),
        ((4.0, 1.0, 1.0), (24, 24, 24), None, "t1-x2"),
        ((1.2, 1.0, 1.0), (24, 24, 24), (1, 2, 2), "t1-x2"),
    ],
)
def test_a_scan_gets_the_model_of_its_shape(
    spacing: tuple[float, float, float],
    shape: tuple[int, ...],
    scale: tuple[int, ...] | None,
    expected: str,
    tmp_path: Path,
) -> None:
    path = volume(tmp_path / "scan.nii", spacing, shape)
    chosen = choose(path, format_of(path).open_source(path).spec, scale)
    assert chosen.name == expected
    assert chosen.why.startswith(f"{expected} was chosen for scan.nii: MRI, by its values")


def test_ct_is_told_from_mri_by_its_values(tmp_path: Path) -> None:
    path = volume(tmp_path / "scan.nii", (1.0, 1.0, 1.0), low=-1000)
    assert choose(path, format_of(path).open_source(path).spec).name == "ct-x2"


def test_a_scene_gets_the_model_of_its_bands() -> None:
    assert choose(Path("a.tif"), scene()).name == "s2-x2"
    chosen = choose(Path("a.tif"), scene(("B02", "B03", "B04", "B05", "B08")), (4,))
    assert chosen.name == "s2-x4"
    assert "+2.0 dB over cubic" in chosen.why
    assert choose(Path("a.tif"), scene(("1", "2", "3", "4")), bands="1,2,3,4").name == "s2-x2"


@pytest.mark.parametrize(
    ("spec", "scale", "said"),
    [
        (scene(("band 1", "band 2", "band 3", "band 4")), None, "needs B2, B3, B4, B8 by name, or --bands"),
        (scene(("VV", "VH")), None, "needs B2, B3, B4, B8 by name"),
        (scene(spacing=30.0), None, "30 x 30 m): s2-x2 was trained on 8 to 25 m"),
        (scene(), (3,), "asked for 3 times finer): s2-x2 makes 2 x 2 times finer"),
    ],
)
def test_where_nothing_fits_it_says_what_was_found_and_what_there_is(
    spec: ImageSpec, scale: tuple[int, ...] | None, said: str
) -> None:
    with pytest.raises(ModelError) as raised:
        choose(Path("a.tif"), spec, scale)
    assert said in str(raised.value)
    asked = scale[0] if scale else 2
    assert f"Name one with -m to use it all the same, or interpolate: -m cubic --scale {asked}." in str(raised.value)


def test_an_image_that_could_be_anything_is_not_guessed() -> None:
    plain = ImageSpec(Grid.plain((20, 20)), ("channel 1",), np.dtype(np.uint8))
    with pytest.raises(ModelError, match="neither its place on earth nor that it is in millimetres"):
        choose(Path("a.tif"), plain)
    with pytest.raises(ModelError, match=r"optical, by its bands, 4 channels, 1 x 1\): s2-x2 was trained on 8 to 25 m"):
        choose(Path("a.tif"), replace(plain, channels=S2))


def test_thick_slices_are_pointed_out_to_who_named_another_model() -> None:
    thick = ImageSpec(Grid.of((24, 24, 24), np.diag([0.9, 0.9, 3.6, 1.0]), units="mm"), ("a",), np.dtype(np.int16))
    said = thick_slices(thick, "t1-x2")
    assert said is not None
    assert "4.0 times as far apart" in said
    assert "thick-x4" in said
    assert thick_slices(thick, "thick-x3") is None
    assert thick_slices(thick, "ct-x2") is None
    assert thick_slices(scene(), "s2-x2") is None


def test_degrees_are_compared_as_metres() -> None:
    affine = np.array([[0.0, 9e-5, 9.0], [-9e-5, 0.0, 40.0], [0.0, 0.0, 1.0]])
    degrees = Grid.of((64, 60), affine, "EPSG:4326", "degree")
    assert spacing_in((8.0, 25.0), "m", (0, 1), degrees)
    assert not spacing_in((20.0, 25.0), "m", (0, 1), degrees)
    assert spacing_in((0.7, 2.2), "mm", (0, 1), degrees) is None


def test_a_scan_named_as_of_another_contrast_is_warned_of_with_what_was_judged() -> None:
    row = {"about": "T2w, brain", "scores": {"model": {"psnr": 32.5}, "cubic": {"psnr": 30.0}}}
    judged = {"figures": {"rows": [row]}}
    known: Any = SimpleNamespace(name="t1-x2", modality="mri", channel_names=("T1w",), judged=judged)
    said = contrast_warning(known, "sub-01_T2w.nii.gz")
    assert said is not None
    assert "judged on such images 1 times, it was +2.5 dB over cubic in the mean" in said
    assert "never judged" in str(contrast_warning(known, "sub-01_FLAIR.nii.gz"))
    assert contrast_warning(known, "sub-01_T1w.nii.gz") is None
    assert contrast_warning(known, "scan.nii.gz") is None


class TestCommand:
    @pytest.fixture(autouse=True)
    def shelf(self) -> None:
        """The models that the package has, in place of those above."""

    def test_auto_says_why_and_makes_the_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = format_of(SAMPLES / "scene.tif").open_source(SAMPLES / "scene.tif")
        box, path = Box((100, 100), (148, 148)), tmp_path / "scene.tif"
        spec = replace(source.spec, grid=source.spec.grid.cropped(box), chunks=None)
        sink = format_of(path).create_sink(path, spec)
        sink.write(Box.whole(box.shape), source.read(box))
        sink.commit()
        assert run_command(["upscale", str(path), "-o", str(tmp_path / "o.tif"), "-m", "auto", "--scale", "2"]) == 0
        said = capsys.readouterr()
        (line,) = [line for line in said.err.splitlines() if "was chosen for scene.tif" in line]
        assert "optical, by its bands" in line
        assert format_of(path).open_source(tmp_path / "o.tif").spec.grid.shape == (96, 96)
        assert run_command(["upscale", str(path), "-o", str(tmp_path / "n.tif"), "-m", "auto", "--dry-run"]) == 0
        assert line.split(":")[0] in capsys.readouterr().err

    def test_auto_that_finds_nothing_is_one_sentence_and_writes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = volume(tmp_path / "scan.nii", (9.0, 9.0, 9.0))
        assert run_command(["upscale", str(path), "-o", str(tmp_path / "o.nii"), "-m", "auto"]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1
        assert "No model in the package fits scan.nii (MRI, by its values, 9 x 9 x 9 mm)" in said.err
        assert not (tmp_path / "o.nii").exists()

    def test_who_names_no_model_is_told_what_auto_would_take(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["upscale", str(SAMPLES / "scene.tif"), "-o", str(tmp_path / "o.tif")]
        assert run_command(command) == 2
        assert "With -m auto, s2-rgbn-x2 was chosen" in capsys.readouterr().err
