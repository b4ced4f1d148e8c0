"""The synthetic corpus: enough words, nothing shared between splits, same seed same samples."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asr.errors import UserError

SMALL = {"train": 0, "validation": 3, "test": 4}  # beside what `sentences` asks for


@pytest.fixture
def synth(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("synth")


@pytest.fixture
def small(synth: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The recipe with seven utterances outside training."""
    pytest.importorskip("espeakng_loader", reason="needs the extra .[synth]")
    monkeypatch.setattr(synth, "EXPECTED", SMALL)
    return synth


@pytest.fixture
def espeak(synth: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that speaks, as a module."""
    monkeypatch.syspath_prepend(Path(str(synth.__file__)).parent)
    import espeak

    return espeak


def test_there_are_over_a_thousand_different_training_sentences_of_over_200_words(
    synth: ModuleType,
) -> None:
    training = [line["text"] for line in synth.plan() if line["split"] == "train"]
    assert len(training) == len(set(training)) >= 1000
    assert len({word for text in training for word in text.split()}) >= 200


def test_no_sentence_and_no_voice_is_in_two_splits(synth: ModuleType) -> None:
    lines = synth.plan()
    splits = [line["split"] for line in lines]
    assert Counter(splits) == synth.EXPECTED
    for key in ("text", "voice", "id"):
        pairs = {(line[key], line["split"]) for line in lines}
        assert len({value for value, _ in pairs}) == len(pairs), key
    variants = {
        split: {voice.partition("+")[2] for voice in synth.VOICES[split]} for split in splits
    }
    assert sum(map(len, variants.values())) == len(set().union(*variants.values()))


def test_every_word_of_validation_and_test_is_one_that_training_has(synth: ModuleType) -> None:
    words: dict[str, set[str]] = {split: set() for split in synth.EXPECTED}
    for line in synth.plan():
        words[line["split"]] |= set(line["text"].split())
    assert words["validation"] | words["test"] <= words["train"]


def test_more_training_sentences_leave_the_other_splits_as_they_are(synth: ModuleType) -> None:
    def others(sentences: int) -> list[object]:
        return [line for line in synth.plan(sentences) if line["split"] != "train"]

    assert others(20) == others(300)


def test_another_seed_gives_other_sentences(synth: ModuleType) -> None:
    assert synth.plan(20, seed=1) == synth.plan(20, seed=1)
    assert synth.plan(20, seed=1) != synth.plan(20, seed=2)


def test_more_sentences_than_the_grammar_has_are_refused(
    synth: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synth, "EXPECTED", SMALL)
    monkeypatch.setattr(synth, "PATTERNS", ("dial DIGIT",))
    with pytest.raises(UserError, match=r"no 20 different sentences.*recipe\.options\.sentences"):
        synth.plan(20)


def test_two_generations_are_equal_to_the_sample(small: ModuleType, tmp_path: Path) -> None:
    first, second = (small.fetch(tmp_path / name, sentences=5) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len([path for path in files if path.suffix == ".flac"]) == 12
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    for path in files:
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


def test_the_corpus_reads_back_as_it_was_planned(small: ModuleType, tmp_path: Path) -> None:
    root = small.fetch(tmp_path / "synth", sentences=5)
    listing = small.read(root, sentences=5)
    planned = {line["id"]: (line["text"], line["split"], line["voice"]) for line in small.plan(5)}
    found = {entry.id: (entry.text, entry.split, entry.speaker) for entry in listing.utterances}
    assert found == planned
    assert listing.rejected == []
    for entry in listing.utterances:
        info = soundfile.info(entry.audio)
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        assert 0.5 < info.duration < 6


def test_a_corpus_that_is_there_is_not_made_again_unless_the_settings_changed(
    small: ModuleType, tmp_path: Path
) -> None:
    def made() -> int:
        return (tmp_path / "synth/settings.json").stat().st_ino

    small.fetch(tmp_path / "synth", sentences=2)
    before = made()
    small.fetch(tmp_path / "synth", sentences=2)
    assert made() == before
    small.fetch(tmp_path / "synth", sentences=3)
    assert made() != before
    assert len(small.read(tmp_path / "synth", sentences=3).utterances) == 10


def test_word_times_follow_each_other_and_lie_within_the_recording(
    small: ModuleType, tmp_path: Path
) -> None:
    root = small.fetch(tmp_path / "synth", sentences=2)
    texts = {line["audio"]: line["text"] for line in small.plan(2)}
    lines = [json.loads(line) for line in (root / "words.jsonl").read_text().splitlines()]
    assert {line["audio"] for line in lines} == set(texts)
    for line in lines:
        words = line["words"]
        assert " ".join(word["word"] for word in words) == texts[line["audio"]]
        times = [time for word in words for time in (word["start_s"], word["end_s"])]
        assert times == sorted(times)
        assert times[0] >= 0.05
        assert times[-1] <= soundfile.info(root / line["audio"]).duration


def test_a_recording_that_was_deleted_is_listed_with_its_words(
    small: ModuleType, tmp_path: Path
) -> None:
    root = small.fetch(tmp_path / "synth", sentences=2)
    victim = small.read(root, sentences=2).utterances[0]
    Path(victim.audio).unlink()
    (rejection,) = small.read(root, sentences=2).rejected
    assert (rejection.reason, rejection.id, rejection.text) == ("no-audio", victim.id, victim.text)


def test_a_folder_with_something_else_in_it_is_left_alone(
    small: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        small.fetch(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_missing_library_says_what_to_install(
    synth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install '\.\[synth\]'"):
        synth.fetch(tmp_path / "synth")
    assert not (tmp_path / "synth").exists()


def test_a_failing_program_leaves_nothing_that_looks_whole(
    small: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = {**small.VOICES, "train": ("en-us+m1", "xx-nowhere")}
    monkeypatch.setattr(small, "VOICES", voices)
    with pytest.raises(UserError, match=r"could not speak the corpus synth: .*voice xx-nowhere"):
        small.fetch(tmp_path / "synth", sentences=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["nowhere", "."])
def test_a_wrong_root_says_that_none_is_needed(
    synth: ModuleType, tmp_path: Path, root: str
) -> None:
    with pytest.raises(UserError, match=r"not a corpus made by the recipe synth.*recipe\.root"):
        synth.read(tmp_path / root)


@pytest.mark.parametrize("kind", ["white", "pink"])
def test_noise_has_unit_power_and_the_slope_of_its_colour(espeak: ModuleType, kind: str) -> None:
    samples = espeak.noise(kind, 100_000, np.random.default_rng(0))
    assert len(samples) == 100_000
    assert np.mean(samples**2) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(samples)) ** 2
    octaves = [power[1000 * 2**n : 1000 * 2 ** (n + 1)].mean() for n in range(5)]
    falls_db = 10 * np.log10(np.divide(octaves[:-1], octaves[1:]))
    np.testing.assert_allclose(falls_db, {"white": 0.0, "pink": 3.01}[kind], atol=0.5)


def test_noise_is_as_far_below_the_speech_as_the_plan_says(espeak: ModuleType) -> None:
    speech = (3000 * np.sin(np.arange(22_050) * 0.2)).astype(np.int16)
    line = {"noise": "white", "snr_db": 10.0, "seed": 3}
    noisy, first_s = espeak.render(speech, 22_050, line)
    clean, _ = espeak.render(speech, 22_050, {**line, "noise": "none"})
    start = round(first_s * 16_000)
    signal = clean[start : start + 16_000]
    ratio_db = 10 * np.log10(np.mean(signal**2) / np.mean((noisy - clean) ** 2))
    assert ratio_db == pytest.approx(10.0, abs=0.2)


def test_words_that_the_library_runs_together_share_their_times(espeak: ModuleType) -> None:
    starts = [(0, 0), (4, 200), (11, 500)]  # no event for "the" at 7
    words = espeak.word_times("set in the hall", starts, first_s=0.1, end_s=1.0)
    assert [(word["word"], word["start_s"], word["end_s"]) for word in words] == [
        ("set", 0.1, 0.3),
        ("in the", 0.3, 0.6),
        ("hall", 0.6, 1.0),
    ]


def test_the_program_ends_with_an_error_where_a_voice_is_unknown(
    small: ModuleType, tmp_path: Path
) -> None:
    line = {**small.plan(1)[0], "voice": "xx"}
    program = Path(str(small.__file__)).with_name("espeak.py")
    done = subprocess.run(
        [sys.executable, program, tmp_path], input=json.dumps(line), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "refused the voice xx" in done.stderr
