"""Jobs run one after the other, whatever becomes of each, until a signal stops them."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr.commands import sweep as command
from asr.commands.compose import compose
from asr.errors import UserError

WORDS = ["recipe=an4", "seed=1,2,3"]


class Runner:
    """In place of processes: what each would end with, and a signal once they have run out."""

    def __init__(self, endings: Sequence[tuple[int, str]], signal: int) -> None:
        self.endings, self.signal = list(endings), signal
        self.stopped_by: int | None = None
        self.commands: list[Sequence[str]] = []

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        self.commands.append(words)
        ending = self.endings.pop(0)
        if not self.endings and len(self.commands) < 3:
            self.stopped_by = self.signal
        return ending


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["recipe=an4"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asr.commands.jobs.compose", lambda words: config)


def sweep(
    monkeypatch: pytest.MonkeyPatch, *endings: tuple[int, str], signal: int = 2
) -> tuple[int, Runner]:
    runner = Runner(endings, signal)
    monkeypatch.setattr(command, "Runner", lambda: runner)
    monkeypatch.setattr(command, "check_training", lambda jobs: None)
    return command.sweep("train", WORDS), runner


def ended() -> list[tuple[str, str]]:
    with Path("runs/an4/comparisons/seed=1+2+3.csv").open(newline="") as stream:
        return [(line["ended"], line["why"]) for line in csv.DictReader(stream)]


GOOD = (0, "")


def test_each_job_is_a_process_of_this_interpreter_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, runner = sweep(monkeypatch, GOOD, GOOD, GOOD)
    words = [("recipe=an4", f"seed={seed}", f"name=seed={seed}") for seed in (1, 2, 3)]
    assert runner.commands == [
        [sys.executable, "-c", command.COMMAND, "train", *one] for one in words
    ]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ((0, 0, 0), 0),
        ((0, 1, 0), 1),
        ((2, 0, 0), 1),
        ((2, 1, 2), 1),
        ((2, 2, 2), 2),
        ((-9, 0, 0), 1),
        ((143, 0, 0), 1),  # somebody stopped this one alone
    ],
)
def test_the_status_is_that_of_them_all(
    statuses: Sequence[int], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    got, runner = sweep(monkeypatch, *((one, "") for one in statuses))
    assert got == status
    assert len(runner.commands) == 3


def test_each_row_says_how_its_job_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(monkeypatch, (2, "asr: no corpus\n"), (-9, "epoch 1"), (3, ""))
    assert ended() == [
        ("failed", "no corpus"),
        ("failed", "ended by SIGKILL"),
        ("failed", "exit status 3"),
    ]
    stderr = capsys.readouterr().err
    assert "asr: seed=1: no corpus\nasr: seed=2: ended by SIGKILL\n" in stderr


@pytest.mark.parametrize(("signal", "status"), [(2, 130), (15, 143), (1, 129)])
def test_after_a_signal_no_job_is_begun(
    signal: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    got, runner = sweep(monkeypatch, GOOD, (status, "asr: stopped"), signal=signal)
    assert got == status
    assert len(runner.commands) == 2
    assert ended() == [("done", ""), ("stopped", ""), ("not begun", "")]


def test_preflight_leaves_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["recipe=an4", "preflight=only"])
    monkeypatch.setattr("asr.commands.jobs.compose", lambda words: config)
    status, _ = sweep(monkeypatch, GOOD, GOOD, GOOD)
    assert status == 0
    assert not Path("runs").exists()


@pytest.mark.parametrize("way", ["runs", "runs/an4", "runs/an4/comparisons"])
def test_where_no_comparison_can_be_written_no_job_is_begun(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(way).parent.mkdir(parents=True, exist_ok=True)
    Path(way).write_text("a file, where a folder has to be")
    monkeypatch.setattr(command, "check_training", lambda jobs: None)
    monkeypatch.setattr(command, "Runner", lambda: pytest.fail("a job is begun"))
    place = re.escape("Cannot write runs/an4/comparisons/seed=1+2+3: ")
    with pytest.raises(UserError, match=f"{place}(Not a directory|File exists)"):
        command.sweep("train", WORDS)


def test_a_folder_of_comparisons_that_takes_no_file_is_found_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("runs/an4").mkdir(parents=True)
    Path("runs/an4/comparisons").symlink_to("/proc/self")  # not even for root
    monkeypatch.setattr(command, "check_training", lambda jobs: None)
    monkeypatch.setattr(command, "Runner", lambda: pytest.fail("a job is begun"))
    with pytest.raises(UserError, match="Cannot write runs/an4/comparisons/"):
        command.sweep("train", WORDS)


@pytest.mark.parametrize(("year", "wer"), [(2999, "0.5"), (2001, "")])
def test_only_what_a_failed_job_has_found_itself_is_in_its_row(
    year: int, wer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("runs/an4/base/eval/test-greedy")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(
        '{"split": "test", "wer": 0.5, "wer_ci95": [0.4, 0.6], "cer": 0.2,'
        f' "model": "runs/an4/base/model", "date": "{year}-01-01T00:00:00+00:00",'
        ' "stamp": {"decoder": {"name": "greedy"}}}'
    )
    monkeypatch.setattr(command, "check_training", lambda jobs: None)
    monkeypatch.setattr(command, "Runner", lambda: Runner([(1, ""), (2, ""), GOOD], 2))
    assert command.sweep("run", WORDS) == 1
    with Path("runs/an4/comparisons/seed=1+2+3.csv").open(newline="") as stream:
        assert [line["wer"] for line in csv.DictReader(stream)] == [wer, "", "0.5"]
