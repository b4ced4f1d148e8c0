"""What a run trains on: the utterances that CTC can align, their units, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from asr.acoustics.augmentation import Gain, Noise, Reverb, WaveformAugmentation
from asr.audio import SAMPLE_RATE_HZ
from asr.augment import Join, Speed
from asr.bundle import Bundle
from asr.config import Config
from asr.corpus import Corpus, Split
from asr.data.dataset import SplitRows, TrainingBatches
from asr.data.sampler import BatchPlan
from asr.errors import UserError
from asr.models.frontend import TIME_STRIDES
from asr.training.preflight import (
    Excluded,
    FrameCount,
    Shared,
    Unknown,
    check,
    shared_utterances,
    spare_frames,
    summary,
    unknown_symbols,
)
from asr.units.kinds import units_from
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units, UnknownSymbolError


@dataclass(frozen=True)
class TrainingData:
    """Training and validation utterances, checked.

    `phones` are the inner CTC's labels where it has its own; `validation` is None where it is
    trained on. `unknown` is what no unit spells in a split, those that are not trained on included;
    `shared` what they have in common with those that are.
    """

    units: Units
    phones: PhoneUnits | None
    batches: TrainingBatches
    validation: Split | None
    excluded: tuple[Excluded, ...]
    unknown: dict[str, list[Unknown]]
    shared: list[Shared]
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


def gather(config: Config, corpus: Corpus, initial: Bundle | None = None) -> TrainingData:
    """Check the training splits against units and frames, and plan their batches.

    The units are those of the bundle `initial`, where there is one.

    Raises:
        UserError: the corpus lacks a split or the lexicon, nothing in it can be trained on, or the
            augmentation's recordings cannot be used.
    """
    data = config.data
    splits = [corpus.split(name) for name in data.train_splits]
    validation = None if "validation" in data.train_splits else corpus.split("validation")
    units = initial.units if initial is not None else _units(config, corpus, splits)
    if validation is not None and all(units.reference(text) is None for text in validation.texts):
        raise UserError("No validation text can be scored: each has a word that the lexicon lacks.")
    phones = _phones(config, corpus)
    speed = Speed(tuple(config.augment.speed.factors), config.augment.speed.start_epoch)
    parts: list[tuple[Split, list[int]]] = []
    excluded: list[Excluded] = []
    unknown: dict[str, list[Unknown]] = {}
    for name, split in zip(data.train_splits, splits, strict=True):
        labels = [_labels(units, text) for text in split.texts]
        odd = [row for row, each in enumerate(labels) if isinstance(each, UnknownSymbolError)]
        unknown[name] = unknown_symbols(split, odd, units.encode)
        kept, left_out = check(split, labels, _frame_count(config), speed, data.max_duration_s)
        parts.append((split, kept))
        excluded += left_out
    utterances = SplitRows(parts)
    if len(utterances) == 0:
        raise UserError(
            f"No utterance of {', '.join(data.train_splits) or 'data.train_splits=[]'} can be "
            f"trained on: {summary(excluded)}. docs/training.md says what each reason means."
        )
    samples = utterances.samples
    plan = BatchPlan(
        samples=samples,
        keys=utterances.keys,
        batch_s=data.batch_s,
        max_utterances=data.max_utterances,
        seed=config.seed,
        speed=speed,
        short_first=data.short_first,
        join=Join(**asdict(config.augment.join)),
        joinable=_joinable(config, parts, units, phones, speed),
    )
    batches = TrainingBatches(
        utterances,
        plan,
        units.encode,
        phones.encode_known if phones else None,
        # What `auto` comes to is found out by trying, see `asr.commands.preflight`.
        device_batch_s=None if isinstance(data.device_batch_s, str) else data.device_batch_s,
        alter=_waveform_augmentation(config),
    )
    hours = float(samples.sum()) / SAMPLE_RATE_HZ / 3600
    others = {name: split for name, split in corpus.splits.items() if name not in data.train_splits}
    for name, split in others.items():
        unknown[name] = unknown_symbols(split, range(len(split)), units.encode)
    return TrainingData(
        units=units,
        phones=phones,
        batches=batches,
        validation=validation,
        excluded=tuple(excluded),
        unknown={name: symbols for name, symbols in unknown.items() if symbols},
        shared=shared_utterances(parts, others),
        hours=hours,
    )


def _units(config: Config, corpus: Corpus, splits: Sequence[Split]) -> Units:
    units = config.units
    return units_from(
        units.kind,
        [text for split in splits for text in split.texts],
        whole_word_count=units.whole_word_count,
        size=units.size,
        lexicon=corpus.lexicon,
        normaliser=corpus.normaliser,
    )


def _waveform_augmentation(config: Config) -> WaveformAugmentation:
    """Noise, rooms and levels, their recordings checked."""
    augment = config.augment
    augmentation = WaveformAugmentation(
        config.seed,
        Noise(**asdict(augment.noise)),
        Reverb(**asdict(augment.reverb)),
        Gain(**asdict(augment.gain)),
    )
    augmentation.check()
    return augmentation


def _joinable(
    config: Config,
    parts: Sequence[tuple[Split, list[int]]],
    units: Units,
    phones: PhoneUnits | None,
    speed: Speed,
) -> np.ndarray | None:
    """Which utterances both CTCs can still align where others follow; None where none does."""
    if config.augment.join.probability == 0.0:
        return None
    count = _frame_count(config)
    spare = np.full(sum(len(rows) for _, rows in parts), np.inf)
    for encode in (units.encode, phones.encode_known if phones else units.encode):
        found = [spare_frames(split, rows, encode, count, speed) for split, rows in parts]
        spare = np.minimum(spare, np.concatenate(found))
    # Strides round up once, not twice: a frame less. And a separator or a blank stands between.
    return spare >= 2


def _phones(config: Config, corpus: Corpus) -> PhoneUnits | None:
    if config.inner_ctc.weight == 0 or config.inner_ctc.target != "phones":
        return None
    if corpus.lexicon is None:
        raise UserError(f"inner_ctc.target=phones: the corpus {corpus.folder} has no lexicon.")
    return PhoneUnits.from_dictionary(corpus.lexicon, corpus.normaliser)


def _frame_count(config: Config) -> FrameCount:
    subsampling = int(config.model["subsampling"])
    return FrameCount(
        round(config.features.window_s * SAMPLE_RATE_HZ),
        round(config.features.hop_s * SAMPLE_RATE_HZ),
        TIME_STRIDES.get(subsampling, (subsampling,)),
    )


def _labels(units: Units, text: str) -> Sequence[int] | UnknownSymbolError:
    try:
        return units.encode(text)
    except UnknownSymbolError as error:
        return error
