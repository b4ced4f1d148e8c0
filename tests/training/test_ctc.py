"""CTC against the sum over every path that collapses to the labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from asr.training.module import ctc_loss

BLANK = 0


def collapsed(path: Sequence[int]) -> list[int]:
    """Repeats merged, then blanks dropped."""
    return [label for label, _ in itertools.groupby(path) if label != BLANK]


def over_all_paths(emissions: Tensor, labels: Sequence[int]) -> Tensor:
    """The negative logarithm of the probability of the labels: [T, V] -> a scalar."""
    frames, units = emissions.shape
    paths = [
        path
        for path in itertools.product(range(units), repeat=frames)
        if collapsed(path) == list(labels)
    ]
    if not paths:
        return emissions.new_tensor(float("inf"))
    chosen = torch.tensor(paths)[:, :, None]  # [P, T, 1]
    log_probabilities = emissions.expand(len(paths), -1, -1).gather(2, chosen).sum((1, 2))  # [P]
    return -log_probabilities.exp().sum().log()


# Frames and labels of utterances that are a batch together, over three units and the blank.
BATCHES = {
    "one label": [(1, [2])],
    "as many frames as labels": [(3, [1, 2, 1])],
    "a repeat needs a blank": [(3, [1, 1])],
    "repeats with room": [(6, [1, 1, 2])],
    "other lengths": [(6, [3, 1]), (4, [2, 2]), (2, [1]), (5, [1, 2, 3])],
    "no labels in one": [(5, [1, 3, 3]), (4, []), (1, [3])],
}


def batch_of(utterances: Sequence[tuple[int, list[int]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits [B, T, V] in double precision, and lengths, padded labels and their lengths."""
    torch.manual_seed(len(utterances))
    lengths = torch.tensor([frames for frames, _ in utterances])
    sizes = torch.tensor([len(labels) for _, labels in utterances])
    targets = torch.full((len(utterances), max(int(sizes.max()), 1)), 1)  # padding that is a unit
    for row, (_, labels) in zip(targets, utterances, strict=True):
        row[: len(labels)] = torch.tensor(labels)
    logits = 2 * torch.randn(len(utterances), int(lengths.max()), 4, dtype=torch.double)
    return logits.requires_grad_(), lengths, targets, sizes


def expected_losses(logits: Tensor, utterances: Sequence[tuple[int, list[int]]]) -> list[Tensor]:
    return [
        over_all_paths(row[:frames].log_softmax(-1), labels)
        for row, (frames, labels) in zip(logits, utterances, strict=True)
    ]


def test_every_path_of_a_frame_and_of_all_labels_is_counted_once() -> None:
    emissions = torch.randn(4, 3, dtype=torch.double).log_softmax(-1)
    texts = {tuple(collapsed(path)) for path in itertools.product(range(3), repeat=4)}
    total = sum(float(torch.exp(-over_all_paths(emissions, text))) for text in texts)
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("utterances", BATCHES.values(), ids=BATCHES.keys())
def test_pytorchs_ctc_and_its_gradient_by_the_logits_are_those_over_all_paths(
    utterances: list[tuple[int, list[int]]],
) -> None:
    logits, lengths, targets, sizes = batch_of(utterances)
    emissions = logits.log_softmax(-1).transpose(0, 1)  # [T, B, V]
    losses = nn.functional.ctc_loss(emissions, targets, lengths, sizes, reduction="none")
    expected = torch.stack(expected_losses(logits, utterances))
    torch.testing.assert_close(losses, expected, atol=1e-10, rtol=0)
    counts = torch.arange(1.0, len(utterances) + 1, dtype=torch.double)
    (found,) = torch.autograd.grad((losses * counts).sum(), logits)
    (wanted,) = torch.autograd.grad((expected * counts).sum(), logits)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


@pytest.mark.parametrize("utterances", BATCHES.values(), ids=BATCHES.keys())
def test_the_loss_per_label_and_its_gradient_are_those_over_all_paths(
    utterances: list[tuple[int, list[int]]],
) -> None:
    logits, lengths, targets, sizes = batch_of(utterances)
    losses = ctc_loss(logits.log_softmax(-1), lengths, targets, sizes)
    every = zip(expected_losses(logits, utterances), utterances, strict=True)
    expected = torch.stack(
        [loss / len(labels) if labels else loss * 0 for loss, (_, labels) in every]
    )
    torch.testing.assert_close(losses, expected.float(), atol=1e-5, rtol=0)
    (found,) = torch.autograd.grad(losses.sum(), logits)
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_gradient_by_log_probabilities_alone_is_another_one() -> None:
    """PyTorch's backward is made for logits: the loss must come straight from log_softmax."""
    logits, lengths, targets, sizes = batch_of([(4, [1, 2])])
    emissions = logits.detach().log_softmax(-1).requires_grad_()
    loss = nn.functional.ctc_loss(emissions.transpose(0, 1), targets, lengths, sizes)
    (found,) = torch.autograd.grad(loss, emissions)
    (wanted,) = torch.autograd.grad(over_all_paths(emissions[0], [1, 2]), emissions)
    assert (found - wanted / 2).abs().max() > 0.05  # the mean is over the two labels


@pytest.mark.parametrize("labels", [[1, 2, 3], [1, 1]])
def test_what_no_path_spells_is_infinite_and_spoils_its_own_gradient_only(
    labels: list[int],
) -> None:
    utterances = [(2, labels), (4, [2, 1])]
    assert over_all_paths(torch.zeros(2, 4), labels).isinf()
    logits, lengths, targets, sizes = batch_of(utterances)
    losses = ctc_loss(logits.log_softmax(-1), lengths, targets, sizes)
    assert losses.isinf().tolist() == [True, False]
    (found,) = torch.autograd.grad(losses.sum(), logits)
    (wanted,) = torch.autograd.grad(expected_losses(logits, utterances)[1] / 2, logits)
    assert not found[0].isfinite().all()
    torch.testing.assert_close(found[1], wanted[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [0, 3])
def test_without_any_label_loss_and_gradient_are_zero(width: int) -> None:
    logits = torch.randn(2, 5, 4, requires_grad=True)
    targets, sizes = torch.ones(2, width, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    losses = ctc_loss(logits.log_softmax(-1), torch.tensor([5, 3]), targets, sizes)
    assert losses.tolist() == [0.0, 0.0]
    (found,) = torch.autograd.grad(losses.sum(), logits)
    assert not found.any()
