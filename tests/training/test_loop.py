"""Training: it learns, it resumes to the same bits, it refuses what cannot be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL_RECIPE, subjects
from trust_models import unsettled

from geomedsr.errors import FailedError, RecipeError
from geomedsr.losses.l1 import L1
from geomedsr.model import Model
from geomedsr.recipe import Recipe
from geomedsr.training.ema import Average
from geomedsr.training.loop import Subjects, train
from geomedsr.training.state import State
from geomedsr.training.validation import planes_of, score


def recipe(**changes: str) -> Recipe:
    return Recipe.from_yaml(SMALL_RECIPE, "small", {key.replace("__", "."): value for key, value in changes.items()})


def images(chosen: Recipe, shape: tuple[int, ...] = (1, 48, 40)) -> Subjects:
    return Subjects(
        subjects(chosen, range(3), shape), subjects(chosen, range(3, 5), shape), subjects(chosen, range(5, 7), shape)
    )


def weights(model: Model) -> list[torch.Tensor]:
    return list(model.network.state_dict().values())


def test_a_model_is_made_and_beats_cubic(tmp_path: Path) -> None:
    chosen = recipe(schedule__steps="150", schedule__validate_every="50", optimizer__rate="5e-3", network__width="16")
    model = train(chosen, images(chosen), tmp_path / "m", quiet=True)
    assert model.scores["on"] == "test"
    assert model.scores["images"] == 2
    assert model.scores["gain"] > 0.1, "150 steps on 3 small images; cubic is far from perfect on sharp edges"
    again = Model.load(tmp_path / "m")
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(again), strict=True))
    card = (tmp_path / "m" / "README.md").read_text()
    assert "image 5" in card
    assert f"{model.scores['psnr']:.2f}" in card
    with open(tmp_path / "m" / "log.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows if row["psnr"]] == ["50", "100", "150"]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str) -> None:
    chosen = recipe(optimizer__name=optimizer, degradation="{name: kspace, noise: 0.01}")
    straight = train(chosen, images(chosen), tmp_path / "straight", quiet=True)
    real = State.begin_step

    def stops(state: State, step: int) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return real(state, step)

    monkeypatch.setattr(State, "begin_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images(chosen), tmp_path / "stopped", quiet=True)
    assert not (tmp_path / "stopped" / "config.json").exists()
    monkeypatch.setattr(State, "begin_step", real)
    resumed = train(chosen, images(chosen), tmp_path / "stopped", resume=True, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(resumed), strict=True))
    assert straight.scores == resumed.scores


def test_a_stopped_run_can_be_a_model_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(schedule__checkpoint_every="4")
    real = State.begin_step

    def stops(state: State, step: int) -> float:
        if step == 6:
            raise KeyboardInterrupt
        return real(state, step)

    monkeypatch.setattr(State, "begin_step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, images(chosen), tmp_path / "m", quiet=True)
    model = train(chosen, images(chosen), tmp_path / "m", resume=True, finish=True, quiet=True)
    assert (model.training["steps"], model.training["planned_steps"]) == (4, chosen.schedule.steps)
    assert f"4 of {chosen.schedule.steps} planned steps" in (tmp_path / "m" / "README.md").read_text()
    assert model.scores["on"] == "test"


def test_minutes_are_those_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(schedule__checkpoint_every="4")
    now = [0.0]
    monkeypatch.setattr("geomedsr.training.state.time.monotonic", lambda: now[0])
    state = State(chosen, torch.device("cpu"))
    now[0] = 600.0
    (tmp_path / "m").mkdir()
    state.save(tmp_path / "m")
    now[0] = 7000.0
    again = State(chosen, torch.device("cpu"))
    again.restore(tmp_path / "m")
    now[0] = 7060.0
    assert again.seconds == 660.0


def test_the_same_recipe_gives_the_same_bits(tmp_path: Path) -> None:
    chosen = recipe()
    one, other = (train(chosen, images(chosen), tmp_path / name, quiet=True) for name in "ab")
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train(recipe(), images(recipe()), tmp_path / "m", quiet=True)
    with pytest.raises(RecipeError, match=r"another recipe: seed differ"):
        train(recipe(seed="9"), images(recipe()), tmp_path / "m", resume=True, quiet=True)


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(RecipeError, match="broken"):
        train(recipe(), images(recipe()), tmp_path, resume=True, quiet=True)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_volumes_and_many_channels_train(tmp_path: Path, precision: str) -> None:
    chosen = recipe(
        factor="[1, 1, 2]", sampling="{patch: [12, 12, 12], batch: 2}", channels="[a, b]", precision=precision
    )
    model = train(chosen, images(chosen, (2, 24, 24, 24)), tmp_path / "m", quiet=True)
    assert model.network(torch.rand(1, 2, 6, 6, 6)).shape == (1, 2, 6, 6, 12)


def test_channels_that_differ_are_refused(tmp_path: Path) -> None:
    chosen = recipe()
    with pytest.raises(RecipeError, match="1 channels; the images have others"):
        train(chosen, images(chosen, (2, 48, 40)), tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": "{name: edsr, depth: 3}"}, "network edsr: .*depth"),
        ({"network": "{name: magic}"}, "magic"),
        ({"degradation": "{name: kspace, apodisation: 3}"}, "degradation kspace"),
        ({"degradation": "{name: rain}"}, "rain"),
        ({"losses": "[{name: hope}]"}, "hope"),
    ],
)
def test_unknown_parts_are_refused_before_anything_starts(tmp_path: Path, change: dict[str, str], said: str) -> None:
    from geomedsr.errors import GeomedsrError

    chosen = recipe(**change)
    with pytest.raises(GeomedsrError, match=said):
        train(chosen, images(recipe()), tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_ten_losses_that_are_not_finite_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L1, "forward", lambda self, sr, hr: (sr * float("nan")).mean())
    chosen = recipe(schedule__steps="30", losses="[{name: mse}, {name: l1}]")
    with pytest.raises(FailedError, match=r"10 times in a row at step 10 \(not finite: l1\)"):
        train(chosen, images(chosen), tmp_path / "m", quiet=True)


def test_an_untrained_network_scores_as_cubic() -> None:
    chosen = recipe()
    from geomedsr.degradations.kspace import KSpace
    from geomedsr.model import build_network

    for found in score(build_network(chosen), subjects(chosen, range(2)), KSpace(), 4, 0):
        assert found.gain == 0
        assert found.ssim == pytest.approx(found.ssim_cubic)


@pytest.mark.parametrize(("factor", "shape"), [("[2, 2]", (1, 48, 40)), ("[1, 1, 2]", (1, 24, 20, 30))])
def test_scores_are_those_of_the_metrics(factor: str, shape: tuple[int, ...]) -> None:
    chosen = recipe(factor=factor, sampling__patch=str([12] * (len(shape) - 1)))
    from geomedsr.degradations.kspace import KSpace
    from geomedsr.metrics import psnr, ssim
    from geomedsr.model import build_network

    network = unsettled(build_network(chosen))
    (subject,) = subjects(chosen, range(1), shape)
    subject.source.voxels[0, 3] = np.nan  # type: ignore[attr-defined]
    (found,) = score(network, [subject], KSpace(), 1, 0)
    (pair,) = planes_of(subject, KSpace(), network, 1, torch.Generator())
    hr, span = pair.hr[0].numpy(), float(np.nanmax(pair.hr) - np.nanmin(pair.hr))
    sr = network(pair.lr)[0].detach().numpy()
    assert found.psnr == pytest.approx(psnr(sr, hr, span), abs=1e-9)
    assert found.ssim == pytest.approx(ssim(sr, hr, span), abs=1e-9)


def test_the_rate_warms_up_and_falls() -> None:
    chosen = recipe(schedule="{steps: 100, warmup: 10, final: 0.1}")
    rates = [chosen.schedule.rate(step, 1.0) for step in (1, 10, 11, 55, 100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[1] == 1.0
    assert rates[1] > rates[2] > rates[3] > rates[4]
    assert rates[4] == pytest.approx(0.1)


def test_the_average_follows_the_weights() -> None:
    from geomedsr.model import build_network

    network = build_network(recipe())
    average = Average(network, 0.9)
    start = average.network.get_parameter("head.weight").clone()
    with torch.no_grad():
        network.get_parameter("head.weight").add_(1.0)
    for step in range(1, 200):
        average.update(network, torch.tensor(average.share(step)))
    torch.testing.assert_close(average.network.get_parameter("head.weight"), start + 1.0, atol=1e-4, rtol=0)


def test_an_image_too_small_to_judge_by_is_refused_before_the_first_step(tmp_path: Path) -> None:
    chosen = recipe()
    small = Subjects(images(chosen).train, (), subjects(chosen, range(9, 10), (1, 10, 40)))
    with pytest.raises(RecipeError, match=r"image 9 has 10 x 40 voxels; .* 11 on each axis"):
        train(chosen, small, tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_a_network_without_width_is_a_mistake_in_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="network edsr"):
        train(recipe(network__width="0"), images(recipe()), tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()
