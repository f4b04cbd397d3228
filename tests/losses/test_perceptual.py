"""The perceptual loss: where its features may come from, and that only the network's image feels it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from geomedsr.encoders.vgg19 import VGG19
from geomedsr.errors import GeomedsrError
from geomedsr.losses.perceptual import Perceptual, build


def pair(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    sr, hr = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)).unbind()
    return sr.clone().requires_grad_(), hr.clone().requires_grad_()


@pytest.mark.parametrize("distance", ["l1", "cosine"])
@pytest.mark.parametrize(
    ("encoder", "shape"),
    [("mri", (2, 3, 16, 16)), ("sentinel2", (2, 4, 16, 16)), ("mri", (1, 1, 8, 8, 8)), ("sentinel2", (1, 4, 8, 8, 8))],
)
def test_only_sr_feels_it(encoder: str, shape: tuple[int, ...], distance: str) -> None:
    loss = build(encoder=encoder, distance=distance)
    sr, hr = pair(shape)
    value = loss(sr, hr)
    assert value.shape == ()
    assert value.item() > 0
    value.backward()
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())
    assert float(sr.grad.abs().max()) > 0
    assert hr.grad is None
    assert loss(hr, hr).item() == 0
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}


def test_the_encoder_stays_frozen_when_the_loss_is_told_to_train() -> None:
    loss = Perceptual(encoder="mri").train()
    (features,) = loss._held
    assert not features.training
    assert not any(p.requires_grad for p in features.parameters())


def test_layers_and_their_weights() -> None:
    sr, hr = pair((1, 1, 16, 16))
    one, two = (Perceptual(encoder="mri", layers=[name])(sr, hr).item() for name in ("1", "3"))
    numbered: Any = [3]
    assert Perceptual(encoder="mri", layers=numbered)(sr, hr).item() == two
    both = Perceptual(encoder="mri", layers={"1": 1.0, "3": 3.0})(sr, hr).item()
    assert both == pytest.approx((one + 3 * two) / 4, rel=1e-5)


def test_vgg19_from_a_local_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(t.shape, generator=generator) / 20 for n, t in VGG19("conv2_1").state_dict().items()}
    path = tmp_path / "vgg19.safetensors"
    save_file(weights, path)
    for shape in ((1, 1, 16, 16), (1, 3, 16, 16), (1, 4, 16, 16), (1, 1, 8, 8, 8)):
        loss = build(vgg19=str(path), layers={"conv1_2": 0.1, "conv2_1": 1.0})
        sr, hr = pair(shape)
        loss(sr, hr).backward()
        assert sr.grad is not None
        assert float(sr.grad.abs().max()) > 0
        assert loss(hr, hr).item() == 0
    sr, hr = pair((1, 4, 16, 16))
    picked = build(vgg19=str(path), layers=["conv1_1"], pick=[2, 1, 0])(sr, hr)
    plain = build(vgg19=str(path), layers=["conv1_1"])(sr[:, [2, 1, 0]], hr[:, [2, 1, 0]])
    assert picked.item() == plain.item()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give one of encoder"),
        ({"encoder": "mri", "vgg19": "a.safetensors"}, "give one of encoder"),
        ({"encoder": "mri", "distance": "l2"}, "l1, cosine"),
        ({"encoder": "mri", "layers": ["9"]}, "no 9; it has 1, 2, 3"),
        ({"encoder": "mri", "layers": {"1": 0}}, "above 0"),
        ({"encoder": "mri", "pick": [0, 1, 2]}, "pick is for vgg19"),
        ({"encoder": "no/such"}, "no encoder's folder"),
        ({"vgg19": "no-such.safetensors"}, "cannot be read"),
        ({"medicalnet": "no-such.safetensors"}, "cannot be read"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, GeomedsrError), match=said):
        build(**settings)
