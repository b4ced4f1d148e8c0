"""Manifests as people write them, and the splits that are made of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from asr.errors import UserError
from asr.utterance import Listing


@pytest.fixture
def custom(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("custom")


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes lines to `data/train.jsonl`, and an empty file for each audio."""

    def write(*lines: dict[str, Any] | str, touch: bool = True) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for line in lines:
            if touch and isinstance(line, dict):
                audio = folder / (line.get("audio") or line["audio_filepath"])
                audio.parent.mkdir(parents=True, exist_ok=True)
                audio.touch()
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (folder / "train.jsonl").write_text("".join(text + "\n" for text in texts))
        return folder / "train.jsonl"

    return write


def spoken(speakers: int, each: int = 2) -> list[dict[str, Any]]:
    return [
        {"audio": f"s{speaker}/{number}.wav", "text": f"words {number}", "speaker": f"s{speaker}"}
        for speaker in range(speakers)
        for number in range(each)
    ]


def splits(listing: Listing) -> dict[str, str]:
    return {entry.id: entry.split for entry in listing.utterances}


def test_given_splits_are_kept(custom: ModuleType, manifest: Callable[..., Path]) -> None:
    path = manifest(
        *({"audio": f"{split}.wav", "text": "a", "split": split} for split in custom.SPLITS)
    )
    listing = custom.read(path)
    assert splits(listing) == {split: split for split in custom.SPLITS}
    assert listing.notes == ["splits: as given in the manifest"]


def test_speakers_are_split_about_eighty_ten_ten_and_never_cut(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    listing = custom.read(manifest(*spoken(400), touch=True))
    by_speaker = {entry.speaker: entry.split for entry in listing.utterances}
    assert len({(entry.speaker, entry.split) for entry in listing.utterances}) == 400
    counts = Counter(by_speaker.values())
    # Binomial with n = 400, p = 0.1: the standard deviation is 6.
    assert 22 <= counts["validation"] <= 58
    assert 22 <= counts["test"] <= 58
    assert "split by speaker, of 400" in listing.notes


def test_a_speaker_stays_in_its_split_when_others_join(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    few = splits(custom.read(manifest(*spoken(60))))
    more = splits(custom.read(manifest(*spoken(90))))
    assert set(few.values()) == set(custom.SPLITS)
    assert few.items() <= more.items()


@pytest.mark.parametrize("speakers", [3, 4, 5, 8])
def test_each_split_has_a_speaker_however_few_there_are(
    custom: ModuleType, manifest: Callable[..., Path], speakers: int
) -> None:
    listing = custom.read(manifest(*spoken(speakers)))
    assert {entry.split for entry in listing.utterances} == set(custom.SPLITS)
    assert len({(entry.speaker, entry.split) for entry in listing.utterances}) == speakers


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"audio": f"{n}.wav", "text": "a"} for n in range(30)], "30 of 30 lines name no speaker"),
        (spoken(2, each=20), "there are only 2 speakers"),
    ],
)
def test_without_enough_speakers_utterances_are_split_with_a_warning(
    custom: ModuleType, manifest: Callable[..., Path], lines: list[dict[str, Any]], why: str
) -> None:
    listing = custom.read(manifest(*lines))
    assert {entry.split for entry in listing.utterances} == set(custom.SPLITS)
    assert any(why in note and "strangers" in note for note in listing.notes)


def test_too_few_utterances_to_split_are_an_error(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match="2 utterances, which is too few to split"):
        custom.read(manifest(*spoken(1)))


