"""Encoders: what they give, what they refuse to read, and how far apart they find images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import SMALL_RECIPE, shapes, subjects
from torch import Tensor

from geomedsr.cli import run_command
from geomedsr.encoders import domain, medicalnet, vgg19
from geomedsr.encoders.distance import feature_distance, perceptual_distance
from geomedsr.encoders.domain import DomainEncoder, load, seeded, write
from geomedsr.errors import FailedError, GeomedsrError, ModelError, OutputError, RecipeError
from geomedsr.grid import Box
from geomedsr.io import format_of
from geomedsr.recipe import Recipe
from geomedsr.run import encoder as errand
from geomedsr.training.encoder import Lesson, train_encoder
from geomedsr.training.loop import Subjects


def vgg_file(path: Path, deepest: str = "conv2_1") -> Path:
    """Weights by the names and shapes that torchvision gives them, and a part of the classifier that is not wanted."""
    generator = torch.Generator().manual_seed(0)
    weights = {"classifier.6.bias": torch.zeros(1000)}
    for name, tensor in vgg19.VGG19(deepest).state_dict().items():
        weights[name] = torch.randn(tensor.shape, generator=generator) / math.sqrt(max(tensor[0].numel(), 1))
    save_file(weights, path)
    return path


def medicalnet_file(path: Path, **settings: Any) -> Path:
    """Weights as MedicalNet's parallel training named them, and a part of the segmenter that is not wanted."""
    from monai.networks.nets.resnet import ResNet

    torch.manual_seed(0)
    chosen = {"block": "basic", "layers": [1, 1, 1, 1], "bias_downsample": False, "feed_forward": False, **settings}
    network = ResNet(**chosen, block_inplanes=[64, 128, 256, 512], n_input_channels=1, conv1_t_size=7, conv1_t_stride=2)
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    save_file({**weights, "module.conv_seg.0.weight": torch.zeros(2)}, path)
    return path


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 4), (3, 2)])
def test_the_layers_of_an_encoder(ndim: int, channels: int) -> None:
    encoder = seeded(ndim, channels, (4, 6, 8), seed=0)
    found = encoder(torch.rand(2, channels, *(17, 12, 9)[:ndim]))
    assert list(found) == ["1", "2", "3"]
    assert [f.shape[1] for f in found.values()] == [4, 6, 8]
    assert found["3"].shape[2:] == (4, 3, 2)[:ndim]
    assert list(encoder(torch.rand(1, channels, *[8] * ndim), ("2",))) == ["2"]


def test_an_encoder_is_what_its_folder_says(tmp_path: Path) -> None:
    encoder = seeded(3, 2, (4, 4), seed=3)
    write(encoder, tmp_path / "mine", {"licence": "cc0-1.0"}, "# Mine\n")
    again = load(str(tmp_path / "mine"))
    x = torch.rand(1, 2, 8, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(encoder(x).values(), again(x).values(), strict=True))
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("name", domain.names())
def test_the_shipped_encoders(name: str) -> None:
    folder = domain.SHIPPED / name
    config = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    assert (folder / "encoder.safetensors").stat().st_size <= 1.5e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert config["licence"] in card
    assert config["attribution"] in card
    assert len(config["channel_names"]) == load(name).channels


@pytest.mark.parametrize("name", domain.names())
def test_a_shipped_encoder_minds_softness_more_than_brightness(name: str) -> None:
    encoder = load(name)
    image = shapes(1, (encoder.channels, 64, 64)).voxels / 100
    soft = image.copy()
    for axis in (1, 2):
        soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    error = float(np.square(soft - image).mean())
    brighter = image * (1 + math.sqrt(error / float(np.square(image).mean())))
    assert np.square(brighter - image).mean() == pytest.approx(error, rel=1e-3)
    assert perceptual_distance(soft, image, encoder) > 2 * perceptual_distance(brighter, image, encoder)
    softer = (np.roll(soft, 1, 1) + 2 * soft + np.roll(soft, -1, 1)) / 4
    assert perceptual_distance(softer, image, encoder) > perceptual_distance(soft, image, encoder) > 0


def test_the_distance_of_equal_images_is_zero_and_invalid_voxels_do_not_count() -> None:
    encoder = load("mri")
    image = shapes(1, (1, 32, 32)).voxels / 100
    assert perceptual_distance(image, image, encoder) == 0
    holed = image.copy()
    holed[0, :8] = np.nan
    assert perceptual_distance(holed, image, encoder) == 0
    assert perceptual_distance(image, holed, encoder) == 0
    assert perceptual_distance(holed, holed, encoder) == 0


def test_a_volume_is_seen_in_slices_along_every_axis_and_each_channel_alone() -> None:
    encoder = seeded(2, 1, (4, 4), seed=0)
    volume = torch.rand(2, 3, 6, 8, 10)
    views = encoder.views(volume)
    assert [tuple(view.shape) for view in views] == [(36, 1, 8, 10), (48, 1, 6, 10), (60, 1, 6, 8)]
    assert torch.equal(views[1][8], volume[0, 1, :, 0][None])
    other = volume + 0.1 * torch.rand(2, 3, 6, 8, 10)
    weights = {"1": 1.0, "2": 3.0}
    one, all_of = (feature_distance(encoder, *pair, weights) for pair in ((views[0], views[0]), (other, volume)))
    assert one.item() == 0
    assert all_of.item() > 0


