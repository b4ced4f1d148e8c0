"""What a run trains: network, losses and optimiser, and the bundle that its weights are kept in."""

from __future__ import annotations

from dataclasses import asdict

import torch

from asr import registry
from asr.augment import Augmentation, SpecAugment, Warp
from asr.bundle import Bundle
from asr.commands.initial import freeze, take_over
from asr.commands.network import build_encoder
from asr.commands.training_data import TrainingData
from asr.config import Config
from asr.data.dataset import waveform
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.training.module import CtcTraining, InnerCtc
from asr.training.optim import OptimiserSettings

# Audio that the features' statistics are taken from, at most.
STATISTICS_S = 5 * 3600.0


def build(
    config: Config,
    data: TrainingData,
    normaliser: str,
    max_epochs: int,
    initial: Bundle | None = None,
) -> tuple[CtcTraining, Bundle]:
    """What is trained, and the bundle around its averaged weights.

    It begins with the weights and statistics of `initial`, where there is one.

    Raises:
        UserError: the model cannot be made of these settings.
    """
    inner = _inner_ctc(config, data)
    torch.manual_seed(config.seed)
    network = CtcModel(build_encoder(config), len(data.units.symbols))
    if initial is not None:
        take_over(network, config, initial)
    freeze(network, config.freeze)
    features = initial.features if initial is not None else _features(config, data)
    bundle = Bundle(
        network=network,
        model=dict(config.model),
        features=features,
        units=data.units,
        normaliser=normaliser,
        decoder={"name": "greedy"},  # until `decoder.keep` of asr evaluate gives it another
        trained={},
    )
    module = CtcTraining(
        network=network,
        features=features,
        augmentation=Augmentation(
            data.batches.plan.speed,
            Warp(**asdict(config.augment.warp)),
            SpecAugment(**asdict(config.augment.spec)),
        ),
        inner=inner,
        optimiser=OptimiserSettings(**asdict(config.optim)),
        decode=bundle.search.decode,
        reference=data.units.reference,
        rate_name=data.units.rate_name,
        seed=config.seed,
        max_epochs=max_epochs,
    )
    bundle.network = module.averaged
    return module, bundle


def _inner_ctc(config: Config, data: TrainingData) -> InnerCtc | None:
    inner = config.inner_ctc
    if inner.weight == 0:
        return None
    vocabulary_size = len((data.phones or data.units).symbols)
    return InnerCtc(inner.layer, inner.weight, vocabulary_size, data.phones is not None)


def _features(config: Config, data: TrainingData) -> LogMel:
    """With their statistics, from up to `STATISTICS_S` of training audio."""
    arguments = asdict(config.features)
    features: LogMel = registry.find("features", arguments.pop("name"))(**arguments)
    step = max(1, round(data.hours * 3600 / STATISTICS_S))
    utterances = data.batches.utterances
    features.fit(waveform(*utterances[index]) for index in range(0, len(utterances), step))
    return features
