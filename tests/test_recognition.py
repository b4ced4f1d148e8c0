"""Long recordings: in windows and pieces what the whole would be, at constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from asr import audio, pauses, recognition, waveforms, windows
from asr.bundle import Bundle
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Hypothesis, Transcript
from asr.errors import UserError
from asr.units.characters import CharacterUnits
from asr.units.symbols import BLANK

RATE_HZ = 16_000
FRAME = 640  # samples
FRAME_S = FRAME / RATE_HZ
SIGNS = "-|abcde"
UNITS = CharacterUnits((BLANK, *SIGNS[1:]))


class Averages:
    """Features [B, T, 1]: the mean of each frame's samples."""

    hop_samples = FRAME
    normalisation = "corpus"

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        count = waveforms.shape[1] // FRAME
        frames = waveforms[:, : count * FRAME].reshape(len(waveforms), count, FRAME)
        return frames.mean(dim=2, keepdim=True), lengths // FRAME

    def fitted(self, blocks: object) -> Averages:
        raise AssertionError("nothing is normalised by the utterance")


class Reader(nn.Module):
    """Emits of a frame whose samples are n / 10 the n-th unit; 7 / 10 and more is babble.

    `blind` frames at the beginning and the end of what it is given it hears as "e".
    """

    subsampling = 1

    def __init__(self, blind: int = 0, size: int = len(SIGNS)) -> None:
        super().__init__()
        self.blind, self.size = blind, size
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[int] = []

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(features.shape[1])
        path = (features[..., 0] * 10).round().long()  # [B, T]
        if self.blind:
            path[:, : self.blind] = SIGNS.index("e")
            path[:, -self.blind :] = SIGNS.index("e")
        logits = 6.0 * nn.functional.one_hot(path, self.size)  # [B, T, V]
        return logits.log_softmax(dim=-1), lengths


def model_of(network: nn.Module | None = None, search: Any = None) -> Any:
    return SimpleNamespace(
        network=network or Reader(),
        features=Averages(),
        units=UNITS,
        search=search or GreedyDecoder(UNITS, FRAME_S),
        seconds_per_frame=FRAME_S,
    )


def spoken(path: str) -> np.ndarray:
    """The waveform in which the reader reads that path."""
    values = np.array([SIGNS.index(sign) for sign in path], np.float32) / 10
    return np.repeat(values, FRAME)


def sentences(seed: int, words: int) -> str:
    """A path of words of one to four letters, with pauses of which some are long."""
    generator = np.random.default_rng(seed)
    path = "--"
    for _ in range(words):
        for letter in generator.choice(list("abcd"), generator.integers(1, 5)):
            path += letter * int(generator.integers(1, 3)) + "-" * int(generator.integers(1, 4))
        path += "|" + "-" * int(generator.integers(1, 30))
    return path


def in_blocks(waveform: np.ndarray, size: int = 5000) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: (waveform[start : start + size] for start in range(0, len(waveform), size))


def long(model: Any, waveform: np.ndarray, size: int = 5000) -> Transcript:
    return recognition.recognise_long(model, in_blocks(waveform, size), "long")


