"""Every component's name and where its class lives, in one table. Imports nothing heavy.

Neither configuration nor bundle can name code: they name a row of this table. A user's own model
joins by the entry-point group `asr.models` (and likewise `asr.decoders`, `asr.formats`).
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from asr.errors import UserError, nearest

COMPONENTS: dict[str, dict[str, str]] = {
    "models": {
        "lstm": "asr.models.lstm:LstmEncoder",
        "lstm_reference": "asr.models.lstm_reference:LstmReferenceEncoder",
        "lstm_peephole": "asr.models.lstm_peephole:LstmPeepholeEncoder",
        "lstm_layernorm": "asr.models.lstm_layernorm:LstmLayerNormEncoder",
        "lstm_unidirectional": "asr.models.lstm_unidirectional:UnidirectionalLstmEncoder",
        "lstm_attention": "asr.models.lstm_attention:LstmAttentionEncoder",
        "lstm_transformer": "asr.models.lstm_transformer:LstmTransformerEncoder",
        "transformer": "asr.models.transformer:TransformerEncoder",
        "gru": "asr.models.gru:GruEncoder",
        "rnn": "asr.models.rnn:RnnEncoder",
    },
    "features": {
        "logmel": "asr.features:LogMel",
    },
    "decoders": {
        "greedy": "asr.decoding.greedy:GreedyDecoder",
        "beam": "asr.decoding.beam:BeamDecoder",
        "flashlight": "asr.decoding.flashlight:FlashlightDecoder",
    },
    "formats": {
        "txt": "asr.formats.txt:TxtWriter",
        "json": "asr.formats.json:JsonWriter",
        "ctm": "asr.formats.ctm:CtmWriter",
        "stm": "asr.formats.stm:StmWriter",
        "srt": "asr.formats.srt:SrtWriter",
        "vtt": "asr.formats.vtt:VttWriter",
        "textgrid": "asr.formats.textgrid:TextGridWriter",
    },
    "pipelines": {  # torchaudio:NAME
        name: f"torchaudio.pipelines:{name}"
        for name in (
            "WAV2VEC2_ASR_BASE_10M",
            "WAV2VEC2_ASR_BASE_100H",
            "WAV2VEC2_ASR_BASE_960H",
            "WAV2VEC2_ASR_LARGE_10M",
            "WAV2VEC2_ASR_LARGE_100H",
            "WAV2VEC2_ASR_LARGE_960H",
            "WAV2VEC2_ASR_LARGE_LV60K_10M",
            "WAV2VEC2_ASR_LARGE_LV60K_100H",
            "WAV2VEC2_ASR_LARGE_LV60K_960H",
            "HUBERT_ASR_LARGE",
            "HUBERT_ASR_XLARGE",
            "VOXPOPULI_ASR_BASE_10K_DE",
            "VOXPOPULI_ASR_BASE_10K_EN",
            "VOXPOPULI_ASR_BASE_10K_ES",
            "VOXPOPULI_ASR_BASE_10K_FR",
            "VOXPOPULI_ASR_BASE_10K_IT",
        )
    },
}


def names(kind: str) -> list[str]:
    """The names known for a kind of component, entry points included."""
    return sorted({*COMPONENTS[kind], *(point.name for point in entry_points(group=f"asr.{kind}"))})


def find(kind: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        UserError: the name is not known; the nearest one is offered.
    """
    if name in COMPONENTS[kind]:
        module, _, attribute = COMPONENTS[kind][name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=f"asr.{kind}"):
        if point.name == name:
            return point.load()
    known = names(kind)
    singular = kind.removesuffix("s") if kind != "features" else kind
    raise UserError(
        f"No {singular} is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}."
    )
