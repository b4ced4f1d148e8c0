"""What Lightning trains: network, losses, averaged weights, word errors on validation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from asr.augment import Augmentation
from asr.data.batch import Batch
from asr.decoding.hypothesis import Hypothesis
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.scoring.rates import Scored, Scores, score
from asr.training.optim import OptimiserSettings, build_adamw, one_cycle, update_average

Decode = Callable[[Tensor, Tensor], Sequence[Sequence[Hypothesis]]]


@dataclass(frozen=True)
class InnerCtc:
    """A second CTC on an inner layer (Lee and Watanabe 2021), dropped once training is over.

    Args:
        layer: counted from 1.
        weight: its share of the loss.
        vocabulary_size: of its own labels, or of the outer ones.
        own_labels: whether batches bring `inner_targets`; else the outer targets serve both.
    """

    layer: int
    weight: float
    vocabulary_size: int
    own_labels: bool


def ctc_loss(emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """CTC loss per label, averaged over the utterances that have labels: a scalar.

    Args:
        emissions: log-probabilities [B, T', V], blank first.
        lengths: [B] in frames.
        targets: [B, U].
        target_lengths: [B]; utterances of 0 labels do not count.
    """
    if targets.shape[1] == 0:
        return emissions.sum() * 0.0
    with torch.autocast(emissions.device.type, enabled=False):
        losses = nn.functional.ctc_loss(
            emissions.float().transpose(0, 1),  # [T', B, V]
            targets,
            lengths,
            target_lengths,
            reduction="none",
        )  # [B]
    labelled = target_lengths > 0
    per_label = torch.where(labelled, losses / target_lengths.clamp(min=1), 0.0)
    return per_label.sum() / labelled.sum().clamp(min=1)


class CtcTraining(pl.LightningModule):
    """Trains a CTC model; the averaged weights are what is validated and kept.

    Args:
        network: the model.
        features: waveforms to features, with their statistics.
        augmentation: of training batches.
        inner: a second CTC on an inner layer.
        optimiser: settings.
        decode: emissions and lengths to N-best lists, for the word errors on validation.
        seed: of the run.
        max_epochs: planned, which the schedule stretches over.
    """

    def __init__(
        self,
        network: CtcModel,
        features: LogMel,
        augmentation: Augmentation,
        inner: InnerCtc | None,
        optimiser: OptimiserSettings,
        decode: Decode,
        seed: int,
        max_epochs: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.augmentation = augmentation
        self.inner = inner
        self.inner_head: nn.Linear | None = None
        if inner is not None:
            size = int(network.encoder.output_size)  # type: ignore[arg-type]
            self.inner_head = nn.Linear(size, inner.vocabulary_size)
        self.optimiser_settings = optimiser
        self.decode = decode
        self.seed = seed
        self.max_epochs = max_epochs
        self.scores = Scores()
        self.grad_norm = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser; its rate is set before each step."""
        return build_adamw(self, self.optimiser_settings)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Rate and random state are functions of the position: a resumed run is the same."""
        batches = self.trainer.num_training_batches
        progress = (self.current_epoch + (batch_idx + 1) / batches) / self.max_epochs
        rate = self.optimiser_settings.learning_rate
        rate *= one_cycle(progress, self.optimiser_settings.warmup)
        optimiser = self.optimizers()
        assert not isinstance(optimiser, list)
        for group in optimiser.param_groups:
            group["lr"] = rate
        self.learning_rate = rate
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)

    def augmented_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of a training batch as this epoch hears it: [B, T, F], [B]."""
        with torch.no_grad():
            features, lengths = self.features(batch.waveforms, batch.waveform_lengths)
            features = self.augmentation.warp(features, self.seed, batch.epoch, batch.keys)
            features = self.augmentation.spec(features, lengths, self.seed, batch.epoch, batch.keys)
        return features, lengths

    def losses(self, features: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The outer CTC loss and the weighted sum that is trained on: two scalars."""
        outputs, frame_lengths = self.network.encoder.layer_outputs(features, lengths)  # type: ignore[operator]
        emissions = self.network.head(outputs[-1]).float().log_softmax(dim=-1)
        outer = ctc_loss(emissions, frame_lengths, batch.targets, batch.target_lengths)
        if self.inner is None or self.inner_head is None:
            return outer, outer
        inner_emissions = self.inner_head(outputs[self.inner.layer - 1]).float().log_softmax(dim=-1)
        if self.inner.own_labels:
            targets, target_lengths = batch.inner_targets, batch.inner_target_lengths
        else:
            targets, target_lengths = batch.targets, batch.target_lengths
        inner = ctc_loss(inner_emissions, frame_lengths, targets, target_lengths)
        return outer, (1 - self.inner.weight) * outer + self.inner.weight * inner

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch."""
        features, lengths = self.augmented_features(batch)
        outer, loss = self.losses(features, lengths, batch)
        return {"loss": loss, "ctc": outer.detach()}

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        """Clip by the norm of all gradients together, and keep that norm for the record."""
        limit = self.optimiser_settings.clip_norm or float("inf")
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.grad_norm = float(nn.utils.clip_grad_norm_(trained, limit))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Move the average."""
        decay = self.optimiser_settings.ema_decay
        update_average(
            self.averaged.parameters(), self.network.parameters(), decay, self.global_step
        )

    def on_validation_epoch_start(self) -> None:
        """Counts begin anew."""
        self.scores = Scores()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the errors of a batch under the averaged weights."""
        self.averaged.eval()
        features, lengths = self.features(batch.waveforms, batch.waveform_lengths)
        nbest_lists = self.decode(*self.averaged(features, lengths))
        self.scores += score(
            Scored(name, speaker, text, nbest[0].text)
            for name, speaker, text, nbest in zip(
                batch.ids, batch.speakers, batch.texts, nbest_lists, strict=True
            )
        )
