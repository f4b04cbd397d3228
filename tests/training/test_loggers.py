"""Each logger takes the figures and the pictures of a run, where its package is installed, and stays offline."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import SMALL_RECIPE, subjects

from geomedsr.errors import RecipeError
from geomedsr.recipe import Recipe
from geomedsr.training.log import Log
from geomedsr.training.loop import Subjects, train

others = pytest.mark.filterwarnings("ignore")  # what packages warn of that are not ours


def run(logger: str, folder: Path) -> None:
    chosen = Recipe.from_yaml(SMALL_RECIPE, "small", {"loggers": f"[{logger}]"})
    images = Subjects(*(subjects(chosen, range(i, i + 1)) for i in range(3)))
    train(chosen, images, folder, quiet=True)
    assert (folder / "log.csv").exists()


@others
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("tensorboard", tmp_path / "m")
    events = EventAccumulator(str(tmp_path / "m" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("psnr")] == [3, 6]
    assert [event.step for event in events.Scalars("loss")] == [6]
    assert [event.step for event in events.Images("validation")] == [3, 6]


@others
def test_wandb_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run("wandb", tmp_path / "m")
    assert list((tmp_path / "m" / "wandb").glob("offline-run-*/*.wandb"))


@others
def test_mlflow_stays_beside_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run("mlflow", tmp_path / "m")
    (found,) = mlflow.search_runs(experiment_names=["geomedsr"], output_format="list")
    assert found.data.metrics["psnr"] > 0
    assert list((tmp_path / "m" / "mlflow").glob("*/artifacts/images/step_000003.png"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(RecipeError, match=f"loggers: {name} is not installed; pip install {name}"):
        run(name, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_columns_come_when_they_are_first_told_of(tmp_path: Path) -> None:
    with Log(tmp_path, 200, 0, quiet=True) as log:
        log.advance(50, 0.1, 0.5, {})
        log.advance(100, 0.1, 0.4, {"l1": 0.3})
    with Log(tmp_path, 200, 100, quiet=True) as log:
        log.advance(150, 0.1, 0.3, {"l1": 0.2, "critic": 1.0})
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0].endswith("ssim_cubic,l1,critic")
    assert [row.split(",")[0] for row in rows[1:]] == ["50", "100", "150"]
    assert [row.split(",")[-2:] for row in rows[1:]] == [["", ""], ["0.3", ""], ["0.2", "1"]]
