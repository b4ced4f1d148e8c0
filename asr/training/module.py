"""What Lightning trains: network, losses, averaged weights, word errors on validation."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asr.augment import Augmentation
from asr.data.batch import Batch
from asr.data.dataset import Share
from asr.decoding.hypothesis import Hypothesis
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.scoring.rates import Scored, Scores, score
from asr.training.average import update_average
from asr.training.optim import OptimiserSettings, build_optimiser, rate
from asr.training.ranks import gathered, summed

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
    """CTC loss per label of each utterance (Graves et al. 2006): [B]; of no labels 0.

    Args:
        emissions: log-probabilities [B, T', V], blank first.
        lengths: [B] in frames.
        targets: [B, U].
        target_lengths: [B].
    """
    if targets.shape[1] == 0:
        return emissions.sum(dim=(1, 2)) * 0.0
    with torch.autocast(emissions.device.type, enabled=False):
        losses = nn.functional.ctc_loss(
            emissions.float().transpose(0, 1),  # [T', B, V]
            targets,
            lengths,
            target_lengths,
            reduction="none",
        )  # [B]
    return torch.where(target_lengths > 0, losses / target_lengths.clamp(min=1), 0.0)


@dataclass
class Position:
    """How far a run has come: whole epochs, batches of the next one, and steps in all.

    `skipped` are the steps among them that changed nothing, their gradient not being finite, and
    `reported` those of them that were not a matter of half precision's scale.
    """

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    skipped: int = 0
    reported: int = 0


@dataclass(frozen=True)
class Step:
    """What a step came to, over all ranks: CTC loss per label and utterance, and seconds heard.

    `requests` are the sums of what each rank asked for, see `CtcTraining.ask`.
    """

    loss: float
    audio_s: float
    requests: tuple[float, ...]


class CtcTraining(pl.LightningModule):
    """Trains a CTC model; the averaged weights are what is validated and kept.

    A step is one global batch, of which this rank does its share in micro-batches. The gradient is
    that of the loss averaged over the utterances of the whole batch, whatever the ranks.

    Args:
        network: the model.
        features: waveforms to features, with their statistics.
        augmentation: of training batches.
        inner: a second CTC on an inner layer.
        optimiser: settings.
        decode: emissions and lengths to N-best lists, for the errors on validation.
        reference: a text to what is decoded where it is heard rightly, None where nobody can say.
        rate_name: of the error rate that `scores.rate` is then: "wer" or "per".
        seed: of the run.
        max_epochs: planned, which the schedule stretches over.

    Whoever runs it may set `ask` (what this rank asks of all at the end of a step; the `Step` has
    the sums) and `report_skipped` (told the share of a step whose gradient is not finite, and the
    ids of all ranks to which that is due; it may raise).
    """

    def __init__(
        self,
        network: CtcModel,
        features: LogMel,
        augmentation: Augmentation,
        inner: InnerCtc | None,
        optimiser: OptimiserSettings,
        decode: Decode,
        reference: Callable[[str], str | None],
        rate_name: str,
        seed: int,
        max_epochs: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
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
        self.reference = reference
        self.rate_name = rate_name
        self.seed = seed
        self.max_epochs = max_epochs
        self.position = Position()
        self.batches = 1  # of the epoch under way
        self.step: Step | None = None  # the last one
        self.history: list[float] = []  # error rates on validation so far
        self.scores = Scores()
        self.learning_rate = self.grad_norm = 0.0
        self.ask: Callable[[], Sequence[float]] = tuple
        self.report_skipped: Callable[[Share, Sequence[str]], None] = lambda share, ids: None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser; its rate is set before each step."""
        return build_optimiser(self, self.optimiser_settings)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """A share stays where it is: of its micro-batches only one is needed at a time."""
        return batch if isinstance(batch, Share) else batch.to(device)

    def augmented_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of a training batch as this epoch hears it: [B, T, F], [B]."""
        with torch.no_grad():
            features, lengths = self.features(batch.waveforms, batch.waveform_lengths)
            features = self.augmentation.warp(features, self.seed, batch.epoch, batch.keys)
            features = self.augmentation.spec(features, lengths, self.seed, batch.epoch, batch.keys)
        return features, lengths

    def losses(
        self, features: Tensor, lengths: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor | None]:
        """CTC losses per label of each utterance, outer and inner: [B] twice."""
        outputs, frame_lengths = self.network.encoder.layer_outputs(features, lengths)  # type: ignore[operator]
        emissions = self.network.head(outputs[-1]).float().log_softmax(dim=-1)
        outer = ctc_loss(emissions, frame_lengths, batch.targets, batch.target_lengths)
        if self.inner is None or self.inner_head is None:
            return outer, None
        inner_emissions = self.inner_head(outputs[self.inner.layer - 1]).float().log_softmax(dim=-1)
        if self.inner.own_labels:
            targets, target_lengths = batch.inner_targets, batch.inner_target_lengths
        else:
            targets, target_lengths = batch.targets, batch.target_lengths
        return outer, ctc_loss(inner_emissions, frame_lengths, targets, target_lengths)

    def training_step(self, share: Share, batch_idx: int) -> None:
        """One global batch: forward, backward and step; what it came to is in `step`.

        That is None where nothing of the epoch is left but to validate it.
        """
        self.step = None
        if not share.micro_batches:
            return
        optimiser = self._prepare()
        optimiser.zero_grad()
        world = self.trainer.world_size
        # The ranks' gradients are averaged, and their mean shall be the whole batch's.
        count = torch.tensor(share.utterances / world, dtype=torch.float32, device=self.device)
        losses: list[Tensor] = []  # of each utterance, by micro-batch: [B], outer and inner
        for number, batch in enumerate(share.micro_batches):
            batch = batch.to(self.device)
            torch.manual_seed(self._dropout_seed(number))
            outer, inner = self.losses(*self.augmented_features(batch), batch)
            total = outer.sum() / count
            if inner is not None and self.inner is not None:
                weight = self.inner.weight
                total = (1 - weight) * total + weight * (inner.sum() / count)
            with self._synchronised(number == len(share.micro_batches) - 1):
                self.manual_backward(total if share.weight == 1 else total * share.weight)
            losses.append(torch.stack([outer, outer if inner is None else inner]).detach())
        if not self._step(optimiser):
            self._skip(share, losses)
        mine = share.weight * sum(float(pair[0].sum()) for pair in losses) / share.utterances
        audio_s = share.weight * sum(batch.audio_s for batch in share.micro_batches)
        loss, audio_s, *requests = summed([mine, audio_s, *self.ask()], self.device)
        self.position.batch += 1
        self.position.steps += 1
        self.step = Step(loss, audio_s, tuple(requests))

    def _prepare(self) -> torch.optim.Optimizer:
        """Set the rate, a function of the position: a resumed run is the same."""
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        epochs = self.position.epoch + (self.position.batch + 1) / self.batches
        progress = epochs / self.max_epochs
        self.learning_rate = rate(self.optimiser_settings, progress, self.history)
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate
        return optimiser

    def _dropout_seed(self, micro_batch: int) -> int:
        seed = self.seed * 1_000_003 + self.position.steps
        return seed + (self.global_rank << 44) + (micro_batch << 52)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are exchanged once a step, with the last micro-batch."""
        model = self.trainer.model
        if last or not isinstance(model, DistributedDataParallel):
            return contextlib.nullcontext()
        return model.no_sync()

    def _step(self, optimiser: torch.optim.Optimizer) -> bool:
        """Clip and step, and tell whether: nothing changes where the gradient is not finite.

        All ranks have the same gradient here, and so do the same.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scaler.unscale_(optimiser)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        limit = self.optimiser_settings.clip_norm or float("inf")
        self.grad_norm = float(nn.utils.clip_grad_norm_(trained, limit))
        finite = math.isfinite(self.grad_norm)
        if scaler is not None:
            scaler.step(optimiser)  # it too leaves out what is not finite
            scaler.update()
        elif finite:
            optimiser.step()
        if finite:
            decay = self.optimiser_settings.ema_decay
            taken = self.position.steps - self.position.skipped + 1
            update_average(self.averaged.parameters(), self.network.parameters(), decay, taken)
        return finite

    def _skip(self, share: Share, losses: Sequence[Tensor]) -> None:
        """Count a step that changed nothing, and say which utterances were to blame."""
        self.position.skipped += 1
        mine = [
            name
            for batch, pair in zip(share.micro_batches, losses, strict=True)
            for name, bad in zip(batch.ids, (~pair.isfinite()).any(dim=0).tolist(), strict=True)
            if bad
        ]
        blamed = sorted({name for names in gathered(mine) for name in names})
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if blamed or scaler is None or scaler.get_scale() < 1:
            self.position.reported += 1
            self.report_skipped(share, blamed)
        # Else half precision is finding its scale, as it does at first and every so often later.

    def finish_epoch(self) -> None:
        """The next epoch begins at its first batch."""
        self.position.epoch += 1
        self.position.batch = 0
        self.scores = Scores()  # an epoch that is not validated has none

    def on_validation_epoch_start(self) -> None:
        """Counts begin anew."""
        self.scores = Scores()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the errors of a batch under the averaged weights."""
        if len(batch) == 0:
            return
        self.averaged.eval()
        features, lengths = self.features(batch.waveforms, batch.waveform_lengths)
        nbest_lists = self.decode(*self.averaged(features, lengths))
        self.scores += score(
            Scored(name, speaker, reference, nbest[0].text)
            for name, speaker, text, nbest in zip(
                batch.ids, batch.speakers, batch.texts, nbest_lists, strict=True
            )
            if (reference := self.reference(text)) is not None
        )

    def on_validation_epoch_end(self) -> None:
        """Add up the counts of all ranks; each utterance was on one of them."""
        self.scores = sum(gathered(self.scores), Scores())
        self.history.append(self.scores.rate)
