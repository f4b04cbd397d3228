from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.image import Image
from geomedsr.inference import openvino_backend
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.openvino_backend import OpenvinoBackend
from geomedsr.inference.upscaler import Upscaler
from geomedsr.networks import edsr, fsrcnn, interpolate
from geomedsr.networks._network import Network
from geomedsr.task import Task

pytest.importorskip("openvino")
PLANE, SPACE = Task(2, 1, (2, 2)), Task(3, 1, (2, 2, 2))
NETWORKS = {
    "edsr": edsr.build(PLANE, width=16, blocks=2),
    "edsr 3D": edsr.build(SPACE, width=8, blocks=1),
    "fsrcnn": fsrcnn.build(Task(2, 3, (3, 3)), width=16, narrow=6, layers=1),
    "cubic": interpolate.build(PLANE),
}


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of converted networks, a new one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "geomedsr" / "openvino"


def random(network: Network) -> Network:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return network.eval()


def noise(network: Network, *shape: int) -> np.ndarray:
    voxels = np.random.default_rng(0).random((shape[0], network.task.channels, *shape[1:]), np.float32)
    return np.asarray(voxels)


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_gives_what_torch_gives(name: str) -> None:
    network = random(NETWORKS[name])
    backend = OpenvinoBackend(network)
    for shape in ((2, 31, 24, 12), (1, 40, 33, 9)):
        batch = noise(network, *shape[: 1 + network.task.ndim])
        wanted = TorchBackend(network).run(batch)
        assert np.abs(backend.run(batch) - wanted).max() < 1e-5 * np.ptp(wanted)


@pytest.mark.parametrize("name", ["edsr", "edsr 3D", "fsrcnn"])
def test_bf16_leaves_the_interpolation_in_float32(name: str) -> None:
    """Where the correction is nothing, the sum is the interpolation, exactly; bfloat16 would be 1e-3 from it."""
    network = random(copy.deepcopy(NETWORKS[name]))
    for parameter in network.tail.parameters():  # type: ignore[union-attr]
        nn.init.zeros_(parameter)
    batch = noise(network, 2, *(40, 33, 9)[: network.task.ndim])
    wanted = TorchBackend(network).run(batch)
    for backend in (OpenvinoBackend(network, "bf16"), TorchBackend(network, precision="bf16")):
        assert np.abs(backend.run(batch) - wanted).max() < 1e-6


def test_a_result_is_not_written_over_by_the_next() -> None:
    network = random(NETWORKS["fsrcnn"])
    backend, batch = OpenvinoBackend(network), noise(network, 1, 30, 40)
    first = backend.run(batch)
    before = first.copy()
    backend.run(batch + 1)
    assert np.array_equal(first, before)


def test_a_network_is_converted_once(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random(edsr.build(PLANE, width=8, blocks=1))
    OpenvinoBackend(network)
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(openvino_backend, "_convert", None)
    OpenvinoBackend(copy.deepcopy(network), "bf16")
    with torch.no_grad():
        next(network.parameters()).add_(1)
    with pytest.raises(TypeError):
        OpenvinoBackend(network)
    assert len(list(kept.iterdir())) == 1


class Recorded(Network):
    """Does something else on the shape that it is recorded with."""

    reach = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        shift = 1.0 if x.shape[2:] == (16, 20) else 0.0
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + shift


def test_what_is_converted_wrongly_is_refused_and_not_kept(kept: Path) -> None:
    with pytest.raises(ModelError, match="other voxels for Recorded"):
        OpenvinoBackend(Recorded(PLANE))
    assert list(kept.iterdir()) == []


class Unconvertible(Network):
    reach = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        finer = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.linalg.svd(finer, full_matrices=False)[1].sum() * 0 + finer


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot convert the network Unconvertible; use --backend torch"):
        OpenvinoBackend(Unconvertible(PLANE))


def test_without_openvino_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: False)
    with pytest.raises(GeomedsrError, match=r"install geomedsr\[openvino\]"):
        OpenvinoBackend(NETWORKS["cubic"])
    with pytest.raises(GeomedsrError, match="precision 'int8' is not known"):
        OpenvinoBackend(NETWORKS["cubic"], "int8")


@pytest.mark.parametrize("name", ["edsr", "fsrcnn"])
def test_tiles_agree_with_the_whole_image_to_rounding(name: str) -> None:
    network = random(NETWORKS[name])
    source = Image.of(noise(network, 1, 90, 83)[0])

    def upscaled(tile: tuple[int, ...]) -> np.ndarray:
        upscaler = Upscaler(network, None, backend="openvino", tile=tile)
        sink = Image.empty(source.spec.upscaled(network.task.factor))
        assert upscaler.run(source, sink).choice.backend == "openvino"
        return sink.voxels

    whole = upscaled((90, 83))
    assert np.abs(upscaled((40,)) - whole).max() < 1e-5 * np.ptp(whole)
