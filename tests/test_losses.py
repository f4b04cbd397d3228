"""Every loss of the folder: zero on equal images, positive and differentiable elsewhere, in 2 and 3 axes."""

from __future__ import annotations

import pytest
import torch

from geomedsr import registry
from geomedsr.losses._loss import Loss


@pytest.mark.parametrize("shape", [(2, 3, 24, 24), (1, 1, 24, 24, 24)])
@pytest.mark.parametrize("name", registry.names("losses"))
def test_contract(name: str, shape: tuple[int, ...]) -> None:
    loss: Loss = registry.load("losses", name).build()
    hr = torch.rand(shape)
    sr = (hr + 0.1 * torch.rand(shape)).requires_grad_()
    value = loss(sr, hr)
    assert value.shape == ()
    assert value.item() > 0
    value.backward()
    assert sr.grad is not None
    assert bool(sr.grad.isfinite().all())
    assert float(loss(hr, hr)) == pytest.approx(0, abs=1e-6)
    assert loss.learn(sr, hr) == {}


def test_values() -> None:
    sr, hr = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, 1, 4, 4)
    assert float(registry.load("losses", "l1").build()(sr, hr)) == pytest.approx(0.5)
    assert float(registry.load("losses", "mse").build()(sr, hr)) == pytest.approx(0.25)
