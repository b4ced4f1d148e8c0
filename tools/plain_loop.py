"""Training beside the least that has to be done: a loop over batches that are ready."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from stages import processor_clock
from torch import Tensor, nn
from trainings import train_here

from asr.config import Config
from asr.data.batch import Batch
from asr.data.dataset import Share
from asr.training.average import update_average
from asr.training.capacity import MIXED
from asr.training.module import CtcTraining, ctc_loss
from asr.training.optim import build_optimiser

SCALED = "16-mixed"


@dataclass(frozen=True)
class ReadyStep:
    """A global batch as its micro-batches' features [B, T, F] and lengths [B], on their device."""

    pieces: tuple[tuple[Tensor, Tensor, Batch], ...]
    utterances: int
    rate: float


@dataclass(frozen=True)
class Comparison:
    """An epoch's seconds of audio, and what they took in training and in the plain loop.

    Beside them the time of the processor, see `stages.processor_clock`.
    """

    audio_s: float
    training_s: float
    loop_s: float
    training_processor_s: float
    loop_processor_s: float


class PlainLoop:
    """Forward, both losses, backward, clipping, the optimiser's step and the average; no more.

    It begins with the weights that the module has.
    """

    def __init__(self, module: CtcTraining, precision: str) -> None:
        self.network = copy.deepcopy(module.network)
        self.averaged = copy.deepcopy(module.averaged)
        self.inner, self.inner_head = module.inner, copy.deepcopy(module.inner_head)
        trained = nn.ModuleList([self.network])
        if self.inner_head is not None:
            trained.append(self.inner_head)
        self.settings = module.optimiser_settings
        self.optimiser = build_optimiser(trained, self.settings)
        self.parameters = list(trained.parameters())
        self.device, self.dtype = module.device, MIXED.get(precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == SCALED)
        self.steps = 0

    def _losses(self, features: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        outputs, frame_lengths = self.network.encoder.layer_outputs(features, lengths)  # type: ignore[operator]
        emissions = self.network.head(outputs[-1]).float().log_softmax(dim=-1)
        outer = ctc_loss(emissions, frame_lengths, batch.targets, batch.target_lengths)
        if self.inner is None or self.inner_head is None:
            return outer, outer
        targets, target_lengths = batch.targets, batch.target_lengths
        if self.inner.own_labels:
            targets, target_lengths = batch.inner_targets, batch.inner_target_lengths
        emissions = self.inner_head(outputs[self.inner.layer - 1]).float().log_softmax(dim=-1)
        return outer, ctc_loss(emissions, frame_lengths, targets, target_lengths)

    def step(self, ready: ReadyStep) -> None:
        """One global batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = ready.rate
        self.optimiser.zero_grad()
        weight = self.inner.weight if self.inner is not None else 0.0
        for features, lengths, batch in ready.pieces:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                outer, inner = self._losses(features, lengths, batch)
            total = outer.sum() / ready.utterances
            if self.inner is not None:
                total = (1 - weight) * total + weight * (inner.sum() / ready.utterances)
            self.scaler.scale(total).backward()
        self.scaler.unscale_(self.optimiser)
        limit = self.settings.clip_norm or float("inf")
        nn.utils.clip_grad_norm_(self.parameters, limit)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.steps += 1
        average, decay = self.averaged.parameters(), self.settings.ema_decay
        update_average(average, self.network.parameters(), decay, self.steps)

    def seconds(self, steps: Sequence[ReadyStep]) -> tuple[float, float]:
        """What so many steps take, and of the processor."""
        self.network.train()
        processor_time = processor_clock()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        wall, processor = time.perf_counter(), processor_time()
        for ready in steps:
            self.step(ready)
        if self.device.type == "cuda":  # whose work goes on after the calls have returned
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - wall, processor_time() - processor


def ready_step(module: CtcTraining, share: Share, rate: float) -> ReadyStep:
    """A share with its features computed."""
    batches = [batch.to(module.device) for batch in share.micro_batches]
    pieces = tuple((*module.augmented_features(batch), batch) for batch in batches)
    return ReadyStep(pieces, share.utterances, rate)


def compare(config: Config) -> list[Comparison]:
    """Train as the settings say; after each epoch the plain loop does the same batches.

    Training's time is that of metrics.csv. The features of an epoch are held in memory.

    Raises:
        UserError: what `asr train` raises.
    """
    taken: list[tuple[float, float, float]] = []
    rates: list[float] = []

    class Beside(CtcTraining):
        """Lets the loop have its turn between two epochs, when no clock of a run is on."""

        def on_train_start(self) -> None:
            self.loop = PlainLoop(self, self.trainer.precision)
            self.processor_time = processor_clock()

        def on_train_epoch_start(self) -> None:
            self.processor_s = -self.processor_time()

        def on_validation_start(self) -> None:
            self.processor_s += self.processor_time()

        def on_validation_end(self) -> None:
            self.processor_s -= self.processor_time()

        def on_train_batch_end(self, *args: object, **kwargs: object) -> None:
            rates.append(self.learning_rate)

        def on_train_epoch_end(self) -> None:
            training_s = self.processor_s + self.processor_time()
            shares = self.trainer.datamodule.training.shares(self.position.epoch)  # type: ignore[attr-defined]
            steps = [
                ready_step(self, share, rate) for share, rate in zip(shares, rates, strict=True)
            ]
            rates.clear()
            taken.append((training_s, *self.loop.seconds(steps)))

    records = train_here(config, Beside)
    return [
        Comparison(record.audio_s, record.train_s, loop_s, training_processor_s, loop_processor_s)
        for record, (training_processor_s, loop_s, loop_processor_s) in zip(
            records, taken, strict=True
        )
    ]
