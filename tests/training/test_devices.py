"""Nothing that trains mixes devices, or waits for one: on a stand-in for a GPU, with a watch on every operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from devices import ELSEWHERE, DeviceWatch, Elsewhere
from support import SMALL_RECIPE, subjects

from geomedsr import registry
from geomedsr.data.augment import Augment
from geomedsr.data.resident import ResidentPairs
from geomedsr.data.sampling import PatchSampler
from geomedsr.degradations.sensor import Sensor
from geomedsr.recipe import Recipe
from geomedsr.task import Task

SMALL: dict[str, dict[str, Any]] = {
    "rrdb": {"blocks": 1},
    "edsr": {"blocks": 2},
    "span": {"blocks": 1},
    "spsr": {"blocks": 1, "taps": 1},
    "srresnet": {"blocks": 1},
    "liif": {"blocks": 1},
    "swinir": {"groups": 1, "depth": 2},
}
"""Networks that are as true with less of the same."""

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "kspace": [{}, {"apodisation": [0.1, 0.5], "noise": [0.0, 0.1]}],
    "sensor": [{}, {"mtf": [[0.2, 0.3]], "noise": {"name": "poisson_gaussian", "gain": 0.01, "sigma": 0.01}}],
    "slice_profile": [{}, {"profile": "sinc", "lobes": [2, 3], "thickness": [0.8, 1.2]}],
    "bicubic": [{"noise": 0.1}],
    "blind": [{}, {"noise": {"name": "speckle", "looks": 4}}],
    "perceptual": [{"encoder": "mri"}, {"encoder": "mri", "distance": "cosine"}],
    "adversarial": [
        {"kind": kind, "critic": critic} for kind in ("hinge", "relativistic") for critic in ("patch", "vgg")
    ],
}


def cases(kind: str) -> list[Any]:
    names = registry.names(kind)
    return [
        pytest.param(name, one, id=f"{name}-{i}") for name in names for i, one in enumerate(SETTINGS.get(name, [{}]))
    ]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", registry.names("networks"))
def test_a_network_stays_on_its_device(name: str, ndim: int) -> None:
    network = registry.load("networks", name).build(Task(ndim, 2, (2,) * ndim), **SMALL.get(name, {})).to(ELSEWHERE)
    x = torch.empty(1, 2, *[16] * ndim, device=ELSEWHERE)
    with DeviceWatch() as watch:
        sr = network(x)
        own = network.auxiliary_loss(torch.empty_like(sr))
        if network.parameter_count:
            torch.autograd.backward(sr.mean() if own is None else sr.mean() + own)
    assert sr.device == ELSEWHERE
    assert watch.sent == 0 or name == "liif"  # which asks the host where voxels lie


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("name", "settings"), cases("degradations"))
def test_a_degradation_stays_on_its_device(name: str, settings: Mapping[str, Any], ndim: int) -> None:
    degradation = registry.load("degradations", name).build(**settings)
    x, factor = torch.empty(3, 1, *[32] * ndim, device=ELSEWHERE), (2,) * ndim
    if "poisson_gaussian" not in str(settings):  # the host may draw, too; but the stand-in has no voxels to send there
        assert degradation(x, factor, torch.Generator()).device == ELSEWHERE
    degradation(x, factor, Elsewhere())  # what is sent to a device is sent once
    with DeviceWatch() as watch:
        lr = degradation(x, factor, Elsewhere())
    assert lr.device == ELSEWHERE
    assert watch.sent == 0


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("name", "settings"), cases("losses"))
def test_a_loss_stays_on_its_device(name: str, settings: Mapping[str, Any], ndim: int) -> None:
    loss = registry.load("losses", name).build(**settings).to(ELSEWHERE)
    sr, hr = (torch.rand(2, 1, *[24] * ndim, device=ELSEWHERE) for _ in range(2))
    loss(sr, hr)
    with DeviceWatch() as watch:
        torch.autograd.backward(loss(sr.requires_grad_(), hr))
    assert watch.sent == 0


@pytest.mark.parametrize(("candidates", "gain"), [(1, 0.0), (3, 0.2)])
def test_pairs_are_drawn_without_the_host(monkeypatch: pytest.MonkeyPatch, candidates: int, gain: float) -> None:
    chosen = Recipe.from_yaml(SMALL_RECIPE, "small")
    patches = PatchSampler(subjects(chosen, range(3)), (16, 16), (2, 2), 4, 0.01, candidates=candidates)
    pairs = ResidentPairs(patches, Sensor(), Augment((2, 2), True, True, gain), 6, 1, ELSEWHERE)
    monkeypatch.setattr(pairs, "_generator", lambda step: Elsewhere())
    pairs.batch(1)
    with DeviceWatch() as watch:
        lr, hr = pairs.batch(2)
    assert lr.device == hr.device == ELSEWHERE
    assert (lr.shape, hr.shape) == ((6, 1, 8, 8), (6, 1, 16, 16))
    assert watch.sent == 0


def test_the_watch_sees_what_it_is_for() -> None:
    here, there = torch.ones(3), torch.ones(3, device=ELSEWHERE)
    with DeviceWatch() as watch:
        assert (there + torch.ones(())).device == ELSEWHERE, "a number may come from anywhere"
        assert here.to(ELSEWHERE).device == ELSEWHERE
        with pytest.raises(AssertionError, match="meets tensors of cpu, meta"):
            torch.stack([here, there])
    assert watch.sent == 1
