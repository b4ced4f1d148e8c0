"""What a run trains on: the utterances that CTC can align, their units, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.audio import SAMPLE_RATE_HZ
from asr.augment import Speed, utterance_keys
from asr.config import Config
from asr.corpus import Corpus, Split
from asr.data.dataset import TrainingBatches
from asr.data.sampler import BatchPlan
from asr.errors import UserError
from asr.models.frontend import TIME_STRIDES
from asr.text import CharacterUnits, PhoneUnits, UnknownSymbolError
from asr.training.preflight import Excluded, FrameCount, check, summary


@dataclass(frozen=True)
class TrainingData:
    """Training and validation utterances, checked.

    `phones` are the inner CTC's labels where it has its own; `validation` is None where it is
    trained on.
    """

    units: CharacterUnits
    phones: PhoneUnits | None
    batches: TrainingBatches
    validation: Split | None
    excluded: tuple[Excluded, ...]
    hours: float

    @property
    def utterances(self) -> int:
        """That are trained on."""
        return len(self.batches.utterances)

    def __str__(self) -> str:
        return (
            f"{self.utterances} utterances, {self.hours:.2f} hours, "
            f"{len(self.units.symbols)} units; {summary(self.excluded)}"
        )


def gather(config: Config, corpus: Corpus) -> TrainingData:
    """Check the training splits against units and frames, and plan their batches.

    Raises:
        UserError: the corpus lacks a split or the lexicon, or nothing in it can be trained on.
    """
    data = config.data
    splits = [corpus.split(name) for name in data.train_splits]
    validation = None if "validation" in data.train_splits else corpus.split("validation")
    units = CharacterUnits.from_texts(
        (text for split in splits for text in split.texts), config.units.whole_word_count
    )
    phones = _phones(config, corpus)
    speed = Speed(tuple(config.augment.speed.factors), config.augment.speed.start_epoch)
    rows: list[tuple[Split, int]] = []
    excluded: list[Excluded] = []
    for split in splits:
        labels = [_labels(units, text) for text in split.texts]
        kept, left_out = check(split, labels, _frame_count(config), speed, data.max_duration_s)
        rows += [(split, row) for row in kept]
        excluded += left_out
    if not rows:
        raise UserError(
            f"No utterance of {', '.join(data.train_splits) or 'data.train_splits=[]'} can be "
            f"trained on: {summary(excluded)}. docs/training.md says what each reason means."
        )
    samples = np.array([split.samples[row] for split, row in rows])
    plan = BatchPlan(
        samples=samples,
        keys=utterance_keys(split.ids[row] for split, row in rows),
        batch_s=data.batch_s,
        max_utterances=data.max_utterances,
        seed=config.seed,
        speed=speed,
        short_first=data.short_first,
    )
    batches = TrainingBatches(rows, plan, units.encode, phones.encode_known if phones else None)
    hours = float(samples.sum()) / SAMPLE_RATE_HZ / 3600
    return TrainingData(units, phones, batches, validation, tuple(excluded), hours)


def _phones(config: Config, corpus: Corpus) -> PhoneUnits | None:
    if config.inner_ctc.weight == 0 or config.inner_ctc.target != "phones":
        return None
    if corpus.lexicon is None:
        raise UserError(f"inner_ctc.target=phones: the corpus {corpus.folder} has no lexicon.")
    return PhoneUnits.from_dictionary(corpus.lexicon)


def _frame_count(config: Config) -> FrameCount:
    subsampling = int(config.model["subsampling"])
    return FrameCount(
        round(config.features.window_s * SAMPLE_RATE_HZ),
        round(config.features.hop_s * SAMPLE_RATE_HZ),
        TIME_STRIDES.get(subsampling, (subsampling,)),
    )


def _labels(units: CharacterUnits, text: str) -> Sequence[int] | UnknownSymbolError:
    try:
        return units.encode(text)
    except UnknownSymbolError as error:
        return error
