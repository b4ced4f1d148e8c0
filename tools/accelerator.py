"""What an accelerator makes of a training: throughput, memory, and how much of it is the kernels.

The corpus is made up; all else is `asr train`. Of two epochs the second counts. The kernels' own
time is that of the recurrent layers' cells alone, forward and backward, on frames of the shapes and
in the precision that the epoch had.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from made_up import in_place_of_a_corpus
from timings import seconds_of
from torch import Tensor, nn
from trainings import settings, train_here

from asr.data.batch import Batch
from asr.training.module import CtcTraining

PRECISIONS = {
    "32-true": torch.float32,
    "16-mixed": torch.float16,
    "bf16-mixed": torch.bfloat16,
}
PUBLISHED_UTTERANCES_PER_S = 460
REPEATS = 3  # of a kernel
SAMPLED_MS = 100


@dataclass(frozen=True)
class Workload:
    """A network and its batches: so many utterances in each, of so many different symbols."""

    name: str
    words: tuple[str, ...]
    utterances: int
    symbols: int
    labels_per_s: float


CHARACTERS = (64, 27, 14.0)
ALGOPERF_WORDS = (
    *("model.layers=6", "model.dropout=0.1", "inner_ctc.weight=0", "augment=none"),
    *("augment.spec.frequency_masks=2", "augment.spec.frequency_width=27"),
    *("augment.spec.time_masks=10", "augment.spec.time_share=0.05"),
)
# AlgoPerf's has 256 units in each direction, 512 together, and convolutions of 512 channels.
WORKLOADS = (
    Workload("hidden 512", ("model.hidden=512",), *CHARACTERS),
    Workload("hidden 1024", ("model.hidden=1024",), *CHARACTERS),
    Workload(
        "AlgoPerf", (*ALGOPERF_WORDS, "model.hidden=256", "model.channels=512"), 256, 1023, 3.5
    ),
    Workload("6 x 512", (*ALGOPERF_WORDS, "model.hidden=512"), 256, 1023, 3.5),
)


@dataclass(frozen=True)
class Row:
    """What a workload came to; memory and utilisation are None where the device does not tell.

    `kernels` is the recurrent kernels' own time as a share of the training's.
    """

    workload: str
    precision: str
    parameters: int
    utterances_per_s: float
    audio_s_per_s: float
    memory_gb: float | None
    utilisation: float | None
    kernels: float


def tiny(workload: Workload) -> Workload:
    """The same on a scale at which a CPU takes seconds."""
    words = (*workload.words, "model.hidden=16", "model.channels=4")
    return replace(workload, words=words, utterances=4)


def measure(
    workload: Workload, words: Sequence[str], precision: str, device: torch.device, steps: int
) -> Row:
    """Train for two epochs of so many steps, with the words in addition to the workload's own.

    Raises:
        UserError: what `asr train` raises.
    """
    config = settings(
        [
            *("recipe=custom", f"trainer.precision={precision}", "trainer.patience=0"),
            *("trainer.max_epochs=2", "trainer.validate_every=3"),  # that is, never
            *(f"data.max_utterances={workload.utterances}", "data.batch_s=1e6"),
            f"data.device_batch_s={'auto' if device.type == 'cuda' else 'null'}",
            f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}",
            *workload.words,
            *words,
        ]
    )
    shapes: Counter[tuple[int, int]] = Counter()  # B, T'
    busy = Utilisation(device)
    found: dict[str, float] = {}

    class Looking(CtcTraining):
        """Notes what the second epoch is like."""

        def on_train_epoch_start(self) -> None:
            shapes.clear()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            if self.position.epoch == 1:
                busy.start()

        def losses(
            self, features: Tensor, lengths: Tensor, batch: Batch
        ) -> tuple[Tensor, Tensor | None]:
            frames = -(-features.shape[1] // self.network.subsampling)
            shapes[features.shape[0], frames] += 1
            return super().losses(features, lengths, batch)

        def on_train_epoch_end(self) -> None:
            if self.position.epoch == 2:
                busy.stop()
                found["parameters"] = sum(each.numel() for each in self.network.parameters())
                found["memory"] = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
                layers = self.network.encoder.layers
                assert isinstance(layers, nn.ModuleList)
                found["kernels_s"] = kernels_s(layers, shapes, device, PRECISIONS[precision])

    utterances = steps * workload.utterances
    with in_place_of_a_corpus(utterances, workload.symbols, workload.labels_per_s):
        _, record = train_here(config, Looking)
    return Row(
        workload=workload.name,
        precision=precision,
        parameters=int(found["parameters"]),
        utterances_per_s=utterances / record.train_s,
        audio_s_per_s=record.audio_s / record.train_s,
        memory_gb=found["memory"] / 1e9 if device.type == "cuda" else None,
        utilisation=busy.mean,
        kernels=found["kernels_s"] / record.train_s,
    )


def kernels_s(
    layers: Sequence[nn.Module] | nn.ModuleList,
    shapes: Counter[tuple[int, int]],
    device: torch.device,
    dtype: torch.dtype,
) -> float:
    """What all directions of all layers take, one after another, forward and backward."""

    def both(cell: nn.Module, frames: Tensor) -> Callable[[], None]:
        def call() -> None:
            outputs = cell(frames)[0]
            outputs.backward(torch.ones_like(outputs))

        return call

    total_s = 0.0
    for layer in layers:
        for cell in filter(None, (layer.forwards, layer.backwards)):
            assert isinstance(cell, nn.Module)
            alone = copy.deepcopy(cell).to(device, dtype)
            for (batch, frames), count in shapes.items():
                size = (batch, frames, int(alone.input_size))  # type: ignore[arg-type]
                call = both(
                    alone, torch.randn(size, device=device, dtype=dtype, requires_grad=True)
                )
                call()  # sets libraries up
                total_s += count * seconds_of(call, REPEATS, device)
    return total_s


class Utilisation:
    """The share of time in which a GPU computes, as its driver tells it, between two moments."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mean: float | None = None
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """From now on; nothing, where there is no GPU, or no `nvidia-smi` that tells."""
        if self.device.type != "cuda":
            return
        which = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
        words = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
        with contextlib.suppress(FileNotFoundError):
            self._process = subprocess.Popen(
                ["nvidia-smi", "-i", which, *words, "-lms", str(SAMPLED_MS)],
                stdout=subprocess.PIPE,
                text=True,
            )

    def stop(self) -> None:
        """Until now."""
        if self._process is None:
            return
        self._process.terminate()
        told = self._process.communicate()[0].splitlines()
        percent = [int(line) for line in told if line.strip().isdigit()]
        self.mean = statistics.mean(percent) / 100 if percent else None
