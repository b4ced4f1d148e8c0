"""`asr train`: a prepared corpus to a model."""

from __future__ import annotations

import datetime
import logging
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.runs import Finished, claim, read_finished, run_folder, write_finished
from asr.config import Config
from asr.errors import UserError
from asr.files import explain_write_errors

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.corpus import Corpus, Split
    from asr.data.dataset import TrainingBatches
    from asr.features import LogMel
    from asr.models.ctc import CtcModel
    from asr.text import CharacterUnits, PhoneUnits
    from asr.training.module import CtcTraining, InnerCtc
    from asr.training.preflight import Excluded

# Audio that the features' statistics are taken from, at most.
STATISTICS_S = 5 * 3600.0


def train(config: Config) -> int:
    """Train, or go on with, the run that the settings describe.

    Returns:
        0, or 130 or 143 where a signal stopped it.

    Raises:
        UserError: the corpus is not prepared, the name is taken, the settings do not fit.
    """
    from asr.corpus import Corpus

    corpus = Corpus.open(Path(config.prepare.folder))
    folder = run_folder(config)
    max_epochs = epochs_of(config)
    if config.preflight != "only":
        claim(folder, config, corpus.fingerprint)
        finished = read_finished(folder)
        if finished is not None and max_epochs <= finished.max_epochs:
            print(f"train: {folder} is finished ({_outcome(finished)})", file=sys.stderr)
            return 0
    return _Run(config, corpus, folder, max_epochs).train()


def epochs_of(config: Config) -> int:
    """The epochs to train: those asked for, or, with validation in the training data, base's.

    Raises:
        UserError: the run `base` is needed and not finished.
    """
    if "validation" not in config.data.train_splits:
        return config.trainer.max_epochs
    base = read_finished(run_folder(config, "base"))
    if base is None:
        raise UserError(
            f"data=all trains for as many epochs as the run base did, and "
            f"{run_folder(config, 'base')} is not finished: train it first "
            f"(asr train recipe={config.recipe.name})."
        )
    return base.epochs


def _outcome(finished: Finished) -> str:
    if finished.best_wer is None:
        return f"{finished.epochs} epochs, no validation"
    best = f"validation WER {100 * finished.best_wer:.1f} % in epoch {finished.best_epoch}"
    return f"{finished.epochs} epochs, best {best}"


