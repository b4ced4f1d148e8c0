"""The settings of `prepare`, `train`, `evaluate` and `run`: their names, types and limits.

Values come from `conf/` (see `asr.commands.compose`); nothing here has a default, so that a value
stands in one place. Plain dataclasses: importing them loads nothing heavy. Only `asr.commands`
reads them; what lies below gets plain values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Which corpus, and where its publisher's folder lies.

    `options` is what the recipe's `read` takes beyond the root.
    """

    name: str
    root: str | None
    normaliser: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Prepare:
    """Where the prepared corpus goes, and the share of utterances that may be left out.

    The others are limits of what is kept of the splits that train; None: no limit.
    """

    folder: str
    max_rejected: float
    min_duration_s: float | None
    max_duration_s: float | None
    max_chars_per_s: float | None
    min_snr_db: float | None


@dataclass(frozen=True)
class Cluster:
    """Where preparation, training and decoding run: `workers` None means one a core."""

    name: str
    workers: int | None
    address: str | None
    max_failures: int


@dataclass(frozen=True)
class Units:
    """What the model emits.

    Characters, and words seen `whole_word_count` times (0: none); `size` pieces of SentencePiece;
    words; or phones of the corpus's lexicon.
    """

    kind: str
    whole_word_count: int
    size: int


@dataclass(frozen=True)
class Features:
    """The front end's component and its arguments."""

    name: str
    mel_bins: int
    window_s: float
    hop_s: float
    normalisation: str


@dataclass(frozen=True)
class Speed:
    """Speed perturbation; epochs count from 1."""

    factors: list[float]
    start_epoch: int


@dataclass(frozen=True)
class Join:
    """Others follow an utterance without a break, up to `most` and `longest_s` together."""

    probability: float
    most: int
    longest_s: float
    start_epoch: int


@dataclass(frozen=True)
class Warp:
    """Warping of the mel axis by a factor drawn between `low` and `high`."""

    low: float
    high: float
    start_epoch: int


@dataclass(frozen=True)
class Spec:
    """SpecAugment: masks over mel bins and over frames."""

    frequency_masks: int
    frequency_width: int
    time_masks: int
    time_share: float
    start_epoch: int


@dataclass(frozen=True)
class Noise:
    """Noise from the recordings in `folder` (None: none), at an SNR drawn between two."""

    folder: str | None
    probability: float
    low_snr_db: float
    high_snr_db: float
    start_epoch: int


@dataclass(frozen=True)
class Reverb:
    """Reverberation by the impulse responses in `folder` (None: none)."""

    folder: str | None
    probability: float
    start_epoch: int


@dataclass(frozen=True)
class Gain:
    """Louder or softer by decibels drawn between two; both 0: neither."""

    low_db: float
    high_db: float
    start_epoch: int


@dataclass(frozen=True)
class Augment:
    """What training hears in place of the recordings."""

    speed: Speed
    join: Join
    warp: Warp
    spec: Spec
    noise: Noise
    reverb: Reverb
    gain: Gain


@dataclass(frozen=True)
class InnerCtc:
    """A second CTC on layer `layer` (from 1); it emits phones where a dictionary is given."""

    weight: float
    layer: int
    target: str


@dataclass(frozen=True)
class Optim:
    """The optimiser, its schedule, and which weights are averaged."""

    name: str
    learning_rate: float
    weight_decay: float
    clip_norm: float
    schedule: str
    warmup: float
    lowest: float
    plateau_factor: float
    plateau_patience: int
    ema_decay: float
    average_best: int


@dataclass(frozen=True)
class Data:
    """Which splits train, and how utterances come together in batches."""

    train_splits: list[str]
    batch_s: float
    max_utterances: int
    device_batch_s: float | str | None
    short_first: bool
    max_duration_s: float


@dataclass(frozen=True)
class Trainer:
    """How long and on what training runs. None of it is part of a run's identity."""

    max_epochs: int
    patience: int
    devices: int
    nodes: int
    accelerator: str
    precision: str
    threads: int | None
    validate_every: int
    checkpoint_steps: int
    checkpoint_minutes: float
    max_skipped: int
    timeout_s: float
    loggers: list[str]


