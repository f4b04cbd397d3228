"""Training on a GPU: as a recorded graph it learns what it learns piece by piece, and every kind of stage runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import SMALL_RECIPE, subjects
from trust_models import pairs, unsettled

from geomedsr.encoders.domain import load
from geomedsr.losses.l1 import L1
from geomedsr.model import Model, build_degradation, build_network
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Speed, Subjects, train
from geomedsr.training.validation import score
from geomedsr.trust.calibration import calibrate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

MIXED = "{name: mixture, of: [{name: kspace}, {name: blind, noise: {name: rician, sigma: [0, 0.02]}}]}"

GAN = (
    "[{losses: [{name: l1}, {name: perceptual, weight: 0.1, encoder: mri}, {name: adversarial, weight: 0.01, "
    "kind: relativistic, critic: {name: KIND}, r1: 1.0, r1_every: 2, spectral_norm: true, delay: 1, warmup: 2}], "
    "optimizer: {name: adam, rate: 1.0e-4}, schedule: {steps: 6, warmup: 0}, keep: last}]"
)


def recipe(**changes: str) -> Recipe:
    given = {"sampling.patch": "[40, 40]", "schedule.steps": "12", **changes}
    return Recipe.from_yaml(SMALL_RECIPE, "small", {key.replace("__", "."): value for key, value in given.items()})


def trained(chosen: Recipe, folder: Path, speed: Speed = "auto", shape: tuple[int, ...] = (1, 48, 48)) -> Model:
    images = Subjects(*(subjects(chosen, range(i, i + 2), shape) for i in (0, 2, 4)))
    return train(chosen, images, folder, device="cuda", speed=speed)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_graph_learns_what_the_step_learns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    chosen = recipe(optimizer__name=optimizer)
    graph, plain = (trained(chosen, tmp_path / speed, speed) for speed in ("auto", "eager"))  # type: ignore[arg-type]
    assert "cannot be recorded" not in capsys.readouterr().err
    for name, weight in plain.network.state_dict().items():
        torch.testing.assert_close(graph.network.state_dict()[name], weight, atol=1e-4, rtol=1e-3)


def test_losses_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["ssim", "ms_ssim", "fourier", "laplacian", "gradient", "spectral_angle"]
    losses = ", ".join(f"{{name: {name}}}" for name in names)
    trained(recipe(losses=f"[{losses}]", precision="bf16"), tmp_path / "m")
    assert "cannot be recorded" not in capsys.readouterr().err


@pytest.mark.parametrize("critic", ["patch", "vgg", "unet_sn"])
def test_both_stages_of_a_gan_run_in_bf16(tmp_path: Path, critic: str) -> None:
    model = trained(recipe(then=GAN.replace("KIND", critic), precision="bf16"), tmp_path / "m")
    assert model.training["steps"] == 18
    assert model.training["device"] == "cuda"


def test_volumes_train(tmp_path: Path) -> None:
    chosen = recipe(factor="[1, 1, 2]", sampling="{patch: [12, 12, 12], batch: 2}", precision="bf16")
    assert trained(chosen, tmp_path / "m", shape=(1, 24, 24, 24)).training["steps"] == 12


@pytest.mark.parametrize(("factor", "shape"), [("[2, 2]", (1, 48, 48)), ("[1, 1, 2]", (1, 24, 24, 24))])
def test_images_are_judged_there_as_they_are_here(factor: str, shape: tuple[int, ...]) -> None:
    chosen = recipe(factor=factor, degradation=MIXED, sampling__patch=str([12] * (len(shape) - 1)))
    network, encoder = unsettled(build_network(chosen)), load("mri")
    judged = (subjects(chosen, range(2), shape), build_degradation(chosen), 4, 0)
    here = score(network, *judged, encoder=encoder)
    there = score(network.cuda(), *judged, encoder=encoder)
    for one, other in zip(here, there, strict=True):
        assert other.psnr == pytest.approx(one.psnr, abs=1e-3)
        assert other.ssim == pytest.approx(one.ssim, abs=1e-5)
        assert other.ssim_cubic == pytest.approx(one.ssim_cubic, abs=1e-5)
        assert one.likeness is not None
        assert other.likeness is not None
        assert other.likeness.frechet == pytest.approx(one.likeness.frechet, rel=1e-2)


def test_errors_are_learnt_there_as_they_are_here() -> None:
    chosen = recipe()
    bare, known = Model("small", unsettled(build_network(chosen)), chosen), pairs(chosen, range(3))
    here = calibrate(bare, known)
    bare.network.cuda()
    there = calibrate(bare, [(name, lr.cuda(), hr.cuda()) for name, lr, hr in known])
    assert there.voxels == here.voxels
    assert there.widening.scale == pytest.approx(here.widening.scale, abs=1e-2)
    assert there.habits.unseen.slope == pytest.approx(here.habits.unseen.slope, abs=1e-2)


def test_a_lost_step_changes_nothing_in_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = L1.forward

    def spoilt(self: L1, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        loss = real(self, sr, hr)
        return torch.where(hr.mean() > 0, loss * torch.nan, loss)  # a device's own decision, every time

    monkeypatch.setattr(L1, "forward", spoilt)
    chosen = recipe(schedule__steps="6")
    model = trained(chosen, tmp_path / "m")
    assert model.training["skipped_steps"] == 6
    assert "step 6: not finite: l1; the step is skipped (6 in a row)" in capsys.readouterr().err
    assert all(bool(weight.isfinite().all()) for weight in model.network.state_dict().values())
