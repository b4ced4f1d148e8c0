"""Folders of recordings: what is found in them, what is read of them, what is wrong with them."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr.acoustics.recordings
from asr.acoustics.recordings import Recordings
from asr.audio import load
from asr.errors import UserError

SETTING = "augment.noise.folder"


def write(path: Path, samples: int = 4_000, rate_hz: int = 16_000, seed: int = 0) -> np.ndarray:
    """A file of noise, and its samples as they are read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, samples)
    soundfile.write(path, noise, rate_hz)
    return load(path)


def names(recordings: Recordings) -> list[str]:
    return [path.relative_to(recordings.folder).as_posix() for path in recordings.paths]


def test_recordings_are_those_of_all_folders_sorted_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("street/b.wav", "a.flac", "street.wav", "Z.WAV", ".hidden/c.wav", "._a.wav"):
        write(tmp_path / name)
    (tmp_path / "README.txt").write_text("no recording")
    assert names(Recordings(SETTING, str(tmp_path))) == [
        "Z.WAV",
        "a.flac",
        "street.wav",
        "street/b.wav",
    ]


def test_the_folder_may_be_relative_and_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "noises" / "a.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names(Recordings(SETTING, "noises/")) == names(Recordings(SETTING, "~/noises"))


def test_links_are_followed_inside_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "street/a.wav")
    (tmp_path / "again").symlink_to("street")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "copy.wav").symlink_to("street/a.wav")
    assert names(Recordings(SETTING, str(tmp_path))) == ["copy.wav", "street/a.wav"]


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/b.wav"])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    write(tmp_path / "elsewhere/b.wav")
    write(tmp_path / "noises/a.wav")
    (tmp_path / "noises" / Path(target).name).symlink_to(f"../{target}")
    with pytest.raises(UserError, match=f"{SETTING}=.*{Path(target).name} leads out of"):
        Recordings(SETTING, str(tmp_path / "noises")).check()


def no_folder(folder: Path) -> None:
    pass


def a_file(folder: Path) -> None:
    folder.write_text("no folder")


def an_empty_folder(folder: Path) -> None:
    folder.mkdir()


def a_folder_of_other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "noise.txt").write_text("no recording")


def a_link_to_nowhere(folder: Path) -> None:
    folder.mkdir()
    (folder / "gone.wav").symlink_to("nowhere.wav")


def an_empty_file(folder: Path) -> None:
    write(folder / "good.wav")
    (folder / "bad.wav").touch()


def text_called_wav(folder: Path) -> None:
    folder.mkdir()
    (folder / "bad.wav").write_text("this is no audio\n" * 50)


