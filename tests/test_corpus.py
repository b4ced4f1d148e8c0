from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from asr import corpus as corpus_module
from asr.corpus import (
    Corpus,
    Split,
    fingerprint,
    read_rejections,
    read_shard,
    write_rejections,
    write_shard,
)
from asr.errors import UserError
from asr.utterance import Rejection


def waveforms(count: int) -> list[NDArray[np.int16]]:
    random = np.random.default_rng(0)
    return [
        random.integers(-32_768, 32_768, size=100 + 37 * number, dtype=np.int16)
        for number in range(count)
    ]


def write(path: Path, audio: list[NDArray[np.int16]], first: int = 0) -> None:
    with write_shard(path) as shard:
        for number, pcm in enumerate(audio, start=first):
            shard.add(f"u{number}", f"s{number % 2}", f"text {number} ű", pcm)


def make_corpus(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "train-00000.arrow", waveforms(3))
    write_rejections(folder / "rejected.jsonl", [])
    index = {
        "schema": 1,
        "recipe": "toy",
        "normaliser": "none",
        "fingerprint": "f",
        "splits": {
            "train": {
                "shards": [
                    {
                        "file": "train-00000.arrow",
                        "bytes": (folder / "train-00000.arrow").stat().st_size,
                    }
                ]
            }
        },
    }
    (folder / "corpus.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("batch_bytes", [1, 600, 10**9])
def test_what_was_written_is_read_whatever_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int
) -> None:
    monkeypatch.setattr(corpus_module, "BATCH_BYTES", batch_bytes)
    audio = waveforms(9)
    write(tmp_path / "a.arrow", audio[:5])
    write(tmp_path / "b.arrow", audio[5:], first=5)
    split = Split(read_shard(tmp_path / "a.arrow") + read_shard(tmp_path / "b.arrow"))
    assert len(split) == 9
    assert split.ids == [f"u{number}" for number in range(9)]
    assert split.texts[8] == "text 8 ű"
    assert split.speakers[:3] == ["s0", "s1", "s0"]
    assert split.samples.tolist() == [len(pcm) for pcm in audio]
    np.testing.assert_allclose(split.durations_s, [len(pcm) / 16_000 for pcm in audio])
    for number, pcm in enumerate(audio):
        np.testing.assert_array_equal(split.waveform(number), pcm)
        assert split.digests[number] == hashlib.blake2b(pcm.tobytes(), digest_size=16).digest()


def test_a_shard_is_read_by_any_arrow_reader(tmp_path: Path) -> None:
    audio = waveforms(2)
    write(tmp_path / "a.arrow", audio)
    table = pa.ipc.open_file(tmp_path / "a.arrow").read_all()
    assert table.column("pcm").to_pylist() == [pcm.tolist() for pcm in audio]


def test_a_waveform_is_a_view_of_the_mapped_file(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", waveforms(3))
    before = pa.total_allocated_bytes()
    waveform = Split(read_shard(tmp_path / "a.arrow")).waveform(1)
    assert pa.total_allocated_bytes() == before
    assert not waveform.flags.owndata
    assert not waveform.flags.writeable


@pytest.mark.parametrize("index", [-1, 3, 10])
def test_an_utterance_beyond_the_split_is_an_index_error(tmp_path: Path, index: int) -> None:
    write(tmp_path / "a.arrow", waveforms(3))
    with pytest.raises(IndexError):
        Split(read_shard(tmp_path / "a.arrow")).waveform(index)


def test_a_split_may_be_empty() -> None:
    split = Split([])
    assert (len(split), split.ids, split.durations_s.tolist()) == (0, [], [])


def test_rejections_come_back_as_they_were(tmp_path: Path) -> None:
    rejected = [
        Rejection("a", "/x/a.wav", "test", "truncated", "it breaks off", "szó", "ann"),
        Rejection("b", "", "train", "bad-line", "t.jsonl:3\u2028 is no utterance"),
    ]
    write_rejections(tmp_path / "r.jsonl", rejected)
    assert read_rejections(tmp_path / "r.jsonl") == rejected


def test_a_corpus_opens_with_its_splits(tmp_path: Path) -> None:
    opened = Corpus.open(make_corpus(tmp_path / "toy"))
    assert (opened.recipe, opened.normaliser, opened.fingerprint) == ("toy", "none", "f")
    assert opened.splits["train"].ids == ["u0", "u1", "u2"]
    assert opened.rejected == []


def test_a_corpus_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="asr prepare"):
        Corpus.open(tmp_path / "none")


def test_a_damaged_corpus_is_never_opened(tmp_path: Path) -> None:
    def remove(folder: Path) -> None:
        (folder / "train-00000.arrow").unlink()

    def cut(folder: Path) -> None:
        data = (folder / "train-00000.arrow").read_bytes()
        (folder / "train-00000.arrow").write_bytes(data[:-8])

    def overwrite(folder: Path) -> None:
        size = (folder / "train-00000.arrow").stat().st_size
        (folder / "train-00000.arrow").write_bytes(b"\0" * size)

    def forget(folder: Path) -> None:
        (folder / "rejected.jsonl").unlink()

    def tear(folder: Path) -> None:
        (folder / "corpus.json").write_text('{"schema": 1, "rec')

    def age(folder: Path) -> None:
        (folder / "corpus.json").write_text('{"schema": 99}')

    def confuse(folder: Path) -> None:
        (folder / "corpus.json").write_text("[]")

    for number, damage in enumerate((remove, cut, overwrite, forget, tear, age, confuse)):
        folder = make_corpus(tmp_path / str(number))
        damage(folder)
        with pytest.raises(UserError, match=r"asr prepare"):
            Corpus.open(folder)


def test_a_shard_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with write_shard(tmp_path / "a.arrow") as shard:
            shard.add("u", "s", "t", waveforms(1)[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


ROWS = [("a", "train", "ann", "one", b"1" * 16), ("b", "test", "bob", "two", b"2" * 16)]


def test_a_fingerprint_does_not_depend_on_the_order() -> None:
    assert fingerprint(ROWS, "english") == fingerprint(ROWS[::-1], "english")


@pytest.mark.parametrize("column", range(5))
def test_a_fingerprint_depends_on_every_column(column: int) -> None:
    changed = list(ROWS[0])
    changed[column] = b"9" * 16 if column == 4 else "other"
    assert fingerprint([tuple(changed), ROWS[1]], "english") != fingerprint(ROWS, "english")  # type: ignore[list-item]


def test_a_fingerprint_depends_on_the_normaliser_and_on_where_texts_end() -> None:
    assert fingerprint(ROWS, "none") != fingerprint(ROWS, "english")
    one = [("a", "train", "an", "none", b"1" * 16)]
    other = [("a", "train", "ann", "one", b"1" * 16)]
    assert fingerprint(one, "none") != fingerprint(other, "none")
