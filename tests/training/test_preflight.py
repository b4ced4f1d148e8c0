"""What is left out of training, and that nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.augment import Speed
from asr.features import LogMel
from asr.models.frontend import TIME_STRIDES, ConvSubsampling
from asr.training.preflight import (
    FrameCount,
    Shared,
    Unknown,
    check,
    frames_needed,
    shared_utterances,
    spare_frames,
    summary,
    unknown_symbols,
    write_excluded,
)
from asr.units.characters import CharacterUnits
from asr.units.symbols import Units, UnknownSymbolError
from asr.units.words import WordUnits


class Made:
    """A split without audio."""

    def __init__(self, *durations_s: float) -> None:
        self.samples = (np.array(durations_s) * 16_000).astype(np.int64)
        self.durations_s = self.samples / 16_000
        self.ids = [f"u{number}" for number in range(len(durations_s))]
        self.texts = self.ids

    def __len__(self) -> int:
        return len(self.ids)


COUNT = FrameCount(400, 160, (2, 2))


@pytest.mark.parametrize(
    ("labels", "frames"), [([], 0), ([1], 1), ([1, 2], 2), ([1, 1], 3), ([1, 1, 1, 2], 6)]
)
def test_a_repeat_needs_a_blank_between(labels: list[int], frames: int) -> None:
    assert frames_needed(labels) == frames


@pytest.mark.parametrize("subsampling", sorted(TIME_STRIDES))
def test_frames_are_counted_as_the_network_makes_them(subsampling: int) -> None:
    samples = np.array([0, 399, 400, 5000, 16_000, 33_333])
    count = FrameCount(400, 160, TIME_STRIDES[subsampling])
    frontend = ConvSubsampling(80, 2, 4, subsampling)
    frames = LogMel().frame_lengths(torch.from_numpy(samples))
    assert count(samples).tolist() == frontend.frame_lengths(frames).tolist()


def test_what_ctc_cannot_align_at_the_fastest_speed_is_left_out() -> None:
    # 0.5 s give 48 frames, 12 after subsampling; played at 1.1 they are 43 and 11.
    labels: list[list[int] | UnknownSymbolError] = [list(range(1, 13))] * 2
    rows, _ = check(Made(0.5, 1.0), labels, COUNT, Speed((1.0,)), 40)  # type: ignore[arg-type]
    assert rows == [0, 1]
    rows, excluded = check(Made(0.5, 1.0), labels, COUNT, Speed((0.9, 1.1)), 40)  # type: ignore[arg-type]
    assert rows == [1]
    assert [(item.id, item.reason) for item in excluded] == [("u0", "too-short-for-text")]
    assert "11 frames at speed 1.1 are fewer than the 12" in excluded[0].detail


def test_what_can_be_joined_has_frames_to_spare_at_the_fastest_speed() -> None:
    # 12 and 25 frames; at 1.1 they are 11 and 23. Of equal labels each but one needs a blank too.
    spoken = {"a": [1, 2, 3], "b": [4, 4, 4]}
    made: Any = Made(0.5, 1.0)
    made.texts = ["a", "b"]
    for factor, expected in ((1.0, [9, 20]), (1.1, [8, 18])):
        found = spare_frames(made, [0, 1], spoken.__getitem__, COUNT, Speed((factor,), 1))
        assert found.tolist() == expected


def test_each_reason_is_named_and_counted(tmp_path: Path) -> None:
    labels = [[1], [], UnknownSymbolError("z", "zoo"), [1]]
    rows, excluded = check(Made(1, 1, 1, 50), labels, COUNT, Speed((1.0,)), 40)  # type: ignore[arg-type]
    assert rows == [0]
    assert [item.reason for item in excluded] == ["empty-text", "unknown-symbol", "too-long"]
    assert summary(excluded) == "3 left out (1 empty-text, 1 too-long, 1 unknown-symbol)"
    write_excluded(tmp_path / "excluded.jsonl", excluded)
    lines = [json.loads(line) for line in (tmp_path / "excluded.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["u1", "u2", "u3"]


class Told:
    """A split of which only texts, ids and digests are asked."""

    def __init__(self, name: str, texts: list[str], digests: list[bytes]) -> None:
        self.ids = [f"{name}{row}" for row in range(len(digests))]
        self.texts = texts
        self.digests = digests


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (CharacterUnits.from_texts(["a cat"]), {"é": (3, "u1"), "b": (2, "u3"), "ß": (1, "u1")}),
        (WordUnits.from_texts(["a cat"]), {"cé": (1, "u1"), "éß": (1, "u1"), "é": (1, "u2")}),
    ],
)
def test_all_that_no_unit_spells_is_counted_with_an_example(
    units: Units, expected: dict[str, tuple[int, str]]
) -> None:
    texts = ["a cat", "cé éß a", "é cat", "b a tab", "zz"]
    split: Any = Told("u", texts, [b""] * 5)
    rows = range(4)  # the last one is not asked about
    found = unknown_symbols(split, rows, units.encode)
    counts = [one.count for one in found]
    assert counts == sorted(counts, reverse=True)
    told = {one.symbol: (one.count, one.id) for one in found}
    assert expected.items() <= told.items()
    assert "z" not in told
    assert "zz" not in told


def test_a_frequent_unknown_character_is_one_entry_with_its_first_utterance() -> None:
    split: Any = Told("u", ["xx x", "xa"], [b"", b""])
    units = CharacterUnits.from_texts(["a"])
    assert unknown_symbols(split, range(2), units.encode) == [Unknown("x", 4, "u0")]


def test_training_utterances_that_are_in_another_split_too_are_counted_with_an_example() -> None:
    train: Any = Told("train", [""] * 5, [b"1", b"2", b"3", b"2", b"5"])
    test: Any = Told("test", [""] * 3, [b"0", b"2", b"1"])
    validation: Any = Told("train", [""] * 2, [b"8", b"9"])
    found = shared_utterances([(train, [1, 2, 3])], {"validation": validation, "test": test})
    assert found == [
        Shared("validation", "id", 1, ("train1", "train1")),
        Shared("test", "audio", 2, ("train1", "test1")),  # train0, of test2's audio, is left out
    ]
    assert shared_utterances([(train, [2, 4])], {"test": test}) == []
