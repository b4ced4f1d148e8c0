from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from asr.audio import AudioError, load, probe, to_int16


def noise(seconds: float = 1.0, rate_hz: int = 16_000, channels: int = 1) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    shape = (round(seconds * rate_hz), channels) if channels > 1 else round(seconds * rate_hz)
    return (random.standard_normal(shape) * 0.1).astype(np.float32)


def tone(frequency_hz: float, rate_hz: int, seconds: float = 1.0) -> NDArray[np.float32]:
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def reason_of(path: Path, start_s: float = 0.0, end_s: float | None = None) -> str:
    with pytest.raises(AudioError) as caught:
        load(path, start_s, end_s)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_a_16_bit_wav_is_read_as_the_standard_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(), 16_000, subtype="PCM_16")
    with wave.open(str(path)) as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    np.testing.assert_array_equal(to_int16(load(path)), expected)


@pytest.mark.parametrize("ending", ["flac", "aiff", "au", "caf", "w64"])
def test_lossless_formats_give_the_same_samples(tmp_path: Path, ending: str) -> None:
    samples = to_int16(noise())
    soundfile.write(tmp_path / f"a.{ending}", samples, 16_000, subtype="PCM_16")
    np.testing.assert_array_equal(to_int16(load(tmp_path / f"a.{ending}")), samples)


def test_headerless_raw_is_16_bit_big_endian(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(struct.pack(">4h", 0, 16_384, -32_768, 32_767))
    expected = [0.0, 0.5, -1.0, 32_767 / 32_768]
    np.testing.assert_allclose(load(tmp_path / "a.raw"), expected)


def test_a_sphere_file_is_read(tmp_path: Path) -> None:
    samples = to_int16(noise())
    fields = [
        f"sample_count -i {len(samples)}",
        "sample_rate -i 16000",
        "channel_count -i 1",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 10",
        "sample_coding -s3 pcm",
        "end_head\n",
    ]
    header = ("NIST_1A\n   1024\n" + "\n".join(fields)).encode().ljust(1024)
    path = tmp_path / "a.sph"
    path.write_bytes(header + samples.astype(">i2").tobytes())
    np.testing.assert_array_equal(to_int16(load(path)), samples)


def test_stereo_at_44_1_khz_is_averaged_and_resampled(tmp_path: Path) -> None:
    left, right = tone(440, 44_100), tone(1_000, 44_100)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100, subtype="FLOAT")
    waveform = load(tmp_path / "a.wav")
    expected = (tone(440, 16_000) + tone(1_000, 16_000)) / 2
    assert len(waveform) == 16_000
    # Away from the ends, where a resampler has no neighbours on one side.
    np.testing.assert_allclose(waveform[400:-400], expected[400:-400], atol=1e-4)


def test_resampling_folds_nothing_back_from_above_8_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(12_000, 48_000), 48_000, subtype="FLOAT")
    assert np.abs(load(tmp_path / "a.wav")[400:-400]).max() < 1e-4


def test_a_stretch_is_that_part_of_the_whole(tmp_path: Path) -> None:
    for ending in ("wav", "flac"):
        path = tmp_path / f"a.{ending}"
        soundfile.write(path, noise(2.0), 16_000, subtype="PCM_16")
        np.testing.assert_array_equal(load(path, 0.5, 1.25), load(path)[8_000:20_000])
        np.testing.assert_array_equal(load(path, 1.5), load(path)[24_000:])


def test_a_stretch_may_end_a_rounding_error_after_the_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), 16_000)
    assert len(load(tmp_path / "a.wav", 0.5, 1.01)) == 8_000
    for start_s, end_s in ((0.5, 1.2), (1.5, None), (0.6, 0.6), (-1.0, 0.5)):
        assert reason_of(tmp_path / "a.wav", start_s, end_s) == "bad-segment"


def test_a_stretch_before_the_break_of_a_truncated_file_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(2.0), 16_000, subtype="PCM_16")
    whole = load(path)
    path.write_bytes(path.read_bytes()[:40_000])
    assert reason_of(path) == "truncated"
    np.testing.assert_array_equal(load(path, 0.1, 1.0), whole[1_600:16_000])


