"""`tools/gradient_flow.py`, `clipping.py`, `long_memory.py`: what they measure is what they say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tools"))
adding_problem: Any = importlib.import_module("adding_problem")
clipping: Any = importlib.import_module("clipping")
gradient_flow: Any = importlib.import_module("gradient_flow")
long_memory: Any = importlib.import_module("long_memory")

CELLS = ("rnn", "gru", "lstm", "lstm_chrono")
TINY = adding_problem.Setting(
    model="lstm",
    length=4,
    truncate=0,
    seed=1,
    updates=2000,
    hidden=8,
    batch=32,
    learning_rate=0.01,
    test_sequences=500,
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the tools have it: two are slower at these sizes, and on a busy machine many times so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A function that runs a tool in an empty folder: exit status, output, messages."""
    monkeypatch.chdir(tmp_path)

    def job(tool: Any, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [tool.__name__, *words])
        status = tool.main()
        return status, *capsys.readouterr()

    return job


def problem(batch: int, length: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    return adding_problem.random_sequences(batch, length, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [2, 7, 100])
def test_one_step_in_each_half_is_marked_and_their_sum_is_asked_for(length: int) -> None:
    frames, sums = problem(200, length)
    assert frames.shape == (200, length, 2)
    places = set()
    for (values, markers), wanted in zip(frames.transpose(1, 2).tolist(), sums, strict=True):
        first, second = (place for place, marker in enumerate(markers) if marker == 1.0)
        assert first < length // 2 <= second
        assert sorted(set(markers)) in ([0.0, 1.0], [1.0])
        assert min(values) >= 0
        assert max(values) < 1
        assert values[first] + values[second] == pytest.approx(float(wanted))
        places |= {first, second}
    if length < 10:  # any step can be marked
        assert places == set(range(length))


def test_who_always_answers_one_has_the_error_that_theory_gives() -> None:
    _, sums = problem(40_000, 20)
    # Fourth central moment of the sum of two even draws: 1/15. So one squared error deviates by
    # sqrt(1/15 - 1/36) = 0.197 from its mean, and the mean of 40,000 by 0.001.
    error = (sums - 1).square().mean()
    assert float(error) == pytest.approx(adding_problem.BASELINE_MSE, abs=0.004)


@pytest.mark.parametrize("truncate", [1, 4, 5])
@pytest.mark.parametrize("model", CELLS)
def test_a_cut_keeps_the_state_and_the_gradients_of_the_last_steps_alone(
    model: str, truncate: int
) -> None:
    torch.manual_seed(0)
    network = adding_problem.Adder(model, 6, longest=12)
    frames, _ = problem(3, 12)
    frames.requires_grad_()

    def answers_and_gradients(truncate: int) -> tuple[Tensor, Tensor]:
        answers = network(frames, truncate)
        return answers.detach(), torch.autograd.grad(answers.sum(), frames)[0].abs().sum((0, 2))

    whole, everywhere = answers_and_gradients(0)
    assert everywhere.min() > 0
    cut, gradients = answers_and_gradients(truncate)
    torch.testing.assert_close(cut, whole)
    assert gradients[:-truncate].tolist() == [0.0] * (12 - truncate)
    torch.testing.assert_close(gradients[-truncate:], everywhere[-truncate:])


@pytest.mark.parametrize("truncate", [12, 50])
def test_a_cut_no_shorter_than_the_sequence_is_full_back_propagation(truncate: int) -> None:
    torch.manual_seed(0)
    network = adding_problem.Adder("lstm", 6, longest=12)
    frames, sums = problem(3, 12)
    gradients = []
    for cut in (0, truncate):
        network.zero_grad()
        (network(frames, cut) - sums).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for full, other in zip(*gradients, strict=True):
        assert torch.equal(full, other)


def without_gradient(state: Any) -> Any:
    return state.detach() if isinstance(state, Tensor) else tuple(map(without_gradient, state))


@pytest.mark.parametrize("truncate", [1, 3, 4, 6])
@pytest.mark.parametrize("model", CELLS)
def test_with_the_loss_at_the_end_a_cut_teaches_what_cutting_at_every_kth_step_would(
    model: str, truncate: int
) -> None:
    torch.manual_seed(0)
    network = adding_problem.Adder(model, 6, longest=12).double()
    frames, sums = (one.double() for one in problem(3, 12))
    state = None
    for stretch in frames.split(truncate, dim=1):
        outputs, state = network.cell(stretch, state)
        state = without_gradient(state)
    parameters = tuple(network.parameters())
    answers = network.head(outputs[:, -1])[:, 0]
    wanted = torch.autograd.grad((answers - sums).square().mean(), parameters)
    found = torch.autograd.grad((network(frames, truncate) - sums).square().mean(), parameters)
    torch.testing.assert_close(found, wanted)


def test_chrono_memories_last_from_two_steps_to_the_longest() -> None:
    torch.manual_seed(0)
    cell = nn.LSTM(2, 4000)
    adding_problem.start_chrono(cell, 100)
    inputs, forgets, candidates, outputs = cell.bias_ih_l0.detach().chunk(4)
    steps = 1 / (1 - forgets.double().sigmoid())  # what a forget gate remembers
    assert 2 <= steps.min() < 2.2
    assert 99 < steps.max() <= 100
    assert float(steps.mean()) == pytest.approx(51, abs=2)  # evenly
    assert torch.equal(inputs, -forgets)
    assert candidates.abs().max() + outputs.abs().max() < 0.1  # as they were


def test_a_training_ends_where_it_has_learnt() -> None:
    training = adding_problem.train(TINY)
    assert training.learnt_at == training.updates < TINY.updates
    assert len(training.curve) == training.updates / adding_problem.WINDOW_UPDATES
    assert training.curve[-1] < adding_problem.LEARNT_MSE <= min(training.curve[:-1])
    assert training.test_mse < 2 * adding_problem.LEARNT_MSE
    assert sum(mse < 2 * adding_problem.LEARNT_MSE for mse in training.curve) > 1  # not before
    short = adding_problem.train(replace(TINY, updates=50))
    assert (short.learnt_at, short.updates, short.curve) == (None, 50, training.curve[:1])


def test_gradients_are_clipped_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding_problem, "CLIP_NORM", 0.0)
    setting = replace(TINY, updates=50)
    torch.manual_seed(setting.seed)
    untrained = adding_problem.Adder(setting.model, setting.hidden, setting.length)
    found = adding_problem.train(setting).test_mse
    assert found == adding_problem.error_on_test(untrained, setting)


