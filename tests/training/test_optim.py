"""The schedule, the average and what decays, against hand calculations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asr.training.optim import OptimiserSettings, build_adamw, one_cycle, update_average


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.5, 0.0)],
)
def test_one_cycle_rises_in_a_line_and_falls_in_half_a_cosine(
    progress: float, share: float
) -> None:
    assert one_cycle(progress, warmup=0.1) == pytest.approx(share, abs=1e-12)


def test_the_average_starts_at_the_weights_and_then_moves_slowly() -> None:
    average, current = [torch.tensor([0.0])], [torch.tensor([1.0])]
    update_average(average, current, decay=0.998, step=1)
    assert float(average[0]) == pytest.approx(1 - 1 / 11)
    update_average(average, [torch.tensor([2.0])], decay=0.998, step=1_000_000)
    assert float(average[0]) == pytest.approx((1 - 1 / 11) * 0.998 + 2 * 0.002)


def test_no_averaging_follows_the_weights() -> None:
    average = [torch.tensor([5.0])]
    update_average(average, [torch.tensor([1.0])], decay=0.0, step=3)
    assert float(average[0]) == 1.0


def test_gains_and_biases_do_not_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decaying, others = build_adamw(module, OptimiserSettings(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(4, 3)]
    assert decaying["weight_decay"] == 0.1
    assert {tuple(p.shape) for p in others["params"]} == {(4,)}
    assert others["weight_decay"] == 0.0
