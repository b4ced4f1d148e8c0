"""The publisher's layout of FSDD, its official split and one speaker held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from asr.errors import UserError


@pytest.fixture
def fsdd(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("fsdd")


@pytest.fixture
def corpus(tmp_path: Path, recording: Callable[[Path], Path]) -> Path:
    """Digits 0 and 3 of two speakers, takes 4, 5 and 8."""
    for digit in (0, 3):
        for speaker in ("theo", "lucas"):
            for take in (4, 5, 8):
                recording(tmp_path / f"fsdd/recordings/{digit}_{speaker}_{take}.wav")
    return tmp_path / "fsdd"


def test_the_published_counts_are_found_and_split_by_take(
    fsdd: ModuleType, real_data: Callable[[str], Path]
) -> None:
    listing = fsdd.read(real_data("fsdd"))
    splits = Counter(entry.split for entry in listing.utterances)
    assert splits == {"train": 2520, "validation": 180, "test": 300}
    assert fsdd.EXPECTED == {"train": 2520 + 180, "test": 300}
    assert listing.rejected == []
    assert Counter(entry.text for entry in listing.utterances) == dict.fromkeys(fsdd.DIGITS, 300)


def test_a_held_out_speaker_is_the_whole_test_set_and_in_no_other(
    fsdd: ModuleType, real_data: Callable[[str], Path]
) -> None:
    listing = fsdd.read(real_data("fsdd"), held_out_speaker="theo")
    splits = Counter(entry.split for entry in listing.utterances)
    assert splits == {"train": 5 * 10 * 45, "validation": 5 * 10 * 5, "test": 10 * 50}
    assert {entry.speaker for entry in listing.utterances if entry.split == "test"} == {"theo"}
    assert "theo" not in {entry.speaker for entry in listing.utterances if entry.split != "test"}


def test_digits_are_words_and_takes_decide_the_split(fsdd: ModuleType, corpus: Path) -> None:
    found = {entry.id: (entry.text, entry.split) for entry in fsdd.read(corpus).utterances}
    assert found["3_theo_4"] == ("three", "test")
    assert found["3_theo_5"] == ("three", "validation")
    assert found["0_lucas_8"] == ("zero", "train")
    assert len(found) == 12


def test_fewer_recordings_than_published_are_said(fsdd: ModuleType, corpus: Path) -> None:
    assert "12 recordings found, 3000 were published" in fsdd.read(corpus).notes


def test_a_name_that_says_no_digit_is_listed(
    fsdd: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    recording(corpus / "recordings/noise.wav")
    (rejection,) = fsdd.read(corpus).rejected
    assert (rejection.id, rejection.reason) == ("noise", "no-transcript")


def test_links_that_dangle_loop_or_lead_out_are_rejected(
    fsdd: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    folder = corpus / "recordings"
    (folder / "1_theo_0.wav").symlink_to(folder / "none.wav")
    (folder / "1_theo_1.wav").symlink_to(folder / "1_theo_1.wav")
    (folder / "1_theo_9.wav").symlink_to(recording(corpus.parent / "elsewhere.wav"))
    listing = fsdd.read(corpus)
    assert {entry.id: (entry.reason, entry.split) for entry in listing.rejected} == {
        "1_theo_0": ("bad-link", "test"),
        "1_theo_1": ("bad-link", "test"),
        "1_theo_9": ("outside-root", "train"),
    }
    assert len(listing.utterances) == 12


def test_an_unknown_speaker_is_answered_with_the_nearest(fsdd: ModuleType, corpus: Path) -> None:
    with pytest.raises(UserError, match=r"No speaker .*'teo'.*mean 'theo'\?.*lucas, theo"):
        fsdd.read(corpus, held_out_speaker="teo")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", r"no folder .*nowhere.*recipe\.root="),
        (".", r"not laid out as FSDD: no recordings/DIGIT_SPEAKER_TAKE\.wav"),
    ],
)
def test_a_wrong_root_says_what_is_expected(
    fsdd: ModuleType, tmp_path: Path, root: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fsdd.read(tmp_path / root)
