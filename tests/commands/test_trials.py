"""A trial's reports, its best one, and the process that trains it."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asr.commands import trials as module
from asr.commands.compose import compose
from asr.commands.jobs import Job
from asr.commands.trials import DONE, Process, Report, Trial, read_reports, write_reports
from asr.config import Config
from asr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


@functools.cache
def composed(*words: str) -> Config:
    return compose(list(words))


def trial(*words: str) -> Trial:
    words = ("recipe=an4", *words, "name=tune-base-003")
    one = Trial(3, Job(words, {}, composed(*words)))
    one.run.mkdir(parents=True)
    return one


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_metrics(one: Trial, name: str, *rates: float) -> None:
    lines = [f"{epoch},{rate},1.0" for epoch, rate in enumerate(rates, start=1)]
    (one.run / "metrics.csv").write_text("\n".join([f"epoch,{name},train_s", *lines]) + "\n")


def test_news_are_the_epochs_since_the_last_report() -> None:
    one = trial()
    assert one.news() == []
    write_metrics(one, "wer", 0.9, 0.7, 0.8)
    assert one.news() == [Report(3, 1, 0.9), Report(3, 2, 0.7), Report(3, 3, 0.8)]
    assert one.rate_name == "wer"
    one.reports = one.news()[:2]
    assert one.news() == [Report(3, 3, 0.8)]


def test_an_epoch_without_validation_is_no_news() -> None:
    one = trial()
    write_metrics(one, "wer", float("nan"), 0.7, float("nan"))
    assert one.news() == [Report(3, 2, 0.7)]


def test_of_phones_the_rate_is_theirs() -> None:
    one = trial("units.kind=phones")
    write_metrics(one, "per", 0.4)
    assert one.news() == [Report(3, 1, 0.4)]
    assert one.rate_name == "per"


def test_the_best_report_is_the_lowest_and_of_equals_the_last() -> None:
    one = trial()
    assert one.best is None
    one.reports = [Report(3, 1, 0.9), Report(3, 2, 0.5), Report(3, 3, 0.5), Report(3, 4, 0.6)]
    assert one.best == Report(3, 3, 0.5)


def test_the_best_of_one_that_is_done_is_the_model_that_it_keeps() -> None:
    one = trial()
    one.reports = [Report(3, 1, 0.5)]
    finished = {"epochs": 60, "max_epochs": 60, "best_epoch": 60, "best_wer": 0.4}  # an average
    (one.run / "finished.json").write_text(json.dumps(finished))
    assert one.best == Report(3, 1, 0.5)
    one.state = DONE
    assert one.best == Report(3, 60, 0.4)


@pytest.mark.parametrize(("planned", "finished"), [(None, False), (20, False), (80, True)])
def test_a_trial_is_finished_once_the_epochs_asked_for_were_planned(
    planned: int | None, finished: bool
) -> None:
    one = trial("trainer.max_epochs=80")
    if planned:
        content = {"epochs": 15, "max_epochs": planned, "best_epoch": 5, "best_wer": 0.4}
        (one.run / "finished.json").write_text(json.dumps(content))
    assert one.finished is finished


def test_reports_come_back_as_they_were_in_their_order() -> None:
    reports = [Report(2, 1, 1 / 3), Report(1, 1, 0.1), Report(2, 2, float("inf"))]
    assert read_reports(Path()) == []
    write_reports(Path(), reports)
    assert read_reports(Path()) == reports
    assert Path("reports.csv").read_text().splitlines()[:2] == [
        "trial,epoch,rate",
        "2,1,0.3333333333333333",
    ]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "trial,epoch,rate\n1,x,0.5\n", "\n1,2\n"])
def test_what_are_no_reports_is_told_in_a_line(content: str) -> None:
    Path("reports.csv").write_text(content)
    with pytest.raises(UserError, match=r"^reports.csv holds no reports: choose another name="):
        read_reports(Path())


class Recorder:
    """In place of a process: what it was sent."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.command, self.options = command, options
        self.sent: list[int] = []

    def send_signal(self, number: int) -> None:
        self.sent.append(number)


def test_a_process_is_asked_to_stop_once_and_told_every_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Recorder] = []

    def start(command: list[str], **options: object) -> Recorder:
        started.append(Recorder(command, **options))
        return started[0]

    monkeypatch.setattr(module.subprocess, "Popen", start)
    process = Process(trial(), Path("output.txt"))
    process.stop()
    process.stop()
    assert started[0].sent == [signal.SIGTERM]
    process.pass_on(signal.SIGINT)
    process.pass_on(signal.SIGHUP)
    assert started[0].sent == [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    assert started[0].options["start_new_session"]  # else Ctrl-C would reach it twice


def wait(process: Process) -> None:
    deadline = time.monotonic() + 60
    while not process.ended():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_is_asr_train_with_the_words_of_the_trial() -> None:
    one = Trial(3, Job(("recipe=an4", "seed=77", "--cfg", "job"), {}, trial().job.config))
    Path("torch.py").write_text("raise SystemExit('what lies in the working folder is imported')")
    process = Process(one, Path("output.txt"))
    wait(process)
    assert process.failure() == ""
    assert "\nseed: 77\n" in Path("output.txt").read_text()


def test_a_failure_is_the_error_the_process_ended_with(monkeypatch: pytest.MonkeyPatch) -> None:
    endings = {
        "print('asr: no room'); raise SystemExit(2)": "no room (output.txt)",
        "raise SystemExit(3)": "exit status 3 (output.txt)",
        "import os; os.kill(os.getpid(), 9)": "ended by SIGKILL (output.txt)",
    }
    one = trial()
    for code, why in endings.items():
        monkeypatch.setattr(module, "COMMAND", code)
        process = Process(one, Path("output.txt"))
        wait(process)
        assert process.failure() == why


def test_a_process_dies_with_the_one_that_started_it() -> None:
    code = f"""
import os, sys, types
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from asr.commands import trials
trials.COMMAND = trials.COMMAND.partition("from asr.commands.main")[0]
trials.COMMAND += "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
job = types.SimpleNamespace(words=())
trials.Process(types.SimpleNamespace(job=job), Path("output.txt"))
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (Path("output.txt").exists() and Path("output.txt").read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int(Path("output.txt").read_text())
    assert Path(f"/proc/{child}").exists()
    parent.communicate(b"\n")
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(process: int) -> bool:
    """Whether it is there, and not only waits to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
