"""What FFmpeg decodes, with torchcodec where it is there, and without it with a stand-in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from asr import audio
from asr.audio import AudioError, AudioInfo, load, probe
from asr.sounds import ffmpeg

try:
    from torchcodec.encoders import AudioEncoder
except (ImportError, RuntimeError):
    AudioEncoder = None

needs_ffmpeg = pytest.mark.skipif(
    AudioEncoder is None, reason="torchcodec with FFmpeg is not installed"
)


def tone(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def reason_of(path: Path, start_s: float = 0.0, end_s: float | None = None) -> str:
    with pytest.raises(AudioError) as caught:
        load(path, start_s, end_s)
    assert str(path) in str(caught.value)
    return caught.value.reason


def joined(path: Path, channel: int | None = None) -> np.ndarray:
    return np.concatenate(list(audio.blocks(path, channel=channel)))


class Decoder:
    """Plays samples [C, S] as torchcodec does, from `begin_s` on."""

    def __init__(
        self, samples: np.ndarray, rate_hz: int, duration_s: float | None, begin_s: float = 0.0
    ) -> None:
        self.samples, self.rate_hz, self.begin_s = samples, rate_hz, begin_s
        self.played: list[int] = []
        self.metadata = SimpleNamespace(
            sample_rate=rate_hz,
            num_channels=len(samples),
            duration_seconds_from_header=duration_s,
            codec="opus",
        )

    def get_samples_played_in_range(self, start_s: float, end_s: float | None) -> SimpleNamespace:
        first, last = (
            max(0, round((time_s - self.begin_s) * self.rate_hz))
            for time_s in (start_s, 1e6 if end_s is None else end_s)
        )
        part = self.samples[:, first:last]
        self.played.append(part.shape[1])
        if not part.shape[1]:
            raise RuntimeError("No audio frames were decoded. This is probably because …")
        return SimpleNamespace(data=torch.from_numpy(part), sample_rate=self.rate_hz)


def stand_in(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> None:
    monkeypatch.setattr(ffmpeg, "_decoder", lambda path: decoder)


@pytest.mark.parametrize("duration_s", [None, 0.0, 2.0])
def test_what_gives_no_length_is_measured_by_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duration_s: float | None
) -> None:
    samples = np.stack([tone(440, 16_000, 2.0)] * 2)
    stand_in(monkeypatch, Decoder(samples, 16_000, duration_s))
    path = tmp_path / "a.webm"
    assert probe(path) == AudioInfo(16_000, 2, 2.0, "opus")
    np.testing.assert_array_equal(load(path, 0.5, 1.25), load(path)[8_000:20_000])
    assert reason_of(path, 1.0, 9.0) == "bad-segment"


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("seconds", [1.0, 19.99, 20.0, 20.01, 40.0, 53.0])
@pytest.mark.parametrize("known", [True, False])
def test_pieces_are_what_is_loaded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_hz: int, seconds: float, known: bool
) -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0, 0.1, (2, round(seconds * rate_hz))).astype(np.float32)
    decoder = Decoder(samples, rate_hz, seconds if known else None)
    stand_in(monkeypatch, decoder)
    path = tmp_path / "a.webm"
    found = joined(path)
    np.testing.assert_allclose(found, load(path), atol=1e-6)
    if rate_hz == 16_000:
        np.testing.assert_array_equal(found, samples.mean(axis=0))
        np.testing.assert_array_equal(joined(path, channel=1), samples[1])
    assert max(decoder.played) == min(len(samples[0]), 20 * rate_hz)


def test_audio_that_begins_a_minute_after_the_video_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = tone(440, 16_000, 95.0)[None]
    stand_in(monkeypatch, Decoder(samples, 16_000, 95.0, begin_s=65.0))
    np.testing.assert_array_equal(joined(tmp_path / "a.mkv"), samples[0])


@pytest.mark.parametrize("duration_s", [None, 1.0, 1e5])
def test_no_more_than_the_limit_is_decoded_whatever_the_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duration_s: float | None
) -> None:
    decoder = Decoder(np.zeros((1, 2_000_000), np.float32), 16_000, duration_s)
    stand_in(monkeypatch, decoder)
    for read in (
        lambda: list(audio.blocks(tmp_path / "a.mp4", limit_s=30.0)),
        lambda: load(tmp_path / "a.mp4", limit_s=30.0),
    ):
        decoder.played.clear()
        with pytest.raises(AudioError, match="lasts more than") as caught:
            read()
        assert caught.value.reason == "too-long"
        assert sum(decoder.played) == (0 if duration_s == 1e5 else 40 * 16_000)


def test_samples_that_are_promised_and_not_found_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder(np.zeros((1, 1_000_000), np.float32), 16_000, 65.0)
    stand_in(monkeypatch, decoder)
    with pytest.raises(AudioError, match="1000000 of 1040000 samples can be read") as caught:
        load(tmp_path / "a.mp4")
    assert caught.value.reason == "truncated"
    decoder.metadata.duration_seconds_from_header = 63.0  # half a second: rounded
    assert len(load(tmp_path / "a.mp4")) == 1_000_000


def test_what_cannot_be_sought_in_is_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Decoder(tone(440, 16_000, 65.0)[None], 16_000, 65.0)
    stand_in(monkeypatch, decoder)
    np.testing.assert_array_equal(joined(tmp_path / "a.wma"), decoder.samples[0])
    assert decoder.played == [65 * 16_000]


def test_a_decoder_that_stumbles_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(np.zeros((1, 2_000_000), np.float32), 16_000, 125.0)
    play = decoder.get_samples_played_in_range

    def broken(start_s: float, end_s: float) -> SimpleNamespace:
        if start_s >= 40:
            raise RuntimeError("decode, /a/b.cpp:12, Invalid data found when processing input\n…")
        return play(start_s, end_s)

    monkeypatch.setattr(decoder, "get_samples_played_in_range", broken)
    stand_in(monkeypatch, decoder)
    with pytest.raises(AudioError, match=r"a\.mp4 breaks off: Invalid data found") as caught:
        load(tmp_path / "a.mp4")
    assert caught.value.reason == "truncated"


def test_without_torchcodec_a_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchcodec.decoders", None)
    (tmp_path / "a.m4a").write_text("no audio")
    assert reason_of(tmp_path / "a.m4a") == "no-codec"
    assert reason_of(tmp_path / "b.m4a") == "missing"


@needs_ffmpeg
def test_an_m4a_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    both = np.stack([tone(440, 48_000, 2.0), tone(440, 48_000, 2.0)])
    AudioEncoder(torch.from_numpy(both), sample_rate=48_000).to_file(str(path))
    info = probe(path)
    assert (info.sample_rate_hz, info.channels, info.codec) == (48_000, 2, "aac")
    assert info.duration_s == pytest.approx(2.0, abs=0.1)
    assert load(path)[8_000:24_000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert len(load(path, 0.5, 1.0)) == 8_000
    assert reason_of(path, 1.0, 9.0) == "bad-segment"
    path.write_bytes(path.read_bytes()[:1_000])
    assert reason_of(path) == "not-audio"


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["m4a", "mp4", "aac"])
def test_pieces_of_a_file_are_what_ffmpeg_decodes_at_once(tmp_path: Path, ending: str) -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0, 0.05, (2, 45 * 48_000)).astype(np.float32)
    path = tmp_path / f"a.{ending}"
    AudioEncoder(torch.from_numpy(samples), sample_rate=48_000).to_file(str(path))
    sound = ffmpeg.FfmpegSound(path)
    whole = sound._decoder.get_samples_played_in_range(0.0, None).data.numpy().T
    pieces = list(ffmpeg.FfmpegSound(path).blocks())
    assert [len(piece) for piece in pieces[:2]] == [20 * 48_000] * 2
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
