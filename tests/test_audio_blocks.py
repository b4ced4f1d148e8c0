from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.sounds import sndfile


def joined(path: Path) -> np.ndarray:
    return np.concatenate(list(audio.blocks(path)))


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_blocks_are_what_is_loaded_at_once(
    tmp_path: Path, ending: str, rate_hz: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sndfile, "_BLOCK_FRAMES", 10_007)
    path = tmp_path / f"a.{ending}"
    samples = np.random.default_rng(0).normal(0, 0.1, (3 * rate_hz + 11, channels))
    soundfile.write(path, samples, rate_hz)
    whole = audio.load(path)
    assert len(list(audio.blocks(path))) > 2
    assert joined(path).shape == whole.shape
    np.testing.assert_allclose(joined(path), whole, atol=1e-6)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "aiff"])
def test_a_file_that_breaks_off_is_refused_at_its_end(tmp_path: Path, ending: str) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 200_000)
    soundfile.write(tmp_path / f"whole.{ending}", samples, 16_000)
    path = tmp_path / f"cut.{ending}"
    content = (tmp_path / f"whole.{ending}").read_bytes()
    path.write_bytes(content[: 3 * len(content) // 4])
    with pytest.raises(audio.AudioError, match="breaks off") as raised:
        joined(path)
    assert raised.value.reason == "truncated"


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.full(200_000, np.nan), "not-finite"),
        (np.r_[np.zeros(150_000), 1e7], "not-finite"),
        (np.zeros(0), "too-short"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(
    tmp_path: Path, samples: np.ndarray, reason: str
) -> None:
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(audio.AudioError) as raised:
        joined(tmp_path / "a.wav")
    assert raised.value.reason == reason


@pytest.mark.parametrize("name", ["missing.wav", "empty.wav", "text.wav"])
def test_what_is_no_audio_is_refused_before_any_block(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(audio.AudioError):
        next(iter(audio.blocks(tmp_path / name)))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_one_channel_is_taken_in_place_of_the_average(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (3 * rate_hz, 2)), rate_hz)
    for channel in (0, 1):
        found = np.concatenate(list(audio.blocks(path, channel=channel)))
        np.testing.assert_allclose(found, audio.load(path, channel=channel), atol=1e-6)
    with pytest.raises(audio.AudioError, match="none of number 3"):
        next(audio.blocks(path, channel=2))


def reason_of(read: Callable[[], object]) -> str:
    with pytest.raises(audio.AudioError) as raised:
        read()
    return raised.value.reason


def readers(path: Path, limit_s: float) -> list[Callable[[], object]]:
    return [
        lambda: audio.probe(path, limit_s),
        lambda: audio.load(path, limit_s=limit_s),
        lambda: next(audio.blocks(path, limit_s=limit_s)),
    ]


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Opus file with five hours of silence: the pages of two minutes, 150 times over."""
    path = tmp_path_factory.mktemp("hours") / "a.opus"
    soundfile.write(path, np.zeros(120 * 8_000, np.float32), 8_000, "OPUS", format="OGG")
    pages = list(ogg_pages(path.read_bytes()))
    headers, sounds = pages[:2], pages[2:]
    assert [page[28 + page[26] - 1 :][:8] for page in headers] == [b"OpusHead", b"OpusTags"]
    content, packets = [*headers], 0
    for turn in range(150):
        for page in sounds:
            packets += sum(size < 255 for size in page[27 : 27 + page[26]])  # of 20 ms each
            last = turn == 149 and page is sounds[-1]
            content.append(sealed(page, 4 if last else 0, 960 * packets, len(content)))
    path.write_bytes(b"".join(content))
    return path


def ogg_pages(data: bytes) -> Iterator[bytes]:
    """The pages of an Ogg file (RFC 3533)."""
    while data:
        assert data.startswith(b"OggS")
        segments = data[26]
        length = 27 + segments + sum(data[27 : 27 + segments])
        yield data[:length]
        data = data[length:]


def sealed(page: bytes, flags: int, granule: int, number: int) -> bytes:
    """A page at another place, with its checksum."""
    head = (
        page[:5] + struct.pack("<BQ", flags, granule) + page[14:18] + struct.pack("<II", number, 0)
    )
    checksum = 0
    for byte in head + page[26:]:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ CHECKSUMS[checksum >> 24 ^ byte]
    return head[:22] + struct.pack("<I", checksum) + page[26:]


def checksum_of(byte: int) -> int:
    """Of Ogg's polynomial 0x04C11DB7."""
    value = byte << 24
    for _ in range(8):
        value = (value << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if value >> 31 else 0)
    return value


CHECKSUMS = [checksum_of(byte) for byte in range(256)]


def test_a_small_file_with_hours_of_audio_is_refused_before_it_is_decoded(
    hours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hours.stat().st_size < 5_000_000
    assert audio.probe(hours, 5.01 * 3600).duration_s == pytest.approx(5 * 3600, rel=0.001)
    minutes = itertools.islice(audio.blocks(hours), 40)
    assert max(np.abs(block).max() for block in minutes) < 1e-6
    monkeypatch.setattr(sndfile.SndfileSound, "_read", None)
    for read in readers(hours, 4.9 * 3600):
        assert reason_of(read) == "too-long"
    with pytest.raises(
        audio.AudioError, match=r"a\.opus lasts more than 0\.5 hours \(--max-hours\)"
    ):
        audio.probe(hours, 1800)


def without_length(path: Path) -> None:
    """Write 0, for unknown, over the 36 bits of STREAMINFO that count the samples (RFC 9639)."""
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(data)


def test_no_more_than_the_limit_is_decoded_of_a_file_that_does_not_say_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(1_000_000), 16_000)
    without_length(path)
    read = sndfile.SndfileSound._read
    decoded: list[int] = []

    def counted(sound: sndfile.SndfileSound, count: int) -> np.ndarray:
        decoded.append(count)
        return read(sound, count)

    monkeypatch.setattr(sndfile.SndfileSound, "_read", counted)
    limit_s = 20.0
    for reader in (
        lambda: audio.probe(path, limit_s),
        lambda: audio.load(path, limit_s=limit_s),
        lambda: list(audio.blocks(path, limit_s=limit_s)),
    ):
        decoded.clear()
        assert reason_of(reader) == "too-long"
        assert sum(decoded) <= limit_s * 16_000 + 65_536
    assert audio.probe(path, 62.5).duration_s == 62.5
    assert sum(map(len, audio.blocks(path, limit_s=62.5))) == 1_000_000


def test_a_header_that_promises_a_thousand_hours_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(16_000), 16_000)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] | 0x0F, 255, 255, 255, 255])
    path.write_bytes(data)
    assert audio.probe(path).duration_s > 1000 * 3600
    for read in readers(path, 24 * 3600):
        assert reason_of(read) == "too-long"
    tracemalloc.start()
    assert reason_of(lambda: audio.load(path)) == "truncated"
    assert reason_of(lambda: list(audio.blocks(path))) == "truncated"
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_limit_is_of_seconds_at_any_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((44_100, 2)), 44_100)
    assert len(audio.load(tmp_path / "a.wav", limit_s=1.0)) == 16_000
    assert len(audio.load(tmp_path / "a.wav", 0.2, 0.7, limit_s=0.5)) == 8_000
    for read in readers(tmp_path / "a.wav", 0.99):
        assert reason_of(read) == "too-long"
    assert reason_of(lambda: audio.load(tmp_path / "a.wav", 0.2, 0.8, limit_s=0.5)) == "too-long"
