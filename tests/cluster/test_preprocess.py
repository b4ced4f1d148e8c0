from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from matplotlib import image
from numpy.typing import NDArray

from asr import files
from asr.cluster import parts, preprocess
from asr.cluster.executor import LocalExecutor, Lost, ProcessExecutor
from asr.cluster.filters import Filters
from asr.cluster.inputs import Inputs, gather_inputs, what_changed
from asr.cluster.preprocess import prepare_corpus, summarise
from asr.cluster.unfinished import KEY_DIGITS, unfinished
from asr.corpus import Corpus, write_shard
from asr.errors import UserError
from asr.utterance import Listing, Utterance

COUNT = 75  # three parts of the training split


class Backwards(LocalExecutor):
    """Ends the last item first, as a cluster may."""

    def map(
        self,
        worker: Callable[[Any], Any],
        items: Iterable[Any],
        limit_s: Callable[[Any], float] | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        for item in reversed(list(items)):
            yield item, worker(item)


def samples_of(number: int) -> NDArray[np.int16]:
    random = np.random.default_rng(number)
    return random.integers(-9_000, 9_000, size=1_600 + number * 10, dtype=np.int16)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Recordings of two splits, two of them unusable."""
    audio = tmp_path / "audio"
    audio.mkdir()
    utterances = []
    for number in range(COUNT):
        path = audio / f"{number}.wav"
        soundfile.write(path, samples_of(number), 16_000)
        split = "test" if number % 10 == 0 else "train"
        speaker = f"s{number % 3}"
        utterances.append(Utterance(f"u{number}", str(path), f"text {number}", split, speaker))
    (audio / "20.wav").write_text("no audio")
    (audio / "21.wav").unlink()
    return gather_inputs("toy", Listing(utterances), "none")


def test_everything_is_in_the_corpus_or_in_the_list(tmp_path: Path, inputs: Inputs) -> None:
    result = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor(), "asr prepare recipe=toy")
    corpus = Corpus.open(tmp_path / "corpus")
    for name, split in corpus.splits.items():
        expected = [
            number
            for number in range(COUNT)
            if (number % 10 == 0) == (name == "test") and number not in (20, 21)
        ]
        assert split.ids == [f"u{number}" for number in expected]
        assert split.texts == [f"text {number}" for number in expected]
        assert split.speakers == [f"s{number % 3}" for number in expected]
        for index, number in enumerate(expected):
            np.testing.assert_array_equal(split.waveform(index), samples_of(number))
    assert [(r.id, r.split, r.reason, r.text, r.speaker) for r in corpus.rejected] == [
        ("u20", "test", "not-audio", "text 20", "s2"),
        ("u21", "train", "missing", "text 21", "s0"),
    ]
    assert result.rejected == {"missing": 1, "not-audio": 1}
    assert result.rejected_share == 2 / COUNT


def test_counts_and_statistics_are_those_of_the_audio(tmp_path: Path, inputs: Inputs) -> None:
    result = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    numbers = [number for number in range(COUNT) if number % 10 == 0 and number != 20]
    lengths = [(1_600 + number * 10) / 16_000 for number in numbers]
    test = result.splits["test"]
    assert (test.utterances, test.speakers) == (len(numbers), 3)
    assert test.hours == pytest.approx(sum(lengths) / 3600, abs=1e-4)
    assert (test.shortest_s, test.longest_s) == (lengths[0], round(lengths[-1], 3))
    assert test.median_s == pytest.approx(np.median(lengths), abs=1e-3)
    assert summarise(tmp_path / "corpus").splits == result.splits


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_corpus_does_not_depend_on_who_made_it_when(tmp_path: Path, inputs: Inputs) -> None:
    prepare_corpus(inputs, tmp_path / "one", LocalExecutor())
    prepare_corpus(inputs, tmp_path / "two", Backwards())
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_part_that_outgrows_a_shard_goes_on_in_the_next(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_corpus(inputs, tmp_path / "whole", LocalExecutor())
    monkeypatch.setattr(parts, "SHARD_BYTES", 20_000)
    cut = prepare_corpus(inputs, tmp_path / "cut", LocalExecutor())
    shards = {path.name: path.stat().st_size for path in (tmp_path / "cut").glob("*.arrow")}
    assert len(shards) > len(list((tmp_path / "whole").glob("*.arrow")))
    assert cut.fingerprint == whole.fingerprint
    assert Corpus.open(tmp_path / "cut").splits["train"].ids == (
        Corpus.open(tmp_path / "whole").splits["train"].ids
    )


def test_the_same_audio_elsewhere_has_the_same_fingerprint(tmp_path: Path, inputs: Inputs) -> None:
    first = prepare_corpus(inputs, tmp_path / "first", LocalExecutor())
    (tmp_path / "audio").rename(tmp_path / "moved")
    moved = [
        Utterance(u.id, u.audio.replace("/audio/", "/moved/"), u.text, u.split, u.speaker)
        for u in inputs.utterances
    ]
    again = prepare_corpus(
        gather_inputs("toy", Listing(moved), "none"), tmp_path / "second", LocalExecutor()
    )
    assert again.fingerprint == first.fingerprint


def test_one_other_sample_is_another_fingerprint(tmp_path: Path, inputs: Inputs) -> None:
    first = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    changed = samples_of(5)
    changed[100] += 1
    soundfile.write(tmp_path / "audio" / "5.wav", changed, 16_000)
    again = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    assert again.fingerprint != first.fingerprint


def test_segments_of_one_recording_are_its_parts(tmp_path: Path) -> None:
    recording = np.concatenate([samples_of(number)[:1_600] for number in range(10)])
    soundfile.write(tmp_path / "long.flac", recording, 16_000)
    utterances = [
        Utterance(f"u{n}", str(tmp_path / "long.flac"), "x", "train", "", n / 10, (n + 1) / 10)
        for n in range(10)
    ]
    inputs = gather_inputs("toy", Listing(utterances), "none")
    prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    split = Corpus.open(tmp_path / "corpus").splits["train"]
    for number in range(10):
        np.testing.assert_array_equal(split.waveform(number), samples_of(number)[:1_600])


def test_a_corpus_of_nothing_usable_still_lists_why(tmp_path: Path) -> None:
    utterances = [Utterance("a", str(tmp_path / "none.wav"), "x", "train")]
    inputs = gather_inputs("toy", Listing(utterances), "none")
    result = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    assert (result.utterances, result.rejected_share) == (0, 1.0)
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.splits == {}
    assert [r.reason for r in corpus.rejected] == ["missing"]


def test_a_fault_of_a_decoder_costs_one_utterance(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = parts.load

    def load(path: str, start_s: float, end_s: float | None) -> NDArray[np.float32]:
        if path.endswith("/7.wav"):
            raise RuntimeError("soxr: something internal")
        return real(path, start_s, end_s)

    monkeypatch.setattr(parts, "load", load)
    prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    found = {r.id: r for r in Corpus.open(tmp_path / "corpus").rejected}
    assert found["u7"].reason == "unreadable"
    assert "something internal" in found["u7"].detail


class Interrupted(LocalExecutor):
    """Is stopped by the user after the first part."""

    def map(
        self,
        worker: Callable[[Any], Any],
        items: Iterable[Any],
        limit_s: Callable[[Any], float] | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        first = next(iter(items))
        yield first, worker(first)
        raise KeyboardInterrupt


class Noting(LocalExecutor):
    """Notes down the parts that are asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def map(
        self,
        worker: Callable[[Any], Any],
        items: Iterable[Any],
        limit_s: Callable[[Any], float] | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            self.asked.append(item.name)
            yield item, worker(item)


def test_a_stopped_preparation_is_gone_on_with_and_gives_the_same_bytes(
    tmp_path: Path, inputs: Inputs
) -> None:
    prepare_corpus(inputs, tmp_path / "quiet", LocalExecutor())
    folder = tmp_path / "corpora" / "toy"
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(inputs, folder, Interrupted())
    [work] = folder.parent.iterdir()
    assert work.name == f".toy.{inputs.key}.parts"
    torn = work / ".train-part-00001-00000.arrow.ab12.partial"
    torn.write_text("of a worker that was killed")
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(inputs, folder, Interrupted())
    assert not torn.exists()
    executor = Noting()
    result = prepare_corpus(inputs, folder, executor)
    assert executor.asked == ["train-part-00001", "train-part-00002"]
    assert result.found == 40  # the test split, and a part of training
    assert content(folder) == content(tmp_path / "quiet")
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_not_whole_is_made_again(tmp_path: Path, inputs: Inputs) -> None:
    folder = tmp_path / "corpora" / "toy"
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(inputs, folder, Interrupted())
    [shard] = folder.parent.glob(".toy.*/*.arrow")
    shard.write_bytes(shard.read_bytes()[:-1])
    executor = Noting()
    assert prepare_corpus(inputs, folder, executor).found == 0
    assert executor.asked[0] == "test-part-00000"
    assert summarise(folder).utterances == COUNT - 2


def test_an_interruption_leaves_the_old_corpus_and_what_belongs_to_other_inputs_is_removed(
    tmp_path: Path, inputs: Inputs
) -> None:
    folder = tmp_path / "corpora" / "toy"
    prepare_corpus(inputs, folder, LocalExecutor())
    before = content(folder)
    keys = {inputs.key}
    for number in (30, 31):
        soundfile.write(tmp_path / "audio" / f"{number}.wav", samples_of(99), 16_000)
        changed = gather_inputs("toy", Listing(inputs.utterances), "none")
        assert changed.key not in keys
        keys.add(changed.key)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(changed, folder, Interrupted())
        assert content(folder) == before
        assert {path.name for path in folder.parent.iterdir()} == {
            "toy",
            f".toy.{changed.key}.parts",
        }


@pytest.mark.parametrize(
    "settings", [{"normaliser": "english"}, {"filters": Filters(min_duration_s=0.1)}]
)
def test_other_settings_do_not_go_on_with_it(inputs: Inputs, settings: dict[str, Any]) -> None:
    given = {"normaliser": "none", "filters": Filters()} | settings
    other = gather_inputs("toy", Listing(inputs.utterances), **given)
    assert other.key != inputs.key


def test_two_preparations_of_one_corpus_at_a_time_are_refused(
    tmp_path: Path, inputs: Inputs
) -> None:
    folder = tmp_path / "corpora" / "toy"
    with (
        unfinished(folder, inputs.key),
        pytest.raises(UserError, match=r"Another asr prepare is making \S+toy"),
    ):
        prepare_corpus(inputs, folder, LocalExecutor())


def test_where_files_cannot_have_two_names_it_is_the_same_corpus(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_corpus(inputs, tmp_path / "one", LocalExecutor())

    def link(old: Path, new: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(new))

    monkeypatch.setattr(preprocess.os, "link", link)
    prepare_corpus(inputs, tmp_path / "two", LocalExecutor())
    assert content(tmp_path / "one") == content(tmp_path / "two")


class Losing(LocalExecutor):
    """Loses the worker of each part of one split, so many times."""

    def __init__(self, split: str, times: int) -> None:
        self.split = split
        self.times = times
        self.lost: Counter[str] = Counter()

    def map(
        self,
        worker: Callable[[Any], Any],
        items: Iterable[Any],
        limit_s: Callable[[Any], float] | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            if item.split == self.split and self.lost[item.name] < self.times:
                self.lost[item.name] += 1
                yield item, Lost("its node was lost")
            else:
                yield item, worker(item)


@pytest.mark.parametrize(("split", "times"), [("train", 1), ("test", 9)])
def test_the_part_of_a_lost_worker_is_made_again_and_after_two_losses_with_care(
    tmp_path: Path, inputs: Inputs, split: str, times: int
) -> None:
    prepare_corpus(inputs, tmp_path / "quiet", LocalExecutor())
    executor = Losing(split, times)
    prepare_corpus(inputs, tmp_path / "corpus", executor)
    assert set(executor.lost.values()) == {min(times, 2)}  # then nothing is left to chance
    assert content(tmp_path / "corpus") == content(tmp_path / "quiet")


# Stands in front of the real one, and crashes over some files as a library may.
CRASHING = """
import os, signal, sys
sys.path.remove(os.path.dirname(__file__))
del sys.modules["soundfile"]
import soundfile
opens = soundfile.SoundFile.__init__
def crashes(self, file, *words, **options):
    if "deadly" in str(file):
        signal.raise_signal(signal.SIGSEGV)
    opens(self, file, *words, **options)
soundfile.SoundFile.__init__ = crashes
"""


def test_what_crashes_its_decoder_is_named_and_left_out(
    tmp_path: Path,
    inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "soundfile.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path / "library")
    for number in (41, 43):
        (tmp_path / "audio" / f"{number}.wav").rename(tmp_path / "audio" / f"deadly-{number}.wav")
    utterances = [
        replace(u, audio=u.audio.replace(f"{n}.wav", f"deadly-{n}.wav")) if n in (41, 43) else u
        for n, u in enumerate(inputs.utterances)
    ]
    changed = gather_inputs("toy", Listing(utterances), "none")
    result = prepare_corpus(changed, tmp_path / "corpus", ProcessExecutor())
    assert result.rejected == {"crashed": 2, "missing": 1, "not-audio": 1}
    corpus = Corpus.open(tmp_path / "corpus")
    found = {r.id: r.detail for r in corpus.rejected if r.reason == "crashed"}
    assert set(found) == {"u41", "u43"}
    assert found["u41"].endswith(
        "deadly-41.wav cannot be decoded: its process was killed by SIGSEGV"
    )
    assert sum(len(split) for split in corpus.splits.values()) == COUNT - 4
    assert "asr: u43 is left out: " in capsys.readouterr().err


@pytest.mark.parametrize(("free_writes", "left"), [(0, 0), (1, 0), (6, 1)])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, free_writes: int, left: int
) -> None:
    folder = tmp_path / "corpora" / "toy"
    real, done = os.fsync, []

    def fsync(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) > free_writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(UserError, match="No space left on device"):
            prepare_corpus(inputs, folder, LocalExecutor())
    assert len(list(folder.parent.iterdir())) == left
    assert not list(tmp_path.rglob("*.partial"))
    prepare_corpus(inputs, folder, LocalExecutor())  # there is room again
    assert list(folder.parent.iterdir()) == [folder]


# What a corpus was before anything could be filtered: runs and published figures hang on it.
FINGERPRINT = "66910adfd8fa81385cb623768e48eb2b"


def test_without_filters_shards_and_fingerprint_are_what_they_always_were(
    tmp_path: Path, inputs: Inputs
) -> None:
    result = prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    assert result.fingerprint == FINGERPRINT
    train = [n for n in range(COUNT) if n % 10]
    for name, numbers in {
        "test-00000": [n for n in range(COUNT) if n % 10 == 0],
        "train-00000": train[:32],
        "train-00001": train[32:64],
        "train-00002": train[64:],
    }.items():
        with write_shard(tmp_path / "by-hand.arrow") as shard:
            for n in numbers:
                if n not in (20, 21):
                    shard.add(f"u{n}", f"s{n % 3}", f"text {n}", samples_of(n))
        by_hand = (tmp_path / "by-hand.arrow").read_bytes()
        assert (tmp_path / "corpus" / f"{name}.arrow").read_bytes() == by_hand


def test_filters_leave_out_of_training_and_do_not_count_as_unusable(
    tmp_path: Path, inputs: Inputs
) -> None:
    filters = Filters(min_duration_s=0.105, max_duration_s=0.14)  # 1,680 and 2,240 samples
    limited = gather_inputs("toy", Listing(inputs.utterances), "none", filters)
    result = prepare_corpus(limited, tmp_path / "corpus", LocalExecutor())
    corpus = Corpus.open(tmp_path / "corpus")
    kept = [n for n in range(8, 65) if n % 10 and n != 21]
    assert corpus.splits["train"].ids == [f"u{n}" for n in kept]
    assert len(corpus.splits["test"]) == 7  # all that can be decoded
    assert result.rejected == {
        "filtered-long": 9,
        "filtered-short": 7,
        "missing": 1,
        "not-audio": 1,
    }
    assert result.rejected_share == 2 / COUNT
    assert what_changed(tmp_path / "corpus", limited) is None
    assert what_changed(tmp_path / "corpus", inputs) == (
        "filters changed from prepare.min_duration_s=0.105 prepare.max_duration_s=0.14 to none"
    )


def test_the_picture_stands_beside_the_index_and_is_no_part_of_the_fingerprint(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_picture = prepare_corpus(inputs, tmp_path / "one", LocalExecutor())
    width, height = image.imread(tmp_path / "one" / "corpus.png").shape[1::-1]
    assert (width, height) == (924, 352)
    monkeypatch.setattr(preprocess, "draw_durations", lambda path, splits: None)
    without = prepare_corpus(inputs, tmp_path / "two", LocalExecutor())
    assert without.fingerprint == with_picture.fingerprint


def test_the_index_names_the_command(tmp_path: Path, inputs: Inputs) -> None:
    prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor(), "asr prepare recipe=toy")
    index = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert index["command"] == "asr prepare recipe=toy"


def test_what_another_corpus_left_is_none_of_this_ones(tmp_path: Path) -> None:
    keys = [digit * KEY_DIGITS for digit in "0123"]
    kept = tmp_path / f".an4.v2.{keys[0]}.parts"
    old = tmp_path / f".an4.{keys[1]}.parts"
    for path in (kept, old):
        path.mkdir()
    with unfinished(tmp_path / "an4", keys[2]):
        assert kept.exists()
        assert not old.exists()


def test_a_lack_of_memory_is_no_recordings_fault(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(parts, "load", fail)
    with pytest.raises(UserError, match="it ran out of memory"):
        prepare_corpus(inputs, tmp_path / "corpus", LocalExecutor())
    assert not (tmp_path / "corpus").exists()
