"""Every critic of the folder: logits for any channels in 2 and 3 axes, the same for the same seed and images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from geomedsr import registry
from geomedsr.critics._critic import Critic, spectral

NAMES = registry.names("critics")
SMALL: dict[str, dict[str, Any]] = {"vgg": {"dense": 8, "cells": 1}}


def make(name: str, ndim: int = 2, channels: int = 1, **settings: Any) -> Critic:
    torch.manual_seed(0)
    chosen = {"width": 4, **SMALL.get(name, {}), **settings}
    critic: Critic = registry.load("critics", name).build(ndim, channels, **chosen)
    return critic


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 5), (3, 1), (3, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_contract(name: str, ndim: int, channels: int) -> None:
    critic = make(name, ndim, channels)
    shape = [critic.smallest, critic.smallest + 3, critic.smallest + 1][:ndim]
    x = torch.rand(2, channels, *shape, requires_grad=True)
    logits = critic(x)
    assert logits.shape[:2] == (2, 1)
    assert logits.ndim in (2, ndim + 2)
    logits.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert all(p.grad is not None for p in critic.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_one_smallest_image_is_enough(name: str) -> None:
    critic = make(name)
    assert bool(critic(torch.rand(1, 1, critic.smallest, critic.smallest)).isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_depends_on_no_earlier_images(name: str) -> None:
    critic = make(name).train()
    x = torch.rand(2, 1, 32, 32)
    first = critic.eval()(x)
    critic.train()(torch.rand(2, 1, 32, 32) * 100)
    said = critic.eval()(x)
    # A power iteration sharpens the estimate of a spectral norm, which has nothing to do with what it was shown.
    assert torch.allclose(first, said, rtol=0.2 if name == "unet_sn" else 0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_spectral_norm_holds_every_layer_to_one(name: str) -> None:
    critic = spectral(make(name)).train()
    for _ in range(60):
        critic(torch.rand(1, 1, 24, 24))
    critic.eval()
    layers = [layer for layer in critic.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Real-ESRGAN's own count of its UNetDiscriminatorSN with 64 features.
        ("unet_sn", 4_376_897),
        # Eight convolutions, seven normalisations, 512 * 6 * 6 * 1024 + 1024 and 1025.
        ("vgg", 4_685_376 + 3_712 + 18_875_392 + 1_025),
    ],
)
def test_the_published_settings_have_the_published_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        critic = registry.load("critics", name).build(2, 3)
    assert sum(p.numel() for p in critic.parameters()) == parameters


def test_the_patch_critic_sees_seventy_voxels() -> None:
    critic = make("patch", norm="none")
    x = torch.zeros(1, 1, 160, 160, requires_grad=True)
    logits = critic(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    assert x.grad is not None
    rows = x.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("patch", {"layers": 0}),
        ("patch", {"norm": "layer"}),
        ("vgg", {"cells": 0}),
        ("vgg", {"norm": "layer"}),
        ("unet_sn", {"width": 0}),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        registry.load("critics", name).build(2, 1, **settings)
