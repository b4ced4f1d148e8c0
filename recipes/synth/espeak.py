"""Speak a plan with eSpeak NG: a program of its own, since the library keeps global state.

    python espeak.py FOLDER < plan.jsonl > words.jsonl

Each line of the plan is one utterance: `audio` (the file to write, below FOLDER), `text`, `voice`,
`words_per_minute`, `pitch` (0-99), `noise` (white, pink or none), `snr_db` and `seed`. The audio is
16 kHz mono FLAC. For each line one goes to stdout: `audio` and its `words` with their times.

eSpeak NG is GPL-3.0 software. It is loaded from the package `espeakng-loader`, no part of this one.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000

# From espeak-ng/speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2  # the callback gets the samples before espeak_Synth returns
_POSITION_CHARACTER = 1
_CHARACTERS_UTF8 = 1
_EVENT_LIST_TERMINATED, _EVENT_WORD = 0, 1
_RATE, _PITCH = 1, 3


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, counted from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),  # a union of int, pointer and char[8]
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Speaker:
    """eSpeak NG in this process; there can be one."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate_hz = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
        )
        if self.sample_rate_hz <= 0:
            raise RuntimeError("eSpeak NG could not be started")
        self._pieces: list[np.ndarray] = []
        self._starts: list[tuple[int, int]] = []
        self._keep = _CALLBACK(self._collect)  # the library does not hold it
        self._library.espeak_SetSynthCallback(self._keep)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for index in itertools.count():
            if events[index].type == _EVENT_LIST_TERMINATED:
                break
            if events[index].type == _EVENT_WORD:
                self._starts.append((events[index].text_position - 1, events[index].audio_position))
        return 0

    def seed(self, seed: int) -> None:
        """Fix what follows: breath and roughness of the voices are random."""
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def say(
        self, text: str, voice: str, words_per_minute: int, pitch: int
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Samples (int16) and, for each word, its first character and its start in ms."""
        self._pieces, self._starts = [], []
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"voice {voice}")
        self._check(self._library.espeak_SetParameter(_RATE, words_per_minute, 0), "rate")
        self._check(self._library.espeak_SetParameter(_PITCH, pitch, 0), "pitch")
        data = text.encode() + b"\0"
        self._check(
            self._library.espeak_Synth(
                data, ctypes.c_size_t(len(data)), 0, _POSITION_CHARACTER, 0, _CHARACTERS_UTF8,
                None, None,
            ), f"text {text!r}",
        )  # fmt: skip
        self._check(self._library.espeak_Synchronize(), "synchronisation")
        return np.concatenate(self._pieces), self._starts

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError(f"eSpeak NG refused the {what} (status {status})")


def noise(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` samples of unit power: `white`, or `pink`, whose power falls by 3 dB an octave."""
    samples = generator.standard_normal(1 << (count - 1).bit_length())  # lengths quick to transform
    if kind == "pink":
        spectrum = np.fft.rfft(samples)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[0] = 0.0
        samples = np.fft.irfft(spectrum)
    samples = samples[:count]
    return np.asarray(samples / np.sqrt(np.mean(samples**2)))


def render(
    samples: np.ndarray, sample_rate_hz: int, line: dict[str, Any]
) -> tuple[np.ndarray, float]:
    """The speech at 16 kHz between two short pauses, noise over all of it, and the first pause.

    The signal-to-noise ratio is that of the mean powers, pauses left out.
    """
    generator = np.random.default_rng(line["seed"])
    speech = soxr.resample(samples.astype(np.float64) / 2**15, sample_rate_hz, SAMPLE_RATE_HZ)
    pauses_s = generator.uniform(0.05, 0.15, 2)
    waveform = np.pad(speech, np.round(pauses_s * SAMPLE_RATE_HZ).astype(int))
    if line["noise"] != "none":
        power = np.mean(speech**2) / 10 ** (line["snr_db"] / 10)
        waveform = waveform + np.sqrt(power) * noise(line["noise"], len(waveform), generator)
    peak = np.abs(waveform).max()
    return waveform * min(1.0, 0.9 / peak), float(pauses_s[0])


def word_times(
    text: str, starts: list[tuple[int, int]], first_s: float, end_s: float
) -> list[dict[str, Any]]:
    """Words with their times. A word ends where the next begins; eSpeak NG says no more than that.

    Where it runs words together ("of the"), the one event stands for all of them.
    """
    cuts = [(position, first_s + ms / 1000) for position, ms in sorted(set(starts))]
    ends = [start_s for _, start_s in cuts[1:]] + [end_s]
    positions = [position for position, _ in cuts[1:]] + [len(text)]
    return [
        {"word": text[start:stop].strip(), "start_s": round(start_s, 3), "end_s": round(stop_s, 3)}
        for (start, start_s), stop, stop_s in zip(cuts, positions, ends, strict=True)
    ]


def main(folder: Path) -> None:
    speaker = Speaker()
    for line in map(json.loads, sys.stdin):
        speaker.seed(line["seed"])
        samples, starts = speaker.say(
            line["text"], line["voice"], line["words_per_minute"], line["pitch"]
        )
        waveform, first_s = render(samples, speaker.sample_rate_hz, line)
        path = folder / line["audio"]
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
        end_s = first_s + len(samples) / speaker.sample_rate_hz
        words = word_times(line["text"], starts, first_s, end_s)
        print(json.dumps({"audio": line["audio"], "words": words}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
