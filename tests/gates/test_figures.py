"""Figures against hand calculations, orders of units against signals made for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr.gates.figures import (
    by_likeness,
    by_memory,
    by_strength,
    figures,
    measured,
    strongest,
    time_constants,
)
from asr.gates.trace import CellTrace


def cell(**given: np.ndarray) -> CellTrace:
    """A cell in which all that is not given is one half."""
    (shape,) = {values.shape for values in given.values()}
    half = np.full(shape, 0.5, np.float32)
    names = ("forget", "input", "output", "cell", "hidden")
    arrays = {name: np.asarray(given.get(name, half), np.float32) for name in names}
    return CellTrace(layer=2, direction="backward", **arrays)


def test_openness_and_saturation_are_those_counted_by_hand() -> None:
    forget = np.array([[0.0, 1.0], [0.96, 0.94]])
    shut = np.array([[0.04, 0.06], [0.2, 0.3]])
    found = figures(cell(forget=forget, input=shut))
    assert (found.layer, found.direction, found.units) == (2, "backward", 2)
    assert found.openness.forget == pytest.approx(2.9 / 4)
    assert found.openness.input == pytest.approx(0.6 / 4)
    assert found.openness.output == 0.5
    assert found.saturated.forget == 3 / 4
    assert found.saturated.input == 1 / 4
    assert found.saturated.output == 0


def test_after_its_time_constant_a_cell_is_down_to_one_in_e() -> None:
    (frames,) = time_constants(np.full((5, 1), 0.9, np.float32))
    assert 0.9**frames == pytest.approx(1 / math.e)


def test_a_time_constant_is_of_the_mean_gate() -> None:
    (frames,) = time_constants(np.array([[0.25], [0.75]], np.float32))
    assert frames == pytest.approx(1 / math.log(2))


def test_who_forgets_all_has_no_memory_and_who_forgets_nothing_an_endless_one() -> None:
    assert time_constants(np.array([[0.0, 1.0]], np.float32)).tolist() == [0, math.inf]


def test_the_memory_of_a_layer_is_median_and_90th_percentile_of_its_units() -> None:
    gates = np.array([[math.exp(-1 / frames) for frames in range(1, 12)]])
    found = figures(cell(forget=gates))
    assert found.memory_frames == pytest.approx(6, rel=1e-4)
    assert found.long_memory_frames == pytest.approx(10, rel=1e-4)


def test_a_layer_that_never_forgets_has_an_endless_memory() -> None:
    found = figures(cell(forget=np.ones((3, 4))))
    assert found.memory_frames == found.long_memory_frames == math.inf
    assert measured(found.memory_frames, 1) == "∞"


def test_times_are_written_in_few_characters() -> None:
    values = (0.04, 99.94, 100.4, 99_999.0, 100_000.0)
    assert [measured(value, 1) for value in values] == ["0.0", "99.9", "100", "99999", ">99999"]
    assert measured(7.6, 0) == "8"


def test_the_unit_with_the_longest_memory_comes_first() -> None:
    assert by_memory(cell(forget=np.array([[0.1, 0.9, 0.5]]))).tolist() == [1, 2, 0]


def test_the_strongest_unit_is_the_one_whose_output_varies_most_not_the_loudest() -> None:
    hidden = np.array([[0.9, 0.0, 0.1], [0.9, 0.5, 0.2]])
    assert by_strength(cell(hidden=hidden)).tolist() == [1, 2, 0]


def test_the_strongest_keep_the_order_they_are_given() -> None:
    hidden = np.outer([0, 1], [0.4, 0.1, 0.3, 0.2])
    order = np.array([3, 2, 1, 0])
    assert strongest(cell(hidden=hidden), 2, order).tolist() == [2, 0]
    assert strongest(cell(hidden=hidden), 9, order).tolist() == [3, 2, 1, 0]


def test_units_that_do_alike_stand_side_by_side() -> None:
    phases = np.random.default_rng(0).permutation(24) * (2 * np.pi / 24)
    time = np.arange(100)[:, None] * 0.2
    order = by_likeness(cell(cell=0.3 * np.sin(time + phases)))
    steps = np.diff(phases[order]) / (2 * np.pi / 24)
    assert set(np.round(steps).astype(int) % 24) in ({1}, {23})  # once around the circle


def test_a_single_frame_and_a_single_unit_have_all_orders() -> None:
    for shape in ((1, 3), (3, 1)):
        whole = cell(cell=np.ones(shape))
        for order in (by_likeness, by_memory, by_strength):
            assert sorted(order(whole).tolist()) == list(range(shape[1]))
