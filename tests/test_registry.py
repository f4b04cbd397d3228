"""The folder is the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

import geomedsr
from geomedsr import registry
from geomedsr.errors import GeomedsrError, InputError
from geomedsr.io import format_of, suffix_of, suffixes

KINDS = ["io", "networks", "losses", "degradations"]


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_the_files_of_the_folder(kind: str) -> None:
    folder = Path(geomedsr.__file__).parent / kind
    files = sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))
    assert registry.names(kind) == files
    assert files


@pytest.mark.parametrize("kind", KINDS)
def test_each_plugin_loads(kind: str) -> None:
    for name in registry.names(kind):
        assert registry.load(kind, name).__name__ == f"geomedsr.{kind}.{name}"


@pytest.mark.parametrize("name", ["jpeg", "_staging", "nifti.sub", "../grid", ""])
def test_what_is_not_there_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(GeomedsrError, match=rf"There is no '{name}' in io; there are .*zarr_archive"):
        registry.load("io", name)


def test_no_suffix_has_two_formats() -> None:
    claimed = [suffix for name in registry.names("io") for suffix in registry.load("io", name).SUFFIXES]
    assert len(claimed) == len(set(claimed))
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in claimed)
    assert set(suffixes()) == set(claimed)


@pytest.mark.parametrize(
    ("name", "suffix", "module"),
    [
        ("a.nii.gz", ".nii.gz", "nifti"),
        ("a.b.nii", ".nii", "nifti"),
        ("SCENE.TIF", ".tif", "geotiff"),
        ("a.zarr", ".zarr", "zarr_archive"),
    ],
)
def test_a_path_has_the_format_of_its_longest_suffix(name: str, suffix: str, module: str) -> None:
    assert suffix_of(Path("folder") / name) == suffix
    assert format_of(Path("folder") / name) == registry.load("io", module)


def test_an_image_in_an_archive_has_the_format_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zarr" / "r10m").mkdir(parents=True)
    assert format_of(tmp_path / "a.zarr" / "r10m" / "b02") == registry.load("io", "zarr_archive")
    (tmp_path / "b.zarr").write_text("a file has nothing inside")
    with pytest.raises(InputError):
        format_of(tmp_path / "b.zarr" / "b02")


@pytest.mark.parametrize("name", ["a.jpeg", "README", "nii.gz.part", "tif"])
def test_an_unknown_suffix_is_refused_with_those_known(name: str) -> None:
    with pytest.raises(InputError, match=r"has no suffix that is known; known are .*\.nii\.gz.*\.tif.*\.zarr"):
        format_of(Path(name))
