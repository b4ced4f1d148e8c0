"""What is left out of training, and that nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.augment import Speed
from asr.features import LogMel
from asr.models.frontend import TIME_STRIDES, ConvSubsampling
from asr.text import UnknownSymbolError
from asr.training.preflight import FrameCount, check, frames_needed, summary, write_excluded


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


def test_each_reason_is_named_and_counted(tmp_path: Path) -> None:
    labels = [[1], [], UnknownSymbolError("z", "zoo"), [1]]
    rows, excluded = check(Made(1, 1, 1, 50), labels, COUNT, Speed((1.0,)), 40)  # type: ignore[arg-type]
    assert rows == [0]
    assert [item.reason for item in excluded] == ["empty-text", "unknown-symbol", "too-long"]
    assert summary(excluded) == "3 left out (1 empty-text, 1 too-long, 1 unknown-symbol)"
    write_excluded(tmp_path / "excluded.jsonl", excluded)
    lines = [json.loads(line) for line in (tmp_path / "excluded.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["u1", "u2", "u3"]
