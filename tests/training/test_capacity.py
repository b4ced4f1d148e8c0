"""What a machine can train is found by trying, and the trial leaves nothing behind."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from asr.augment import Augmentation, Speed
from asr.data.batch import Batch
from asr.data.dataset import SplitRows, TrainingBatches
from asr.data.sampler import BatchPlan, PlannedBatch
from asr.errors import UserError
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.models.lstm import LstmEncoder
from asr.training import capacity
from asr.training.capacity import (
    check_memory,
    find_device_batch_s,
    forward_and_backward,
    rehearsal,
    share_that_fits,
    usable_precision,
)
from asr.training.headroom import memory_limit
from asr.training.largest import MicroBatch
from asr.training.module import CtcTraining, InnerCtc
from asr.training.optim import OptimiserSettings

CPU = torch.device("cpu")


class MadeSplit:
    """Noise of so many seconds each."""

    def __init__(self, *durations_s: float) -> None:
        self.samples = (16_000 * np.array(durations_s)).astype(np.int64)
        self.ids = [f"u{row}" for row in range(len(self.samples))]
        self.texts = self.speakers = self.ids

    def waveform(self, row: int) -> np.ndarray:
        generator = np.random.default_rng(row)
        return generator.integers(-3000, 3000, self.samples[row], dtype=np.int16)


def training(channels: int = 4) -> CtcTraining:
    torch.manual_seed(1)
    features = LogMel(mel_bins=20)
    features.deviation += 1.0
    return CtcTraining(
        network=CtcModel(LstmEncoder(20, channels=channels, hidden=8, layers=2), 4),
        features=features,
        augmentation=Augmentation(),
        inner=InnerCtc(layer=1, weight=0.3, vocabulary_size=4, own_labels=False),
        optimiser=OptimiserSettings(),
        decode=lambda emissions, lengths: [],
        reference=lambda text: text,
        rate_name="wer",
        seed=1,
        max_epochs=5,
    )


def batches(*durations_s: float, factors: tuple[float, ...] = (1.0,)) -> TrainingBatches:
    split: Any = MadeSplit(*durations_s)
    rows = SplitRows([(split, range(len(durations_s)))])
    plan = BatchPlan(rows.samples, rows.keys, 60.0, 16, 1, Speed(factors, 1))
    return TrainingBatches(rows, plan, lambda text: [1, 2])


def all_of(made: TrainingBatches) -> MicroBatch:
    count = len(made.plan.samples)
    planned = PlannedBatch(np.arange(count), np.ones(count), 5)
    return MicroBatch(planned, int(made.plan.samples.max()))


def test_a_rehearsal_leaves_nothing_in_the_training_that_follows() -> None:
    module, made = training(), batches(1.0, 2.0)
    before = copy.deepcopy(module.state_dict())
    drawn = torch.get_rng_state()
    with rehearsal(module, CPU):
        check_memory(module, made, all_of(made), "32-true")
        assert not torch.equal(torch.get_rng_state(), drawn)
        gradients = [weight.grad for weight in module.network.parameters()]
        assert all(gradient is not None and gradient.any() for gradient in gradients)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(weight.grad is None for weight in module.parameters())
    assert module.training
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_nothing_is_left_either_where_the_pass_fails() -> None:
    module = training()
    drawn = torch.get_rng_state()
    with contextlib.suppress(KeyError), rehearsal(module, CPU):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(weight.grad is None for weight in module.parameters())


def test_what_a_step_holds_beside_the_pass_is_there_in_the_rehearsal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = training()
    made: list[int] = []
    zeros_like = torch.zeros_like
    monkeypatch.setattr(
        torch, "zeros_like", lambda one: made.append(one.numel()) or zeros_like(one)
    )
    with rehearsal(module, CPU):
        pass
    assert sum(made) == 3 * sum(
        weight.numel() for weight in (*module.network.parameters(), *module.inner_head.parameters())
    )


def works_in(dtype: torch.dtype) -> bool:
    """Whether torch's own LSTM does on this CPU."""
    lstm = nn.LSTM(8, 8, batch_first=True)
    try:
        with torch.autocast("cpu", dtype=dtype):
            lstm(torch.randn(1, 5, 8))[0].sum().backward()
    except RuntimeError:
        return False
    return True


def test_the_precision_asked_for_is_used_where_it_works_and_only_there() -> None:
    module = training()
    with rehearsal(module, CPU):
        assert usable_precision(module, CPU, "32-true") == ("32-true", None)
        precision, line = usable_precision(module, CPU, "bf16-mixed")
    if works_in(torch.bfloat16):
        assert (precision, line) == ("bf16-mixed", None)
    else:
        assert precision == "32-true"
        assert line is not None


def test_half_precision_on_a_cpu_is_full_precision_with_one_line() -> None:
    module = training()
    with rehearsal(module, CPU):
        precision, line = usable_precision(module, CPU, "16-mixed")
    assert precision == "32-true"
    assert line is not None
    assert line.startswith("trainer.precision=16-mixed does not work on this CPU (")
    assert line.endswith("): 32-true instead")


ONEDNN = (
    "could not create a primitive descriptor for the LSTM forward propagation primitive. Run"
    " workload with environment variable ONEDNN_VERBOSE=all to get additional diagnostics.\nAt:"
)