def whole(model: Any, waveform: np.ndarray) -> Hypothesis:
    """All the emissions decoded at once."""
    emissions = windows.emissions(model.network, model.features, lambda: [waveform])
    frames = torch.from_numpy(np.concatenate(list(emissions)))[None]
    best: Hypothesis = model.search.decode(frames, torch.tensor([frames.shape[1]]))[0][0]
    return best


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of four seconds that share two, pieces of three to six."""
    monkeypatch.setattr(windows, "WINDOW_S", 4.0)
    monkeypatch.setattr(windows, "OVERLAP_S", 2.0)
    monkeypatch.setattr(pauses, "SHORTEST_S", 3.0)
    monkeypatch.setattr(pauses, "LONGEST_S", 6.0)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("seed", range(10))
def test_a_long_recording_is_read_as_it_was_written(seed: int) -> None:
    path = sentences(seed, 100)
    written = "".join(
        sign for sign, before in zip(path, "-" + path[:-1], strict=True) if sign != before
    )
    words = written.replace("-", "").replace("|", " ").split()
    model = model_of()
    found = long(model, spoken(path))
    assert len(model.network.calls) > 20
    assert [word.word for word in found.words] == words
    assert found.text == " ".join(words)
    for word, begin in zip(found.words, starts_of(path), strict=True):
        assert begin * FRAME_S - 0.041 <= word.start_s <= begin * FRAME_S
    assert found.duration_s == len(spoken(path)) / RATE_HZ


def starts_of(path: str) -> list[int]:
    """The frame in which each word of a path begins."""
    starts, inside = [], False
    for frame, sign in enumerate(path):
        if sign == "|":
            inside = False
        elif sign != "-" and not inside:
            inside = True
            starts.append(frame)
    return starts


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("seed", range(10))
def test_in_pieces_the_best_path_is_that_of_the_whole(seed: int) -> None:
    model = model_of()
    waveform = spoken(sentences(seed, 100))
    found, expected = long(model, waveform), whole(model, waveform)
    assert found.text == expected.text
    assert found.score == pytest.approx(expected.score, rel=1e-9)
    assert [word.word for word in found.words] == [word.word for word in expected.words]
    for one, other in zip(found.words, expected.words, strict=True):
        assert (one.start_s, one.end_s, one.confidence) == pytest.approx(
            (other.start_s, other.end_s, other.confidence), abs=1e-6
        )


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_in_pieces_a_network_is_heard_as_in_one(
    make_bundle: Callable[..., Bundle], normalisation: str
) -> None:
    bundle = make_bundle(normalisation=normalisation)
    generator = np.random.default_rng(0)
    loud = np.repeat(generator.uniform(0, 0.3, 120), 8000)
    waveform = (generator.standard_normal(len(loud)) * loud).astype(np.float32)
    found, expected = long(bundle, waveform), whole(bundle, waveform)
    assert len(found.words) > 50
    assert found.text == expected.text
    assert found.score == pytest.approx(expected.score, rel=1e-6)
    ours = [(word.word, word.start_s, word.end_s) for word in found.words]
    theirs = [(word.word, word.start_s, word.end_s) for word in expected.words]
    for one, other in zip(ours, theirs, strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], abs=0.0421)  # a frame, beside a cut
    times = [time for _, start_s, end_s in ours for time in (start_s, end_s)]
    assert times == sorted(times)


@pytest.mark.usefixtures("short")
def test_what_a_window_hears_at_its_edges_is_not_believed() -> None:
    path = sentences(3, 100)
    clear, blind = model_of(), model_of(Reader(blind=12))
    expected = long(clear, spoken(path))
    found = long(blind, spoken(path))
    inside = [word for word in found.words if set(word.word) != {"e"}]
    assert "e" not in "".join(word.word for word in inside[1:-1])
    assert [word.word for word in inside[2:-2]] == [
        word.word
        for word in expected.words
        if inside[2].start_s <= word.start_s <= inside[-3].start_s
    ]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("late", [-2, -1, 1, 2])
def test_no_word_is_lost_or_doubled_where_one_window_hears_it_later(late: int) -> None:
    class Shifted(Reader):
        def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            emissions, lengths = super().forward(features, lengths)
            if len(self.calls) % 2:
                return emissions, lengths
            return emissions.roll(late, dims=1), lengths  # [B, T, V]

    generator = np.random.default_rng(0)
    path = "--" + "".join(
        letter + "|" + "-" * int(generator.integers(6, 14))
        for letter in generator.choice(list("abcd"), 400)
    )
    expected = path.replace("-", "").replace("|", " ").split()
    found = long(model_of(Shifted()), spoken(path))
    assert found.text.split()[1:-1] == expected[1:-1]


def test_less_than_a_piece_keeps_its_alternatives_and_more_has_one_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Four(GreedyDecoder):
        def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
            ((best,),) = super().decode(emissions, lengths)
            return [[best, *(Hypothesis(f"other {n}", best.score - n) for n in (1, 2, 3))]]

    model, waveform = model_of(search=Four(UNITS, FRAME_S)), spoken(sentences(0, 20))
    found = long(model, waveform)
    assert [one.text for one in found.nbest] == [found.text, "other 1", "other 2", "other 3"]
    monkeypatch.setattr(pauses, "SHORTEST_S", 3.0)
    monkeypatch.setattr(pauses, "LONGEST_S", 6.0)
    assert [one.text for one in long(model, waveform).nbest] == [found.text]


@pytest.mark.usefixtures("short")
def test_each_piece_is_decoded_by_itself_and_scores_add_up() -> None:
    class Counting:
        rate_name = "wer"

        def __init__(self) -> None:
            self.lengths: list[int] = []

        def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
            assert emissions.shape[:2] == (1, int(lengths))
            self.lengths.append(int(lengths))
            return [[Hypothesis(f"p{len(self.lengths)}" * (len(self.lengths) != 2), -1.5)]]

    search = Counting()
    path = sentences(1, 100)
    found = long(model_of(search=search), spoken(path))
    assert sum(search.lengths) == len(path)
    assert all(75 <= length < 150 for length in search.lengths[:-1])
    assert found.score == -1.5 * len(search.lengths)
    assert found.text == " ".join(f"p{n}" for n in range(1, len(search.lengths) + 1) if n != 2)


@pytest.mark.parametrize("samples", [0, 1, FRAME - 1])
def test_less_than_a_frame_is_an_empty_text(samples: int) -> None:
    found = long(model_of(), np.zeros(samples, np.float32))
    assert (found.text, found.words, found.score) == ("", (), 0.0)
    assert found.duration_s == samples / RATE_HZ


def test_words_end_with_the_recording() -> None:
    found = long(model_of(), spoken("-----abcd"))
    assert found.words[-1].end_s == 9 * FRAME_S


def test_the_channel_is_the_transcripts() -> None:
    found = recognition.recognise_long(model_of(), lambda: [spoken("-a-")], "call.wav", 2)
    assert (found.channel, found.source) == (2, "call.wav")


PEAK = Path("/proc/self/clear_refs")


@pytest.mark.skipif(not os.access(PEAK, os.W_OK), reason="the peak of memory cannot be reset")
def test_memory_does_not_grow_with_the_recording() -> None:
    """Of 800 units an hour's emissions take 288 MB; read in an hour and in ten minutes."""

    def grown(minutes: int) -> int:
        minute = spoken(("-" * 20 + "ab|-b|" + "-" * 24) * 30)
        PEAK.write_text("5")
        before = status("VmRSS")
        found = recognition.recognise_long(
            model_of(Reader(size=800)), lambda: (minute for _ in range(minutes)), "hours"
        )
        assert found.duration_s == minutes * 60.0
        assert found.text.split() == ["ab", "b"] * (30 * minutes)
        return status("VmHWM") - before

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

    grown(3)
    assert grown(60) - grown(10) < 50_000_000