WORDS = ("--quick", "--models", "rnn", "gru", "--results", "found.jsonl")


def test_what_is_done_is_not_done_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained, train = [], long_memory.train

    def until_stopped(setting: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(setting)
        return train(setting)

    monkeypatch.setattr(long_memory, "train", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        run(long_memory, *WORDS)
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == 3

    monkeypatch.setattr(long_memory, "train", lambda one: trained.append(one) or train(one))
    status, output, messages = run(long_memory, *WORDS, "-o", "curves.png")
    assert status == 0
    assert "5 of 5: 20 steps, gru, cut 5, seed 1" in messages
    assert len(trained) == len(set(trained)) == 8
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    again = run(long_memory, *WORDS)
    assert again == (0, output, "")
    assert len(trained) == 8


def test_the_table_shows_all_that_has_the_same_sizes(run: Run) -> None:
    run(long_memory, *WORDS, "--models", "rnn")
    run(long_memory, *WORDS, "--models", "rnn", "--learning-rate", "0.5")
    _, output, messages = run(long_memory, *WORDS, "--models", "gru", "--json")
    found = json.loads(output)
    assert messages.count("\n") == 4
    shown = [
        (one["setting"]["length"], one["setting"]["model"], one["setting"]["truncate"])
        for one in found
    ]
    assert shown == [(t, model, k) for t in (10, 20) for model in ("rnn", "gru") for k in (0, 5)]
    assert {one["setting"]["learning_rate"] for one in found} == {0.03}


@pytest.mark.parametrize("line", ["", "nonsense", "[]", '{"setting": {"length": 3}}'])
def test_a_file_that_holds_no_results_is_refused(run: Run, tmp_path: Path, line: str) -> None:
    (tmp_path / "found.jsonl").write_text(f"{line}\n")
    status, _, messages = run(long_memory, *WORDS)
    assert status == 2
    assert messages == (
        "long_memory: found.jsonl, line 1, is no training of this tool: name another --results\n"
    )
    assert (tmp_path / "found.jsonl").read_text() == f"{line}\n"


def cell_of(model: str, **start: float) -> Any:
    torch.manual_seed(3)
    return gradient_flow.Start(model, "", **start).cell(4, 5)


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(4)
    return torch.randn(1, 7, 4, dtype=torch.double), torch.randn(5, dtype=torch.double)


def nudged(state: Any, name: str, unit: int, step: float) -> Any:
    """A state in PyTorch's form with one unit of h or c moved; what is made of it moves along."""
    if isinstance(state, Tensor):
        return state.index_add(
            2, torch.tensor([unit]), torch.full((1, 1, 1), step, dtype=torch.double)
        )
    hidden, memory = state
    if name == "h":
        return nudged(hidden, name, unit, step), memory
    moved = nudged(memory, name, unit, step)
    output_gate = hidden / memory.tanh()
    return output_gate * moved.tanh(), moved


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@torch.no_grad()
def test_gradients_are_the_differences_that_a_nudged_state_makes(model: str) -> None:
    cell = cell_of(model)
    frames, direction = inputs()
    with torch.enable_grad():
        found = gradient_flow.state_gradients(cell, frames, direction)
    assert list(found) == (["h", "c"] if model == "lstm" else ["h"])
    torch.testing.assert_close(found["h"][-1], direction)
    twin = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[model](4, 5, batch_first=True).double()
    twin.load_state_dict(cell.state_dict())
    for frame in range(6):
        before, after = frames[:, : frame + 1], frames[:, frame + 1 :]
        state = twin(before)[1]
        for name, gradients in found.items():
            for unit in range(5):
                up, down = (
                    twin(after, nudged(state, name, unit, step))[0][0, -1] @ direction
                    for step in (1e-5, -1e-5)
                )
                assert float(up - down) / 2e-5 == pytest.approx(
                    float(gradients[frame, unit]), abs=1e-8
                )


def test_a_plain_rnns_gradients_are_products_of_jacobians() -> None:
    cell = cell_of("rnn", radius=1.5)
    frames, direction = inputs()
    found = gradient_flow.state_gradients(cell, frames, direction)["h"]
    outputs = cell(frames)[0][0].detach()  # [T, H]
    weights = cell.weight_hh_l0.detach()
    wanted = direction
    for frame in reversed(range(7)):
        torch.testing.assert_close(found[frame], wanted)
        wanted = wanted @ (torch.diag(1 - outputs[frame].square()) @ weights)


def test_a_cell_starts_with_the_radius_and_the_forget_bias_it_is_named_for() -> None:
    weights = cell_of("rnn", radius=0.8).weight_hh_l0
    torch.testing.assert_close(
        torch.linalg.svdvals(weights.detach()), torch.full((5,), 0.8, dtype=torch.double)
    )
    assert cell_of("lstm", forget_bias=3.0).bias_ih_l0.tolist() == [0] * 5 + [3] * 5 + [0] * 10
    assert [str(start) for start in gradient_flow.STARTS][2:6] == [
        *("rnn, radius 1.5", "rnn, radius 2", "gru", "lstm, forget bias 0")
    ]


def test_the_factor_of_a_step_is_that_of_a_geometric_series() -> None:
    norms = 3 * 0.9 ** torch.arange(100, dtype=torch.double)
    assert gradient_flow.factor_a_step(norms) == pytest.approx(0.9)


def test_seeds_are_averaged_geometrically_and_their_spread_is_kept() -> None:
    start = gradient_flow.Start("lstm", "")
    both = gradient_flow.flows(start, None, 4, 2)
    first = gradient_flow.flows(start, None, 4, 1)
    assert [flow.state for flow in both] == ["h", "c"]
    for two, one in zip(both, first, strict=True):
        assert len(two.norms) == 101
        assert all(np.less_equal(two.least, two.norms))
        assert all(np.less_equal(two.norms, two.largest))
        other = np.square(two.norms) / np.array(one.norms)  # of the second seed
        np.testing.assert_allclose(np.minimum(one.norms, other), two.least)
        assert 0.5 ** (1 / two.half_life) == pytest.approx(two.factors[1])
    assert both[0].norms[0] == pytest.approx(1)


@pytest.mark.parametrize("radius", [0.8, 1.5])
def test_a_plain_rnns_factor_is_its_radius_times_the_slope_of_tanh(radius: float) -> None:
    torch.manual_seed(0)  # as the first seed of the flows
    cell = gradient_flow.Start("rnn", "", radius=radius).cell(gradient_flow.MEL_BINS, 64)
    outputs = cell(torch.randn(1, 150, gradient_flow.MEL_BINS, dtype=torch.double))[0].detach()
    slope = (1 - outputs.square()).square().mean().sqrt()
    (flow,) = gradient_flow.flows(gradient_flow.Start("rnn", "", radius=radius), None, 64, 1)
    assert flow.factors[1] == pytest.approx(radius * float(slope), rel=0.05)


def test_without_clipping_one_step_saturates_the_network_and_with_it_none_does() -> None:
    free, clipped = (clipping.descend(1.5, norm, 2, 4) for norm in (0.0, 1.0))
    assert free.norms[0] == clipped.norms[0] > 100  # both before clipping
    assert free.saturated[0] == clipped.saturated[0] < 0.05
    assert free.saturated[-1] > 0.5
    assert clipped.saturated[-1] < 0.05
    assert max(clipping.descend(1.0, 0.0, 2, 4).norms) < 10


def test_the_picture_and_the_tables_of_the_flow_are_made(run: Run, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 17_000)
    soundfile.write(tmp_path / "speech.wav", noise, 16_000)
    status, output, messages = run(
        gradient_flow, "--quick", "--audio", "speech.wav", "-o", "flow.png"
    )
    assert (status, messages) == (0, "")
    assert output.count("lstm, forget bias 3 │ c") == 2
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_json_holds_what_the_tables_are_made_of(run: Run) -> None:
    status, output, _ = run(gradient_flow, "--quick", "--json")
    found = json.loads(output)
    assert status == 0
    assert {flow["inputs"] for flow in found} == {"noise"}
    assert len(found) == len(gradient_flow.STARTS) + 3  # each LSTM's c
    status, output, _ = run(clipping, "--quick", "--json", "--seeds", "3", "--updates", "7")
    found = json.loads(output)
    assert status == 0
    assert [len(descent["losses"]) for descent in found] == [2, 2, 2]  # quick ones


def test_the_picture_and_the_table_of_clipping_are_made(run: Run, tmp_path: Path) -> None:
    status, output, messages = run(clipping, "--quick", "-o", "clipping.png")
    assert (status, messages) == (0, "")
    for training in (
        *("rnn, radius 1, gradient as it is", "rnn, radius 1.5, gradient as it is"),
        "rnn, radius 1.5, gradient clipped to 1",
    ):
        assert output.count(f" {training} ") == 1
    assert (tmp_path / "clipping.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_told_in_one_line(run: Run) -> None:
    status, output, messages = run(clipping, "--quick", "-o", "nowhere/clipping.png")
    assert (status, output) == (2, "")
    assert messages.startswith("clipping: ")
    assert messages.count("\n") == 1


def test_a_recording_that_is_too_short_or_none_is_refused(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(16_000), 16_000)
    status, output, messages = run(gradient_flow, "--quick", "--audio", "short.wav")
    assert (status, output) == (2, "")
    assert messages == (
        "gradient_flow: short.wav has 98 frames of 10 ms, and 101 are needed: "
        "name a longer recording\n"
    )
    (tmp_path / "text.wav").write_text("no sound")
    status, _, messages = run(gradient_flow, "--quick", "--audio", "text.wav")
    assert status == 2
    assert messages.startswith("gradient_flow: text.wav")
