from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geomedsr.cli import run_command
from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.inference import onnx as onnx_export
from geomedsr.inference.onnx import to_onnx
from geomedsr.model import Model
from geomedsr.networks import edsr, fsrcnn
from geomedsr.networks._network import Network
from geomedsr.run.catalogue import shipped
from geomedsr.task import Task

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session(data: bytes | str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_an_exported_model_gives_what_the_model_gives_on_any_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.onnx"
    assert run_command(["export", "mri-t1-x2", "--to", "onnx", "-o", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    found, model = session(str(target)), Model.load(shipped()["mri-t1-x2"])
    for shape in ((1, 1, 37, 50), (5, 1, 24, 21)):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted = model.network(x).numpy()
        np.testing.assert_allclose(found.run(None, {"lr": x.numpy()})[0], wanted, atol=1e-5)
    metadata = found.get_modelmeta().custom_metadata_map
    assert metadata["sha256"] == model.sha256
    assert json.loads(metadata["intensity"]) == model.intensity.model_dump()
    assert json.loads(metadata["factor"]) == [2, 2]


def test_networks_of_three_axes_and_transposed_convolutions_export() -> None:
    for network in (
        edsr.build(Task(3, 1, (2, 2, 2)), width=8, blocks=1),
        fsrcnn.build(Task(2, 2, (3, 3)), width=8, narrow=4, layers=1),
    ):
        assert session(to_onnx(network.eval(), {"a": "b"})).get_modelmeta().custom_metadata_map == {"a": "b"}


class Recorded(Network):
    """Does something else on the shape that it is recorded with."""

    reach = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        shift = 1.0 if x.shape[2:] == (16, 20) else 0.0
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + shift


class Unwritable(Network):
    reach = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        finer = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.linalg.svd(finer, full_matrices=False)[1].sum() * 0 + finer


def test_what_onnx_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="Recorded gives other voxels as ONNX"):
        to_onnx(Recorded(Task(2, 1, (2, 2))), {})
    with pytest.raises(ModelError, match="Unwritable cannot be written as ONNX"):
        to_onnx(Unwritable(Task(2, 1, (2, 2))), {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mri-t1-x2", "-o", "there.onnx"], "there.onnx exists; choose another name, or pass --overwrite"),
        (["mri-t1-x2", "-o", "model.pt"], "model.pt is no name for an ONNX file"),
        (["cubic", "-o", "model.onnx"], "cubic is an interpolation"),
        (["no-such-model", "-o", "model.onnx"], "There is no model no-such-model"),
        (["mri-t1-x2", "-o", "nowhere/model.onnx"], "nowhere"),
        (["mri-t1-x2", "--to", "torchscript", "-o", "model.onnx"], "'torchscript' is not"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_bytes(b"mine")
    assert run_command(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"there.onnx": b"mine"}


def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_NEEDED", ("onnx", "no_such_package"))
    assert importlib.util.find_spec("no_such_package") is None
    with pytest.raises(GeomedsrError, match=r"needs no_such_package, .* install geomedsr\[onnx\]"):
        to_onnx(edsr.build(Task(2, 1, (2, 2)), width=8, blocks=1), {})
