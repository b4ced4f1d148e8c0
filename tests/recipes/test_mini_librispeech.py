"""The publisher's layout of Mini LibriSpeech, whole and broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from asr.errors import UserError


@pytest.fixture
def mini(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("mini_librispeech")


@pytest.fixture
def chapter(recording: Callable[[Path], Path]) -> Callable[..., Path]:
    """A function that writes a chapter of two recordings with its transcripts."""

    def write(part: Path, speaker: str, ending: str = ".flac") -> Path:
        folder = part / speaker / "7"
        lines = []
        for number in range(2):
            name = f"{speaker}-7-000{number}"
            recording(folder / f"{name}{ending}")
            lines.append(f"{name} THE WORDS OF {number}\n")
        (folder / f"{speaker}-7.trans.txt").write_text("".join(lines))
        return folder

    return write


@pytest.fixture
def corpus(tmp_path: Path, chapter: Callable[..., Path]) -> Path:
    """A training speaker, one held out for test and one for validation."""
    part = tmp_path / "mini/LibriSpeech/train-clean-5"
    for speaker in ("19", "118", "669"):
        chapter(part, speaker)
    return tmp_path / "mini"


def test_the_published_counts_are_found_and_speakers_are_held_out(
    mini: ModuleType, real_data: Callable[[str], Path]
) -> None:
    listing = mini.read(real_data("mini_librispeech"))
    assert len(listing.utterances) == mini.EXPECTED["train-clean-5"] == 1519
    assert listing.rejected == []
    speakers = {(entry.speaker, entry.split) for entry in listing.utterances}
    assert Counter(split for _, split in speakers) == {"train": 22, "validation": 3, "test": 3}
    assert len({speaker for speaker, _ in speakers}) == len(speakers) == 28
    ordered = sorted((speaker for speaker, _ in speakers), key=int)
    assert ordered[2::9] == list(mini.TEST_SPEAKERS)
    assert ordered[7::9] == list(mini.VALIDATION_SPEAKERS)


@pytest.mark.parametrize("below", ["", "LibriSpeech", "LibriSpeech/train-clean-5"])
def test_the_root_may_be_the_part_or_a_folder_above_it(
    mini: ModuleType, corpus: Path, below: str
) -> None:
    found = {entry.id: (entry.split, entry.text) for entry in mini.read(corpus / below).utterances}
    assert found["19-7-0000"] == ("train", "THE WORDS OF 0")
    assert found["118-7-0001"] == ("test", "THE WORDS OF 1")
    assert found["669-7-0000"] == ("validation", "THE WORDS OF 0")
    assert len(found) == 6


def test_the_published_development_part_is_validation_where_it_is_there(
    mini: ModuleType, corpus: Path, chapter: Callable[..., Path]
) -> None:
    chapter(corpus / "LibriSpeech/dev-clean-2", "84")
    found = {entry.speaker: entry.split for entry in mini.read(corpus).utterances}
    assert found == {"19": "train", "669": "train", "118": "test", "84": "validation"}


def test_opus_and_flac_are_read_alike(
    mini: ModuleType, corpus: Path, chapter: Callable[..., Path]
) -> None:
    chapter(corpus / "LibriSpeech/train-clean-5", "32", ".opus")
    listing = mini.read(corpus)
    assert {Path(entry.audio).suffix for entry in listing.utterances} == {".flac", ".opus"}
    assert listing.rejected == []


def test_what_has_no_partner_or_two_is_listed(
    mini: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    folder = corpus / "LibriSpeech/train-clean-5/118/7"
    (folder / "118-7-0000.flac").unlink()
    recording(folder / "118-7-0009.flac")
    with (folder / "118-7.trans.txt").open("a") as handle:
        handle.write("118-7-0001 AGAIN\n")
    listing = mini.read(corpus)
    assert {(entry.id, entry.reason, entry.split) for entry in listing.rejected} == {
        ("118-7-0000", "no-audio", "test"),
        ("118-7-0009", "no-transcript", "test"),
        ("118-7-0001", "duplicate-id", "test"),
    }
    assert [entry.text for entry in listing.utterances if entry.id == "118-7-0001"] == [
        "THE WORDS OF 1"
    ]


def test_fewer_recordings_than_published_are_said(mini: ModuleType, corpus: Path) -> None:
    assert "train-clean-5: 6 utterances found, 1519 were published" in mini.read(corpus).notes


def test_links_that_dangle_loop_or_lead_out_are_rejected(
    mini: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    folder = corpus / "LibriSpeech/train-clean-5"
    elsewhere = recording(corpus.parent / "elsewhere.flac")
    links = {"19/7/19-7-0000.flac": folder / "none", "118/7/118-7-0000.flac": elsewhere}
    links["19/7/19-7-0001.flac"] = folder / "19/7/19-7-0001.flac"  # itself
    for name, target in links.items():
        (folder / name).unlink()
        (folder / name).symlink_to(target)
    assert {entry.id: entry.reason for entry in mini.read(corpus).rejected} == {
        "19-7-0000": "bad-link",
        "19-7-0001": "bad-link",
        "118-7-0000": "outside-root",
    }


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", r"no folder .*nowhere.*recipe\.root="),
        ("mini/LibriSpeech/train-clean-5/19", r"not laid out as Mini LibriSpeech.*found 7\."),
    ],
)
def test_a_wrong_root_says_what_is_expected(
    mini: ModuleType, corpus: Path, root: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        mini.read(corpus.parent / root)
