"""The gates against the equations in NumPy, and against what the network does."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr import registry
from asr.bundle import Bundle
from asr.decoding.words import words_of
from asr.errors import UserError
from asr.gates.excerpt import Excerpt
from asr.gates.trace import trace
from asr.models.ctc import CtcModel
from asr.models.recurrent import RecurrentEncoder, RecurrentLayer

RATE_HZ = 16_000
LSTMS = [name for name in sorted(registry.COMPONENTS["models"]) if name.startswith("lstm")]


def excerpt(duration_s: float = 1.5, seed: int = 0) -> Excerpt:
    noise = np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE_HZ))
    return Excerpt("noise.wav", noise.astype(np.float32), 0.0, duration_s)


def with_model(bundle: Bundle, name: str) -> Bundle:
    """The bundle with another encoder, of random weights."""
    torch.manual_seed(0)
    encoder = registry.find("models", name)(input_size=20, channels=4, hidden=16, layers=2)
    network = CtcModel(encoder, len(bundle.units.symbols))
    return dataclasses.replace(bundle, network=network, model={"name": name})


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def equations(cell: nn.Module, frames: np.ndarray) -> dict[str, np.ndarray]:
    """The LSTM of the textbooks, frame by frame, from PyTorch's weights: [T', I] -> [T', H]."""
    weights = {name: value.double().numpy() for name, value in cell.state_dict().items()}
    size = len(weights["bias_ih_l0"]) // 4
    hidden = memory = np.zeros(size)
    steps = []
    for frame in frames:
        sums = weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]
        sums = sums + weights["weight_hh_l0"] @ hidden + weights["bias_hh_l0"]
        i, f, g, o = (sums[at * size : (at + 1) * size] for at in range(4))
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(memory)
        steps.append((sigmoid(f), sigmoid(i), sigmoid(o), memory, hidden))
    names = ("forget", "input", "output", "cell", "hidden")
    return dict(zip(names, (np.array(values) for values in zip(*steps, strict=True)), strict=True))


def test_gates_are_those_of_the_equations_in_each_layer_and_direction(tiny_bundle: Bundle) -> None:
    heard = excerpt()
    found = trace(tiny_bundle, heard)

    network = copy.deepcopy(tiny_bundle.network).double().eval()
    features, lengths = tiny_bundle.features(*tiny_bundle.padded([heard.waveform]))
    with torch.no_grad():
        first, frames = network.encoder.frontend(features.double(), lengths)
        (second, _), _ = network.encoder.layer_outputs(features.double(), lengths)
    assert int(frames) == first.shape[1]
    inputs = {1: first[0].numpy(), 2: second[0].numpy()}
    assert [(cell.layer, cell.direction) for cell in found.cells] == [
        (1, "forward"),
        (1, "backward"),
        (2, "forward"),
        (2, "backward"),
    ]
    for cell in found.cells:
        layer = network.encoder.layers[cell.layer - 1]
        if cell.direction == "forward":
            expected = equations(layer.forwards, inputs[cell.layer])
        else:
            backward = equations(layer.backwards, inputs[cell.layer][::-1])
            expected = {name: values[::-1] for name, values in backward.items()}
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(cell, name), values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", LSTMS)
def test_every_lstm_can_be_looked_into(tiny_bundle: Bundle, name: str) -> None:
    bundle = with_model(tiny_bundle, name)
    found = trace(bundle, excerpt())
    assert found.difference <= 1e-9  # in double precision, far below AGREEMENT
    directions = 1 if name == "lstm_unidirectional" else 2
    assert len(found.cells) == 2 * directions
    for cell in found.cells:
        for values in (cell.forget, cell.input, cell.output, cell.cell, cell.hidden):
            assert values.shape == (37, 16)
            assert values.std() > 0
        assert 0 < cell.forget.min() < cell.forget.max() < 1


def test_what_is_emitted_is_what_the_decoder_hears(tiny_bundle: Bundle) -> None:
    heard = excerpt(3.0)
    tiny_bundle.network.train()  # dropout is for training alone
    found = trace(tiny_bundle, heard)
    [[best]] = tiny_bundle.search.decode(*tiny_bundle.emissions([heard.waveform]))
    assert len(best.words) > 5
    assert found.text == best.text
    for mine, theirs in zip(words_of(tiny_bundle.units, found.emitted), best.words, strict=True):
        assert mine.word == theirs.word
        assert (mine.start_s, mine.end_s) == pytest.approx((theirs.start_s, theirs.end_s))
        assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-3)


def test_log_mel_energies_and_their_times_are_those_of_the_features(tiny_bundle: Bundle) -> None:
    """A click in the middle is where its frames say it is, a tone in the bin that says so."""
    waveform = np.zeros(RATE_HZ, np.float32)
    waveform[8_000] = 1.0
    found = trace(tiny_bundle, Excerpt("click", waveform, 0.0, 1.0))
    loud = np.flatnonzero(found.log_mel.mean(1) > found.log_mel.mean() + 5)
    middles = found.mel_first_s + (loud + 0.5) * found.mel_step_s
    assert middles.mean() == pytest.approx(0.5, abs=0.005)

    tone = 0.5 * np.sin(2 * np.pi * 2000 * np.arange(RATE_HZ) / RATE_HZ)
    found = trace(tiny_bundle, Excerpt("tone", tone.astype(np.float32), 0.0, 1.0))
    assert found.mel_hz[found.log_mel.mean(0).argmax()] == pytest.approx(2000, rel=0.1)


