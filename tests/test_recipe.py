"""A recipe: what it reads, and the sentence for each mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import SMALL_RECIPE

from geomedsr.errors import RecipeError
from geomedsr.recipe import Part, Recipe, built, read_recipe

GOOD = """
name: small
factor: [2, 2]
data: {train: [{files: "*.tif"}]}
degradation: {name: sensor, mtf: 0.3}
network: {name: edsr, width: 8, blocks: 1}
losses: [{name: l1}]
sampling: {patch: [16, 16], batch: 2}
schedule: {steps: 10}
"""


def read(text: str, **changes: str) -> Recipe:
    return Recipe.from_yaml(text, "small.yaml", {key.replace("__", "."): value for key, value in changes.items()})


def test_reads_and_writes_itself() -> None:
    recipe = read(GOOD)
    assert recipe.task.factor == (2, 2)
    assert recipe.network.settings == {"width": 8, "blocks": 1}
    assert recipe.losses[0].weight == 1.0
    assert Recipe.from_values(recipe.to_json(), "json") == recipe


def test_set_changes_a_key() -> None:
    recipe = read(GOOD, schedule__steps="3", network__width="16", seed="7")
    assert (recipe.schedule.steps, recipe.network.settings["width"], recipe.seed) == (3, 16, 7)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schedule: {steps: 10}", "schedule: {step: 10}", "schedule.step: no such key"),
        ("steps: 10", "steps: ten", "schedule.steps"),
        ("steps: 10", "steps: 0", "greater than 0"),
        ("factor: [2, 2]", "factor: [1, 1]", "at least 2"),
        ("factor: [2, 2]", "factor: [2]", "2 or 3 whole numbers"),
        ("patch: [16, 16]", "patch: [15, 16]", "not divisible"),
        ("patch: [16, 16]", "patch: [16, 16, 16]", "as factor has"),
        ("losses: [{name: l1}]", "losses: []", "losses"),
        ("name: small", "name: ../up", "name"),
        ("name: small", "name: small\nname: again", "given twice"),
        ("name: small", "name: !!python/object/apply:os.system [ls]", "no YAML"),
        ("name: small", "about: &a x\nname: *a", "reference"),
        ("name: small", "name: [small", "no YAML"),
        ("{name: l1}", "{name: l1, weight: -1}", "losses.0.weight"),
        ("name: small", "name: small\nthen: [{losses: []}]", "then.0.losses"),
        ("name: small", "name: small\nthen: [{speed: 1}]", "then.0.speed: no such key"),
        ("name: small", "name: small\nthen: 3", "then"),
        ("steps: 10", "steps: 10, patience: 2", "schedule.patience: there are no validation images"),
        ("name: small", "name: small\nloggers: [paper]", "loggers.0"),
        ("name: small", "name: small\noptimizer: {parts: 3}", "a batch of 2 does not divide into 3 parts"),
    ],
)
def test_mistakes_name_the_key(old: str, new: str, said: str) -> None:
    with pytest.raises(RecipeError, match=r"small\.yaml") as caught:
        read(GOOD.replace(old, new))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_has_what_it_does_not_say_from_the_one_before() -> None:
    text = GOOD + "then: [{losses: [{name: mse}], optimizer: {rate: 1.0e-4}, keep: last}, {schedule: {warmup: 0}}]"
    recipe = read(text, optimizer__name="sgd")
    first, second, third = recipe.stages
    assert [stage.losses[0].name for stage in recipe.stages] == ["l1", "mse", "mse"]
    assert [stage.optimizer.name for stage in recipe.stages] == ["sgd"] * 3
    assert [stage.optimizer.rate for stage in recipe.stages] == [5e-4, 1e-4, 1e-4]
    assert [stage.keep for stage in recipe.stages] == ["psnr", "last", "last"]
    assert [stage.schedule.steps for stage in recipe.stages] == [10, 10, 10]
    assert (second.schedule.warmup, third.schedule.warmup) == (first.schedule.warmup, 0)
    assert Recipe.from_values(recipe.to_json(), "json") == recipe


def test_set_reaches_into_a_list() -> None:
    assert read(GOOD + "then: [{keep: last}]", then__0__schedule__steps="3").then[0].schedule.steps == 3
    assert read(GOOD, losses__0__weight="3").losses[0].weight == 3
    with pytest.raises(RecipeError, match=r"--set then\.4\.keep: then\.4 is no section"):
        read(GOOD + "then: [{keep: last}]", then__4__keep="last")


def test_set_refuses_a_section_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match="speed: no such key"):
        read(GOOD, speed__limit="3")
    with pytest.raises(RecipeError, match=r"--set seed\.x: seed is no section"):
        read(GOOD.replace("name: small", "name: small\nseed: 3"), seed__x="3")


@pytest.mark.parametrize("text", ["", "- a", "just words"])
def test_no_recipe_at_all(text: str) -> None:
    with pytest.raises(RecipeError, match="no recipe"):
        read(text)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "none.yaml")


def test_a_wrong_setting_names_the_plugin() -> None:
    def make(width: int) -> int:
        if width < 1:
            raise ValueError(f"the width is at least 1, not {width}")
        return width

    def part(**settings: Any) -> Part:
        return Part.model_validate({"name": "edsr", **settings})

    assert built("network", part(width=3), make) == 3
    with pytest.raises(RecipeError, match=r"network edsr: .*depth"):
        built("network", part(depth=3), make)
    with pytest.raises(RecipeError, match="network edsr: the width is at least 1"):
        built("network", part(width=0), make)


@pytest.mark.parametrize(
    ("degradation", "nominal"),
    [
        ("{name: kspace}", "kspace"),
        ("{name: mixture, of: [{name: sensor, mtf: 0.2}, {name: bicubic}]}", "sensor"),
        ("{name: mixture}", "mixture"),
    ],
)
def test_a_mixture_is_nominally_its_first_part(degradation: str, nominal: str) -> None:
    assert Recipe.from_yaml(SMALL_RECIPE, "small", {"degradation": degradation}).nominal.name == nominal
