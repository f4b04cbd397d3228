"""The adversarial loss: each kind's formula, a critic that learns, state that resumes to the same bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.losses.adversarial_loss import PatchAdversarialLoss
from support import SMALL_RECIPE
from torch import Tensor, distributed

from geomedsr.errors import GeomedsrError, RecipeError
from geomedsr.losses.adversarial import KINDS, Adversarial, build, critic_loss, generator_loss
from geomedsr.recipe import Recipe
from geomedsr.training import checkpoint

TINY: dict[str, Any] = {"critic": {"name": "patch", "width": 4, "layers": 1}, "rate": 2e-3}


def images(shape: tuple[int, ...] = (4, 1, 16, 16)) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of which the real one is rough and the network's is smooth."""
    for seed in count():
        hr = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        yield hr.mean(dim=tuple(range(2, hr.ndim)), keepdim=True).expand_as(hr).clone(), hr


def taught(loss: Adversarial, steps: int) -> list[dict[str, float]]:
    pairs = images()
    return [loss.learn(*next(pairs)) for _ in range(steps)]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("kind", "critic", "generator"),
    [
        ("vanilla", softplus(-2.0) + softplus(-0.5), softplus(0.5)),
        ("least_squares", 1.0 + 0.25, 2.25),
        ("hinge", 0.0 + 0.5, 0.5),
        ("relativistic", 2 * softplus(-2.5), 2 * softplus(2.5)),
    ],
)
def test_the_formulas(kind: str, critic: float, generator: float) -> None:
    real, fake = torch.full((2, 1, 3, 3), 2.0), torch.full((2, 1, 3, 3), -0.5)
    assert critic_loss(kind, real, fake).item() == pytest.approx(critic)
    assert generator_loss(kind, real, fake).item() == pytest.approx(generator)


