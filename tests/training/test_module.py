"""The loss against all paths, and what is validated."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from asr.training.module import ctc_loss


def loss_over_all_paths(probabilities: torch.Tensor, target: list[int]) -> float:
    """-log of the summed probability of every path [T] over V that collapses to the target."""
    total = 0.0
    frames, vocabulary = probabilities.shape
    for path in itertools.product(range(vocabulary), repeat=frames):
        collapsed = [label for label, _ in itertools.groupby(path) if label != 0]
        if collapsed == target:
            total += math.prod(float(probabilities[t, label]) for t, label in enumerate(path))
    return -math.log(total)


@pytest.mark.parametrize(
    "targets", [[[1, 2], [2]], [[1, 1], [2, 1, 2]], [[2], [1]], [[1, 2, 1], [1, 1]]]
)
def test_the_loss_is_that_of_all_alignments_per_label(targets: list[list[int]]) -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([5, 4])
    emissions = torch.randn(2, 5, 3).log_softmax(-1)
    sizes = torch.tensor([len(target) for target in targets])
    padded = torch.zeros(2, int(sizes.max()), dtype=torch.long)
    for row, target in zip(padded, targets, strict=True):
        row[: len(target)] = torch.tensor(target)
    expected = [
        loss_over_all_paths(emissions[row, : lengths[row]].exp(), target) / len(target)
        for row, target in enumerate(targets)
    ]
    losses = ctc_loss(emissions, lengths, padded, sizes)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_utterances_without_labels_count_nothing() -> None:
    torch.manual_seed(0)
    emissions = torch.randn(2, 6, 3).log_softmax(-1)
    lengths, targets = torch.tensor([6, 6]), torch.tensor([[1, 2], [0, 0]])
    both = ctc_loss(emissions, lengths, targets, torch.tensor([2, 0]))
    alone = ctc_loss(emissions[:1], lengths[:1], targets[:1], torch.tensor([2]))
    torch.testing.assert_close(both[:1], alone)
    assert both[1] == 0


def test_no_labels_at_all_give_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 4, 3, requires_grad=True)
    empty = torch.zeros(2, 0, dtype=torch.long)
    losses = ctc_loss(logits.log_softmax(-1), torch.tensor([4, 4]), empty, torch.tensor([0, 0]))
    losses.sum().backward()
    assert losses.tolist() == [0, 0]
    assert logits.grad is not None
    assert not logits.grad.any()
