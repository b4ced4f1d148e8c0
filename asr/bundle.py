"""The bundle: a trained model as a folder that stands alone, and what it recognises.

`weights.safetensors` holds the weights, `bundle.yaml` the rest, and some units have a file of their
own (`docs/bundle.md`). None of them can name code: components are names of `asr.registry`, so
loading a stranger's bundle runs nothing of theirs.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from asr import audio, recognition, registry
from asr.decoding import settings as decoder_settings
from asr.decoding.decoder import Decoder
from asr.decoding.hypothesis import Transcript
from asr.description import (
    DESCRIPTION,
    SCHEMA,
    digest_of,
    read_checked,
    read_description,
    written,
)
from asr.errors import DamagedError, UserError, nearest
from asr.features import LogMel
from asr.files import digest_bytes, replace_folder, write_atomically
from asr.models.ctc import CtcModel
from asr.streaming import Stream
from asr.text import NORMALISERS
from asr.units.kinds import units_from_dict, units_to_dict
from asr.units.symbols import Units
from asr.waveforms import BATCH_S, Audio

WEIGHTS = "weights.safetensors"


@dataclass(eq=False, repr=False)
class Bundle:
    """A trained model with all it takes to recognise speech.

    `model` and `decoder` are the component's name and its settings, `trained` says from what and
    how it came to be, `scores` what it reached on which recipe and split. `folder` is where it was
    loaded from; files that `decoder` names lie there.
    """

    network: CtcModel
    model: dict[str, Any]
    features: LogMel
    units: Units
    normaliser: str
    decoder: dict[str, Any]
    trained: dict[str, Any]
    scores: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None

    def __post_init__(self) -> None:
        self.search = self.build_decoder(self.own_decoder)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @property
    def seconds_per_frame(self) -> float:
        """From one frame of emissions to the next."""
        return self.features.hop_s * self.network.subsampling

    @property
    def offset_s(self) -> float:
        """Where the first frame of emissions begins; it stands for the middle of its window."""
        return (self.features.window_s - self.seconds_per_frame) / 2

    @property
    def digest(self) -> str:
        """The same for two bundles that give the same text: weights, units, features, decoder.

        Neither `trained` nor `scores` changes it.
        """
        return digest_of(self._content(safetensors.torch.save(self._weights())))

    @property
    def digest_of_emissions(self) -> str:
        """The same for two bundles that give the same emissions: the digest as if greedy."""
        return replace(self, decoder={"name": "greedy"}).digest

    @property
    def own_decoder(self) -> dict[str, Any]:
        """The settings of the bundle's decoder, with the paths of the files it brings."""
        return decoder_settings.resolved(self.decoder, self.folder)

    def build_decoder(self, settings: Mapping[str, Any]) -> Decoder:
        """The decoder of those settings (`name` and the constructor's) for this bundle's emissions.

        Raises:
            UserError: no decoder has that name, it has no such setting, or cannot use a file.
        """
        given = {
            "units": self.units,
            "seconds_per_frame": self.seconds_per_frame,
            "offset_s": self.offset_s,
        }
        component = registry.find("decoders", str(settings.get("name")))
        if "normaliser" in inspect.signature(component).parameters:
            given["normaliser"] = self.normaliser  # as which it writes words of files
        decoder: Decoder = _build("decoders", settings, **given)
        return decoder

    def emissions(self, waveforms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Float waveforms `[S]` at 16 kHz to log-probabilities `[B, T', V]` and lengths `[B]`.

        Puts the network into evaluation mode. An utterance's values do not depend on the others.
        """
        self.network.eval()
        # TF32 would round what an utterance gives differently from batch to batch.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features, lengths = self.features(*self.padded(waveforms))
            emissions, lengths = self.network(features, lengths)
        return emissions, lengths

    def stream(self) -> Stream:
        """A new stream: takes a recording while it comes, gives its emissions and text so far.

        Raises:
            UserError: this model needs the whole utterance; says what to train instead.
        """
        return Stream(self.network, self.features, self.units)

    def padded(self, waveforms: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """One batch `[B, S]` of waveforms, zeros at their ends, and their lengths `[B]`."""
        lengths = [len(waveform) for waveform in waveforms]
        batch = torch.zeros(len(waveforms), max(lengths, default=0))
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        return batch.to(self.device), torch.tensor(lengths, device=self.device)

    def recognise(
        self, waveforms: Sequence[np.ndarray], sources: Sequence[str]
    ) -> list[Transcript]:
        """Transcripts of one batch of float waveforms `[S]` at 16 kHz."""
        nbest_lists = self.search.decode(*self.emissions(waveforms))
        return [
            recognition.transcript_of(source, len(waveform) / audio.SAMPLE_RATE_HZ, nbest)
            for source, waveform, nbest in zip(sources, waveforms, nbest_lists, strict=True)
        ]

    def transcribe(self, inputs: Sequence[Audio], batch_s: float = BATCH_S) -> list[Transcript]:
        """What is said in recordings, in their order.

        Inputs are paths of audio files, or arrays `[S]` of samples at 16 kHz, mono: floats in
        [-1, 1], or int16. They are recognised in batches of similar length of `batch_s` seconds in
        all, which changes the time it takes and the memory, never the text; those of more than two
        minutes in windows (`asr.recognition.recognise_long`).

        Raises:
            UserError: an input cannot be used; names it and says why.
        """
        return recognition.transcribe(self, inputs, batch_s)

    def save(self, folder: str | Path) -> None:
        """Write the bundle; what was in the folder is replaced as a whole.

        Raises:
            UserError: the folder cannot be written.
        """
        weights = safetensors.torch.save(self._weights())
        content = {**self._content(weights), "trained": self.trained, "scores": self.scores}
        with replace_folder(folder) as temporary:
            (temporary / WEIGHTS).write_bytes(weights)
            for name, data in self.units.files().items():
                (temporary / name).write_bytes(data)
            for name in decoder_settings.names(self.decoder):
                assert self.folder is not None  # else they had not been found
                shutil.copyfile(self.folder / name, temporary / name)
            (temporary / DESCRIPTION).write_text(written(content), encoding="utf-8")

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }

    def _content(self, weights: bytes) -> dict[str, Any]:
        """What the text depends on, as bundle.yaml keeps it."""
        kind = next(
            name
            for name in registry.names("features")
            if registry.find("features", name) is type(self.features)
        )
        return {
            "schema": SCHEMA,
            "model": self.model,
            "features": {
                "name": kind,
                **self.features.settings(),
                "mean": self.features.mean.tolist(),
                "deviation": self.features.deviation.tolist(),
            },
            "units": units_to_dict(self.units),
            "normaliser": self.normaliser,
            "decoder": self.decoder,
            "weights": digest_bytes(weights),
        }


def load(folder: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """The bundle in a folder, ready to recognise on `device`.

    Nothing is executed from it: components are found by their names in `asr.registry`.

    Raises:
        UserError: the folder holds no bundle, one of a newer asr, or a damaged one; says which.
    """
    folder = Path(folder)
    content = read_description(folder)
    path = folder / DESCRIPTION
    try:
        units = units_from_dict(content["units"], partial(read_checked, folder))
        features = _features(content["features"])
        encoder = _build("models", content["model"], input_size=features.mel_bins)
        network = CtcModel(encoder, len(units.symbols))
        if content["normaliser"] not in NORMALISERS:
            known = ", ".join(sorted(NORMALISERS))
            hint = nearest(str(content["normaliser"]), NORMALISERS)
            raise UserError(f"no normaliser is called {content['normaliser']!r}.{hint} ({known})")
        bundle = Bundle(
            network=network,
            features=features,
            units=units,
            folder=folder,
            **{
                key: content[key] for key in ("model", "normaliser", "decoder", "trained", "scores")
            },
        )
    except DamagedError:  # which names the file
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    _load_weights(network, folder, content["weights"])
    network.to(device).eval()
    features.to(device).eval()
    return bundle


def add_score(folder: str | Path, score: Mapping[str, Any]) -> None:
    """Note in a bundle what it reached; an earlier score of the same recipe, split, decoder goes.

    Raises:
        UserError: the folder holds no bundle, or cannot be written.
    """
    content = read_description(Path(folder))
    same = ("recipe", "split", "decoder")
    content["scores"] = [
        earlier
        for earlier in content["scores"]
        if any(earlier.get(key) != score.get(key) for key in same)
    ] + [dict(score)]
    with write_atomically(Path(folder) / DESCRIPTION) as stream:
        stream.write(written(content))


def set_decoder(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Let a bundle use that decoder from now on; files that the settings name are copied into it.

    Raises:
        UserError: the folder holds no bundle or cannot be written, or a file cannot be read.
    """
    folder = Path(folder)
    content = read_description(folder)
    earlier = decoder_settings.names(content["decoder"])
    content["decoder"] = decoder_settings.carried(settings, folder)
    with write_atomically(folder / DESCRIPTION) as stream:
        stream.write(written(content))
    for name in set(earlier) - set(decoder_settings.names(content["decoder"])):
        (folder / Path(name).name).unlink(missing_ok=True)


def _features(settings: Mapping[str, Any]) -> LogMel:
    """Features with their statistics."""
    statistics = {}
    settings = dict(settings)
    for name in ("mean", "deviation"):
        values = settings.pop(name, None)
        if not isinstance(values, list) or not all(isinstance(x, int | float) for x in values):
            raise UserError(f"the features' {name} is no list of numbers")
        statistics[name] = torch.tensor(values, dtype=torch.float32)
    features: LogMel = _build("features", settings)
    for name, values in statistics.items():
        if values.shape != getattr(features, name).shape:
            raise UserError(
                f"the features' {name} has {len(values)} values for {features.mel_bins} mel bins"
            )
        getattr(features, name).copy_(values)
    return features


def _build(kind: str, settings: Mapping[str, Any], **given: Any) -> Any:
    """The component that `settings` names, made of the rest of them."""
    settings = dict(settings)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"the name is missing among the {kind}' settings")
    component = registry.find(kind, name)
    known = set(inspect.signature(component).parameters) - set(given)
    for key in settings:
        if key not in known:
            raise UserError(f"{name} has no setting {key!r}.{nearest(str(key), known)}")
    try:
        return component(**given, **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} cannot be made of these settings: {error}") from None


def _load_weights(network: CtcModel, folder: Path, digest: str) -> None:
    """Fill the network, once the weights are known to be those it was saved with."""
    path = folder / WEIGHTS
    try:
        weights = safetensors.torch.load(read_checked(folder, WEIGHTS, digest))
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path} holds no weights: {error}.") from None
    expected = network.state_dict()
    for name in sorted({*weights, *expected}):
        found = list(weights[name].shape) if name in weights else "missing"
        wanted = list(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise UserError(
                f"{path} does not fit the model of {DESCRIPTION}: {name} is {found}, not {wanted}."
            )
    network.load_state_dict(weights)
