"""metrics.csv and the curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from asr.training.record import EpochRecord, draw_curves, read_records, write_records

NAN = float("nan")
RECORDS = [
    EpochRecord(1, 10, 3.5, 1.0, 0.9, 1e-4, 12.0, 60.0, 5.0, 1.0),
    EpochRecord(2, 20, 1.25, 0.5, 0.25, 2e-4, 3.0, 60.0, 5.0, 1.0),
]


def test_records_survive_the_file(tmp_path: Path) -> None:
    write_records(tmp_path / "metrics.csv", RECORDS)
    assert read_records(tmp_path / "metrics.csv") == RECORDS
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,steps,loss,wer,cer,learning_rate")


def test_a_run_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_records(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize(
    "records",
    [RECORDS, RECORDS[:1], [EpochRecord(1, 10, 0.0, NAN, NAN, 0.0, 0.0, 1.0, 1.0, 0.0)], []],
)
def test_curves_are_a_picture_whatever_was_recorded(
    tmp_path: Path, records: list[EpochRecord]
) -> None:
    draw_curves(tmp_path / "curves.png", records)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_where_phones_are_decoded_the_rate_is_theirs(tmp_path: Path) -> None:
    write_records(tmp_path / "metrics.csv", RECORDS, "per")
    assert (tmp_path / "metrics.csv").read_text().startswith("epoch,steps,loss,per,cer,")
    assert read_records(tmp_path / "metrics.csv") == RECORDS