@pytest.fixture
def two_seconds_are_long(monkeypatch: pytest.MonkeyPatch, short: None) -> None:
    monkeypatch.setattr(waveforms, "WHOLE_S", 2.0)
    monkeypatch.setattr(recognition, "WHOLE_S", 2.0)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (0.1 * generator.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def by_name(transcripts: Sequence[Transcript]) -> list[tuple[str, str, float]]:
    return [(one.source, one.text, one.duration_s) for one in transcripts]


@pytest.mark.usefixtures("two_seconds_are_long")
def test_long_and_short_recordings_are_transcribed_in_their_order(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    seconds = [1.0, 9.0, 0.5, 2.0, 2.1, 30.0]
    paths = []
    for number, duration_s in enumerate(seconds):
        paths.append(tmp_path / f"{number}.flac")
        soundfile.write(paths[-1], noise(duration_s, number), RATE_HZ)
    found = tiny_bundle.transcribe(paths)
    for path, duration_s, transcript in zip(paths, seconds, found, strict=True):
        waveform = audio.load(path)
        if duration_s <= 2.0:
            (expected,) = tiny_bundle.recognise([waveform], [str(path)])
        else:
            expected = recognition.recognise_long(tiny_bundle, in_blocks(waveform), str(path))
        assert by_name([transcript]) == by_name([expected])
    samples = [(audio.load(path) * 32768).astype(np.int16) for path in paths]
    assert [one.text for one in tiny_bundle.transcribe(samples)] == [one.text for one in found]


@pytest.mark.usefixtures("two_seconds_are_long")
def test_a_file_that_is_longer_than_its_header_says_is_transcribed_as_a_long_one(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(9.0), RATE_HZ)
    expected = tiny_bundle.transcribe([path])
    truth = audio.probe(path)
    monkeypatch.setattr(
        "asr.audio.probe",
        lambda path, limit_s: audio.AudioInfo(RATE_HZ, 1, 1.0, truth.codec),
    )
    monkeypatch.setattr(tiny_bundle, "recognise", None)  # it is never recognised whole
    assert by_name(tiny_bundle.transcribe([path])) == by_name(expected)


@pytest.mark.usefixtures("two_seconds_are_long")
@pytest.mark.parametrize("seconds", [0.2, 11.0])
def test_what_is_longer_than_the_limit_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = lambda item, source: waveforms.duration_s_of(item, source, 10.0)  # noqa: E731
    monkeypatch.setattr(recognition, "duration_s_of", limited)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(seconds), RATE_HZ)
    for item, name in ((path, "a.wav"), (noise(seconds), "array 0")):
        if seconds < 10:
            assert tiny_bundle.transcribe([item])
            continue
        with pytest.raises(UserError, match=rf"{name} lasts more than 0.00278 hours"):
            tiny_bundle.transcribe([item])