def test_probe_reads_rate_channels_duration_and_coding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1.5, 44_100, 2), 44_100, subtype="PCM_24")
    info = probe(tmp_path / "a.flac")
    assert (info.sample_rate_hz, info.channels, info.codec) == (44_100, 2, "PCM_24")
    assert info.duration_s == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("ending", "subtype"),
    [
        *(("wav", "PCM_16"), ("aiff", "PCM_16"), ("au", "PCM_16"), ("w64", "PCM_16")),
        *(("flac", "PCM_16"), ("ogg", "VORBIS"), ("opus", "OPUS")),
    ],
)
def test_a_file_cut_in_the_middle_is_truncated(
    tmp_path: Path, ending: str, subtype: str | None
) -> None:
    path = tmp_path / f"a.{ending}"
    container = "OGG" if ending == "opus" else None
    soundfile.write(path, noise(2.0), 16_000, subtype=subtype, format=container)
    data = path.read_bytes()
    assert len(load(path)) == 32_000
    path.write_bytes(data[: len(data) * 6 // 10])
    assert reason_of(path) == "truncated"


def test_a_raw_file_of_an_odd_length_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\0" * 4_001)
    assert reason_of(tmp_path / "a.raw") == "truncated"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_whole(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.0), 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    expected = load(path)
    data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    if size:
        np.testing.assert_array_equal(load(path), expected)
    else:  # an empty `data` chunk is what it says
        assert reason_of(path) == "too-short"


def without_length(path: Path) -> bytes:
    """Write 0, for unknown, over the 36 bits of STREAMINFO that count the samples (RFC 9639)."""
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 65_536, 100_000])
def test_a_flac_from_a_pipe_that_does_not_know_its_length_is_whole(
    tmp_path: Path, frames: int, channels: int
) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(frames / 16_000, channels=channels), 16_000)
    expected = load(path)
    without_length(path)
    np.testing.assert_array_equal(load(path), expected)
    assert probe(path).duration_s == frames / 16_000


def test_stretches_of_a_flac_without_a_length_are_those_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(2.0), 16_000)
    expected = load(path)
    data = without_length(path)
    np.testing.assert_array_equal(load(path, 0.5, 1.25), expected[8_000:20_000])
    np.testing.assert_array_equal(load(path, 1.5), expected[24_000:])
    np.testing.assert_array_equal(load(path, 1.5, 2.01), expected[24_000:])
    for start_s, end_s in ((0.5, 2.2), (2.5, None)):
        assert reason_of(path, start_s, end_s) == "bad-segment"
    path.write_bytes(data[: len(data) * 6 // 10])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = noise()
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    assert reason_of(tmp_path / "a.wav") == "not-finite"


def test_samples_beyond_full_scale_are_kept_and_those_beyond_measure_refused(
    tmp_path: Path,
) -> None:
    samples = np.full(1_600, 32_768.0, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(load(tmp_path / "a.wav"), samples)
    soundfile.write(tmp_path / "b.wav", samples * 1e25, 16_000, subtype="FLOAT")
    assert reason_of(tmp_path / "b.wav") == "not-finite"


def test_what_is_no_audio_says_what_it_is_instead(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio\n" * 10)
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nowhere")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "video.m4a").write_text("no video")
    reasons = {
        "empty.wav": "empty-file",
        "text.wav": "not-audio",
        "folder.wav": "not-audio",
        "missing.wav": "missing",
        "dangling.wav": "bad-link",
        "loop.wav": "bad-link",
        "text.wav/a.wav": "missing",
    }
    for name, reason in reasons.items():
        assert (name, reason_of(tmp_path / name)) == (name, reason)
    assert reason_of(tmp_path / "video.m4a") in ("no-codec", "not-audio")


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_one_channel_is_taken_in_place_of_the_average(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(channels=3), 16_000)
    samples, _ = soundfile.read(path, dtype="float32")
    for channel in range(3):
        np.testing.assert_array_equal(load(path, channel=channel), samples[:, channel])
        found = load(path, 0.25, 0.5, channel=channel)
        np.testing.assert_array_equal(found, samples[4_000:8_000, channel])
    np.testing.assert_allclose(load(path), samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channel", [-1, 2])
def test_a_channel_that_is_not_there_is_said(tmp_path: Path, channel: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(channels=2), 16_000)
    with pytest.raises(AudioError, match=f"2 channels, and none of number {channel + 1}") as caught:
        load(tmp_path / "a.wav", channel=channel)
    assert caught.value.reason == "no-channel"


def test_of_a_channel_the_others_may_be_no_numbers(tmp_path: Path) -> None:
    samples = noise(channels=2)
    samples[5, 1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(load(tmp_path / "a.wav", channel=0), samples[:, 0])
    assert reason_of(tmp_path / "a.wav") == "not-finite"


def test_a_damaged_rate_is_not_resampled_to_gigabytes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), 1, subtype="PCM_16")
    assert reason_of(tmp_path / "a.wav") == "not-audio"


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
def test_conversion_to_16_bits_rounds_and_clips(values: list[float]) -> None:
    expected = [max(-32_768, min(32_767, round(value * 32_768))) for value in values]
    assert to_int16(np.array(values, dtype=np.float32)).tolist() == expected


def test_opus_of_the_real_corpus_keeps_its_length(real_data) -> None:  # type: ignore[no-untyped-def]
    root = real_data("mini_librispeech")
    path = next(root.rglob("*.opus"))
    assert len(load(path)) == round(probe(path).duration_s * 16_000)
