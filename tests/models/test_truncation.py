"""Truncated back-propagation through time: the same outputs, gradients that reach less far back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from asr import registry
from asr.commands.compose import compose
from asr.commands.network import build_encoder
from asr.errors import UserError
from asr.models.lstm import LstmEncoder
from asr.models.lstm_unidirectional import UnidirectionalLstmEncoder
from asr.models.recurrent import RecurrentEncoder, RecurrentLayer

SETTINGS = sorted((Path(__file__).resolve().parents[2] / "conf" / "model").glob("*.yaml"))
TRUNCATED = ["gru", "lstm", "lstm_layernorm", "lstm_peephole", "lstm_reference", "rnn"]
LENGTHS = torch.tensor([11, 7, 2])


def layer(name: str, truncate: int) -> RecurrentLayer:
    torch.manual_seed(0)
    cell = registry.find("models", name).cell
    return RecurrentLayer(cell, 5, 6, bidirectional=False, truncate=truncate).double()


def frames_of(requires_grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 11, 5, dtype=torch.double, generator=generator)
    return frames.requires_grad_(requires_grad)


def gradients(module: RecurrentLayer, frames: Tensor) -> list[Tensor]:
    """Of weights and frames, for a loss in which every output counts differently."""
    outputs = module(frames, LENGTHS)
    generator = torch.Generator().manual_seed(2)
    counts = torch.randn(outputs.shape, dtype=torch.double, generator=generator)
    return list(torch.autograd.grad((outputs * counts).sum(), [*module.parameters(), frames]))


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("truncate", [1, 4, 11, 50])
def test_outputs_are_those_of_the_whole(name: str, truncate: int) -> None:
    expected = layer(name, 0)(frames_of(), LENGTHS)
    truncated = layer(name, truncate)
    torch.testing.assert_close(truncated(frames_of(), LENGTHS), expected, atol=1e-12, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(truncated(frames_of(), LENGTHS), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("truncate", [1, 4, 10])
def test_gradients_are_those_of_chunks_with_a_detached_state(truncate: int) -> None:
    mine = layer("lstm", truncate)
    lstm = nn.LSTM(5, 6, batch_first=True, dtype=torch.double)
    lstm.load_state_dict(mine.forwards.state_dict())
    frames = frames_of(requires_grad=True)
    hidden = cell = torch.zeros(1, 3, 6, dtype=torch.double)
    outputs = []
    for begin in range(0, 11, truncate):
        chunk, (hidden, cell) = lstm(
            frames[:, begin : begin + truncate], (hidden.detach(), cell.detach())
        )
        outputs.append(chunk)
    generator = torch.Generator().manual_seed(2)
    counts = torch.randn(3, 11, 6, dtype=torch.double, generator=generator)
    loss = (torch.cat(outputs, dim=1) * counts).sum()
    expected = torch.autograd.grad(loss, [*lstm.parameters(), frames])
    for mine_, theirs in zip(gradients(mine, frames), expected, strict=True):
        torch.testing.assert_close(mine_, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", TRUNCATED)
def test_gradients_are_the_full_ones_from_the_length_on_and_others_below(name: str) -> None:
    full = gradients(layer(name, 0), frames_of(requires_grad=True))
    for truncate in (11, 12):
        same = gradients(layer(name, truncate), frames_of(requires_grad=True))
        for expected, found in zip(full, same, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    cut = gradients(layer(name, 4), frames_of(requires_grad=True))
    assert max(float((a - b).abs().max()) for a, b in zip(full, cut, strict=True)) > 1e-3


@pytest.mark.parametrize("name", TRUNCATED)
def test_an_output_hears_its_own_chunk_only(name: str) -> None:
    frames = frames_of(requires_grad=True)
    outputs = layer(name, 4)(frames, LENGTHS)
    heard = torch.autograd.grad(outputs[:, 6].square().sum(), frames)[0].abs().sum((0, 2)) > 0
    assert heard.nonzero().flatten().tolist() == [4, 5, 6]


@pytest.mark.parametrize("lookahead", [0, 2])
def test_every_layer_of_an_encoder_is_truncated_at_the_same_frames(lookahead: int) -> None:
    torch.manual_seed(0)
    encoder = UnidirectionalLstmEncoder(
        12, channels=3, hidden=8, layers=2, lookahead=lookahead, truncate=5
    )
    features = torch.randn(1, 80, 12, requires_grad=True)  # 20 frames come out
    outputs, _ = encoder.eval()(features, torch.tensor([80]))
    # Unequal weights, because layer norm leaves a plain sum as it is.
    seen = (outputs[0, 12] * torch.arange(1.0, 9.0)).sum()
    heard = torch.autograd.grad(seen, features)[0][0].abs().sum(1) > 0
    # Frame 10 begins a chunk; the convolutions see three frames of features before a group of four.
    assert int(heard.nonzero().min()) == 10 * 4 - 3


def test_both_directions_cannot_be_truncated() -> None:
    with pytest.raises(ValueError, match=r"truncate=50 goes with bidirectional=false only"):
        LstmEncoder(80, truncate=50)


def test_it_is_a_setting_and_its_refusal_a_single_line() -> None:
    words = ["recipe=custom", "model.hidden=8", "model.truncate=50"]
    encoder = build_encoder(compose([*words, "model.bidirectional=false"]))
    assert [layer.truncate for layer in encoder.layers] == [50, 50, 50]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"^model: truncate=50 .* be there as a whole\.$"):
        build_encoder(compose(words))


def test_a_negative_truncation_is_refused() -> None:
    with pytest.raises(ValueError, match="truncate is 0 frames or more, not -1"):
        UnidirectionalLstmEncoder(80, truncate=-1)


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: file.stem)
def test_settings_have_it_wherever_the_encoder_takes_it_and_leave_it_off(file: Path) -> None:
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    encoder = registry.find("models", settings.pop("name"))
    if encoder.__init__ in (RecurrentEncoder.__init__, UnidirectionalLstmEncoder.__init__):
        assert settings["truncate"] == 0
        settings |= {"truncate": 7, "bidirectional": False, "hidden": 8}
        if encoder is UnidirectionalLstmEncoder:
            del settings["bidirectional"]
        assert [layer.truncate for layer in encoder(80, **settings).layers] == [7] * 3
    else:
        assert "truncate" not in settings