@pytest.mark.parametrize(("kind", "theirs"), [("vanilla", "bce"), ("least_squares", "least_squares")])
def test_equal_to_monai_where_it_has_the_published_formula(kind: str, theirs: str) -> None:
    loss = PatchAdversarialLoss(criterion=theirs, no_activation_leastsq=True)
    real, fake = torch.randn(2, 2, 1, 5, 5, generator=torch.Generator().manual_seed(0)).unbind()
    expected = loss(real, True, True) + loss(fake, False, True)
    assert critic_loss(kind, real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    assert generator_loss(kind, real, fake).item() == pytest.approx(loss(fake, True, False).item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 24, 24), (1, 2, 16, 18, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_reaches_sr_alone(kind: str, shape: tuple[int, ...]) -> None:
    loss = build(kind=kind, **TINY)
    sr, hr = (x.requires_grad_() for x in next(images(shape)))
    value = loss(sr, hr)
    assert value.shape == ()
    value.backward()
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())
    assert float(sr.grad.abs().max()) > 0
    assert hr.grad is None
    assert isinstance(loss, Adversarial)
    assert loss._seat is not None
    assert all(p.grad is None for p in loss._seat.critic.parameters())
    assert list(loss.parameters()) == []


@pytest.mark.parametrize(("kind", "spectral_norm"), [*((kind, False) for kind in KINDS), ("hinge", True)])
def test_it_learns_to_tell_two_distributions(kind: str, spectral_norm: bool) -> None:
    loss = Adversarial(kind, spectral_norm=spectral_norm, **TINY)
    figures = taught(loss, 40)
    assert figures[-1]["critic"] < 0.8 * figures[0]["critic"]
    sr, hr = next(images())
    # The value does not depend on `hr` but in the relativistic kind: a smooth image is seen through, a rough one not.
    assert loss(sr, hr).item() > loss(hr, hr).item()


@pytest.mark.parametrize("critic", ["patch", "vgg", "unet_sn"])
def test_its_state_resumes_to_the_same_bits(critic: str, tmp_path: Path) -> None:
    small = {"patch": {"width": 4, "layers": 1}, "vgg": {"width": 2, "dense": 4, "cells": 1}, "unet_sn": {"width": 2}}
    settings: dict[str, Any] = {
        "kind": "relativistic",
        "critic": {"name": critic, **small[critic]},
        "r1": 1.0,
        "r1_every": 2,
        "warmup": 10,
        "spectral_norm": critic != "vgg",
    }
    stream, recipe = images((2, 1, 20, 20)), Recipe.from_yaml(SMALL_RECIPE, "small")
    pairs = [next(stream) for _ in range(6)]
    straight, stopped, resumed = (Adversarial(**settings) for _ in range(3))
    for pair in pairs:
        straight.learn(*pair)
    for pair in pairs[:3]:
        stopped.learn(*pair)
    checkpoint.save(tmp_path, checkpoint.Progress(), recipe, {"loss": stopped.learning_state()})
    found = checkpoint.restore(tmp_path, recipe)
    assert found is not None
    resumed.load_learning_state(found[1]["loss"])
    for pair in pairs[3:]:
        resumed.learn(*pair)
    assert straight(*pairs[0]).item() == resumed(*pairs[0]).item()
    same, other = straight.learning_state()["critic"], resumed.learning_state()["critic"]
    assert all(torch.equal(same[name], other[name]) for name in same)
    assert straight.share == resumed.share == 0.6


def test_the_same_seed_gives_the_same_bits_whatever_the_global_one() -> None:
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        loss = Adversarial(**TINY)
        taught(loss, 3)
        values.append(loss(*next(images())).item())
    assert values[0] == values[1]
    before = torch.get_rng_state()
    Adversarial(**TINY)(*next(images()))
    assert torch.equal(before, torch.get_rng_state())


def test_asking_changes_nothing() -> None:
    loss = Adversarial("relativistic", spectral_norm=True, **TINY)
    taught(loss, 2)
    pair = next(images())
    values = [loss(*pair).item() for _ in range(3)]
    assert len(set(values)) == 1


def test_the_penalty_is_taken_every_few_steps_and_flattens_the_critic() -> None:
    figures = taught(Adversarial(r1=1.0, r1_every=3, **TINY), 7)
    assert [step for step, found in enumerate(figures) if "critic_r1" in found] == [0, 3, 6]
    assert all("critic_r1" not in found for found in taught(Adversarial(**TINY), 4))
    free = taught(Adversarial(r1=1e-9, r1_every=1, **TINY), 25)[-1]["critic_r1"]
    held = taught(Adversarial(r1=1e3, r1_every=1, **TINY), 25)[-1]["critic_r1"]
    assert held < 0.5 * free


def test_the_weight_waits_and_rises() -> None:
    loss = Adversarial(delay=2, warmup=4, **TINY)
    shares = [loss.share]
    for _ in range(8):
        taught(loss, 1)
        shares.append(loss.share)
    assert shares == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert Adversarial(**TINY).share == 1
    assert Adversarial(delay=1, **TINY).share == 0


def test_the_critics_of_several_processes_stay_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = Adversarial(**TINY), Adversarial(**TINY)
    taught(alone, 3)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    # Two processes with the same images: their sum is twice the gradient, and their mean the gradient itself.
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    taught(together, 3)
    one, other = alone.learning_state()["critic"], together.learning_state()["critic"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_images_that_are_not_finite_leave_the_critic_as_it_was() -> None:
    loss = Adversarial(**TINY)
    taught(loss, 1)
    before = {name: tensor.clone() for name, tensor in loss.learning_state()["critic"].items()}
    sr, hr = next(images())
    loss.learn(sr * math.nan, hr)
    assert all(torch.equal(before[name], tensor) for name, tensor in loss.learning_state()["critic"].items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "wasserstein"}, "relativistic"),
        ({"critic": "judge"}, "unet_sn"),
        ({"critic": {"name": "vgg", "layers": 3}}, "layers"),
        ({"r1": -1.0}, "r1"),
        ({"warmup": -1}, "warmup"),
        ({"rate": 0.0}, "rate"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError, GeomedsrError), match=said):
        build(**settings)


def test_images_that_do_not_fit_the_critic_are_refused() -> None:
    loss = Adversarial(critic={"name": "patch", "width": 2})
    with pytest.raises(RecipeError, match=r"patch needs 24 voxels.*\(16, 16\)"):
        loss(*next(images()))
    loss(*next(images((1, 1, 24, 24))))
    with pytest.raises(RecipeError, match="learnt on 1 channels and 2 axes; now come 3 channels"):
        loss(*next(images((1, 3, 24, 24))))
