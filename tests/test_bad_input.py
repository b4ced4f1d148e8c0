"""The rows of docs/bad-input.md that `asr prepare` meets, one parameter each."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr.cluster.plan import DEADLY_REASONS
from asr.commands.compose import compose
from asr.commands.prepare import prepare
from asr.commands.tally import WHAT_TO_DO
from asr.corpus import Corpus
from asr.errors import UserError

Line = dict[str, Any] | str
Fault = Callable[[Path], Line]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bad-input.md"
GOOD = ("good-0", "good-1", "good-2")


def noise(seconds: float = 0.5, rate_hz: int = 16_000) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    return (random.standard_normal(round(seconds * rate_hz)) * 0.1).astype(np.float32)


def line(audio: str = "bad.wav", **more: Any) -> dict[str, Any]:
    return {"id": "bad", "audio": audio, "text": "words here", "split": "train"} | more


def no_file(_: Path) -> Line:
    return line()


def a_file_on_its_way(folder: Path) -> Line:
    (folder / "bad.wav").write_text("")
    return line("bad.wav/a.wav")


def zero_bytes(folder: Path) -> Line:
    (folder / "bad.wav").touch()
    return line()


def text_named_wav(folder: Path) -> Line:
    (folder / "bad.wav").write_text("this is no audio\n" * 50)
    return line()


def folder_named_wav(folder: Path) -> Line:
    (folder / "bad.wav").mkdir()
    return line()


def damaged_rate(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(), 7)
    return line()


def truncated_wav(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(), 16_000)
    os.truncate(folder / "bad.wav", 9_000)
    return line()


def truncated_flac(folder: Path) -> Line:
    soundfile.write(folder / "bad.flac", noise(2.0), 16_000)
    os.truncate(folder / "bad.flac", (folder / "bad.flac").stat().st_size // 2)
    return line("bad.flac")


def truncated_opus(folder: Path) -> Line:
    soundfile.write(folder / "bad.opus", noise(5.0), 16_000, format="OGG", subtype="OPUS")
    os.truncate(folder / "bad.opus", (folder / "bad.opus").stat().st_size // 2)
    return line("bad.opus")


def not_a_number(folder: Path) -> Line:
    samples = noise()
    samples[7] = np.nan
    soundfile.write(folder / "bad.wav", samples, 16_000, subtype="FLOAT")
    return line()


def infinite(folder: Path) -> Line:
    samples = noise()
    samples[7] = -np.inf
    soundfile.write(folder / "bad.wav", samples, 16_000, subtype="FLOAT")
    return line()


def beyond_measure(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise() * 1e30, 16_000, subtype="FLOAT")
    return line()


def no_samples(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(0.0), 16_000)
    return line()


def a_fiftieth_of_a_second(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(0.02), 16_000)
    return line()


def stretch_beyond_the_end(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(1.0), 16_000)
    return line(start_s=0.5, end_s=1.5)


def empty_text(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(), 16_000)
    return line(text=" ?! ")


def second_of_one_id(folder: Path) -> Line:
    soundfile.write(folder / "bad.wav", noise(), 16_000)
    return line(id="good-0")


def not_json(_: Path) -> Line:
    return '{"audio": "bad.wav", "text": "wor'


def no_audio_key(_: Path) -> Line:
    return {"id": "bad", "text": "words", "split": "train"}


def text_is_a_number(_: Path) -> Line:
    return line(text=5)


def leaves_the_root(folder: Path) -> Line:
    soundfile.write(folder.parent / "bad.wav", noise(), 16_000)
    return line("../bad.wav")


def absolute_elsewhere(_: Path) -> Line:
    return line("/etc/hostname")


def link_out(folder: Path) -> Line:
    soundfile.write(folder.parent / "out.wav", noise(), 16_000)
    (folder / "bad.wav").symlink_to("../out.wav")
    return line()


def dangling_link(folder: Path) -> Line:
    (folder / "bad.wav").symlink_to("nowhere.wav")
    return line()


def looping_link(folder: Path) -> Line:
    (folder / "bad.wav").symlink_to("bad.wav")
    return line()


REJECTED: list[tuple[Fault, str]] = [
    (no_file, "no-audio"),
    (a_file_on_its_way, "no-audio"),
    (zero_bytes, "empty-file"),
    (text_named_wav, "not-audio"),
    (folder_named_wav, "not-audio"),
    (damaged_rate, "not-audio"),
    (truncated_wav, "truncated"),
    (truncated_flac, "truncated"),
    (truncated_opus, "truncated"),
    (not_a_number, "not-finite"),
    (infinite, "not-finite"),
    (beyond_measure, "not-finite"),
    (no_samples, "too-short"),
    (a_fiftieth_of_a_second, "too-short"),
    (stretch_beyond_the_end, "bad-segment"),
    (empty_text, "empty-text"),
    (second_of_one_id, "duplicate-id"),
    (not_json, "bad-line"),
    (no_audio_key, "bad-line"),
    (text_is_a_number, "bad-line"),
    (leaves_the_root, "outside-root"),
    (absolute_elsewhere, "outside-root"),
    (link_out, "outside-root"),
    (dangling_link, "bad-link"),
    (looping_link, "bad-link"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three good recordings; the working folder is above it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audio").mkdir()
    for name in GOOD:
        soundfile.write(tmp_path / "audio" / f"{name}.wav", noise(), 16_000)
    return tmp_path / "audio"


def run(folder: Path, *added: Line, settings: tuple[str, ...] = ()) -> int:
    """Prepares the good recordings with one in each split, and `added`, which may be bad."""
    lines: list[Line] = [
        line(f"{name}.wav", id=name, split=split)
        for name, split in zip(GOOD, ("train", "validation", "test"), strict=True)
    ]
    lines += added
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    (folder / "all.jsonl").write_text(text + "\n")
    return prepare(compose(["recipe=custom", f"recipe.root={folder / 'all.jsonl'}", *settings]))


def rejected() -> list[dict[str, str]]:
    lines = Path("corpora/custom/rejected.jsonl").read_text().splitlines()
    return [json.loads(one) for one in lines]


def prepared() -> list[str]:
    return sorted(id for split in Corpus.open("corpora/custom").splits.values() for id in split.ids)


@pytest.mark.parametrize(
    ("fault", "reason"), REJECTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_bad_utterance_is_listed_and_the_others_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], fault: Fault, reason: str
) -> None:
    bad = fault(folder)
    assert run(folder, bad) == 1  # a quarter is more than prepare.max_rejected
    assert prepared() == list(GOOD)
    (listed,) = rejected()
    assert (listed["reason"], bool(listed["detail"])) == (reason, True)
    if reason == "bad-line":
        assert f"{folder / 'all.jsonl'}:4" in listed["detail"]
    else:
        assert isinstance(bad, dict)
        assert (listed["id"], listed["split"]) == (bad["id"], "train")
        assert listed["text"] == ("" if reason == "empty-text" else "words here")
    said = capsys.readouterr()
    assert f"    {reason:<14}       1" in said.out
    assert "corpora/custom/rejected.jsonl" in said.err
    assert f"`{reason}`" in PAGE.read_text()


@pytest.mark.parametrize("fault", [zero_bytes, a_fiftieth_of_a_second, truncated_wav, no_file])
def test_a_test_utterance_that_is_left_out_keeps_its_words_for_evaluation(
    folder: Path, fault: Fault
) -> None:
    bad = fault(folder)
    assert isinstance(bad, dict)
    run(folder, bad | {"split": "test", "speaker": "ann", "text": "Three WORDS, here!"})
    (left_out,) = Corpus.open("corpora/custom").rejected
    assert (left_out.split, left_out.text, left_out.speaker) == ("test", "three words here", "ann")


def stereo_at_44_khz(folder: Path) -> Line:
    both = np.stack([noise(rate_hz=44_100)] * 2, axis=1)
    soundfile.write(folder / "odd.wav", both, 44_100)
    return line("odd.wav")


def beyond_full_scale(folder: Path) -> Line:
    soundfile.write(folder / "odd.wav", noise() * 100, 16_000, subtype="FLOAT")
    return line("odd.wav")


def truncated_mp3(folder: Path) -> Line:
    soundfile.write(folder / "odd.mp3", noise(2.0), 16_000)
    os.truncate(folder / "odd.mp3", (folder / "odd.mp3").stat().st_size * 3 // 4)
    return line("odd.mp3")


def empty_test_text(folder: Path) -> Line:
    soundfile.write(folder / "odd.wav", noise(), 16_000)
    return line("odd.wav", text="...", split="test")


def characters_nobody_else_has(folder: Path) -> Line:
    soundfile.write(folder / "odd.wav", noise(), 16_000)
    return line("odd.wav", text="漢字", split="test")


def link_inside(folder: Path) -> Line:
    (folder / "odd.wav").symlink_to("good-0.wav")
    return line("odd.wav")


@pytest.mark.parametrize(
    "make",
    [
        *(stereo_at_44_khz, beyond_full_scale, truncated_mp3),
        *(empty_test_text, characters_nobody_else_has, link_inside),
    ],
)
def test_what_is_merely_unusual_is_kept(folder: Path, make: Fault) -> None:
    assert run(folder, make(folder)) == 0
    assert prepared() == ["bad", *GOOD]
    assert rejected() == []


def test_few_left_out_are_no_failure(folder: Path) -> None:
    assert run(folder, zero_bytes(folder), settings=("prepare.max_rejected=0.25",)) == 0


def test_a_manifest_without_a_good_line_is_an_error(folder: Path) -> None:
    (folder / "none.jsonl").write_text("no\nno\n")
    with pytest.raises(UserError, match=r"none\.jsonl:1"):
        prepare(compose(["recipe=custom", f"recipe.root={folder / 'none.jsonl'}"]))
    assert not Path("corpora").exists()


@pytest.mark.parametrize("recipe", ["an4", "fsdd", "mini_librispeech", "custom"])
def test_a_missing_root_and_one_of_another_layout_are_errors(folder: Path, recipe: str) -> None:
    for root in (folder / "nowhere", folder):
        with pytest.raises(UserError, match=str(root)):
            prepare(compose([f"recipe={recipe}", f"recipe.root={root}"]))
    assert not Path("corpora").exists()


def test_audio_without_transcript_and_transcript_without_audio_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chapter = tmp_path / "LibriSpeech" / "train-clean-5" / "118" / "1"
    chapter.mkdir(parents=True)
    for number in (0, 1):
        soundfile.write(chapter / f"118-1-000{number}.flac", noise(), 16_000)
    (chapter / "118-1.trans.txt").write_text("118-1-0000 A WORD\n118-1-0002 NO AUDIO\n")
    assert prepare(compose(["recipe=mini_librispeech", f"recipe.root={tmp_path}"])) == 1
    corpus = Corpus.open("corpora/mini_librispeech")
    assert corpus.splits["test"].ids == ["118-1-0000"]
    assert [(r.id, r.reason, r.text) for r in corpus.rejected] == [
        ("118-1-0002", "no-audio", "no audio"),
        ("118-1-0001", "no-transcript", ""),
    ]


def test_an_output_folder_that_cannot_be_written_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"good-0\.wav/corpus"):
        run(folder, settings=(f"prepare.folder={folder / 'good-0.wav' / 'corpus'}",))


def test_a_full_disk_leaves_the_corpus_that_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder)
    before = {path.name: path.read_bytes() for path in Path("corpora/custom").iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        run(folder, line("good-0.wav", id="more"))
    assert {path.name: path.read_bytes() for path in Path("corpora/custom").iterdir()} == before
    visible = [name for name in os.listdir("corpora") if not name.startswith(".")]
    assert visible == ["custom"]  # hidden: parts that are whole, for the next time


GIVEN = re.compile(
    r"""(?:AudioError|InputError|Excluded|failure|Failure|rejection|reject|_rejected)\(
        \s* (?:[\w.]+,\s*)? (?:"(?:find|read|recognise|write)",\s*)? "([a-z-]+)" """,
    re.VERBOSE,
)


def test_every_reason_that_the_code_can_give_is_on_the_page() -> None:
    sources = [*PAGE.parents[1].glob("asr/**/*.py"), *PAGE.parents[1].glob("recipes/*/prepare.py")]
    codes = {code for path in sources for code in GIVEN.findall(path.read_text())}
    assert {reason for _, reason in REJECTED} - {"bad-line"} <= codes
    page = PAGE.read_text()
    stages = {"find", "read", "recognise", "write"}
    assert [code for code in sorted(codes - stages) if f"`{code}`" not in page] == []


def test_every_reason_that_transcribing_can_give_has_advice() -> None:
    package = PAGE.parents[1] / "asr"
    modules = ["inputs", "audio", "files", "utterance", "cluster/plan", "cluster/reading"]
    modules += ["cluster/transcription", "cluster/writing"]
    sources = [*(package / f"{name}.py" for name in modules), *package.glob("sounds/*.py")]
    codes = {code for path in sources for code in GIVEN.findall(path.read_text())}
    expected = {*codes, *DEADLY_REASONS, "bad-line", "no-audio"}  # the last two of a manifest
    expected -= {"find", "read", "recognise", "write"}
    assert {"name-taken", "not-finite", "bad-segment", "no-channel"} <= expected
    assert expected - set(WHAT_TO_DO) == set()
