"""YAML is taken at its word: numbers as written, every key once, nothing run, and nothing that grows."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support import SMALL_RECIPE

from geomedsr.errors import RecipeError
from geomedsr.recipe import Recipe
from geomedsr.strict import read_text, values_of


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("010", 10),
        ("-3", -3),
        ("+12", 12),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("0o7", "0o7"),
        ("0b1", "0b1"),
        ("2026-01-01", "2026-01-01"),
        ("1e3", 1000.0),
        ("5e-4", 0.0005),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("1e", "1e"),
        ("e3", "e3"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ('"true"', "true"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_a_word_is_what_it_says(written: str, meant: object) -> None:
    (value,) = values_of(f"a: [{written}]" if written else "a: [~]", "r.yaml")["a"]  # type: ignore[index]
    assert (value, type(value)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: !!python/object/apply:os.system ['touch owned']", "it has the tag"),
        ("a: !!python/name:os.system", "it has the tag"),
        ("a: !!binary aGk=", "it has the tag"),
        ("a: !!int '010'", "it has the tag"),
        ("a: !mine {b: 1}", "it has the tag !mine"),
        ("%TAG ! tag:yaml.org,2002:\n---\na: !set {b}", "it has the tag"),
        ("a: &x [1]\nb: *x", r"it has a reference \(\*\)"),
        ("a: &a [l, l]\nb: &b [*a, *a]\nc: [*b, *b]", r"it has a reference \(\*\)"),
        ("base: &x {a: 1}\nb: {<<: *x}", r"it has a reference \(\*\)"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice"),
        ("a: {b: 1, 'b': 2}", "the key 'b' is given twice"),
        ("? [a, b]\n: 1", "a key is no text"),
        ("? {a: 1}\n: 1", "a key is no text"),
        ("[" * 100_000, "more than 32 levels deep"),
        ("{" * 100_000, "more than 32 levels deep"),
        ("- " * 100_000 + "x", "more than 32 levels deep"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_what_is_not_taken_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    began = time.process_time()
    with pytest.raises(RecipeError, match=rf"^r\.yaml is no YAML: .*{sentence}") as caught:
        values_of(text, "r.yaml")
    assert len(str(caught.value)) < 500
    assert time.process_time() - began < 2


def test_many_keys_take_no_square() -> None:
    began = time.process_time()
    values = values_of("\n".join(f"k{i}: 1" for i in range(5_000)), "r.yaml")
    assert isinstance(values, dict)
    assert len(values) == 5_000
    assert time.process_time() - began < 20


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecipeError, match=r"has more than 1048576 characters; it is none"):
        read_text(path, "The recipe")


@pytest.mark.parametrize("number", [".inf", ".nan", "-.inf", "1e999"])
def test_no_number_of_a_recipe_is_without_end(number: str) -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.rate: Input should be"):
        Recipe.from_yaml(SMALL_RECIPE + f"optimizer: {{rate: {number}}}\n", "r.yaml")


words = st.text("abé \n\t:-#'\"{}[]&*!|>%@`,.~yno", max_size=12)
"""Without digits: by YAML 1.1, which others write, 1e3 is a text."""
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


class _Written(yaml.SafeDumper):
    """YAML without references."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@settings(deadline=None, max_examples=80)
@given(plain)
def test_what_others_write_comes_back(value: object) -> None:
    assert values_of(yaml.dump(value, Dumper=_Written, allow_unicode=True), "r.yaml") == value


@settings(deadline=None, max_examples=150)
@given(st.text(alphabet="ab:-{}[]?!&*|>%@`'\",# \n\t01.e~<", max_size=60))
def test_any_text_is_values_or_one_sentence(text: str) -> None:
    with suppress(RecipeError):
        values_of(text, "r.yaml")