def test_a_bin_too_narrow_for_any_frequency_lies_between_its_neighbours(
    tiny_bundle: Bundle,
) -> None:
    found = trace(tiny_bundle, excerpt())
    tiny_bundle.features.mel_filters[:, 7] = 0
    emptied = trace(tiny_bundle, excerpt())
    assert emptied.mel_hz[7] == pytest.approx((found.mel_hz[6] + found.mel_hz[8]) / 2)
    np.testing.assert_array_equal(np.delete(emptied.mel_hz, 7), np.delete(found.mel_hz, 7))


def test_frames_of_cells_stand_over_the_sound_they_begin_with(tiny_bundle: Bundle) -> None:
    found = trace(tiny_bundle, excerpt())
    assert found.step_s == pytest.approx(0.04)
    assert found.first_s + found.step_s / 2 == pytest.approx(0.0125)  # the first window's middle


def test_silence_gives_a_trace_in_which_nothing_is_emitted(tiny_bundle: Bundle) -> None:
    with torch.no_grad():
        tiny_bundle.network.head.bias[0] += 1000.0  # always the blank
    found = trace(tiny_bundle, Excerpt("silence", np.zeros(RATE_HZ, np.float32), 0.0, 1.0))
    assert (found.emitted, found.text) == ((), "")
    assert np.isfinite(found.log_mel).all()


def test_the_bundle_stays_as_it_was(tiny_bundle: Bundle) -> None:
    before = tiny_bundle.digest
    trace(tiny_bundle, excerpt())
    assert tiny_bundle.digest == before
    assert next(tiny_bundle.network.parameters()).dtype == torch.float32
    assert not any(module._forward_hooks for module in tiny_bundle.network.modules())


@pytest.mark.parametrize("name", ["gru", "rnn", "transformer"])
def test_a_model_without_lstm_is_refused_and_those_with_are_named(
    tiny_bundle: Bundle, name: str
) -> None:
    with pytest.raises(UserError, match=f"kind {name} has no LSTM gates.*lstm, .*lstm_reference"):
        trace(with_model(tiny_bundle, name), excerpt())


@pytest.mark.parametrize(
    "settings",
    [
        {"num_layers": 2},
        {"bias": False},
        {"proj_size": 16, "hidden_size": 32},
        {"bidirectional": True, "hidden_size": 8},
        {"batch_first": False},
    ],
)
def test_lstms_of_another_form_are_refused_like_cells_that_are_none(
    tiny_bundle: Bundle, settings: dict[str, Any]
) -> None:
    class Odd(RecurrentEncoder):
        @staticmethod
        def cell(input_size: int, hidden: int) -> nn.LSTM:
            return nn.LSTM(input_size, **{"hidden_size": hidden, "batch_first": True, **settings})

    encoder = Odd(input_size=20, channels=4, hidden=16, layers=2)
    network = CtcModel(encoder, len(tiny_bundle.units.symbols))
    bundle = dataclasses.replace(tiny_bundle, network=network, model={"name": "odd"})
    with pytest.raises(UserError, match=r"kind odd has no LSTM gates that are known.*lstm, "):
        trace(bundle, excerpt())


class Leaky(nn.LSTM):
    """Not what its weights say."""

    def forward(self, frames: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return 1.001 * super().forward(frames)[0], None


def test_gates_that_are_not_the_networks_are_refused(tiny_bundle: Bundle) -> None:
    layer = tiny_bundle.network.encoder.layers[1]  # type: ignore[union-attr,index]
    assert isinstance(layer, RecurrentLayer)
    leaky = Leaky(32, 16, batch_first=True)
    assert layer.backwards is not None
    leaky.load_state_dict(layer.backwards.state_dict())
    layer.backwards = leaky
    with pytest.raises(UserError, match="Layer 2, backward: the outputs recomputed"):
        trace(tiny_bundle, excerpt())


def test_weights_that_are_no_numbers_are_refused(tiny_bundle: Bundle) -> None:
    with torch.no_grad():
        tiny_bundle.network.get_parameter("encoder.layers.0.forwards.weight_hh_l0")[0, 0] = np.nan
    with pytest.raises(UserError, match=r"Layer 1, forward.*by nan"):
        trace(tiny_bundle, excerpt())


def test_less_than_one_frame_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(UserError, match=r"24\.9 ms from 0 s on are less than one frame of 25 ms"):
        trace(tiny_bundle, excerpt(0.0249375))
    assert len(trace(tiny_bundle, excerpt(0.025)).cells[0].forget) == 1