def failing(module: CtcTraining, backwards: bool) -> None:
    """Its second layer raises as oneDNN does, under autocast alone."""

    def fail(*arguments: Any) -> None:
        raise RuntimeError(ONEDNN)

    def hook(layer: nn.Module, inputs: Any, outputs: torch.Tensor) -> None:
        if torch.is_autocast_enabled("cpu"):
            if not backwards:
                fail()
            outputs.register_hook(fail)

    module.network.encoder.layers[1].register_forward_hook(hook)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_kernel_that_raises_in_the_real_network_is_told_in_one_line(backwards: bool) -> None:
    module, made = training(), batches(1.0)
    failing(module, backwards)
    with rehearsal(module, CPU):
        precision, line = usable_precision(module, CPU, "bf16-mixed")
        check_memory(module, made, all_of(made), precision)
    assert precision == "32-true"
    assert line is not None
    assert "\n" not in line
    assert "LSTM forward propagation primitive): 32-true instead" in line


def test_a_lack_of_memory_is_not_taken_for_a_precision_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = training()
    raising(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(torch.OutOfMemoryError), rehearsal(module, CPU):
        usable_precision(module, CPU, "bf16-mixed")


def raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def losses(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(CtcTraining, "losses", losses)


def test_a_batch_for_which_there_is_no_memory_is_told_with_what_to_lower() -> None:
    module, made = training(channels=64), batches(*[20.0] * 12)
    largest = all_of(made)

    def check(more_bytes: int) -> None:
        with memory_limit(more_bytes), rehearsal(module, CPU):
            check_memory(module, made, largest, "32-true")

    # oneDNN makes no more code in a thread in which it once had no memory for it.
    with ThreadPoolExecutor(1) as another, pytest.raises(UserError) as caught:
        another.submit(check, 30_000_000).result()
    message = str(caught.value)
    assert (
        "no memory here for 240 s of audio at once (12 utterances, the longest of 20.0 s)"
        in message
    )
    assert "data.device_batch_s=120" in message
    assert "data.batch_s" in message
    assert "\n" not in message
    check(2_000_000_000)


def test_of_one_utterance_that_is_too_long_the_limit_of_durations_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, made = training(), batches(2.5)
    raising(monkeypatch, MemoryError())
    with pytest.raises(UserError, match=r"one utterance of 2.5 s: lower data\.max_duration_s"):
        check_memory(module, made, all_of(made), "32-true")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_each_way_of_saying_that_memory_is_out_is_understood(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, made = training(), batches(1.0, 1.0)
    raising(monkeypatch, error)
    with pytest.raises(UserError, match="no memory here for 2 s of audio"):
        check_memory(module, made, all_of(made), "32-true")


def test_another_fault_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    module, made = training(), batches(1.0)
    raising(monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        check_memory(module, made, all_of(made), "32-true")


def up_to(limit_s: float, asked: list[float]) -> Callable[[float], bool]:
    def fits(seconds: float) -> bool:
        asked.append(seconds)
        return seconds <= limit_s

    return fits


@pytest.mark.parametrize("limit_s", [5.0, 7.7, 40.0, 99.0, 500.0, 1170.0])
def test_a_device_gets_85_percent_of_what_it_was_found_to_take(limit_s: float) -> None:
    asked: list[float] = []
    found = share_that_fits(up_to(limit_s, asked), 5.0, 1000.0)
    assert found is not None
    assert 0.85 * limit_s / 1.1 <= found <= 0.85 * limit_s
    assert len(asked) <= 13
    assert max(asked) <= 1000 / 0.85


def test_a_device_that_takes_the_largest_share_with_room_to_spare_gets_all_of_it() -> None:
    asked: list[float] = []
    assert share_that_fits(up_to(1177.0, asked), 5.0, 1000.0) is None
    assert share_that_fits(up_to(1176.0, asked), 5.0, 1000.0) is not None
    assert share_that_fits(up_to(100.0, asked), 50.0, 50.0) is None


def test_a_device_that_does_not_take_the_longest_utterance_is_asked_no_further() -> None:
    asked: list[float] = []
    assert share_that_fits(up_to(4.9, asked), 5.0, 1000.0) == 0
    assert asked == [5.0]


def test_a_devices_share_is_found_with_real_passes_of_the_longest_utterances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, made = training(), batches(*[0.5] * 20, 1.8, 2.0, factors=(0.8, 1.0))
    passes: list[tuple[int, float, bool]] = []
    real = forward_and_backward

    def limited(module: CtcTraining, batch: Batch, precision: str) -> None:
        seconds = batch.waveforms.numel() / 16_000
        fits = seconds <= 12.5
        passes.append((len(batch), seconds, fits))
        if not fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        assert "u21" in batch.ids
        assert set(batch.ids) <= {"u21", "u20"} or len(batch) > 2
        real(module, batch, precision)
        assert all(weight.grad is not None for weight in module.network.parameters())

    monkeypatch.setattr(capacity, "forward_and_backward", limited)
    largest = MicroBatch(PlannedBatch(np.arange(16), np.ones(16), 5), 32_000)
    with rehearsal(module, CPU):
        found = find_device_batch_s(module, made, largest, "32-true")
    assert passes[:4] == [(1, 2.5, True), (2, 5.0, True), (4, 10.0, True), (8, 20.0, False)]
    assert found is not None
    assert 0.85 * 12.5 / 1.1 <= found <= 0.85 * 12.5


def test_a_device_that_takes_not_even_one_utterance_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, made = training(), batches(1.0, 3.0)
    raising(monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    with (
        pytest.raises(UserError, match=r"one utterance of 3\.0 s: lower data\.max_duration_s"),
        rehearsal(module, CPU),
    ):
        find_device_batch_s(module, made, all_of(made), "32-true")


def test_weights_for_which_there_is_no_memory_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = training()

    def none_left(weight: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "zeros_like", none_left)
        with pytest.raises(UserError, match="make the model smaller"), rehearsal(module, CPU):
            pytest.fail("the block has begun")
    assert all(weight.grad is None for weight in module.parameters())
