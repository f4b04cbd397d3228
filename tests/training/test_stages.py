"""Stages, losses that learn, what a network asks for besides, and weights to start from."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import SMALL_RECIPE, subjects

from geomedsr.errors import ModelError, RecipeError
from geomedsr.losses.l1 import L1
from geomedsr.model import Model
from geomedsr.recipe import Recipe
from geomedsr.training import precision
from geomedsr.training.loop import Subjects, train
from geomedsr.training.state import State
from geomedsr.training.step import Step
from geomedsr.training.team import Team

GAN = (
    "[{losses: [{name: l1}, {name: adversarial, weight: 0.01, critic: {name: unet_sn, width: 4}}], "
    "optimizer: {rate: 1.0e-4}, schedule: {steps: 4, warmup: 0}, keep: last}]"
)


def recipe(**changes: str) -> Recipe:
    return Recipe.from_yaml(SMALL_RECIPE, "small", {key.replace("__", "."): value for key, value in changes.items()})


def images(chosen: Recipe, shape: tuple[int, ...] = (1, 48, 40)) -> Subjects:
    return Subjects(*(subjects(chosen, range(i, i + 2), shape) for i in (0, 2, 4)))


def same(one: Model, other: Model) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    real = State.begin_step

    def stops(state: State, now: int) -> float:
        if now == step:
            raise KeyboardInterrupt
        return real(state, now)

    with monkeypatch.context() as patched:
        patched.setattr(State, "begin_step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, quiet=True)


@pytest.mark.parametrize("step", [7, 9])
def test_a_stopped_gan_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    chosen = recipe(then=GAN, schedule__checkpoint_every="2")
    straight = train(chosen, images(chosen), tmp_path / "straight", quiet=True)
    stopped_at(step, monkeypatch, chosen, images(chosen), tmp_path / "stopped")
    resumed = train(chosen, images(chosen), tmp_path / "stopped", resume=True, quiet=True)
    assert same(straight, resumed)
    assert straight.training["stages"] == resumed.training["stages"]


def test_a_stage_goes_on_from_the_weights_before(tmp_path: Path) -> None:
    chosen = recipe(then=GAN)
    model = train(chosen, images(chosen), tmp_path / "m", quiet=True)
    assert model.training["steps"] == model.training["chosen_step"] == 10
    assert [stage["steps"] for stage in model.training["stages"]] == [6]
    first = train(recipe(), images(chosen), tmp_path / "first", quiet=True)
    assert model.training["stages"][0]["scores"]["psnr"] == first.scores["psnr"]
    card = (tmp_path / "m" / "README.md").read_text()
    before, after = model.training["stages"][0]["scores"], model.scores
    assert f"| PSNR / dB | {before['psnr']:.2f} | {after['psnr']:.2f} | {after['psnr_cubic']:.2f} |" in card
    assert f"| spectral distance / dB | {before['spectrum']:.2f} | {after['spectrum']:.2f} |" in card
    assert f"It cost {before['psnr'] - after['psnr']:.2f} dB" in card or after["psnr"] >= before["psnr"]
    with open(tmp_path / "m" / "log.csv", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert float(rows[-2]["adversarial_critic"]) > 0
    assert rows[-2]["step"] == "10"


def test_a_blend_goes_a_part_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blended = recipe(then=GAN.replace("keep: last", "keep: last, blend: 0.25"))
    first, whole, part = (
        train(one, images(one), tmp_path / name, quiet=True)
        for name, one in (("first", recipe()), ("whole", recipe(then=GAN)), ("part", blended))
    )
    for name, weight in part.network.state_dict().items():
        wanted = first.network.state_dict()[name].lerp(whole.network.state_dict()[name], 0.25)
        torch.testing.assert_close(weight, wanted, atol=1e-6, rtol=1e-5)
    assert "0.25 of the way" in (tmp_path / "part" / "README.md").read_text()
    stopped_at(10, monkeypatch, blended, images(blended), tmp_path / "stopped")
    assert same(part, train(blended, images(blended), tmp_path / "stopped", resume=True, quiet=True))


def test_a_model_may_be_the_start(tmp_path: Path) -> None:
    chosen = recipe()
    first = train(chosen, images(chosen), tmp_path / "first", quiet=True)
    again = recipe(start=str(tmp_path / "first"))
    found = State(again, torch.device("cpu")).network.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in first.network.state_dict().items())
    with pytest.raises(ModelError, match="does not hold this network's weights"):
        train(recipe(start=str(tmp_path / "first"), network__width="4"), images(chosen), tmp_path / "m", quiet=True)
    with pytest.raises(ModelError, match="no config"):
        train(recipe(start=str(tmp_path / "nowhere")), images(chosen), tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


class Learner(L1):
    """A loss that counts what it has seen, and weighs by it."""

    learns = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(())

    def forward(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        return super().forward(sr, hr) * (1 + self.seen)

    def learn(self, sr: torch.Tensor, hr: torch.Tensor) -> dict[str, float]:
        assert not sr.requires_grad
        self.seen = self.seen + (sr - hr).abs().mean()
        return {"seen": self.seen.item()}

    def learning_state(self) -> dict[str, Any]:
        return {"seen": self.seen, "nested": [{"word": "kept"}, 3]}

    def load_learning_state(self, state: Mapping[str, Any]) -> None:
        if state:
            assert state["nested"] == [{"word": "kept"}, 3]
            self.seen = state["seen"]


def test_what_a_loss_learnt_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomedsr.losses.l1.build", lambda: Learner())
    chosen = recipe()
    straight = train(chosen, images(chosen), tmp_path / "straight", quiet=True)
    stopped_at(5, monkeypatch, chosen, images(chosen), tmp_path / "stopped")
    assert same(straight, train(chosen, images(chosen), tmp_path / "stopped", resume=True, quiet=True))


def test_a_step_that_is_not_finite_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def spoilt(self: L1, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        calls.append(1)  # the first is the check before the start
        return (sr - hr).abs().mean() * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(L1, "forward", spoilt)
    chosen = recipe(losses="[{name: mse}, {name: l1}]")
    model = train(chosen, images(chosen), tmp_path / "m")
    assert model.training["skipped_steps"] == 1
    assert "step 3: not finite: l1; the step is skipped" in capsys.readouterr().err
    assert all(bool(weight.isfinite().all()) for weight in model.network.state_dict().values())


def test_a_lost_step_leaves_what_a_norm_counted(tmp_path: Path) -> None:
    state = State(recipe(network="{name: srresnet, width: 8, blocks: 1}"), torch.device("cpu"))
    step = Step(state, state.network, Team("cpu"), bf16=False)
    before = {name: one.clone() for name, one in state.network.named_buffers()}
    assert before
    lr, hr = torch.full((2, 1, 16, 16), torch.inf), torch.ones(2, 1, 32, 32)
    state.begin_step(1)
    figures, _ = step(lr, hr)
    assert not figures.isfinite().all()
    assert all(torch.equal(one, before[name]) for name, one in state.network.named_buffers())
    step(torch.rand(2, 1, 16, 16), hr)
    assert all(one.isfinite().all() for one in state.network.state_dict().values())
    assert any(not torch.equal(one, before[name]) for name, one in state.network.named_buffers())


def test_a_training_that_ends_between_stages_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(then=GAN)
    stopped_at(7, monkeypatch, chosen, images(chosen), tmp_path / "m")
    model = train(chosen, images(chosen), tmp_path / "m", resume=True, finish=True, quiet=True)
    assert (model.training["steps"], model.training["planned_steps"]) == (6, 10)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "6 of 10 planned steps" in card
    assert "then" not in card.split("## Training")[1]


def test_a_batch_in_parts_is_the_same_batch(tmp_path: Path) -> None:
    one, parts = recipe(), recipe(optimizer__parts="4")
    whole = train(one, images(one), tmp_path / "whole", quiet=True).network.state_dict()
    cut = train(parts, images(one), tmp_path / "cut", quiet=True).network.state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(cut[name], weight, atol=1e-5, rtol=0)


def test_a_stage_ends_when_nothing_gets_better(tmp_path: Path) -> None:
    chosen = recipe(schedule="{steps: 40, warmup: 0, validate_every: 2, patience: 3}", optimizer__rate="1.0e-12")
    model = train(chosen, images(chosen), tmp_path / "m", quiet=True)
    assert model.training["steps"] <= 10


def test_a_gradient_branch_learns_and_branches_are_merged(tmp_path: Path) -> None:
    spsr = recipe(network="{name: spsr, width: 4, blocks: 1, taps: 1, growth: 2}", schedule__steps="3")
    trained, left = (
        train(one, images(spsr), tmp_path / str(i), quiet=True)
        for i, one in enumerate((spsr, spsr.model_copy(update={"auxiliary": 0.0})))
    )
    assert trained.network.get_parameter("edge_tail.weight").any()
    assert not left.network.get_parameter("edge_tail.weight").any()
    span = recipe(network="{name: span, width: 4, blocks: 1}", schedule__steps="2")
    model = train(span, images(span), tmp_path / "span", quiet=True)
    again = Model.load(tmp_path / "span")
    assert again.network.settings["branches"] is False
    assert same(model, again)


def test_consistency_is_trained_and_shipped(tmp_path: Path) -> None:
    chosen = recipe(consistency="{}", schedule__steps="3")
    model = train(chosen, images(chosen), tmp_path / "m", quiet=True)
    again, x = Model.load(tmp_path / "m"), torch.rand(1, 1, 12, 10)
    from geomedsr.degradations.kspace import KSpace

    sr = again.network(x)
    torch.testing.assert_close(sr, model.network(x))
    torch.testing.assert_close(KSpace()(sr, (2, 2), torch.Generator()), x, atol=1e-4, rtol=0)
    for degradation, said in (
        ("{name: blind}", "consistency cannot be had with the degradation blind"),
        ("{name: kspace, apodisation: [0.1, 0.5]}", "draws its settings anew"),
    ):
        with pytest.raises(RecipeError, match=said):
            train(recipe(consistency="{}", degradation=degradation), images(chosen), tmp_path / "n", quiet=True)


def test_bf16_is_checked_against_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    chosen = recipe(precision="bf16", precision_check="true", schedule__steps="1")
    train(chosen, images(chosen), tmp_path / "a")
    assert "against float32 on this device; it is used" in capsys.readouterr().err
    monkeypatch.setattr(precision, "_gradient", lambda network, lr, hr, bf16: torch.ones(4) * (2.0 if bf16 else 1.0))
    far = train(chosen, images(chosen), tmp_path / "b")
    assert "bf16 moves the gradient by 100.00%" in capsys.readouterr().err
    plain = recipe(schedule__steps="1")
    assert same(far, train(plain, images(plain), tmp_path / "c", quiet=True)), "it fell back to float32"


def test_compile_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda network: asked.append(network) or network)
    chosen = recipe(compile="true", schedule__steps="1")
    train(chosen, images(chosen), tmp_path / "m", quiet=True)
    assert len(asked) == 1


@pytest.mark.parametrize("factor", ["[2, 2]", "[1, 1, 2]"])
def test_pictures_lie_beside_the_log(tmp_path: Path, factor: str) -> None:
    flat = factor == "[2, 2]"
    chosen = recipe() if flat else recipe(factor=factor, sampling="{patch: [12, 12, 12], batch: 2}")
    train(chosen, images(chosen, (1, 48, 40) if flat else (1, 24, 20, 16)), tmp_path / "m", quiet=True)
    paths = sorted((tmp_path / "m" / "images").iterdir())
    assert [path.name for path in paths] == ["step_000003.png", "step_000006.png"]
    with Image.open(paths[0]) as picture:
        shown = np.asarray(picture)
    assert shown.std() > 10
    assert shown.shape[1] == 4 * (80 if flat else 32) + 16
    assert paths[0].stat().st_size < 200_000


def test_a_patch_that_a_loss_or_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    small = recipe(losses="[{name: adversarial, critic: {name: patch, layers: 3}}]", sampling__patch="[4, 4]")
    with pytest.raises(RecipeError, match="critic"):
        train(small, images(small), tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()