@dataclass(frozen=True)
class Tune:
    """The search of `asr tune`; `space` has a range for each setting, see `asr.commands.space`."""

    trials: int
    max_epochs: int
    grace_epochs: int
    seed: int
    concurrent: int
    space: dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Everything `asr prepare | train | evaluate | run | tune` can be told.

    `model` and `decoder` are a component's name and its constructor's arguments: which keys they
    have is the component's own matter, and its file in `conf/` lists them.
    """

    name: str
    seed: int
    split: str
    bundle: str | None
    init: str | None
    freeze: list[str]
    preflight: str | None
    recipe: Recipe
    prepare: Prepare
    cluster: Cluster
    units: Units
    features: Features
    augment: Augment
    model: dict[str, Any]
    inner_ctc: InnerCtc
    optim: Optim
    data: Data
    trainer: Trainer
    tune: Tune
    decoder: dict[str, Any]


# The words a setting may have, where any other would only be found out later.
WORDS: dict[str, tuple[str, ...]] = {
    "split": ("train", "validation", "test"),
    "preflight": ("only",),
    "cluster.name": ("local", "ray"),
    "units.kind": ("characters", "sentencepiece", "words", "phones"),
    "inner_ctc.target": ("units", "phones"),
    "features.normalisation": ("corpus", "utterance"),
    "data.device_batch_s": ("auto",),  # or a number
    "optim.name": ("adamw", "nadamw", "sgd"),
    "optim.schedule": ("one_cycle", "cosine", "plateau", "constant"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.loggers": ("tensorboard", "csv", "wandb", "mlflow", "comet"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
}

_INFINITY = float("inf")

# The least and the most a setting may be, both included.
LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "prepare.max_rejected": (0.0, 1.0),
    "prepare.min_duration_s": (0.0, _INFINITY),
    "prepare.max_duration_s": (0.0, _INFINITY),
    "prepare.max_chars_per_s": (0.0, _INFINITY),
    "prepare.min_snr_db": (-100.0, 100.0),
    "cluster.workers": (1, _INFINITY),
    "cluster.max_failures": (0, _INFINITY),
    "units.whole_word_count": (0, _INFINITY),
    "units.size": (3, _INFINITY),
    "features.mel_bins": (1, _INFINITY),
    "features.window_s": (0.001, 1.0),
    "features.hop_s": (0.001, 1.0),
    "augment.speed.factors": (0.1, 10.0),
    "augment.speed.start_epoch": (1, _INFINITY),
    "augment.join.probability": (0.0, 1.0),
    "augment.join.most": (2, 1000),
    "augment.join.longest_s": (0.1, _INFINITY),
    "augment.join.start_epoch": (1, _INFINITY),
    "augment.warp.low": (0.5, 2.0),
    "augment.warp.high": (0.5, 2.0),
    "augment.warp.start_epoch": (1, _INFINITY),
    "augment.spec.frequency_masks": (0, _INFINITY),
    "augment.spec.frequency_width": (0, _INFINITY),
    "augment.spec.time_masks": (0, _INFINITY),
    "augment.spec.time_share": (0.0, 1.0),
    "augment.spec.start_epoch": (1, _INFINITY),
    "augment.noise.probability": (0.0, 1.0),
    "augment.noise.low_snr_db": (-100.0, 100.0),
    "augment.noise.high_snr_db": (-100.0, 100.0),
    "augment.noise.start_epoch": (1, _INFINITY),
    "augment.reverb.probability": (0.0, 1.0),
    "augment.reverb.start_epoch": (1, _INFINITY),
    "augment.gain.low_db": (-100.0, 100.0),
    "augment.gain.high_db": (-100.0, 100.0),
    "augment.gain.start_epoch": (1, _INFINITY),
    "inner_ctc.weight": (0.0, 1.0),
    "inner_ctc.layer": (1, _INFINITY),
    "optim.learning_rate": (0.0, _INFINITY),
    "optim.weight_decay": (0.0, _INFINITY),
    "optim.clip_norm": (0.0, _INFINITY),
    "optim.warmup": (0.0, 1.0),
    "optim.lowest": (0.0, 1.0),
    "optim.plateau_factor": (0.0, 1.0),
    "optim.plateau_patience": (1, _INFINITY),
    "optim.ema_decay": (0.0, 1.0),
    "optim.average_best": (0, _INFINITY),
    "data.batch_s": (0.1, _INFINITY),
    "data.max_utterances": (1, _INFINITY),
    "data.device_batch_s": (0.1, _INFINITY),
    "data.max_duration_s": (0.1, _INFINITY),
    "trainer.max_epochs": (1, _INFINITY),
    "trainer.patience": (0, _INFINITY),
    "trainer.devices": (1, _INFINITY),
    "trainer.nodes": (1, _INFINITY),
    "trainer.checkpoint_steps": (0, _INFINITY),
    "trainer.checkpoint_minutes": (0, _INFINITY),
    "trainer.max_skipped": (0, _INFINITY),
    "trainer.timeout_s": (1, _INFINITY),
    "trainer.threads": (1, _INFINITY),
    "trainer.validate_every": (1, _INFINITY),
    "tune.trials": (1, 1000),
    "tune.max_epochs": (1, _INFINITY),
    "tune.grace_epochs": (1, _INFINITY),
    "tune.concurrent": (1, _INFINITY),
}