def a_flac_that_breaks_off_after_more_than_a_piece(folder: Path) -> None:
    write(folder / "bad.flac", 70 * 16_000)
    os.truncate(folder / "bad.flac", (folder / "bad.flac").stat().st_size * 9 // 10)


def a_wav_that_breaks_off(folder: Path) -> None:
    write(folder / "bad.wav")
    os.truncate(folder / "bad.wav", 4_000)


def an_mp3_that_breaks_off(folder: Path) -> None:
    write(folder / "bad.mp3", 32_000)
    os.truncate(folder / "bad.mp3", (folder / "bad.mp3").stat().st_size // 2)


def no_numbers(folder: Path) -> None:
    folder.mkdir()
    soundfile.write(folder / "bad.wav", np.array([0.1, np.nan]), 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_folder, "noises is no folder"),
        (a_file, "noises is no folder"),
        (an_empty_folder, "noises holds no recordings"),
        (a_folder_of_other_files, "noises holds no recordings"),
        (a_link_to_nowhere, r"gone\.wav is a link to nowhere"),
        (an_empty_file, r"noises: 1 of 2 recordings cannot be used: .*bad\.wav is empty"),
        (text_called_wav, r"bad\.wav is not audio that can be read"),
        (a_flac_that_breaks_off_after_more_than_a_piece, r"bad\.flac breaks off"),
        (a_wav_that_breaks_off, r"bad\.wav breaks off"),
        (an_mp3_that_breaks_off, r"bad\.mp3 should be 2\.\d\d s long and has .*convert it to wav"),
        (no_numbers, r"bad\.wav has samples that are no numbers"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "noises")
    with pytest.raises(UserError, match=said) as caught:
        Recordings(SETTING, str(tmp_path / "noises")).check()
    assert str(caught.value).startswith(f"{SETTING}={tmp_path}/noises")
    assert "\n" not in str(caught.value)


def test_an_empty_name_is_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        Recordings(SETTING, "").check()


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "noises/a.wav")
    (tmp_path / "noises/closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> object:  # root, who may run this, may read every folder
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match="closed cannot be read: Permission denied"):
        Recordings(SETTING, str(tmp_path / "noises")).check()


def test_of_many_that_cannot_be_used_three_are_named_and_all_counted(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.wav").touch()
    with pytest.raises(UserError, match=r"5 of 5 .*0\.wav.*1\.wav.*2\.wav.*and 2 more") as caught:
        Recordings(SETTING, str(tmp_path)).check()
    assert "3.wav" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_whole_recordings_of_any_rate_and_length_pass(tmp_path: Path, name: str) -> None:
    for number, (seconds, rate_hz) in enumerate([(0.2, 44_100), (61, 16_000), (2, 8_000)]):
        path = tmp_path / f"{number}" / name
        path.parent.mkdir()
        with soundfile.SoundFile(path, "w", rate_hz, channels=2) as file:  # at once, MP3s crash
            for _ in range(10):
                file.write(np.full((round(seconds * rate_hz / 10), 2), 0.1))
    Recordings(SETTING, str(tmp_path)).check()


def test_a_long_recording_is_checked_in_pieces_that_cover_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.wav", 3 * 16_000 + 8_000)
    pieces: list[tuple[float, float | None]] = []

    def noted(path: Path, start_s: float, end_s: float | None) -> np.ndarray:
        pieces.append((start_s, end_s))
        return load(path, start_s, end_s)

    monkeypatch.setattr(asr.acoustics.recordings, "load", noted)
    monkeypatch.setattr(asr.acoustics.recordings, "PIECE_S", 1.0)
    Recordings(SETTING, str(tmp_path)).check()
    assert pieces == [(0.0, 0.875), (0.875, 1.75), (1.75, 2.625), (2.625, None)]


def test_one_that_is_too_long_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 16_000)
    write(tmp_path / "music.wav", 48_000)
    recordings = Recordings(SETTING, str(tmp_path))
    recordings.check(longest_s=3.0)
    with pytest.raises(UserError, match=r"music\.wav is 3 s long, more than 2\.9 s"):
        recordings.check(longest_s=2.9)


def test_stretches_are_those_of_the_whole_recording_from_its_first_to_its_last_place(
    tmp_path: Path,
) -> None:
    samples = write(tmp_path / "a.wav", 4_000)
    recordings = Recordings(SETTING, str(tmp_path))
    places = []
    for offset in np.linspace(0, 1, 50, endpoint=False):
        stretch = recordings.stretch(0.0, offset, 3_990)
        # 11 places, 0 to 10, are equally likely.
        places.append(int(offset * 11))
        np.testing.assert_array_equal(stretch, samples[places[-1] : places[-1] + 3_990])
    assert sorted(set(places)) == list(range(11))


@pytest.mark.parametrize("length", [4_001, 9_000, 20_000])
def test_a_shorter_recording_is_repeated_from_its_offset_on(tmp_path: Path, length: int) -> None:
    samples = write(tmp_path / "a.wav", 4_000)
    stretch = Recordings(SETTING, str(tmp_path)).stretch(0.0, 0.25, length)
    np.testing.assert_array_equal(stretch, samples[(1_000 + np.arange(length)) % 4_000])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_a_stretch_of_any_file_has_its_length_and_is_where_it_should_be(
    tmp_path: Path, name: str, rate_hz: int
) -> None:
    time_s = np.arange(2 * rate_hz) / rate_hz
    chirp = 0.3 * np.sin(2 * np.pi * (300 + 400 * time_s) * time_s)  # 300 Hz, 800 Hz more a second
    soundfile.write(tmp_path / name, chirp, rate_hz)
    recordings = Recordings(SETTING, str(tmp_path))
    for offset in (0.0, 0.37, 0.999_999):
        stretch = recordings.stretch(0.0, offset, 8_000)
        assert len(stretch) == 8_000
        middle_s = offset * 1.5 + 0.25
        peak_hz = np.abs(np.fft.rfft(stretch[3_200:4_800] * np.hanning(1_600))).argmax() * 10
        assert peak_hz == pytest.approx(300 + 800 * middle_s, abs=20)


@pytest.mark.parametrize("rate_hz", [11_025, 16_000, 44_100])
def test_a_stretch_has_as_many_samples_as_asked_for(tmp_path: Path, rate_hz: int) -> None:
    write(tmp_path / "a.wav", rate_hz, rate_hz)
    recordings = Recordings(SETTING, str(tmp_path))
    for samples in range(7_950, 8_000):
        assert len(recordings.stretch(0.0, samples / 8_000, samples)) == samples


def test_every_recording_is_drawn_as_often_as_another(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.wav", 10 + number)
    recordings = Recordings(SETTING, str(tmp_path))
    lengths = [len(recordings.whole(share)) for share in np.linspace(0, 1, 40, endpoint=False)]
    assert lengths == sorted(10 * [10, 11, 12, 13])


def test_whole_recordings_are_read_once_and_kept_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.wav", 1_000, seed=number)
    read: list[str] = []

    def counted(path: Path, start_s: float, end_s: float | None) -> np.ndarray:
        read.append(path.name)
        return load(path, start_s, end_s)

    monkeypatch.setattr(asr.acoustics.recordings, "load", counted)
    monkeypatch.setattr(asr.acoustics.recordings, "KEPT_BYTES", 2 * 4_000)
    recordings = Recordings(SETTING, str(tmp_path))
    first = [recordings.whole(share) for share in (0.0, 0.4, 0.7)]
    again = [recordings.whole(share) for share in (0.0, 0.4, 0.7)]
    assert read == ["0.wav", "1.wav", "2.wav", "2.wav"]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_a_recording_that_is_gone_later_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    recordings = Recordings(SETTING, str(tmp_path))
    recordings.check()
    (tmp_path / "a.wav").unlink()
    for read in (lambda: recordings.whole(0.0), lambda: recordings.stretch(0.0, 0.0, 10)):
        with pytest.raises(UserError, match=rf"{SETTING}: .*a\.wav does not exist"):
            read()


def test_recordings_go_to_another_process(tmp_path: Path) -> None:
    samples = write(tmp_path / "a.wav")
    recordings = pickle.loads(pickle.dumps(Recordings(SETTING, str(tmp_path))))
    np.testing.assert_array_equal(recordings.whole(0.0), samples)
