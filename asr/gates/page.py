"""The page: one HTML file with all in it, that opens from a disk and reaches for nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import wave
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined

from asr.audio import SAMPLE_RATE_HZ, to_int16
from asr.gates.colours import DARK, LIGHT
from asr.gates.figures import (
    OPEN,
    SHUT,
    by_likeness,
    by_memory,
    by_strength,
    figures,
    measured,
    time_constants,
)
from asr.gates.trace import CellTrace, Direction, Frames, Trace

SCRIPTS = ("values.js", "panels.js", "page.js")
# Half the steps in which values are kept.
GATE_ACCURACY = 0.5 / 255
CELL_STEPS = 32_767


def page(trace: Trace, model: str, layer: int, direction: Direction) -> str:
    """The HTML, which begins with a layer and direction. Texts are escaped.

    Gates are kept in 256 steps, cells in 65,535, log-mel energies in 256 between the least and the
    greatest; the page says how near its values are.
    """
    style = _part("page.css")
    script = "\n".join(_part(name) for name in SCRIPTS)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["measured"] = measured
    return environment.from_string(_part("page.html.j2")).render(
        trace=trace,
        model=model,
        name=Path(trace.excerpt.source).name,
        layer=layer,
        direction=direction,
        layers=sorted({cell.layer for cell in trace.cells}),
        directions=list(dict.fromkeys(cell.direction for cell in trace.cells)),
        counts=_counts(max(cell.hidden.shape[1] for cell in trace.cells)),
        rows=[figures(cell) for cell in trace.cells],
        shut=SHUT,
        open=OPEN,
        gate_accuracy=_at_most(GATE_ACCURACY),
        cell_accuracy=_at_most(max(_cell_step(cell) for cell in trace.cells) / 2),
        mel_accuracy=_at_most(_mel_step(trace.log_mel) / 2),
        sound=_base64(_wav(trace)),
        data=_json(_data(trace)),
        style=style,
        script=script,
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _part(name: str) -> str:
    return files("asr.gates").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a Content-Security-Policy names a script or style by."""
    return f"sha256-{_base64(hashlib.sha256(text.encode()).digest())}"


def _json(content: object) -> str:
    """JSON that no text in it can end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c")


def _data(trace: Trace) -> dict[str, object]:
    """What the script draws: arrays in base64, little-endian, frame by frame."""
    least = float(trace.log_mel.min())
    step = _mel_step(trace.log_mel)
    return {
        "start_s": trace.excerpt.start_s,
        "duration_s": trace.excerpt.duration_s,
        "first_s": trace.first_s,
        "step_s": trace.step_s,
        "mel": {
            "first_s": trace.mel_first_s,
            "step_s": trace.mel_step_s,
            "hz": [round(float(hz)) for hz in trace.mel_hz],
            "least": least,
            "step": step,
            "values": _base64(np.rint((trace.log_mel - least) / step).astype(np.uint8).tobytes()),
        },
        "emitted": [
            [unit.symbol, unit.start_s, unit.end_s, round(unit.confidence, 4)]
            for unit in trace.emitted
        ],
        "cells": [_cell(cell, trace.step_s) for cell in trace.cells],
        "palettes": {"light": LIGHT, "dark": DARK},
    }


def _cell(cell: CellTrace, step_s: float) -> dict[str, object]:
    step = _cell_step(cell)
    return {
        "layer": cell.layer,
        "direction": cell.direction,
        "units": cell.hidden.shape[1],
        "forget": _gate(cell.forget),
        "input": _gate(cell.input),
        "output": _gate(cell.output),
        "cell": _base64(np.rint(cell.cell / step).astype("<i2").tobytes()),
        "cell_step": step,
        "memory_frames": [
            round(frames, 3) if math.isfinite(frames) else None
            for frames in time_constants(cell.forget).tolist()
        ],
        "orders": {
            "memory": by_memory(cell).tolist(),
            "likeness": by_likeness(cell).tolist(),
            "strength": by_strength(cell).tolist(),
        },
    }


def _gate(gate: Frames) -> str:
    return _base64(np.rint(gate * np.float32(255)).astype(np.uint8).tobytes())


def _cell_step(cell: CellTrace) -> float:
    return max(float(np.abs(cell.cell).max()), 1.0) / CELL_STEPS


def _mel_step(log_mel: npt.NDArray[np.float32]) -> float:
    return max(float(log_mel.max()) - float(log_mel.min()), 1.0) / 255


def _at_most(value: float) -> str:
    """A bound in one digit, rounded up."""
    scale = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / scale - 1e-9) * scale:g}"


def _counts(units: int) -> list[int]:
    """How many of the units can be shown: 16, 32, 64 and so on, and all."""
    count, counts = 16, []
    while count < units:
        counts.append(count)
        count *= 2
    return [*counts, units]


def _wav(trace: Trace) -> bytes:
    """The sound, 16 bits at 16 kHz, with a header of 44 bytes."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        sound.writeframes(to_int16(trace.excerpt.waveform).astype("<i2").tobytes())
    return stream.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
