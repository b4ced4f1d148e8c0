"""The cells written by hand: PyTorch's, their own equations, finite differences, a sum by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr import bundle, registry
from asr.models.ctc import CtcModel
from asr.models.gru import GruEncoder, ReferenceGru
from asr.models.lstm import LstmEncoder
from asr.models.lstm_layernorm import LayerNormLstm
from asr.models.lstm_peephole import PeepholeLstm
from asr.models.lstm_reference import ReferenceLstm
from asr.models.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from asr.bundle import Bundle

BATCH, INPUT, HIDDEN = 3, 5, 8
LSTMS = (ReferenceLstm, PeepholeLstm, LayerNormLstm)
# How far apart values may lie, as a share of the largest.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


class PeepholeEquations(PeepholeLstm):
    forward = ReferenceLstm.forward  # the loop over `step`, differentiated by autograd


class LayerNormEquations(LayerNormLstm):
    forward = ReferenceLstm.forward


def shuffled(cell: nn.Module, besides: str = "nothing") -> nn.Module:
    """With every weight drawn anew, so that none is at a value that hides something."""
    for name, parameter in cell.named_parameters():
        if besides not in name:
            nn.init.normal_(parameter, std=0.5)
    return cell


# Each written cell, and the one that says what is right; both take (input_size, hidden).
PAIRS: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    "the reference LSTM and PyTorch's": (ReferenceLstm, LstmEncoder.cell),
    "the peephole LSTM without peepholes and PyTorch's": (PeepholeLstm, LstmEncoder.cell),
    "the peephole LSTM and its equations": (PeepholeLstm, PeepholeEquations),
    "the layer-normalised LSTM and its equations": (LayerNormLstm, LayerNormEquations),
    "the reference GRU and PyTorch's": (ReferenceGru, GruEncoder.cell),
}


def values_and_gradients(
    cell: nn.Module, frames: Tensor, state: list[Tensor] | None
) -> dict[str, Tensor]:
    """Outputs, last state and the gradients of a sum of them all with fixed random weights."""
    frames = frames.clone().requires_grad_()
    state = state and [part.clone().requires_grad_() for part in state]
    # A GRU's state is one tensor, an LSTM's two.
    outputs, last = cell(frames, state and (tuple(state) if len(state) == 2 else state[0]))
    found = {"outputs": outputs, **dict(enumerate(last if isinstance(last, tuple) else (last,)))}
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (value * torch.randn(value.shape, generator=generator, dtype=value.dtype)).sum()
        for value in found.values()
    )
    total.backward()  # type: ignore[union-attr]
    found |= {f"gradient of {name}": weight.grad for name, weight in cell.named_parameters()}
    found |= {f"gradient of state {i}": part.grad for i, part in enumerate(state or [])}
    return found | {"gradient of the frames": frames.grad}


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("time", [1, 7, 100])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])
@pytest.mark.parametrize("pair", PAIRS)
def test_values_and_all_gradients_are_those_of(
    pair: str, dtype: torch.dtype, time: int, given: bool
) -> None:
    torch.manual_seed(0)
    cell, right = (make(INPUT, HIDDEN).to(dtype) for make in PAIRS[pair])
    shuffled(cell, besides="weight_c" if "without peepholes" in pair else "nothing")
    right.load_state_dict({name: cell.state_dict()[name] for name in right.state_dict()})
    frames = torch.randn(BATCH, time, INPUT, dtype=dtype)
    states = 1 if "GRU" in pair else 2
    state = [torch.randn(1, BATCH, HIDDEN, dtype=dtype) for _ in range(states)] if given else None

    found = values_and_gradients(cell, frames, state)
    expected = values_and_gradients(right, frames, state)
    assert len(expected) >= 1 + states + 4 + 1
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        distance = (found[name] - value).abs().max()
        assert distance <= TOLERANCE[dtype] * value.abs().max(), name
        assert found[name].any() or (time == 1 and not given), name


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("make", [PeepholeLstm, LayerNormLstm])
def test_gradients_by_hand_are_those_of_finite_differences(
    make: type[ReferenceLstm], given: bool
) -> None:
    torch.manual_seed(0)
    cell = shuffled(make(2, 3).double())
    frames = torch.randn(2, 4, 2, dtype=torch.double)
    state = [torch.randn(1, 2, 3, dtype=torch.double) for _ in range(2)] if given else []

    def call(frames: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        outputs, last = cell(frames, others[:2] if given else None)
        return outputs, *last  # the weights are moved where they are

    values = [value.requires_grad_() for value in (frames, *state)]
    assert torch.autograd.gradcheck(call, [*values, *cell.parameters()])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_one_step_of_each_cell_is_the_sum_done_by_hand() -> None:
    """One unit; input 2, output before 0.5, cell before -1; gates in the order i, f, g, o."""
    frames = torch.full((1, 1, 1), 2.0, dtype=torch.double)
    state = tuple(torch.full((1, 1, 1), value, dtype=torch.double) for value in (0.5, -1.0))
    weights = {
        "weight_ih_l0": [[0.1], [0.2], [0.3], [0.4]],
        "weight_hh_l0": [[0.5], [-0.6], [0.7], [-0.8]],
        "bias_ih_l0": [0.01, 0.02, 0.03, 0.04],
        "bias_hh_l0": [0.1, 0.2, 0.3, 0.4],
    }
    peepholes = {"weight_ci_l0": [0.9], "weight_cf_l0": [-1.1], "weight_co_l0": [1.3]}
    i, f = 0.2 + 0.25 + 0.11, 0.4 - 0.3 + 0.22
    g, o = math.tanh(0.6 + 0.35 + 0.33), 0.8 - 0.4 + 0.44

    plain_cell = sigmoid(f) * -1 + sigmoid(i) * g
    plain = sigmoid(o) * math.tanh(plain_cell)
    peephole_cell = sigmoid(f + 1.1) * -1 + sigmoid(i - 0.9) * g
    peephole = sigmoid(o + 1.3 * peephole_cell) * math.tanh(peephole_cell)
    for make, own, cell, hidden in (
        (ReferenceLstm, {}, plain_cell, plain),
        (PeepholeLstm, peepholes, peephole_cell, peephole),
    ):
        lstm = make(1, 1).double()
        lstm.load_state_dict({k: torch.tensor(v) for k, v in (weights | own).items()})
        outputs, last = lstm(frames, state)
        assert outputs.item() == pytest.approx(hidden, rel=1e-6)  # the weights are in fp32
        assert [part.item() for part in last] == pytest.approx([hidden, cell], rel=1e-6)
        gates = lstm.gates(frames, state)
        assert gates.hidden.item() == pytest.approx(hidden, rel=1e-6)


def test_one_step_of_the_layer_normalised_cell_is_the_sum_done_by_hand() -> None:
    """Two units, so that there is something to normalise; rows of the gates i, f, g, o."""

    def normed(values: list[float]) -> list[float]:
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        return [(value - mean) / math.sqrt(variance + 1e-5) for value in values]

    torch.manual_seed(0)
    lstm = shuffled(LayerNormLstm(1, 2).double())
    weights = {name: weight.tolist() for name, weight in lstm.named_parameters()}
    h, c, x = [0.5, -0.3], [-1.0, 0.7], 2.0
    from_input = normed([row[0] * x for row in weights["weight_ih_l0"]])
    from_before = normed([row[0] * h[0] + row[1] * h[1] for row in weights["weight_hh_l0"]])
    sums = [
        weights["gain_ih_l0"][row] * from_input[row]
        + weights["gain_hh_l0"][row] * from_before[row]
        + weights["bias_ih_l0"][row]
        + weights["bias_hh_l0"][row]
        for row in range(8)
    ]
    i, f, o = (list(map(sigmoid, sums[start : start + 2])) for start in (0, 2, 6))
    g = list(map(math.tanh, sums[4:6]))
    cell = [f[unit] * c[unit] + i[unit] * g[unit] for unit in range(2)]
    shown = normed(cell)
    hidden = [
        o[unit] * math.tanh(weights["gain_c_l0"][unit] * shown[unit] + weights["bias_c_l0"][unit])
        for unit in range(2)
    ]

    state = tuple(torch.tensor([[before]], dtype=torch.double) for before in (h, c))
    outputs, (_, last) = lstm(torch.full((1, 1, 1), x, dtype=torch.double), state)
    assert outputs.flatten().tolist() == pytest.approx(hidden)
    assert last.flatten().tolist() == pytest.approx(cell)


@pytest.mark.parametrize("make", LSTMS)
def test_gates_say_how_cells_and_outputs_came_about(make: type[ReferenceLstm]) -> None:
    torch.manual_seed(0)
    cell = shuffled(make(INPUT, HIDDEN).double())
    frames = torch.randn(BATCH, 9, INPUT, dtype=torch.double)
    with torch.no_grad():
        gates = cell.gates(frames)
        outputs, (_, last) = cell(frames)
    torch.testing.assert_close(gates.hidden, outputs)
    torch.testing.assert_close(gates.cell[:, -1], last[0])
    before = nn.functional.pad(gates.cell, (0, 0, 1, 0))[:, :-1]
    torch.testing.assert_close(gates.cell, gates.forget * before + gates.input * gates.candidate)
    assert (outputs.abs() < gates.output).all()
    for gate in (gates.input, gates.forget, gates.output):
        assert gate.shape == outputs.shape
        assert gate.min() > 0
        assert gate.max() < 1


@pytest.mark.parametrize("make", [*LSTMS, ReferenceGru])
def test_a_sequence_in_two_parts_is_the_sequence(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    cell = shuffled(make(INPUT, HIDDEN))
    frames = torch.randn(BATCH, 9, INPUT)
    with torch.inference_mode():
        whole, last = cell(frames)
        first, state = cell(frames[:, :4])
        second, end = cell(frames[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, last)


@pytest.mark.parametrize(
    ("make", "kernel"), [*((lstm, nn.LSTM) for lstm in LSTMS), (ReferenceGru, nn.GRU)]
)
def test_the_same_seed_draws_the_weights_of_pytorchs(
    make: Callable[..., nn.Module], kernel: type[nn.RNNBase]
) -> None:
    torch.manual_seed(3)
    expected = kernel(INPUT, HIDDEN)
    torch.manual_seed(3)
    cell = make(INPUT, HIDDEN)
    for name, weight in expected.named_parameters():
        assert torch.equal(cell.get_parameter(name), weight), name


@pytest.mark.parametrize("make", LSTMS)
def test_a_layer_of_them_starts_as_one_of_pytorchs(make: type[ReferenceLstm]) -> None:
    torch.manual_seed(3)
    expected = RecurrentLayer(LstmEncoder.cell, INPUT, HIDDEN)
    torch.manual_seed(3)
    layer = RecurrentLayer(make, INPUT, HIDDEN)
    for direction in ("forwards", "backwards"):
        cell, twin = getattr(layer, direction), getattr(expected, direction)
        for name, weight in twin.named_parameters():
            assert torch.equal(cell.get_parameter(name), weight), name
        for gate in cell.weight_hh_l0.detach().split(HIDDEN):
            torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN), atol=1e-5, rtol=0)
        # What a bias of 1 is there for, whatever is normalised on the way.
        forget = cell.gates(torch.zeros(1, 1, INPUT)).forget
        torch.testing.assert_close(forget, torch.full_like(forget, sigmoid(1)))


def test_a_layer_of_reference_grus_starts_orthogonal_and_without_bias() -> None:
    cell = RecurrentLayer(ReferenceGru, INPUT, HIDDEN).forwards
    for gate in cell.weight_hh_l0.detach().split(HIDDEN):  # type: ignore[operator]
        torch.testing.assert_close(gate @ gate.T, torch.eye(HIDDEN), atol=1e-5, rtol=0)
    assert not cell.bias_ih_l0.any()  # type: ignore[operator]
    assert not cell.bias_hh_l0.any()  # type: ignore[operator]


def test_what_an_lstm_learnt_its_equations_recognise(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    trained = make_bundle()
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    expected, _ = trained.emissions([waveform])
    trained.model["name"] = "lstm_reference"
    trained.save(tmp_path / "model")
    loaded = bundle.load(tmp_path / "model")
    assert isinstance(loaded.network.encoder.layers[0].forwards, ReferenceLstm)  # type: ignore[index,union-attr]
    torch.testing.assert_close(loaded.emissions([waveform])[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("size", [1, 4])
def test_nothing_to_normalise_gives_numbers(size: int, value: float) -> None:
    """One unit, or the same input in all places: the variance is nothing."""
    torch.manual_seed(0)
    cell = LayerNormLstm(size, size)
    nn.init.constant_(cell.weight_ih_l0, 0.5)
    frames = torch.full((2, 6, size), value, requires_grad=True)
    outputs, _ = cell(frames)
    outputs.square().sum().backward()
    assert outputs.isfinite().all()
    for values in (frames, *cell.parameters()):
        assert values.grad is not None
        assert values.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(registry.COMPONENTS["models"]))
def test_half_precision_on_a_cpu_stays_near_full_precision(name: str) -> None:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(
        input_size=80, channels=4, hidden=16, layers=2, dropout=0.0
    )
    model = CtcModel(encoder, 11)
    features, lengths = torch.randn(3, 60, 80), torch.tensor([60, 31, 1])
    with torch.inference_mode():
        expected, _ = model(features, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        try:
            emissions, _ = model(features, lengths)
        except RuntimeError as error:
            if "bf16" not in str(error).lower() and "bfloat16" not in str(error).lower():
                raise
            pytest.skip(f"this CPU has no kernel for it: {error}")
    emissions.sum().backward()
    assert (emissions - expected).abs().max() < 0.1
    for weight, parameter in model.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.isfinite().all(), weight


@pytest.mark.parametrize("make", [*LSTMS, ReferenceGru])
def test_mixed_precision_leaves_the_recurrence_in_full_precision(
    make: Callable[..., nn.Module],
) -> None:
    """The sums over time; what the frames are multiplied by is zero here, and as exact in bf16."""
    torch.manual_seed(0)
    cell = RecurrentLayer(make, INPUT, HIDDEN, bidirectional=False).forwards
    nn.init.zeros_(cell.weight_ih_l0)  # type: ignore[arg-type]
    frames, first = torch.randn(BATCH, 20, INPUT), torch.randn(1, BATCH, HIDDEN)
    state = first if make is ReferenceGru else (first, first)
    found = []
    for mixed in (False, True):
        cell.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            outputs, _ = cell(frames, state)
        outputs.square().sum().backward()
        found += [outputs, cell.weight_hh_l0.grad.clone()]  # type: ignore[union-attr,operator]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