def test_validation_is_taken_from_training_where_only_that_is_missing(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    lines = [{**line, "split": "train"} for line in spoken(20)]
    lines.append({"audio": "t.wav", "text": "a", "speaker": "t", "split": "test"})
    listing = custom.read(manifest(*lines))
    by_speaker = {entry.speaker: entry.split for entry in listing.utterances}
    assert by_speaker.pop("t") == "test"
    assert set(by_speaker.values()) == {"train", "validation"}
    assert "validation: a tenth of training, since none is given" in listing.notes


def test_a_manifest_for_testing_alone_needs_no_training(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    listing = custom.read(manifest({"audio": "a.wav", "text": "a", "split": "test"}))
    assert splits(listing) == {"a": "test"}


def test_a_split_on_some_lines_only_is_an_error(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    lines = spoken(2)
    lines[0]["split"] = "train"
    with pytest.raises(UserError, match=r"train\.jsonl: 3 of 4 lines have no `split`"):
        custom.read(manifest(*lines))


def test_an_unknown_split_is_answered_with_the_nearest(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    path = manifest({"audio": "a.wav", "text": "a", "split": "valid"})
    with pytest.raises(UserError, match=r"no split is called 'valid'\. Did you mean 'validation'"):
        custom.read(path)


def test_nemo_fields_are_understood(custom: ModuleType, manifest: Callable[..., Path]) -> None:
    path = manifest(
        {"audio_filepath": "a.wav", "text": "a", "duration": 3.5, "split": "test"},
        {"audio_filepath": "b.wav", "text": "b", "offset": 1.0, "duration": 2.0, "split": "test"},
    )
    whole, part = custom.read(path).utterances
    assert (Path(whole.audio).name, whole.start_s, whole.end_s) == ("a.wav", 0.0, None)
    assert (part.start_s, part.end_s) == (1.0, 3.0)


def test_files_that_differ_in_their_ending_get_ids_of_their_own(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    path = manifest(
        {"audio": "x/a.wav", "text": "a", "split": "test"},
        {"audio": "x/a.flac", "text": "a", "split": "test"},
        {"audio": "a.wav", "text": "a", "split": "test"},
    )
    listing = custom.read(path)
    assert [entry.id for entry in listing.utterances] == ["x/a", "x/a.flac", "a"]
    assert listing.rejected == []
    assert any("1 ids end as their files do" in note for note in listing.notes)


@pytest.mark.parametrize(
    "second",
    [
        {"audio": "b.wav", "text": "b", "id": "same"},
        {"audio": "a.wav", "text": "a", "id": "same"},
    ],
)
def test_two_utterances_with_one_id_are_taken_once(
    custom: ModuleType, manifest: Callable[..., Path], second: dict[str, str]
) -> None:
    first = {"audio": "a.wav", "text": "a", "id": "same", "split": "test"}
    listing = custom.read(manifest(first, {**second, "split": "test"}))
    assert [Path(entry.audio).name for entry in listing.utterances] == ["a.wav"]
    (rejection,) = listing.rejected
    assert (rejection.id, rejection.reason) == ("same", "duplicate-id")


def test_a_line_that_is_not_json_is_listed_with_file_and_line(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    lines: list[dict[str, Any] | str] = [*spoken(5)]
    lines.insert(3, '{"audio": "a.wav", "text": ')
    (rejection,) = custom.read(manifest(*lines)).rejected
    assert rejection.reason == "bad-line"
    assert "train.jsonl:4" in rejection.detail


def test_a_transcript_without_audio_is_listed_in_the_split_it_would_have_had(
    custom: ModuleType, manifest: Callable[..., Path]
) -> None:
    lines = spoken(60)
    before = splits(custom.read(manifest(*lines)))
    victim = next(name for name, split in before.items() if split == "test")
    (manifest(*lines).parent / f"{victim}.wav").unlink()
    (rejection,) = custom.read(manifest(*lines, touch=False)).rejected
    assert (rejection.reason, rejection.split, rejection.id) == ("no-audio", "test", victim)
    assert rejection.text


def test_audio_outside_the_manifests_folder_needs_to_be_allowed(
    custom: ModuleType, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    audio = tmp_path / "elsewhere/a.wav"
    audio.touch()
    lines = [
        {"audio": "b.wav", "text": "b", "split": "test"},
        {"audio": str(audio), "text": "a", "split": "test"},
        {"audio": "../elsewhere/a.wav", "text": "a", "split": "test", "id": "relative"},
    ]
    path = manifest(*lines)
    listing = custom.read(path)
    assert [entry.reason for entry in listing.rejected] == ["outside-root"] * 2
    assert [Path(entry.audio).name for entry in listing.utterances] == ["b.wav"]
    allowed = custom.read(manifest(lines[1]), audio_root=str(tmp_path))
    assert [entry.audio for entry in allowed.utterances] == [str(audio)]


def test_relative_audio_lies_below_the_audio_root_where_one_is_given(
    custom: ModuleType, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.wav").touch()
    path = manifest({"audio": "a.wav", "text": "a", "split": "test"}, touch=False)
    (entry,) = custom.read(path, audio_root=str(tmp_path / "elsewhere")).utterances
    assert entry.audio == str(tmp_path / "elsewhere/a.wav")


def test_links_that_dangle_loop_or_lead_out_are_rejected(
    custom: ModuleType, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    lines = [{"audio": f"{name}.wav", "text": "a", "split": "test"} for name in "abcd"]
    path = manifest(*lines)
    (tmp_path / "outside.wav").touch()
    targets = {"a": path.parent / "none", "b": path.parent / "b.wav", "c": tmp_path / "outside.wav"}
    for name, target in targets.items():
        (path.parent / f"{name}.wav").unlink()
        (path.parent / f"{name}.wav").symlink_to(target)
    reasons = {entry.id: entry.reason for entry in custom.read(path).rejected}
    assert reasons == {"a": "bad-link", "b": "bad-link", "c": "outside-root"}


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        ("nowhere.jsonl", {}, r"nowhere\.jsonl"),
        (".", {}, r"is a folder.*JSONL manifest"),
        ("data/train.jsonl", {"audio_root": "nowhere"}, r"no folder nowhere.*audio_root=PATH"),
    ],
)
def test_a_wrong_root_says_what_is_expected(
    custom: ModuleType,
    manifest: Callable[..., Path],
    tmp_path: Path,
    root: str,
    options: dict[str, str],
    message: str,
) -> None:
    manifest(*spoken(3))
    with pytest.raises(UserError, match=message):
        custom.read(tmp_path / root, **options)
