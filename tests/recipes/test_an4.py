"""The publisher's layout of AN4, whole and broken."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from asr.audio import load
from asr.errors import UserError
from asr.utterance import Listing

WAV = "wav/an4_clstk"


@pytest.fixture
def an4(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("an4")


@pytest.fixture
def corpus(tmp_path: Path, recording: Callable[[Path], Path]) -> Path:
    """Two training speakers, of whom `fjam` is held out, and one of the test."""
    root = tmp_path / "an4"
    (root / "etc").mkdir(parents=True)
    lists = {"train": ["fash/a1-fash-b", "fash/a2-fash-b", "fjam/a1-fjam-b"]}
    lists["test"] = ["fcaw/t1-fcaw-b"]
    for part, names in lists.items():
        folder = "an4_clstk" if part == "train" else "an4test_clstk"
        fileids = [f"{folder}/{name}" for name in names]
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(fileids) + "\n")
        for fileid in fileids:
            recording(root / "wav" / f"{fileid}.wav")
    (root / "etc/an4_train.transcription").write_text(
        "<s> GO </s> (a1-fash-b)\n<s> ENTER SIX </s> (a2-fash-b)\n<s> YES </s> (a1-fjam-b)\n"
    )
    (root / "etc/an4_test.transcription").write_text("RUBOUT G M (t1-fcaw-b)\n")
    return root


def texts(listing: Listing) -> dict[str, tuple[str, str]]:
    return {entry.id: (entry.split, entry.text) for entry in listing.utterances}


def rejections(listing: Listing) -> dict[str, str]:
    return {entry.id: entry.reason for entry in listing.rejected}


def test_the_published_counts_are_found_and_nothing_is_left_out(
    an4: ModuleType, real_data: Callable[[str], Path]
) -> None:
    listing = an4.read(real_data("an4"))
    splits = Counter(entry.split for entry in listing.utterances)
    assert splits["train"] + splits["validation"] == an4.EXPECTED["train"] == 948
    assert splits["test"] == an4.EXPECTED["test"] == 130
    assert listing.rejected == []
    speakers = {split: set[str]() for split in splits}
    for entry in listing.utterances:
        speakers[entry.split].add(entry.speaker)
    assert {split: len(names) for split, names in speakers.items()} == {
        "train": 67, "validation": 7, "test": 10,
    }  # fmt: skip
    assert not speakers["train"] & speakers["validation"]
    assert not any("<s>" in entry.text or "(" in entry.text for entry in listing.utterances)


def test_the_held_out_speakers_are_every_tenth_of_the_training_speakers(
    an4: ModuleType, real_data: Callable[[str], Path]
) -> None:
    lines = (real_data("an4") / "etc/an4_train.fileids").read_text().split()
    assert sorted({line.split("/")[1] for line in lines})[5::10] == list(an4.VALIDATION_SPEAKERS)


def test_words_speakers_and_splits_are_read(an4: ModuleType, corpus: Path) -> None:
    listing = an4.read(corpus)
    assert texts(listing) == {
        "a1-fash-b": ("train", "GO"),
        "a2-fash-b": ("train", "ENTER SIX"),
        "a1-fjam-b": ("validation", "YES"),
        "t1-fcaw-b": ("test", "RUBOUT G M"),
    }
    assert [entry.speaker for entry in listing.utterances] == ["fash", "fash", "fjam", "fcaw"]
    assert listing.rejected == []


def test_the_publishers_dictionary_is_passed_on_where_it_is_there(
    an4: ModuleType, corpus: Path
) -> None:
    assert an4.read(corpus).lexicon is None
    (corpus / "etc/an4.dic").write_text("GO  G OW\n")
    assert an4.read(corpus).lexicon == str(corpus / "etc/an4.dic")


def test_fewer_recordings_than_published_are_said(an4: ModuleType, corpus: Path) -> None:
    notes = " ".join(an4.read(corpus).notes)
    assert "train: 3 recordings are listed, 948 were published" in notes
    assert "test: 1 recordings are listed, 130 were published" in notes


@pytest.mark.parametrize("ending", [".sph", ".raw"])
def test_the_original_archives_formats_give_the_same_samples_as_wav(
    an4: ModuleType, corpus: Path, recording: Callable[[Path], Path], ending: str
) -> None:
    wav = corpus / WAV / "fash/a1-fash-b.wav"
    expected = load(wav)
    recording(wav.with_suffix(ending))
    wav.unlink()
    (entry,) = [entry for entry in an4.read(corpus).utterances if entry.id == "a1-fash-b"]
    assert Path(entry.audio).suffix == ending
    np.testing.assert_array_equal(load(entry.audio), expected)


def test_stray_transcriptions_beside_the_right_one_are_not_read(
    an4: ModuleType, corpus: Path
) -> None:
    before = an4.read(corpus)
    for ending in ("253239", "257575"):
        (corpus / f"etc/an4_test.transcription{ending}").write_text("WRONG (fcaw-T1-FCAW-B)\n")
    assert an4.read(corpus) == before


def test_a_transcript_without_audio_keeps_its_text_to_count_as_missing(
    an4: ModuleType, corpus: Path
) -> None:
    (corpus / "wav/an4test_clstk/fcaw/t1-fcaw-b.wav").unlink()
    (rejection,) = an4.read(corpus).rejected
    assert (rejection.id, rejection.split, rejection.reason) == ("t1-fcaw-b", "test", "no-audio")
    assert rejection.text == "RUBOUT G M"


def test_a_transcript_that_no_list_names_is_listed(an4: ModuleType, corpus: Path) -> None:
    with (corpus / "etc/an4_train.transcription").open("a") as handle:
        handle.write("<s> HELP </s> (a9-fash-b)\n")
    assert rejections(an4.read(corpus)) == {"a9-fash-b": "no-audio"}


def test_audio_without_transcript_is_listed(
    an4: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    recording(corpus / WAV / "fash/a3-fash-b.wav")  # in no list
    with (corpus / "etc/an4_train.fileids").open("a") as handle:
        handle.write("an4_clstk/fash/a4-fash-b\n")  # in the list, without words
    assert rejections(an4.read(corpus)) == {
        "a3-fash-b": "no-transcript",
        "a4-fash-b": "no-transcript",
    }


def test_recordings_that_the_publisher_excluded_stay_out_with_a_note(
    an4: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    recording(corpus / WAV / "fash/cen9-fash-b.wav")
    listing = an4.read(corpus)
    assert listing.rejected == []
    assert "1 recordings cen9* left out" in " ".join(listing.notes)


def test_a_recording_listed_twice_is_taken_once(an4: ModuleType, corpus: Path) -> None:
    with (corpus / "etc/an4_train.fileids").open("a") as handle:
        handle.write("an4_clstk/fash/a1-fash-b\n")
    listing = an4.read(corpus)
    assert [entry.id for entry in listing.utterances].count("a1-fash-b") == 1
    assert rejections(listing) == {"a1-fash-b": "duplicate-id"}


def test_links_that_dangle_loop_or_lead_out_are_rejected(
    an4: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    folder = corpus / WAV
    elsewhere = recording(corpus.parent / "elsewhere.wav")
    links = {"fash/a1-fash-b": folder / "none.wav", "fjam/a1-fjam-b": elsewhere}
    links["fash/a2-fash-b"] = folder / "fash/a2-fash-b.wav"  # itself
    for name, target in links.items():
        path = folder / f"{name}.wav"
        path.unlink()
        path.symlink_to(target)
    assert rejections(an4.read(corpus)) == {
        "a1-fash-b": "bad-link",
        "a2-fash-b": "bad-link",
        "a1-fjam-b": "outside-root",
    }


def test_a_list_that_names_a_path_outside_the_corpus_is_rejected(
    an4: ModuleType, corpus: Path, recording: Callable[[Path], Path]
) -> None:
    recording(corpus.parent / "secret.wav")
    with (corpus / "etc/an4_train.fileids").open("a") as handle:
        handle.write("../../secret\n")
    with (corpus / "etc/an4_train.transcription").open("a") as handle:
        handle.write("<s> SECRET </s> (secret)\n")
    assert rejections(an4.read(corpus)) == {"secret": "outside-root"}


def test_a_missing_root_says_what_to_give(an4: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere.*recipe\.root="):
        an4.read(tmp_path / "nowhere")


def test_another_layout_says_what_is_missing_and_what_was_found(
    an4: ModuleType, corpus: Path
) -> None:
    with pytest.raises(UserError, match=r"not laid out as AN4.*an4_train\.fileids.*found an4\."):
        an4.read(corpus.parent)


def test_a_transcription_without_id_names_file_and_line(an4: ModuleType, corpus: Path) -> None:
    with (corpus / "etc/an4_test.transcription").open("a") as handle:
        handle.write("WORDS ALONE\n")
    with pytest.raises(UserError, match=r"an4_test\.transcription, line 2: .*'WORDS ALONE'"):
        an4.read(corpus)


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def published(
    an4: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, bytes]], Path]:
    """A function that lays an archive of these members where a download would have put it."""

    def publish(members: dict[str, bytes]) -> Path:
        folder = tmp_path / "downloads"
        folder.mkdir()
        path = folder / "an4_sphere.tar.gz"
        archive(path, members)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(an4, "ARCHIVE_SHA256", digest)
        monkeypatch.setattr(an4, "ARCHIVE_URLS", ("http://127.0.0.1:9/an4.tar.gz",))
        return folder

    return publish


def test_a_downloaded_archive_is_unpacked_once(
    an4: ModuleType, published: Callable[[dict[str, bytes]], Path]
) -> None:
    folder = published({"an4/etc/an4_train.fileids": b"x\n", "an4/LICENSE": b"free"})
    root = an4.fetch(folder)
    assert root == folder / "an4"
    assert (root / "etc/an4_train.fileids").read_bytes() == b"x\n"
    (folder / "an4_sphere.tar.gz").unlink()
    assert an4.fetch(folder) == root


def test_an_archive_that_writes_outside_is_refused_and_leaves_nothing(
    an4: ModuleType, published: Callable[[dict[str, bytes]], Path]
) -> None:
    folder = published({"an4/LICENSE": b"free", "../../evil": b"x"})
    with pytest.raises(UserError, match="could not be unpacked"):
        an4.fetch(folder)
    assert not (folder.parent / "evil").exists()
    assert not (folder.parent.parent / "evil").exists()
    assert not (folder / "an4").exists()


def test_a_download_that_fails_says_what_else_can_be_done(
    an4: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(an4, "ARCHIVE_URLS", ("http://127.0.0.1:9/an4_sphere.tar.gz",))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*recipe\.root=PATH/an4"):
        an4.fetch(tmp_path / "downloads")
