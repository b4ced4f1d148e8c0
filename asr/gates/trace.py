"""What the gates did, recomputed from the weights and checked against the network."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from asr import registry
from asr.audio import SAMPLE_RATE_HZ
from asr.bundle import Bundle
from asr.decoding.greedy import BLANK
from asr.decoding.words import TimedUnit
from asr.errors import UserError
from asr.gates.excerpt import Excerpt
from asr.models.lstm_reference import LstmGates, ReferenceLstm
from asr.models.recurrent import RecurrentLayer

Lstm = nn.LSTM | ReferenceLstm  # the other cells that have such gates are kinds of the latter
Direction = Literal["forward", "backward"]
Frames = npt.NDArray[np.float32]

# How far recomputed outputs may be from the network's.
AGREEMENT = 1e-5


@dataclass(frozen=True)
class CellTrace:
    """What one direction of one layer did: each [T', H], in the recording's own order of time.

    Layers are counted from 1, the one nearest to the sound.
    """

    layer: int
    direction: Direction
    forget: Frames
    input: Frames
    output: Frames
    cell: Frames
    hidden: Frames


@dataclass(frozen=True)
class Trace:
    """All that happened while the network heard an excerpt.

    `log_mel` [T, F] are the energies before normalisation, `mel_hz` [F] the middles of their bins.
    Frame t of the cells stands for the time from `first_s + t * step_s` for `step_s`; so does a
    frame of `log_mel` with `mel_first_s` and `mel_step_s`. `emitted` is the best path, in seconds
    from the excerpt's start, `text` what it spells. `difference` is the largest one between an
    output of the network and its recomputation.
    """

    excerpt: Excerpt
    log_mel: Frames
    mel_hz: Frames
    mel_first_s: float
    mel_step_s: float
    cells: tuple[CellTrace, ...]
    first_s: float
    step_s: float
    emitted: tuple[TimedUnit, ...]
    text: str
    difference: float


def trace(bundle: Bundle, excerpt: Excerpt) -> Trace:
    """Run the network on an excerpt and recompute what its gates did.

    Both in double precision: in single precision rounding alone makes the outputs of two correct
    implementations differ by more than `AGREEMENT` after a minute.

    Raises:
        UserError: the model has no LSTM that is known, the excerpt is shorter than a frame, or what
            is recomputed is not what the network does.
    """
    network = copy.deepcopy(bundle.network).to("cpu", torch.float64).eval()
    cells = list(_cells(network))
    if not cells:
        known = ", ".join(name for name in registry.names("models") if name.startswith("lstm"))
        raise UserError(
            f"A model of the kind {bundle.model['name']} has no LSTM gates that are known."
            f" Models that have: {known}."
        )
    waveforms, lengths = bundle.padded([excerpt.waveform])  # [1, S], [1]
    if int(bundle.features.frame_lengths(lengths)) == 0:
        raise UserError(
            f"{excerpt.source}: the {1000 * excerpt.duration_s:.3g} ms from {excerpt.start_s:g} s"
            f" on are less than one frame of {1000 * bundle.features.window_s:g} ms."
        )
    heard: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    for _, _, cell in cells:
        cell.register_forward_hook(
            lambda module, inputs, outputs: heard.update({module: (inputs[0], outputs[0])})
        )
    with torch.inference_mode():
        log_mel, _ = bundle.features.log_mel(waveforms, lengths)  # [1, T, F]
        features, lengths = bundle.features(waveforms, lengths)
        emissions, _ = network(features.cpu().double(), lengths.cpu())  # [1, T', V]
        computed = [_recomputed(cell, *heard[cell]) for _, _, cell in cells]
    differences = []
    for (layer, direction, cell), gates in zip(cells, computed, strict=True):
        differences.append(float((gates.hidden - heard[cell][1]).abs().max()))
        if not differences[-1] <= AGREEMENT:  # so that NaN is refused as well
            raise UserError(
                f"Layer {layer}, {direction}: the outputs recomputed from the weights differ from"
                f" the network's by {differences[-1]:.2g}, more than {AGREEMENT:g}: its weights are"
                " damaged, or its cells are no LSTM that is known."
            )
    step_s = bundle.seconds_per_frame
    first_s = (bundle.features.window_s - step_s) / 2
    labels, emitted = _best_path(emissions[0], bundle.units.symbols, first_s, step_s)
    return Trace(
        excerpt=excerpt,
        log_mel=log_mel[0].float().cpu().numpy(),
        mel_hz=_mel_hz(bundle.features.mel_filters.cpu().numpy()),
        mel_first_s=(bundle.features.window_s - bundle.features.hop_s) / 2,
        mel_step_s=bundle.features.hop_s,
        cells=tuple(
            _in_time(layer, direction, gates)
            for (layer, direction, _), gates in zip(cells, computed, strict=True)
        ),
        first_s=first_s,
        step_s=step_s,
        emitted=emitted,
        text=bundle.units.decode(labels),
        difference=max(differences),
    )


def _cells(network: nn.Module) -> Iterator[tuple[int, Direction, Lstm]]:
    """The LSTM cells of a network, layer by layer."""
    layers = [module for module in network.modules() if isinstance(module, RecurrentLayer)]
    for number, layer in enumerate(layers, start=1):
        directions: tuple[tuple[Direction, nn.Module | None], ...] = (
            ("forward", layer.forwards),
            ("backward", layer.backwards),
        )
        for direction, cell in directions:
            if cell is not None and _is_known(cell):
                yield number, direction, cell


def _is_known(cell: nn.Module) -> TypeGuard[Lstm]:
    """Whether these are the gates of `ReferenceLstm`: one layer, one direction, no projection."""
    if isinstance(cell, nn.LSTM):
        several = cell.num_layers > 1 or cell.bidirectional
        return cell.bias and cell.batch_first and not cell.proj_size and not several
    return isinstance(cell, ReferenceLstm)


def _recomputed(cell: Lstm, frames: Tensor, outputs: Tensor) -> LstmGates:
    """The gates of a cell for the frames [1, T', I] that it heard."""
    if isinstance(cell, nn.LSTM):
        weights = cell.state_dict()
        cell = ReferenceLstm(cell.input_size, cell.hidden_size).to(outputs.dtype)
        cell.load_state_dict(weights)
    return cell.gates(frames)


def _in_time(layer: int, direction: Direction, gates: LstmGates) -> CellTrace:
    """Gates of the one utterance as arrays; the backward direction heard it from its end."""

    def frames(values: Tensor) -> Frames:  # [1, T', H] -> [T', H]
        ordered = values[0].flip(0) if direction == "backward" else values[0]
        return ordered.float().numpy()

    return CellTrace(
        layer=layer,
        direction=direction,
        forget=frames(gates.forget),
        input=frames(gates.input),
        output=frames(gates.output),
        cell=frames(gates.cell),
        hidden=frames(gates.hidden),
    )


def _best_path(
    emissions: Tensor, symbols: tuple[str, ...], first_s: float, step_s: float
) -> tuple[list[int], tuple[TimedUnit, ...]]:
    """Labels and units of the likeliest path through emissions [T', V], repeats merged."""
    log_peaks, path = emissions.max(dim=1)  # [T', V] -> [T'] twice
    frames = list(zip(path.tolist(), log_peaks.exp().tolist(), strict=True))
    labels, emitted, end = [], [], 0
    for label, run in groupby(frames, key=lambda frame: frame[0]):
        posteriors = [posterior for _, posterior in run]
        start, end = end, end + len(posteriors)
        if label != BLANK:
            labels.append(label)
            times = (first_s + start * step_s, first_s + end * step_s)
            emitted.append(TimedUnit(symbols[label], *times, max(posteriors)))
    return labels, tuple(emitted)


def _mel_hz(filters: Frames) -> Frames:
    """The middle of each bin's filter [fft / 2 + 1, F], in Hz: [F]."""
    bins = np.linspace(0, SAMPLE_RATE_HZ / 2, len(filters))
    weights = filters.sum(axis=0)
    filled = weights > 0  # of very many bins the lowest lie between two frequencies
    middles = (bins @ filters)[filled] / weights[filled]
    return np.interp(np.arange(len(weights)), np.flatnonzero(filled), middles).astype(np.float32)
