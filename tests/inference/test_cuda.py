"""What the relay promises, on a real GPU; the logic of it is tested in test_relay.py with a stand-in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geomedsr.grid import Shape
from geomedsr.image import Image, Voxels
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.choice import LEAST_PSNR, psnr
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import edsr, fsrcnn
from geomedsr.networks._network import Network
from geomedsr.task import Task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

CASES: dict[str, tuple[Network, Shape, int]] = {
    "edsr": (edsr.build(Task(2, 1, (2, 2)), width=32, blocks=3), (1, 300, 311), 120),
    "edsr, slices": (edsr.build(Task(2, 1, (2, 2)), width=16, blocks=2), (1, 90, 96, 12), 40),
    "edsr 3D": (edsr.build(Task(3, 1, (2, 2, 2)), width=16, blocks=2), (1, 60, 62, 66), 30),
    "fsrcnn": (fsrcnn.build(Task(2, 1, (2, 2))), (2, 300, 311), 120),
}


def trained(network: Network) -> Network:
    """The network with weights that keep activations about as large as a trained one's."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5, generator=generator)
    return network


def image(shape: Shape, dtype: str) -> Image:
    voxels = np.random.default_rng(0).integers(0, 4000, shape).astype(np.float32)
    plain = Image.of(voxels / 4000 if dtype == "float32" else voxels)
    return Image(replace(plain.spec, dtype=np.dtype(dtype)), plain.voxels)


def upscaled(network: Network, source: Image, tile: int | None, **more: Any) -> tuple[Voxels, Outcome]:
    upscaler = Upscaler(network, None, tile=None if tile is None else (tile,), **{"device": "cuda:0", **more})
    sink = Image.empty(source.spec.upscaled(upscaler.factor_for(source.spec)))
    outcome = upscaler.run(source, sink)
    return sink.voxels, outcome


@pytest.mark.parametrize("name", CASES)
def test_tiles_give_the_whole_image_bit_for_bit_in_float32(name: str) -> None:
    network, shape, tile = CASES[name]
    source = image(shape, "float32")
    whole, _ = upscaled(trained(network), source, max(shape))
    found, outcome = upscaled(network, source, tile)
    assert outcome.tiles > 1
    assert np.array_equal(found, whole), f"{np.abs(found - whole).max()} of {np.abs(whole).max()}"


@pytest.mark.parametrize("name", ["edsr", "edsr 3D", "fsrcnn"])
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    network, shape, tile = CASES[name]
    source = image(shape, "float32")
    here, _ = upscaled(trained(network), source, tile, device="cpu")
    there, _ = upscaled(network, source, tile)
    assert np.abs(there - here).max() <= 1e-5 * np.abs(here).max()
    near, _ = upscaled(network, source, tile, precision="bf16")
    assert psnr(near, here) > LEAST_PSNR - 20  # weights at random: what auto chooses is held to LEAST_PSNR itself


def test_whole_numbers_give_what_real_ones_give() -> None:
    network, shape, tile = CASES["edsr"]
    source, real = image(shape, "uint16"), image(shape, "uint16")
    real.spec = replace(real.spec, dtype=np.dtype(np.float32))
    found, _ = upscaled(trained(network), source, tile)
    wanted, _ = upscaled(network, real, tile)
    assert np.array_equal(found, np.rint(wanted).clip(0, 65535))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["edsr", "edsr 3D", "fsrcnn"])
def test_a_recording_gives_the_bits_of_an_eager_pass(name: str, precision: str) -> None:
    network, shape, _ = CASES[name]
    told: list[str] = []
    backend = TorchBackend(trained(network), "cuda:0", precision, tell=told.append)
    assert backend.relay is not None
    lengths = shape[1 : 1 + network.task.ndim]
    for seed in range(4):
        batch = np.random.default_rng(seed).random((2, 1, *lengths), np.float32)
        with backend.relay.start(batch) as found:
            wanted = backend.run(batch)
            assert not told
            assert np.array_equal(found, wanted), f"run {seed}: {np.abs(found - wanted).max()}"


def test_out_of_memory_goes_on_with_smaller_tiles() -> None:
    network = trained(edsr.build(Task(2, 1, (2, 2)), width=16, blocks=2))
    source = image((1, 1500, 1500), "uint16")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3e8 / total))
    try:
        found, outcome = upscaled(network, source, 1500)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert outcome.tiles > 1
    assert np.isfinite(found).all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_two_gpus_share_a_job() -> None:
    network, shape, tile = CASES["edsr"]
    source = image(shape, "float32")
    alone, _ = upscaled(trained(network), source, tile)
    shared, _ = upscaled(network, source, tile, device="cuda:0,cuda:1")
    assert np.array_equal(alone, shared)