class _Run:
    """One run: what is built from the settings, and how it goes."""

    def __init__(self, config: Config, corpus: Corpus, folder: Path, max_epochs: int) -> None:
        import torch

        self.config, self.corpus, self.folder = config, corpus, folder
        self.max_epochs = max_epochs
        torch.set_num_threads(config.trainer.threads or os.cpu_count() or 1)
        self.log = logging.getLogger("asr.train")
        self.log.handlers.clear()
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self._add_handler(logging.StreamHandler(sys.stderr), "%(message)s")

    def _add_handler(self, handler: logging.Handler, form: str) -> None:
        handler.setFormatter(logging.Formatter(form))
        self.log.addHandler(handler)

    def train(self) -> int:
        """Preflight, train, say where everything is."""
        if self.config.preflight != "only":
            with explain_write_errors(self.folder / "log.txt"):
                handler = logging.FileHandler(self.folder / "log.txt", encoding="utf-8")
            self._add_handler(handler, "%(asctime)s %(message)s")
            self._log_origin(handler)
        units, phones, batches, excluded = self._data()
        if self.config.preflight == "only":
            return 0
        from asr.training.preflight import write_excluded

        write_excluded(self.folder / "excluded.jsonl", excluded)
        return self._fit(units, phones, batches)

    def _log_origin(self, handler: logging.FileHandler) -> None:
        """Command, versions and commit: in the file, not on the screen."""
        for name, value in (("command", shlex.join(sys.argv)), *versions().items()):
            handler.emit(self.log.makeRecord("asr", 20, "", 0, f"{name}: {value}", (), None))

    def _data(
        self,
    ) -> tuple[CharacterUnits, PhoneUnits | None, TrainingBatches, list[Excluded]]:
        """Units, phones where the inner CTC emits them, batches, and what is left out."""
        import numpy as np

        from asr.augment import Speed, utterance_keys
        from asr.data.dataset import TrainingBatches
        from asr.data.sampler import BatchPlan
        from asr.models.frontend import TIME_STRIDES
        from asr.text import CharacterUnits, PhoneUnits, UnknownSymbolError
        from asr.training import preflight

        config = self.config
        splits = [self._split(name) for name in config.data.train_splits]
        units = CharacterUnits.from_texts(
            (text for split in splits for text in split.texts), config.units.whole_word_count
        )
        phones = None
        if config.inner_ctc.weight > 0 and config.inner_ctc.target == "phones":
            if self.corpus.lexicon is None:
                raise UserError(
                    f"inner_ctc.target=phones: the corpus {self.corpus.folder} has no lexicon."
                )
            phones = PhoneUnits.from_dictionary(self.corpus.lexicon)
        speed = Speed(tuple(config.augment.speed.factors), config.augment.speed.start_epoch)
        subsampling = int(config.model["subsampling"])
        frame_count = preflight.FrameCount(
            round(config.features.window_s * 16_000),
            round(config.features.hop_s * 16_000),
            TIME_STRIDES.get(subsampling, (subsampling,)),
        )
        rows: list[tuple[Split, int]] = []
        excluded: list[preflight.Excluded] = []

        def labels(text: str) -> list[int] | UnknownSymbolError:
            try:
                return units.encode(text)
            except UnknownSymbolError as error:
                return error

        for split in splits:
            kept, left_out = preflight.check(
                split,
                [labels(text) for text in split.texts],
                frame_count,
                speed,
                config.data.max_duration_s,
            )
            rows += [(split, row) for row in kept]
            excluded += left_out
        hours = sum(float(split.durations_s[row]) for split, row in rows) / 3600
        self.log.info(
            "train: %d utterances, %.2f hours, %d units; %s",
            *(len(rows), hours, len(units.symbols), preflight.summary(excluded)),
        )
        if not rows:
            raise UserError("No utterance is left to train on: see the reasons above.")
        plan = BatchPlan(
            samples=np.array([split.samples[row] for split, row in rows]),
            keys=utterance_keys(split.ids[row] for split, row in rows),
            batch_s=config.data.batch_s,
            max_utterances=config.data.max_utterances,
            seed=config.seed,
            speed=speed,
            short_first=config.data.short_first,
        )
        self.hours, self.utterances = hours, len(rows)
        encode_inner = None if phones is None else phones.encode_known
        return units, phones, TrainingBatches(rows, plan, units.encode, encode_inner), excluded

    def _split(self, name: str) -> Split:
        if name not in self.corpus.splits:
            known = ", ".join(sorted(self.corpus.splits))
            raise UserError(f"The corpus {self.corpus.folder} has no split {name!r}, only {known}.")
        return self.corpus.splits[name]

    def _features(self, batches: TrainingBatches) -> LogMel:
        """The features with their statistics, taken from up to `STATISTICS_S` of training audio."""
        from asr import registry
        from asr.data.dataset import waveform

        arguments = asdict(self.config.features)
        features: LogMel = registry.find("features", arguments.pop("name"))(**arguments)
        step = max(1, round(self.hours * 3600 / STATISTICS_S))
        features.fit(waveform(split, row) for split, row in batches.utterances[::step])
        return features

    def _network(self, units: CharacterUnits) -> CtcModel:
        from asr import registry
        from asr.models.ctc import CtcModel

        arguments = dict(self.config.model)
        component = registry.find("models", str(arguments.pop("name")))
        try:
            encoder = component(input_size=self.config.features.mel_bins, **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"model: {error}.") from None
        return CtcModel(encoder, len(units.symbols))

    def _module(
        self, units: CharacterUnits, phones: PhoneUnits | None, batches: TrainingBatches
    ) -> tuple[CtcTraining, Bundle]:
        """What is trained, and the bundle around its averaged weights."""
        import torch

        from asr.augment import Augmentation, SpecAugment, Warp
        from asr.bundle import Bundle
        from asr.training.module import CtcTraining
        from asr.training.optim import OptimiserSettings

        config = self.config
        torch.manual_seed(config.seed)
        features = self._features(batches)
        network = self._network(units)
        bundle = Bundle(
            network=network,
            model=dict(config.model),
            features=features,
            units=units,
            normaliser=self.corpus.normaliser,
            decoder=dict(config.decoder),
            trained={},
        )
        optim = {key: value for key, value in asdict(config.optim).items() if key != "name"}
        module = CtcTraining(
            network=network,
            features=features,
            augmentation=Augmentation(
                batches.plan.speed,
                Warp(**asdict(config.augment.warp)),
                SpecAugment(**asdict(config.augment.spec)),
            ),
            inner=self._inner_ctc(phones or units, own_labels=phones is not None),
            optimiser=OptimiserSettings(**optim),
            decode=bundle.search.decode,
            seed=config.seed,
            max_epochs=self.max_epochs,
        )
        bundle.network = module.averaged
        return module, bundle

    def _inner_ctc(self, units: CharacterUnits | PhoneUnits, own_labels: bool) -> InnerCtc | None:
        from asr.training.module import InnerCtc

        inner = self.config.inner_ctc
        if inner.weight == 0:
            return None
        layers = int(self.config.model["layers"])
        if inner.layer > layers:
            raise UserError(f"inner_ctc.layer={inner.layer}: the model has {layers} layers.")
        return InnerCtc(inner.layer, inner.weight, len(units.symbols), own_labels)

    def _fit(
        self, units: CharacterUnits, phones: PhoneUnits | None, batches: TrainingBatches
    ) -> int:
        from asr.training.checkpoint import StoppedError
        from asr.training.fit import FitSettings, fit

        module, bundle = self._module(units, phones, batches)

        def save_model(epoch: int, wer: float | None) -> None:
            bundle.trained = self._provenance(epoch, wer)
            bundle.save(self.folder / "model")

        validating = "validation" not in self.config.data.train_splits
        trainer = self.config.trainer
        settings = FitSettings(
            max_epochs=self.max_epochs,
            patience=trainer.patience if validating else 0,
            validate_every=trainer.validate_every,
            devices=trainer.devices,
            accelerator=trainer.accelerator,
            precision=trainer.precision,
        )
        try:
            outcome = fit(
                module,
                batches,
                self._split("validation") if validating else None,
                self.folder,
                settings,
                save_model,
                self.log,
                self._log_epoch,
            )
        except StoppedError as stop:
            self.log.info(
                "train: stopped by %s; the same command goes on after the last finished epoch", stop
            )
            return stop.status
        finished = Finished(outcome.epochs, self.max_epochs, outcome.best_epoch, outcome.best_wer)
        write_finished(self.folder, finished)
        self.log.info("train: %s is finished (%s)", self.folder, _outcome(finished))
        self.log.info("  model    %s", self.folder / "model")
        self.log.info("  curves   %s", self.folder / "curves.png")
        return 0

    def _log_epoch(self, line: str) -> None:
        """To the file, and to the screen where no progress bar is on it."""
        handlers = self.log.handlers if not sys.stderr.isatty() else self.log.handlers[1:]
        for handler in handlers:
            handler.handle(self.log.makeRecord("asr", 20, "", 0, line, (), None))

    def _provenance(self, epoch: int, wer: float | None) -> dict[str, Any]:
        return {
            "recipe": self.config.recipe.name,
            "run": self.config.name,
            "corpus": self.corpus.fingerprint,
            "splits": list(self.config.data.train_splits),
            "hours": round(self.hours, 3),
            "utterances": self.utterances,
            "epochs": epoch,
            "validation_wer": None if wer is None else round(wer, 6),
            "seed": self.config.seed,
            "command": shlex.join(["asr", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """What computed: asr with its commit where known, python, torch, and the machine's kind."""
    import torch

    import asr

    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(asr.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = f" ({described.stdout.strip()})" if described.returncode == 0 else ""
    return {
        "asr": asr.__version__ + commit,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
