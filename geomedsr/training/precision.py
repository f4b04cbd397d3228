"""Whether bf16 may be trusted here: one training step's gradient in it, against the same in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geomedsr.model import build_network
from geomedsr.networks._network import Network
from geomedsr.recipe import Recipe

__all__ = ["choose", "distance"]

_FAR = 0.1
"""The share of a gradient's length that bf16 may move it by: its rounding (0.4 %) adds up to a few per cent."""


def choose(recipe: Recipe, lr: Tensor, hr: Tensor, device: torch.device) -> tuple[bool, str]:
    """Whether to train in bf16, and a sentence on it where it was checked.

    Convolutions with three axes have gone wrong in bf16 on some devices, so there it is always checked. The check is
    on the untrained network, so that a resumed run decides alike.

    Shape: lr (B, C, *S), hr (B, C, *(S * factor))
    """
    if recipe.precision != "bf16" or not (recipe.precision_check or recipe.task.ndim == 3):
        return recipe.precision == "bf16", ""
    layout = torch.channels_last if recipe.task.ndim == 2 else torch.channels_last_3d
    network = _stirred(build_network(recipe)).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    found = distance(network, lr.to(device, memory_format=layout), hr.to(device))
    verdict = "it is used" if found <= _FAR else f"that is more than {_FAR:.0%}, so the training stays with float32"
    return found <= _FAR, f"bf16 moves the gradient by {found:.2%} against float32 on this device; {verdict}."


def distance(network: nn.Module, lr: Tensor, hr: Tensor) -> float:
    """How far bf16 moves the gradient, against its length in float32 (infinite where it is not finite)."""
    exact, rounded = _gradient(network, lr, hr, bf16=False), _gradient(network, lr, hr, bf16=True)
    found = float((rounded - exact).norm() / exact.norm().clamp(min=1e-30))
    return found if found < float("inf") else float("inf")


def _gradient(network: nn.Module, lr: Tensor, hr: Tensor, *, bf16: bool) -> Tensor:
    network.zero_grad(set_to_none=True)
    with torch.autocast(lr.device.type, torch.bfloat16, enabled=bf16):
        sr = network(lr).float()
    (sr - hr).square().mean().backward()
    return torch.cat([p.grad.double().flatten() for p in network.parameters() if p.grad is not None])


def _stirred(network: Network) -> Network:
    """The network with small noise where it begins with zeros, which would hide all that comes before them."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.normal_(0, 0.02, generator=noise)
    return network