def test_features_are_standard_over_the_training_images() -> None:
    chosen = Recipe.from_yaml(SMALL_RECIPE, "small")
    lesson = Lesson((16, 16), steps=80, batch=4, widths=(8, 8))
    losses: list[float] = []
    encoder = train_encoder(subjects(chosen, range(3)), lesson, lambda step, loss: losses.append(loss))
    again = train_encoder(subjects(chosen, range(3)), lesson)
    assert len(losses) == 80
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), again.state_dict().values(), strict=True)
    )
    x = torch.stack([torch.from_numpy(shapes(seed).voxels[:, :32, :32]) / 100 for seed in range(3)])
    encoder.standardise(x)
    for features in encoder(x).values():
        assert torch.allclose(features.mean((0, 2, 3)), torch.zeros(8), atol=1e-4)
        assert torch.allclose(features.transpose(0, 1).flatten(1).std(1), torch.ones(8), atol=1e-3)


def test_a_volume_teaches_an_encoder_of_three_axes() -> None:
    text = SMALL_RECIPE.replace("[2, 2]", "[2, 2, 2]").replace("[24, 24]", "[8, 8, 8]")
    volumes = subjects(Recipe.from_yaml(text, "small"), range(2), (1, 26, 26, 26))
    encoder = train_encoder(volumes, Lesson((8, 8, 8), steps=2, batch=2, widths=(4, 4)))
    assert (encoder.ndim, encoder.channels) == (3, 1)


def test_a_lesson_that_cannot_be_is_refused() -> None:
    images = subjects(Recipe.from_yaml(SMALL_RECIPE, "small"), range(1))
    with pytest.raises(RecipeError, match="multiple of 8"):
        train_encoder(images, Lesson((12, 12)))
    with pytest.raises(RecipeError, match="as large"):
        train_encoder(images, Lesson((64, 64)))
    with pytest.raises(FailedError, match="not finite at step"):
        train_encoder(images, Lesson((16, 16), steps=40, batch=2, widths=(4,), rate=1e30))


def test_files_become_an_encoder_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Recipe.from_yaml(SMALL_RECIPE, "small", {"licence": "cc0-1.0", "attribution": "By many."})
    opened = Subjects(subjects(chosen, range(2), (1, 72, 72)), [], [])
    monkeypatch.setattr(errand, "open_subjects", lambda recipe, data: opened)
    out = errand.train_encoder_files(chosen, tmp_path, tmp_path / "mine", steps=2, quiet=True)
    assert load(str(out)).channels == 1
    assert "By many." in (out / "README.md").read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="holds an encoder already"):
        errand.train_encoder_files(chosen, tmp_path, out)
    with pytest.raises(OutputError, match="does not exist"):
        errand.train_encoder_files(chosen, tmp_path, tmp_path / "no" / "such")


def test_vgg19_has_the_published_size_and_torchvisions_names() -> None:
    with torch.device("meta"):
        network = vgg19.VGG19()
    # Twenty million weights before the classifier.
    assert sum(p.numel() for p in network.parameters()) == 20_024_384
    assert list(network.state_dict())[-1] == "features.34.bias"
    assert network.layers[0] == "conv1_1"
    assert network.layers[-1] == "conv5_4"


def test_vgg19_reads_a_file_as_deep_as_it_needs(tmp_path: Path) -> None:
    network = vgg19.load(vgg_file(tmp_path / "vgg.safetensors"), "conv2_1")
    assert list(network(torch.rand(1, 3, 8, 8))) == ["conv1_1", "conv1_2", "conv2_1"]
    assert network(torch.rand(1, 3, 8, 8))["conv2_1"].shape == (1, 128, 4, 4)
    with pytest.raises(ModelError, match=r"lacks features\.7\.weight"):
        vgg19.load(tmp_path / "vgg.safetensors", "conv2_2")
    with pytest.raises(ModelError, match="no layer conv6_1"):
        vgg19.load(tmp_path / "vgg.safetensors", "conv6_1")


def test_vgg19_sees_colours_a_choice_of_channels_or_each_as_grey() -> None:
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(vgg19.VGG19("conv1_1", pick=(2, 1, 0)).adapted(x), x[:, [2, 1, 0]])
    network = vgg19.VGG19("conv1_1")
    assert torch.equal(network.adapted(x[:, :3]), x[:, :3])
    grey = network.adapted(x)
    assert grey.shape == (8, 3, 8, 8)
    assert torch.equal(grey[5, 0], x[1, 1])
    assert torch.equal(grey[5, 2], x[1, 1])
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    assert network.prepared(mean, mean).abs().max() == 0
    with pytest.raises(ModelError, match=r"channels \(0, 1, 4\); the image has 4"):
        vgg19.VGG19("conv1_1", pick=(0, 1, 4)).adapted(x)
    with pytest.raises(ModelError, match="three channels"):
        vgg19.VGG19("conv1_1", pick=(0, 1))


