"""Training images from files: mixed formats and weights, masks, true pairs, the cache, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SMALL_RECIPE, shapes

from geomedsr.cli import run_command
from geomedsr.data.augment import Augment
from geomedsr.data.pairs import PairSampler
from geomedsr.data.sampling import PatchSampler, Subject
from geomedsr.degradations.sensor import Sensor
from geomedsr.errors import RecipeError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec, Source, Voxels
from geomedsr.io import format_of
from geomedsr.networks.interpolate import Interpolate
from geomedsr.recipe import Recipe
from geomedsr.run.cache import cached
from geomedsr.run.training import open_subjects, train_files
from geomedsr.task import Task
from geomedsr.training.validation import planes_of


def write(path: Path, image: Image, grid: Grid | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = ImageSpec(grid or image.spec.grid, image.spec.channels, np.dtype(np.float32))
    sink = format_of(path).create_sink(path, spec)
    sink.write(Box.whole(spec.grid.shape), image.voxels)
    sink.commit()
    return path


def placed(shape: Sequence[int], spacing: float = 1.0) -> Grid:
    return Grid.of(shape, np.diag([*[spacing] * len(shape), 1.0]), units="mm")


def coarse(image: Image) -> Image:
    return Image.of(torch.nn.functional.avg_pool2d(torch.from_numpy(image.voxels), 2).numpy())


def recipe(data: str, **changes: str) -> Recipe:
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return Recipe.from_yaml(SMALL_RECIPE, "small", {"data": data, "sampling.patch": "[16, 16]", **changed})


def sampler(subjects: Sequence[Subject], **choices: float) -> PatchSampler:
    return PatchSampler(subjects, (16, 16), (2, 2), 0, 0.0, **choices)  # type: ignore[arg-type]


def test_formats_mix_with_weights(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", shapes(0, (1, 30, 32, 20)))
    write(tmp_path / "b.tif", shapes(1, (1, 48, 40)))
    write(tmp_path / "c.zarr", shapes(2, (1, 40, 40)))
    entries = "{files: a.nii.gz, weight: 1}, {files: b.tif, weight: 2}, {files: c.zarr, weight: 1}"
    found = open_subjects(recipe(f"{{train: [{entries}]}}"), tmp_path).train
    assert [subject.name for subject in found] == ["a.nii.gz", "b.tif", "c.zarr"]
    patches, rng = sampler(found), np.random.default_rng(0)
    drawn = [patches._anywhere(rng).subject.name for _ in range(400)]
    shares = [drawn.count(subject.name) / len(drawn) for subject in found]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.08), "400 draws: three standard deviations are 0.075"


def test_an_entry_shares_its_weight_by_voxels(tmp_path: Path) -> None:
    write(tmp_path / "a1.tif", shapes(0, (1, 20, 40)))
    write(tmp_path / "a2.tif", shapes(1, (1, 60, 40)))
    write(tmp_path / "b.tif", shapes(2, (1, 40, 40)))
    found = open_subjects(recipe("{train: [{files: 'a*.tif', weight: 2}, {files: b.tif, weight: 6}]}"), tmp_path).train
    assert [subject.share for subject in found] == [0.5, 1.5, 6]


def test_content_is_drawn_more_often() -> None:
    image = shapes(0, (1, 128, 128))
    image.voxels[:] = np.random.default_rng(0).random(image.voxels.shape, np.float32)
    image.voxels[:, :, 64:] *= 0.05
    subject = Subject("half plain", image, (0, 1), recipe("{train: [a]}").intensity.fit(image))

    def busy(candidates: int) -> float:
        patches, rng = sampler([subject], candidates=candidates), np.random.default_rng(1)
        return float(np.mean([patches.draw(rng).context.std() > 0.05 for _ in range(150)]))

    assert busy(8) > 0.95 > 0.75 > busy(1)


def test_masks_say_where_to_learn(tmp_path: Path) -> None:
    image = shapes(3, (1, 64, 64))
    image.voxels[:, :, 32:] = 7.0
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, :, :32] = 1
    write(tmp_path / "scans" / "sub1_T1w.tif", image)
    write(tmp_path / "masks" / "sub1_brain.tif", Image.of(mask))
    data = "{train: [{files: 'scans/*.tif', mask: '../masks/{first}_brain.tif'}]}"
    found = open_subjects(recipe(data), tmp_path).train
    rng = np.random.default_rng(0)
    stops = [sampler(found)._place(rng).stop[1] for _ in range(30)]
    assert max(stops) <= 32
    stops = [sampler(found, inside=0.5)._place(rng).stop[1] for _ in range(60)]
    assert 32 < max(stops) <= 40


def test_masks_say_where_to_judge(tmp_path: Path) -> None:
    image = shapes(3, (1, 48, 48))
    mask = np.zeros((1, 48, 48), np.float32)
    mask[:, 8:40, 8:40] = 1
    write(tmp_path / "a.tif", image)
    write(tmp_path / "a_mask.tif", Image.of(mask))
    (subject,) = open_subjects(recipe("{train: [{files: a.tif, mask: '{name}_mask.tif'}]}"), tmp_path).train
    network = Interpolate(Task(2, 1, (2, 2)))
    (judged,) = planes_of(subject, Sensor(), network, 1, torch.Generator())
    (unmasked,) = planes_of(replace(subject, mask=None), Sensor(), network, 1, torch.Generator())
    assert torch.equal(judged.hr.isfinite(), torch.from_numpy(mask)[None] > 0)
    assert torch.equal(judged.lr, unmasked.lr), "the degradation sees the whole image"


def pair(folder: Path, image: Image, grid: Grid | None = None) -> None:
    write(folder / "fine" / "a.nii.gz", image, placed(image.spec.grid.shape))
    small = coarse(image)
    write(folder / "low" / "a_low.nii.gz", small, grid or placed(small.spec.grid.shape, 2.0))


PAIR = "{train: [{files: 'fine/*.nii.gz', lr: '../low/{name}_low.nii.gz'}]}"


def test_true_pairs_show_the_same_place(tmp_path: Path) -> None:
    pair(tmp_path, shapes(5, (1, 48, 40)))
    found = open_subjects(recipe(PAIR, intensity="{name: identity}"), tmp_path).train
    augment = Augment((2, 2), flips=True, turns=True, gain=0.2)
    lr, hr = PairSampler(sampler(found), Sensor(), augment, 6, 0).batch(1)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(hr, 2), lr, atol=1e-4, rtol=1e-5)


def test_true_pairs_train_beside_simulated_ones_and_judge(tmp_path: Path) -> None:
    pair(tmp_path / "data", shapes(5, (1, 48, 40)))
    write(tmp_path / "data" / "b.tif", shapes(6, (1, 48, 40)))
    lr = "lr: '../low/{name}_low.nii.gz'"
    data = f"{{train: [b.tif], validate: [{{files: 'fine/*.nii.gz', {lr}}}]}}"
    model = train_files(recipe(data), tmp_path / "data", tmp_path / "model", quiet=True)
    simulated = train_files(
        recipe("{train: [b.tif], validate: ['fine/*.nii.gz']}"), tmp_path / "data", tmp_path / "other", quiet=True
    )
    assert model.scores["psnr_cubic"] != simulated.scores["psnr_cubic"], "the true coarse image is what is judged"


@pytest.mark.parametrize(
    ("shape", "spacing", "said"),
    [
        ((24, 20), 2.1, "do not cover the same place"),
        ((48, 40), 1.0, r"factor of \(1, 1, 1\); the recipe asks for \(2, 2, 1\)"),
        ((25, 20), 2.0, "are no pair"),
    ],
)
def test_files_that_are_no_pair_are_refused(tmp_path: Path, shape: tuple[int, int], spacing: float, said: str) -> None:
    write(tmp_path / "fine" / "a.nii.gz", shapes(5, (1, 48, 40)), placed((48, 40)))
    write(tmp_path / "low" / "a_low.nii.gz", shapes(5, (1, *shape)), placed(shape, spacing))
    with pytest.raises(RecipeError, match=f"a.nii.gz and its lr a_low.nii.gz .*{said}"):
        open_subjects(recipe(PAIR), tmp_path)


class Counted:
    """A source that counts its reads."""

    def __init__(self, image: Image) -> None:
        self.image, self.reads, self.spec = image, 0, image.spec

    def read(self, box: Box) -> Voxels:
        self.reads += 1
        return self.image.read(box)

    def close(self) -> None: ...


def test_the_cache_keeps_every_bit_and_reads_the_file_once(tmp_path: Path) -> None:
    image = shapes(0, (2, 30, 22, 24))
    image.voxels[0, :3] = np.nan
    path = write(tmp_path / "a.nii", Image.of(np.nan_to_num(image.voxels)))
    sources: list[Counted] = []

    def opener(_: Path) -> Source:
        sources.append(Counted(image))
        return sources[-1]

    cache = tmp_path / "cache"
    for _ in range(2):
        source = cached(path, cache, opener)
        np.testing.assert_array_equal(source.read(Box.whole((30, 22, 24))), image.voxels)
        assert source.spec == image.spec
    assert sources[0].reads > 0
    assert sources[1].reads == 0
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    cached(path, cache, opener)
    assert len(list(cache.iterdir())) == 2, "a changed file is packed anew"


def test_training_from_a_cache_is_the_same_training(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.nii.gz", shapes(0, (1, 32, 32)))
    write(tmp_path / "data" / "b.tif", shapes(1, (1, 32, 32)))
    chosen = recipe("{train: [a.nii.gz], validate: [b.tif]}")
    one = train_files(chosen, tmp_path / "data", tmp_path / "one", quiet=True)
    other = train_files(chosen, tmp_path / "data", tmp_path / "two", quiet=True, cache=tmp_path / "cache")
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert one.scores == other.scores


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{train: [a1.tiff]}", r"data.train.0: no file .* matches a1.tiff; the nearest name there is a1.tif"),
        ("{train: [raw/a1.tif]}", "there is no folder"),
        ("{train: [a1.tif], test: [none.tif]}", "data.test.0: no file"),
        ("{train: [a1.tif], validate: ['*1.tif']}", "a1.tif is in data.train and again in data.validate"),
        ("{train: ['a*.tif', two.tif]}", r"1 channels \(T1w\), but .*: two.tif 2; choose with data.train.1.bands"),
        (
            "{train: [small.tif]}",
            r"sampling.patch: no training image is as large as a patch of 16 x 16: small.tif 9 x 9",
        ),
        ("{train: [empty.tif]}", "empty.tif has no valid voxel"),
        ("{train: [flat.tif]}", "flat.tif has the value 3 everywhere"),
        ("{train: [{files: a1.tif, lr: low_a1.tif}]}", "data.train.0.lr: beside .*a1.tif no file matches low_a1.tif"),
        ("{train: [{files: a1.tif, mask: '../{name}.tif'}]}", "data.train.0.mask: .* leaves the data folder"),
        ("{train: [{files: a1.tif, mask: '{nam}.tif'}]}", "braces around something else"),
        ("{train: [{files: a1.tif, mask: 'a*.tif'}]}", "2 files match"),
        ("{train: [{files: a1.tif, mask: flat.tif}]}", "a mask lies on its image's grid"),
        ("{train: ['']}", "data.train.0: no file"),
        ("{train: [{files: volume.nii, axes: [1, 0]}]}", r"axes: \[1, 0\] are not 2 axes of volume.nii"),
        ("{train: [{files: volume.nii, axes: [0, 3]}]}", r"axes: \[0, 3\] are not 2 axes of volume.nii"),
        ("{train: [{files: a1.tif, mask: never.tif}]}", "random patches in a row had invalid or masked voxels"),
        ("{train: [sparse.tif]}", "random patches in a row had invalid or masked voxels"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_before_the_start(tmp_path: Path, data: str, said: str) -> None:
    folder = tmp_path / "data"
    for name in ("a1.tif", "a2.tif"):
        write(folder / name, shapes(0, (1, 32, 32)))
    write(folder / "two.tif", shapes(0, (2, 32, 32)))
    write(folder / "small.tif", shapes(0, (1, 9, 9)))
    write(folder / "empty.tif", Image.of(np.full((1, 32, 32), np.nan)))
    write(folder / "flat.tif", Image.of(np.full((1, 20, 20), 3.0)))
    write(folder / "never.tif", Image.of(np.zeros((1, 32, 32))))
    write(folder / "volume.nii", shapes(0, (1, 20, 20, 20)))
    sparse = np.full((1, 32, 32), np.nan)
    sparse[:, ::15, ::15] = np.arange(9).reshape(3, 3)
    write(folder / "sparse.tif", Image.of(sparse))
    with pytest.raises(RecipeError, match=said):
        train_files(recipe(data), folder, tmp_path / "model", quiet=True)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{train: [{files: a, weight: 2}, b]}", "some entries have a weight and some have none"),
        ("{train: [a], test: [{files: b, weight: 2}]}", "only the entries of train"),
    ],
)
def test_weights_that_do_not_compare_are_refused(data: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(data)


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data" / "a.tif", shapes(0, (2, 32, 32)))
    (tmp_path / "r.yaml").write_text(SMALL_RECIPE, encoding="utf-8")
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "model"), "--set", "data={train: [a.tif]}"]
    assert run_command(["train", str(tmp_path / "r.yaml"), *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("geomedsr: error: The recipe has 1 channels (T1w), but these files have others: a.tif 2")
    assert "\n" not in said
    assert not (tmp_path / "model").exists()
