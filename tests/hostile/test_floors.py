"""The libraries are at least as new as those that refuse to run what a file says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("floor", ["torch>=2.10", "monai>=1.6", "zarr>=3", "numcodecs>=0.16.6"])
def test_nothing_older_is_installed_along(floor: str) -> None:
    needed = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    assert any(one.split(",")[0] == floor for one in needed)
