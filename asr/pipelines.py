"""torchaudio's recognisers as models: `torchaudio:WAV2VEC2_ASR_BASE_960H` and its siblings.

Each is a wav2vec 2.0 or HuBERT model that was fine-tuned with CTC and is downloaded by torchaudio
when it is first used (docs/pipelines.md). Behind the interface of a bundle it does what a bundle
does, but be saved, trained on, or fed with a stream.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
import torchaudio

from asr import bundle, registry
from asr.bundle import Bundle
from asr.description import pipeline_name
from asr.errors import UserError
from asr.features import LogMel
from asr.files import DIGEST_BYTES, digest_bytes
from asr.models.ctc import CtcModel
from asr.models.wav2vec2 import Wav2Vec2Encoder, Wav2Vec2Features
from asr.streaming import Stream
from asr.units.characters import CharacterUnits
from asr.units.symbols import BLANK

NORMALISER = "english"  # lower case without punctuation, for other languages too
SITE = "https://download.pytorch.org/torchaudio/models/"
SILENCE_S = 15.0  # of a server, after which it is given up


class Pipeline(Bundle):
    """A recogniser of torchaudio's, with what commands use of a bundle.

    Its units are characters in lower case, `|` between words. Made on the device `meta` it has no
    weights and serves to be described only.
    """

    @property
    def digest(self) -> str:
        """The same for two that give the same text: weights, units, decoder."""
        weights = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name, tensor in sorted(self.network.state_dict().items()):
            weights.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            weights.update(tensor.detach().cpu().contiguous().numpy().data)
        content = {
            "pipeline": self.model["name"],
            "units": list(self.units.symbols),
            "normaliser": self.normaliser,
            "decoder": self.decoder,
            "weights": weights.hexdigest(),
        }
        return digest_bytes(json.dumps(content, sort_keys=True).encode())

    def stream(self) -> Stream:
        """Refused: attention needs the whole utterance."""
        raise UserError(f"{self.model['name']} cannot stream: it needs the whole utterance.")

    def save(self, folder: str | Path) -> None:
        """Refused: a bundle holds networks of asr's own."""
        raise UserError(
            f"{self.model['name']} cannot be saved as a bundle: torchaudio keeps its weights in"
            f" {self.trained['weights']}."
        )


def open_model(model: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """The model in a folder, or the one of torchaudio's that `torchaudio:NAME` names.

    Nothing is downloaded but for such a name, and then only once.

    Raises:
        UserError: there is no such model, it is damaged, or its weights cannot be downloaded.
    """
    if pipeline_name(model) is None:
        return bundle.load(model, device)
    pipeline = _find(model)
    network = _trained(str(model), pipeline)
    return _assembled(str(model), pipeline, network.to(device).eval())


def outline(model: str) -> Pipeline:
    """One of torchaudio's recognisers without its weights, which are not downloaded either.

    Raises:
        UserError: torchaudio has none of that name.
    """
    pipeline = _find(model)
    with torch.device("meta"):
        return _assembled(model, pipeline, torchaudio.models.wav2vec2_model(**pipeline._params))


def weights_file(pipeline: Any) -> Path:
    """Where torchaudio keeps the weights of a pipeline, once they are downloaded."""
    return Path(torch.hub.get_dir(), "checkpoints", _address(pipeline).rpartition("/")[2])


def _find(model: str | Path) -> Any:
    return registry.find("pipelines", str(pipeline_name(model)))


def _assembled(model: str, pipeline: Any, network: Any) -> Pipeline:
    """A pipeline's parts behind the interface of a bundle."""
    symbols = (BLANK, *(label.lower() for label in pipeline.get_labels()[1:]))
    network.requires_grad_(False)
    ctc = CtcModel(Wav2Vec2Encoder(network), len(symbols))
    ctc.head = network.aux
    # Gates and streams, which look into log-mel energies, want another network than this.
    features = cast("LogMel", Wav2Vec2Features.of(network).to(network.aux.weight.device))
    params = pipeline._params
    return Pipeline(
        network=ctc.eval(),
        model={
            "name": model,
            "layers": params["encoder_num_layers"],
            "heads": params["encoder_num_heads"],
            "hidden": params["encoder_embed_dim"],
        },
        features=features,
        units=CharacterUnits(symbols),
        normaliser=NORMALISER,
        decoder={"name": "greedy"},
        trained=_origin(pipeline),
    )


def _origin(pipeline: Any) -> dict[str, Any]:
    """What torchaudio's documentation says of a pipeline, and where its weights are."""
    text = re.sub(r"\s*:cite:`\w+`", "", str(pipeline.__doc__))
    about = " ".join(re.sub(r"[*`]", "", text.partition("\n\n")[0]).split())
    licence = re.search(r"under (?:the )?(.+?)\s+and\s+redistributed", text, re.DOTALL)
    return {
        "by": f"torchaudio {torchaudio.__version__}",
        "about": about,
        "licence": licence[1] if licence else None,
        "source": _address(pipeline),
        "weights": str(weights_file(pipeline)),
    }


def _trained(model: str, pipeline: Any) -> Any:
    """The network of torchaudio's with its weights, downloaded if they are not there yet.

    Of the file nothing is run: `weights_only` refuses pickles that hold more than tensors.
    """
    path = weights_file(pipeline)
    if not path.exists():
        _download(model, _address(pipeline), path)
    try:
        network = pipeline.get_model(dl_kwargs={"map_location": "cpu", "weights_only": True})
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (
        *(OSError, EOFError, UnpicklingError),
        *(AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    ) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise UserError(
            f"{path} does not hold the weights of {model} ({why}): delete it, and it is downloaded"
            " again."
        ) from None
    return getattr(network, "model", network)  # without the normalisation, which is the features'


def _download(model: str, address: str, path: Path) -> None:
    """Fetch a file of weights; under its name it is whole."""
    print(f"asr: downloading {address} to {path}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience():
            torch.hub.download_url_to_file(address, str(path), progress=sys.stderr.isatty())
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        why = getattr(reason, "strerror", None) or reason or type(error).__name__
        raise UserError(
            f"{model} needs its weights, and {address} cannot be fetched ({why}): put that file at"
            f" {path}."
        ) from None


def _address(pipeline: Any) -> str:
    path = str(pipeline._path)
    return path if path.startswith("https") else SITE + path


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Give up a server that says nothing; torch waits as long as the system does."""
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(earlier)
