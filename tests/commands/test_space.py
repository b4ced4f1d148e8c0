"""What is drawn of a space: in its range, evenly, the same again; and what is no space."""

from __future__ import annotations

import math
from typing import Any

import pytest

from asr.commands.compose import compose
from asr.commands.space import Choice, LogUniform, Uniform, draw, parse, shown
from asr.errors import UserError

SPACE = {
    "optim.learning_rate": {"log": [1e-4, 1e-2]},
    "model.dropout": {"uniform": [0.1, 0.5]},
    "seed": {"choice": [3, 5, 8]},
}


def drawn(key: str, space: dict[str, Any] = SPACE, seed: int = 1, trials: int = 2000) -> list[Any]:
    ranges = parse(space)
    return [draw(ranges, seed, trial)[key] for trial in range(1, trials + 1)]


def test_the_three_kinds_of_ranges_are_read() -> None:
    assert parse(SPACE) == {
        "optim.learning_rate": LogUniform(1e-4, 1e-2),
        "model.dropout": Uniform(0.1, 0.5),
        "seed": Choice((3, 5, 8)),
    }


def test_of_a_logarithmic_range_every_factor_is_as_likely() -> None:
    rates = drawn("optim.learning_rate")
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    for tenth in range(10):  # each of ten equal factors has 200 +- 4 standard deviations
        low, high = (10 ** (-4 + 0.2 * end) for end in (tenth, tenth + 1))
        assert 146 <= sum(low <= rate < high for rate in rates) <= 254


def test_of_an_even_range_every_value_is_as_likely() -> None:
    values = drawn("model.dropout")
    assert all(0.1 <= value <= 0.5 for value in values)
    for tenth in range(10):
        low = 0.1 + 0.04 * tenth
        assert 146 <= sum(low <= value < low + 0.04 for value in values) <= 254


def test_of_a_choice_every_value_is_as_likely() -> None:
    values = drawn("seed")
    assert all(582 <= values.count(value) <= 751 for value in (3, 5, 8))
    assert len(values) == sum(values.count(value) for value in (3, 5, 8))


def test_what_is_shown_is_what_is_tried() -> None:
    for value in [*drawn("optim.learning_rate"), *drawn("model.dropout")]:
        assert value == float(f"{value:.3e}")
        assert float(shown(value)) == value


def test_neither_more_trials_nor_another_setting_change_what_a_trial_has() -> None:
    few = drawn("model.dropout", trials=5)
    assert drawn("model.dropout", trials=50)[:5] == few
    alone = {"model.dropout": SPACE["model.dropout"]}
    assert drawn("model.dropout", alone, trials=5) == few


def test_trials_seeds_and_settings_draw_each_for_themselves() -> None:
    unit = {"uniform": [0.0, 1.0]}
    both = {"model.dropout": unit, "optim.warmup": unit}
    one, other = drawn("model.dropout", both), drawn("optim.warmup", both)
    later, another = [*one[1:], one[0]], drawn("model.dropout", both, seed=2)
    for pair in (other, later, another):
        products = [(a - 0.5) * (b - 0.5) * 12 for a, b in zip(one, pair, strict=True)]
        assert abs(math.fsum(products) / len(one)) < 4 / math.sqrt(len(one))  # no correlation


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, r"^tune.space is empty: a file conf/tune/NAME.yaml"),
        ({"seed": 3}, "seed=3 is no range: write {log: "),
        ({"seed": [1, 2]}, r"seed=\[1, 2\] is no range"),
        ({"seed": {"choice": 3}}, "is no range"),
        ({"seed": {"normal": [1, 2]}}, "is no range"),
        ({"seed": {"log": [1, 2], "choice": [1]}}, "is no range"),
        ({"seed": {"choice": []}}, "has nothing to choose from"),
        ({"optim.warmup": {"log": [0.1]}}, "must have two numbers"),
        ({"optim.warmup": {"uniform": ["a", "b"]}}, "must have two numbers"),
        ({"optim.warmup": {"uniform": [False, True]}}, "must have two numbers"),
        ({"optim.warmup": {"uniform": [0.5, 0.1]}}, "the first number must be lower"),
        ({"optim.warmup": {"uniform": [0.1, math.inf]}}, "the first number must be lower"),
        ({"optim.warmup": {"log": [0, 1]}}, "a logarithmic range lies above 0"),
        ({"name": {"choice": ["a", "b"]}}, "name cannot be searched"),
        ({"trainer.max_epochs": {"choice": [1]}}, "trainer.max_epochs cannot be searched"),
        ({"tune.trials": {"choice": [1]}}, "tune.trials cannot be searched"),
        ({"recipe.options": {"choice": [1]}}, "recipe.options cannot be searched"),
        ({"prepare.folder": {"choice": ["a"]}}, "prepare.folder cannot be searched"),
    ],
)
def test_what_is_no_space_is_told_in_a_line(space: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        parse(space)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("tune.space")


def test_a_key_that_is_a_number_is_taken_for_a_name() -> None:
    assert parse({1: {"choice": [1]}}) == {"1": Choice((1,))}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", 5e-05),
        ("optim.schedule", "cosine"),
        ("data.device_batch_s", None),
        ("model.bidirectional", False),
        ("augment.speed.factors", [0.9, 1.0]),
        ("augment.noise.folder", "of my, own's"),
    ],
)
def test_a_value_that_is_chosen_comes_out_as_it_went_in(key: str, value: object) -> None:
    found: Any = compose(["recipe=an4", f"{key}={shown(value)}"])
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
