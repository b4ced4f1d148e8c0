"""The lookahead convolution against its definition, and how far the encoder hears ahead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from asr.models.ctc import CtcModel
from asr.models.lstm import LstmEncoder
from asr.models.lstm_unidirectional import Lookahead, UnidirectionalLstmEncoder

SETTINGS = Path(__file__).resolve().parents[2] / "conf" / "model"


def small(lookahead: int) -> UnidirectionalLstmEncoder:
    torch.manual_seed(0)
    return UnidirectionalLstmEncoder(
        12, channels=3, hidden=8, layers=2, lookahead=lookahead
    ).double()


def test_each_unit_is_a_weighted_sum_of_its_own_next_frames() -> None:
    torch.manual_seed(0)
    layer = Lookahead(5, lookahead=2).double()
    frames = torch.randn(2, 9, 5, dtype=torch.double)
    outputs = layer(frames)
    assert outputs.shape == (2, 7, 5)
    for t in range(7):
        for unit in range(5):
            expected = sum(layer.weight[j, unit] * frames[:, t + j, unit] for j in range(3))
            torch.testing.assert_close(outputs[:, t, unit], expected)


@pytest.mark.parametrize("lookahead", [0, 1, 3])
def test_a_frame_hears_as_many_frames_ahead_as_the_lookahead_says(lookahead: int) -> None:
    encoder = small(lookahead).eval()
    features = torch.randn(1, 60, 12, dtype=torch.double, requires_grad=True)
    outputs, lengths = encoder(features, torch.tensor([60]))
    assert lengths.tolist() == [15]
    # Unequal weights, because layer norm leaves a plain sum as it is.
    seen = (outputs[0, 5] * torch.arange(1.0, 9.0)).sum()
    heard = torch.autograd.grad(seen, features)[0][0].abs().sum(1) > 0
    # The convolutions see three frames of features beyond the first of a group of four.
    assert heard.nonzero().max() == (5 + lookahead) * 4 + 3
    assert heard[: (5 + lookahead) * 4 + 4].all()


def test_a_lookahead_of_none_leaves_the_layers_of_one_direction() -> None:
    encoder = small(0).eval()
    plain = LstmEncoder(12, channels=3, hidden=8, layers=2, bidirectional=False).double().eval()
    plain.load_state_dict(encoder.state_dict())
    features, lengths = torch.randn(2, 30, 12, dtype=torch.double), torch.tensor([30, 11])
    assert torch.equal(encoder(features, lengths)[0], plain(features, lengths)[0])


def test_the_lookahead_is_a_layer_above_the_others() -> None:
    encoder = small(3).eval()
    features, lengths = torch.randn(2, 30, 12, dtype=torch.double), torch.tensor([30, 11])
    outputs, _ = encoder.layer_outputs(features, lengths)
    assert [frames.shape for frames in outputs] == [(2, 8, 8)] * 3
    assert torch.equal(outputs[-1], encoder(features, lengths)[0])
    assert (outputs[-1] - outputs[-2]).abs().max() > 0.1


def test_the_last_frames_see_zeros_beyond_the_end() -> None:
    encoder = small(3).eval()
    lookahead = encoder.lookahead
    assert lookahead is not None
    features, lengths = torch.randn(1, 40, 12, dtype=torch.double), torch.tensor([20])
    outputs, sizes = encoder.layer_outputs(features, lengths)
    assert int(sizes) == 5
    below = outputs[-2][:, :5]  # [1, T', H]
    assert outputs[-2][:, 5:].abs().max() > 0

    def above(frames: Tensor) -> Tensor:
        return encoder.lookahead_norm(torch.nn.functional.silu(frames))

    last = below[:, 4] + above(lookahead.weight[0] * below[:, 4])
    torch.testing.assert_close(outputs[-1][:, 4], last)
    before = lookahead.weight[0] * below[:, 3] + lookahead.weight[1] * below[:, 4]
    torch.testing.assert_close(outputs[-1][:, 3], below[:, 3] + above(before))


def test_its_default_size_is_that_of_the_lstm() -> None:
    sizes = {}
    for name, encoder in (
        ("lstm", LstmEncoder),
        ("lstm_unidirectional", UnidirectionalLstmEncoder),
    ):
        settings = yaml.safe_load((SETTINGS / f"{name}.yaml").read_text(encoding="utf-8"))
        assert settings.pop("name") == name
        model = CtcModel(encoder(80, **settings), 66)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    assert sizes["lstm_unidirectional"] == pytest.approx(sizes["lstm"], rel=0.1)


def test_a_negative_lookahead_is_refused() -> None:
    with pytest.raises(ValueError, match="lookahead is 0 frames or more, not -1"):
        UnidirectionalLstmEncoder(80, lookahead=-1)
