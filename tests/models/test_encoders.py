"""What every encoder keeps: an utterance's result is its own."""

from __future__ import annotations

import pytest
import torch

from asr import registry
from asr.errors import UserError
from asr.models.ctc import CtcModel
from asr.models.frontend import TIME_STRIDES


def small(name: str, **arguments: object) -> CtcModel:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(
        input_size=80, channels=4, hidden=16, layers=2, dropout=0.3, **arguments
    )
    return CtcModel(encoder, 11)


@pytest.mark.parametrize("name", sorted(registry.COMPONENTS["models"]))
@pytest.mark.parametrize("subsampling", sorted(TIME_STRIDES))
def test_padding_and_neighbours_change_no_result(name: str, subsampling: int) -> None:
    model = small(name, subsampling=subsampling).eval()
    lengths = torch.tensor([120, 33, 1, 64, 0])
    features = torch.randn(5, 140, 80)
    with torch.inference_mode():
        together, sizes = model(features, lengths)
        for row, length in enumerate(lengths.tolist()):
            assert int(sizes[row]) == -(-length // subsampling)
            if length:
                alone, size = model(features[row : row + 1, :length], lengths[row : row + 1])
                torch.testing.assert_close(together[row, : int(size)], alone[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(together.shape[:2]))


@pytest.mark.parametrize("name", sorted(registry.COMPONENTS["models"]))
def test_gradients_reach_every_weight_and_no_padding(name: str) -> None:
    model = small(name)
    features = torch.randn(3, 50, 80, requires_grad=True)
    lengths = torch.tensor([50, 30, 11])
    emissions, sizes = model(features, lengths)
    inside = (torch.arange(emissions.shape[1]) < sizes[:, None])[:, :, None]
    (emissions * inside * torch.randn(11)).sum().backward()
    for weight, parameter in model.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.abs().sum() > 0, weight
    assert features.grad is not None
    for row, length in enumerate(lengths):
        assert not features.grad[row, length:].any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layers": 0}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"subsampling": 5}, "subsampling is one of"),
    ],
)
def test_impossible_sizes_are_refused_with_the_reason(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        registry.find("models", "lstm")(**({"input_size": 80} | wrong))


def test_a_mistyped_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'lstm'"):
        registry.find("models", "lstn")
