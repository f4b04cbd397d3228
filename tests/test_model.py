"""A model folder: what is written is what is read, and nothing else is believed."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import SMALL_RECIPE

from geomedsr.errors import ModelError
from geomedsr.model import Model, baseline, build_network, start_weights
from geomedsr.recipe import Recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small")
    network = build_network(recipe)
    torch.nn.init.normal_(network.get_parameter("tail.weight"), generator=torch.Generator().manual_seed(0))
    Model(recipe.name, network, recipe, {"psnr": 30.0}, {"steps": 1}).save(tmp_path / "m", "# card\n")
    return tmp_path / "m"


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def seal(folder: Path) -> None:
    """The weights' new hash goes into the config: the mistake is in the weights alone."""
    import hashlib

    rewrite(folder, sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def test_round_trip(folder: Path) -> None:
    model, again = Model.load(folder), Model.load(folder)
    x = torch.rand(1, 1, 9, 9)
    assert torch.equal(model.network(x), again.network(x))
    assert not torch.equal(model.network(x), build_network(Recipe.from_yaml(SMALL_RECIPE, "s"))(x))
    assert model.scores == {"psnr": 30.0}
    assert model.channel_names == ("T1w",)
    assert model.modality == "mri"
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_baselines_have_no_weights() -> None:
    model = baseline("lanczos", 3, (1, 1, 4))
    assert model.parameters == 0
    assert model.network(torch.rand(1, 1, 5, 5, 5)).shape == (1, 1, 5, 5, 20)
    assert model.intensity.name == "identity"


def test_changed_weights_are_refused(folder: Path) -> None:
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(raw))
    with pytest.raises(ModelError, match="SHA-256"):
        Model.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("drop", "lacks"),
        ("add", "unknown"),
        ("shape", "not \\("),
        ("nan", "not finite"),
        ("type", "torch.float64; take"),
    ],
)
def test_weights_of_another_network_are_refused(folder: Path, change: str, said: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "tail.bias"
    if change == "drop":
        del tensors[name]
    elif change == "add":
        tensors["extra"] = torch.zeros(1)
    elif change == "shape":
        tensors[name] = torch.zeros(3)
    elif change == "type":
        tensors[name] = tensors[name].double()
    else:
        tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, path)
    seal(folder)
    with pytest.raises(ModelError, match=said):
        Model.load(folder)


def test_a_pickle_is_never_read(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "ran",))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    seal(folder)
    with pytest.raises(ModelError, match="no safetensors"):
        Model.load(folder)
    assert not (folder / "ran").exists()


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        Model.load(tmp_path)
    rewrite(folder, geomedsr=99)
    with pytest.raises(ModelError, match="format 1"):
        Model.load(folder)
    rewrite(folder, geomedsr=1, network={"name": "edsr", "depth": 3})
    with pytest.raises(ModelError, match="not understood"):
        Model.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        Model.load(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="format 1"):
        Model.load(folder)


def test_weights_stored_as_bfloat16_are_loaded_as_they_are(folder: Path) -> None:
    rounded = {key: value.bfloat16() for key, value in load_file(folder / "model.safetensors").items()}
    replace(Model.load(folder), stored="bfloat16").save(folder, "# card\n")
    model = Model.load(folder)
    assert model.stored == "bfloat16"
    assert all(torch.equal(value, rounded[key].float()) for key, value in model.network.state_dict().items())
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    network = build_network(Recipe.from_yaml(SMALL_RECIPE, "small"))
    started = start_weights(str(folder), network)
    assert {value.dtype for value in started.values()} == {torch.float32}
    model.save(folder, "# card\n")
    assert Model.load(folder).sha256 == model.sha256
    rewrite(folder, stored="int4")
    with pytest.raises(ModelError, match="float32 or bfloat16, not as int4"):
        Model.load(folder)


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        Model.load(folder)
