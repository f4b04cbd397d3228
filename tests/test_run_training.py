"""Where a training may begin: never over a model, never over a stopped training, never into a foreign folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import SMALL_RECIPE

from geomedsr.errors import OutputError, WriteFailedError
from geomedsr.recipe import Recipe
from geomedsr.run.training import train_files
from geomedsr.training import checkpoint
from geomedsr.training.state import State


def recipe() -> Recipe:
    return Recipe.from_yaml(SMALL_RECIPE, "small")


@pytest.mark.parametrize(
    ("present", "resume", "said"),
    [
        ("README.md", False, "not empty"),
        ("config.json", False, "not empty"),
        ("checkpoint.safetensors", False, "pass --resume"),
        (None, True, "no checkpoint"),
        ("README.md", True, "no checkpoint"),
    ],
)
def test_what_is_there_is_left_alone(tmp_path: Path, present: str | None, resume: bool, said: str) -> None:
    out = tmp_path / "model"
    if present:
        out.mkdir()
        (out / present).write_text("mine")
    with pytest.raises(OutputError, match=said):
        train_files(recipe(), tmp_path, out, resume=resume)
    assert (out / present).read_text() == "mine" if present else not out.exists()


def test_no_parent_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        train_files(recipe(), tmp_path, tmp_path / "none" / "model")


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WriteFailedError, match="could not be written"):
        State(recipe(), torch.device("cpu")).save(tmp_path / "gone")
    assert not checkpoint.exists(tmp_path / "gone")