@pytest.mark.parametrize(
    ("settings", "widths"),
    [
        ({"shortcut_type": "B"}, [64, 128]),
        ({"layers": [2, 1, 1, 1], "shortcut_type": "A"}, [64, 128]),
        ({"block": "bottleneck", "shortcut_type": "B"}, [256, 512]),
    ],
)
def test_medicalnet_is_what_its_file_says(tmp_path: Path, settings: dict[str, Any], widths: list[int]) -> None:
    network = medicalnet.load(medicalnet_file(tmp_path / "resnet.safetensors", **settings), "layer2")
    found = network(torch.rand(1, 1, 16, 16, 16))
    assert [f.shape[1] for f in found.values()] == widths
    assert found["layer2"].shape[2:] == (2, 2, 2)


def test_medicalnet_sees_volumes_in_units_of_their_spread(tmp_path: Path) -> None:
    network = medicalnet.load(medicalnet_file(tmp_path / "resnet.safetensors", shortcut_type="B"), "layer1")
    x = torch.rand(1, 1, 8, 8, 8)
    assert torch.allclose(network.prepared(100 * x + 7, 100 * x + 7), network.prepared(x, x), atol=1e-4)
    with pytest.raises(ModelError, match="3 axes; the image has 2"):
        network.views(torch.rand(1, 1, 8, 8))
    with pytest.raises(ModelError, match="no layer layer5"):
        medicalnet.load(tmp_path / "resnet.safetensors", "layer5")
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="MedicalNet"):
        medicalnet.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors"])
def test_a_pickle_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / name)
    for reader in (vgg19.load, medicalnet.load):
        with pytest.raises(ModelError, match=r"is a pickle.*save_file"):
            reader(tmp_path / name)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        vgg19.load(path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match="no safetensors file"):
        vgg19.load(path)
    whole = load_file(vgg_file(path, "conv1_1"))

    def changed(name: str, tensor: Tensor) -> None:
        save_file({**whole, name: tensor}, path)

    changed("features.0.weight", torch.zeros(64, 1, 3, 3))
    with pytest.raises(ModelError, match=r"features\.0\.weight is \(64, 1, 3, 3\), not \(64, 3, 3, 3\)"):
        vgg19.load(path, "conv1_1")
    changed("features.0.bias", torch.full((64,), math.nan))
    with pytest.raises(ModelError, match=r"not finite, in features\.0\.bias"):
        vgg19.load(path, "conv1_1")
    changed("strange", torch.zeros(1))
    with pytest.raises(ModelError, match="unknown strange"):
        vgg19.load(path, "conv1_1")


def test_a_broken_encoder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with pytest.raises(ModelError, match=r"no encoder's folder, and none of the shipped ones \(mri, sentinel2\)"):
        load(str(folder))
    write(seeded(2, 1, (4,), seed=0), folder, {}, "")
    told = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ndim": "two"}, "ndim is not understood"),
        ({"widths": [10**9]}, "widths is not understood"),
        ({"geomedsr_encoder": 99}, "format is 99"),
        ({"ndim": 4}, "2 or 3 axes"),
        ({"widths": [8]}, "is \\(4"),
        ({"sha256": "0" * 64}, "SHA-256 differs"),
    ]
    for change, said in wrong:
        (folder / "encoder.json").write_text(json.dumps({**told, **change}), encoding="utf-8")
        with pytest.raises(GeomedsrError, match=said):
            load(str(folder))
    (folder / "encoder.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="is not understood"):
        load(str(folder))


def test_images_that_do_not_fit_are_refused() -> None:
    encoder = DomainEncoder(2, 4, (4, 4, 4))
    with pytest.raises(ModelError, match="looks at 4 channels; the image has 3"):
        encoder.views(torch.rand(1, 3, 8, 8))
    with pytest.raises(ModelError, match=r"needs 4 voxels on each axis; the patch has \(2, 8\)"):
        encoder.views(torch.rand(1, 4, 2, 8))
    with pytest.raises(ModelError, match="looks at 3 axes"):
        DomainEncoder(3, 1).views(torch.rand(1, 1, 8, 8))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = shapes(0, (1, 72, 70))
    sink = format_of(tmp_path / "a.tif").create_sink(tmp_path / "a.tif", image.spec)
    sink.write(Box.whole((72, 70)), image.voxels)
    sink.commit()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SMALL_RECIPE.replace('validate: [{files: "b*"}], test: [{files: "c*"}]', "validate: []"))
    out = tmp_path / "mine"
    command = ["train-encoder", str(recipe), "--data", str(tmp_path), "--out", str(out), "--steps", "2", "-q"]
    command += ["--set", 'data.train=[{files: "*.tif"}]']
    assert run_command(command) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert load(str(out)).channels == 1
    assert run_command(command) == 2
    assert "holds an encoder already" in capsys.readouterr().err
