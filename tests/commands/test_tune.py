"""A search: whatever ends it, the same command goes on, and comes to the same.

In place of processes that train, each look at one is an epoch of a curve that is given; what it
leaves is on the disk, as of a process.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from asr.commands import tune as command
from asr.commands import tuning
from asr.commands.compose import compose
from asr.commands.jobs import Job
from asr.commands.trials import DONE, FAILED, STOPPED_EARLY, Report, Trial
from asr.config import Config
from asr.errors import UserError

SPACE = """\
space:
  optim.learning_rate: {log: [1e-4, 1e-2]}
  augment.speed.factors: {choice: [[1.0], [0.9, 1.1]]}
"""
WORDS = ["recipe=an4", "tune=few", "tune.grace_epochs=1", "trainer.max_epochs=5"]

# Rungs after the epochs 1 and 4: the second one is behind at the first rung, the fourth at the
# second one; the fifth has patience for three epochs only.
CURVES = {
    1: [0.9, 0.8, 0.5, 0.45, 0.4],
    2: [0.95, 0.1, 0.1, 0.1, 0.1],
    3: [0.7, 0.6, 0.5, 0.3, 0.25],
    4: [0.6, 0.2, 0.2, 0.5, 0.1],
    5: [0.5, 0.35, 0.35],
}
STATES = {1: "done", 2: "stopped early", 3: "done", 4: "stopped early", 5: "done"}

cached = functools.cache(lambda *words: compose(list(words)))
DRAWN = ("optim.learning_rate=", "augment.speed.factors=", "name=")


def quick(words: list[str]) -> Config:
    """The settings, but for what is drawn, which no training here looks at."""
    name = [word for word in words if word.startswith("name=")][-1:] or ["name=base"]
    config = cached(*(word for word in words if not word.startswith(DRAWN)))
    return replace(config, name=name[0].removeprefix("name="))


class KilledError(BaseException):
    """In place of SIGKILL."""


@dataclass
class World:
    """What the trainings of this machine do."""

    curves: dict[int, list[float]] = field(default_factory=lambda: dict(CURVES))
    failing: dict[int, str] = field(default_factory=dict)  # after their curves: why
    rate_name: str = "wer"
    kill_at: int | None = None  # which of the events below
    events: int = 0
    signal_at: dict[tuple[int, int], int] = field(default_factory=dict)  # by trial and epoch
    running: set[int] = field(default_factory=set)
    most: int = 0  # at a time
    begun: list[tuple[int, int]] = field(default_factory=list)  # trials, and epochs then done
    asked: list[int] = field(default_factory=list)
    passed_on: list[tuple[int, int]] = field(default_factory=list)
    at_a_look: int = 1  # epochs
    after_stop: int = 0  # epochs that a training still does when it is asked to stop

    def event(self) -> None:
        self.events += 1
        if self.events == self.kill_at:
            raise KilledError


class Training:
    """In place of `trials.Process`."""

    world: World

    def __init__(self, trial: Trial, output: Path) -> None:
        world = self.world
        self.trial, self.left, self.why = trial, False, ""
        self.still: int | None = None
        trial.run.mkdir(parents=True, exist_ok=True)
        world.begun.append((trial.number, self.done()))
        world.running.add(trial.number)
        world.most = max(world.most, len(world.running))
        world.event()

    def done(self) -> int:
        file = self.trial.run / "metrics.csv"
        return len(file.read_text().splitlines()) - 1 if file.is_file() else 0

    def ended(self) -> bool:
        world, number, done = self.world, self.trial.number, self.done()
        curve = world.curves[number]
        if self.still == 0:
            self.left, self.why = True, "stopped"
        elif done < len(curve):
            if self.still:
                self.still -= 1
            lines = [
                f"{1 + epoch},{rate},2.5"
                for epoch, rate in enumerate(curve[: done + world.at_a_look])
            ]
            text = "\n".join([f"epoch,{world.rate_name},train_s", *lines]) + "\n"
            (self.trial.run / "metrics.csv").write_text(text)
            if (number, done + 1) in world.signal_at:
                os.kill(os.getpid(), world.signal_at.pop((number, done + 1)))
        elif number in world.failing:
            self.left, self.why = True, world.failing[number]
        else:
            self.left = True
            best = min(curve)
            epoch = len(curve) - curve[::-1].index(best)
            finished = {"epochs": len(curve), "max_epochs": 5, "best_epoch": epoch}
            finished |= {"best_wer": best, "rate_name": world.rate_name, "parameters": 10**6}
            (self.trial.run / "finished.json").write_text(json.dumps(finished))
        if self.left:
            world.running.discard(number)
        world.event()
        return self.left

    def stop(self) -> None:
        if self.still is None:
            self.world.asked.append(self.trial.number)
            self.still = self.world.after_stop

    def pass_on(self, number: int) -> None:
        self.world.passed_on.append((self.trial.number, number))
        self.still = 0

    def failure(self) -> str:
        return self.why


class Corpus:
    fingerprint = "abc"

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        return cls()

    def split(self, name: str) -> None:
        assert name == "validation"


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    Training.world = World()
    monkeypatch.chdir(tmp_path)
    Path("conf/tune").mkdir(parents=True)
    Path("conf/tune/few.yaml").write_text(SPACE)
    monkeypatch.setattr(command, "compose", quick)
    monkeypatch.setattr(command, "Corpus", Corpus)
    monkeypatch.setattr(command, "check_training", lambda jobs: None)
    monkeypatch.setattr(command, "Process", Training)
    monkeypatch.setattr(command, "LOOK_S", 0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    monkeypatch.setattr(yaml, "safe_load", lambda text: yaml.load(text, Loader=yaml.CSafeLoader))
    return Training.world


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longest."""
    monkeypatch.setattr(tuning, "draw", lambda path, trials: path.touch())


def tune(*words: str, trials: int = 5) -> int:
    return command.tune([*WORDS, *words, f"tune.trials={trials}"])


def rows(name: str = "base") -> list[dict[str, str]]:
    with Path(f"runs/an4/tune-{name}/results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def states(name: str = "base") -> dict[int, str]:
    return {int(row["trial"]): row["ended"] for row in rows(name)}


def left() -> dict[str, str]:
    """All that a search leaves to read."""
    folder = Path("runs/an4/tune-base")
    return {name: (folder / name).read_text() for name in ("reports.csv", "results.csv")}


def test_a_search_ends_in_a_table_a_picture_and_the_command_of_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tune() == 0
    assert [int(row["trial"]) for row in rows()] == [3, 5, 1, 4, 2]
    assert states() == STATES
    assert [row["validation_wer"] for row in rows()] == ["0.25", "0.35", "0.4", "0.2", "0.95"]
    assert [row["best_epoch"] for row in rows()] == ["5", "3", "5", "3", "1"]
    said = capsys.readouterr()
    assert "Best: trial 3, validation WER 25.0 % in epoch 5: runs/an4/tune-base-003/model" in (
        said.out
    )
    line = said.out.splitlines()[-1].strip()
    assert re.fullmatch(
        r"asr train recipe=an4 trainer.max_epochs=5 optim.learning_rate=0\.\d+"
        r" 'augment.speed.factors=\[.+\]' name=tuned",
        line,
    )
    page = Path("runs/an4/tune-base/results.md").read_text()
    assert line in page
    assert [cell for cell in page.split("|") if "**" in cell] == [" **25.0 %** "]
    assert Path("runs/an4/tune-base/curves.png").read_bytes().startswith(b"\x89PNG")
    assert "[2/5] optim.learning_rate=" in said.err
    assert ": stopped early after 1 epoch, best WER 95.0 % in epoch 1" in said.err


def test_one_that_was_stopped_early_is_not_the_best_however_good_it_once_was() -> None:
    assert tune() == 0
    four = next(row for row in rows() if row["trial"] == "4")
    assert (four["ended"], float(four["validation_wer"])) == ("stopped early", 0.2)
    assert float(rows()[0]["validation_wer"]) == 0.25


@pytest.mark.usefixtures("undrawn")
def test_killed_anywhere_the_same_command_comes_to_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = command.write_reports

    def write_reports(folder: Path, reports: list[Report]) -> None:
        Training.world.event()
        written(folder, reports)
        Training.world.event()

    monkeypatch.setattr(command, "write_reports", write_reports)
    assert tune() == 0
    undisturbed, events = left(), world.events
    assert events > 50
    for number in range(1, events + 1, 2):  # of three kinds in turn, so each is met
        folder = tmp_path / str(number)
        (folder / "conf").mkdir(parents=True)
        (folder / "conf/tune").symlink_to(tmp_path / "conf/tune")
        monkeypatch.chdir(folder)
        Training.world = World(kill_at=number)
        with pytest.raises(KilledError):
            tune()
        again = Training.world = World()
        assert tune() == 0
        assert left() == undisturbed
        begun = dict(again.begun)
        for row in rows():  # what came to its end is not begun again, and no epoch is done twice
            epochs = begun.get(int(row["trial"]), 0)
            assert epochs <= len(CURVES[int(row["trial"])])


@pytest.mark.usefixtures("undrawn")
def test_more_trials_go_on_where_fewer_ended(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tune(trials=2) == 0
    assert [number for number, _ in world.begun] == [1, 2]
    assert tune() == 0
    assert world.begun == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]
    grown = left()
    (tmp_path / "new/conf").mkdir(parents=True)
    (tmp_path / "new/conf/tune").symlink_to(tmp_path / "conf/tune")
    monkeypatch.chdir(tmp_path / "new")
    assert tune() == 0
    assert left() == grown


@pytest.mark.usefixtures("undrawn")
def test_a_finished_search_shows_its_table_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    tune()
    first, begun = capsys.readouterr().out, list(world.begun)
    assert tune() == 0
    assert capsys.readouterr().out == first
    assert world.begun == begun


@pytest.mark.usefixtures("undrawn")
def test_fewer_trials_than_before_are_the_first_ones() -> None:
    tune()
    assert tune(trials=3) == 0
    assert states() == {number: STATES[number] for number in (1, 2, 3)}


@pytest.mark.usefixtures("undrawn")
def test_of_epochs_that_come_together_none_counts_after_the_one_that_is_behind(
    world: World,
) -> None:
    tune()
    one_by_one = left()
    world.at_a_look = 9
    tune("name=swift")
    assert Path("runs/an4/tune-swift/reports.csv").read_text() == one_by_one["reports.csv"]
    assert states("swift") == STATES


@pytest.mark.usefixtures("undrawn")
def test_a_trial_that_is_behind_is_asked_to_stop_and_what_it_still_does_changes_nothing(
    world: World,
) -> None:
    tune()
    assert world.asked == [2, 4]
    swift = left()
    world.after_stop = 9  # it is at its end before it hears
    tune("name=slow")
    assert world.asked == [2, 4, 2, 4]
    assert states("slow") == STATES
    slow = Path("runs/an4/tune-slow/reports.csv").read_text()
    assert slow == swift["reports.csv"]
    assert tune("name=slow") == 0
    assert states("slow") == STATES  # although its run says by now that it is finished


def test_of_phones_the_rate_is_called_so(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.rate_name = "per"
    assert tune("units.kind=phones") == 0
    said = capsys.readouterr()
    assert "validation PER 25.0 %" in said.out
    assert "best PER 95.0 %" in said.err
    assert "WER" not in said.out + said.err
    assert rows()[0]["validation_per"] == "0.25"
    assert rows()[-1]["validation_per"] == "0.95"
    assert {row["validation_wer"] for row in rows()} == {""}


@pytest.mark.usefixtures("undrawn")
def test_a_failed_trial_is_a_row_with_its_reason_and_the_others_go_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.curves[1] = [0.9, 0.1]
    world.failing[1] = "too many steps were not finite (output-001.txt)"
    assert tune() == 1
    failed = rows()[-1]
    assert (failed["trial"], failed["ended"]) == ("1", "failed")
    assert failed["why"] == world.failing[1]
    said = capsys.readouterr()
    assert f"asr: trial 1: {world.failing[1]}\n" in said.err
    assert f"failed: {world.failing[1]}" in said.out
    assert "Best: trial 3" in said.out
    del world.failing[1]
    world.curves[1] = CURVES[1]
    world.begun.clear()
    assert tune() == 0
    assert world.begun == [(1, 2)]  # it is tried again, and goes on


@pytest.mark.usefixtures("undrawn")
def test_where_every_trial_fails_there_is_no_best(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.curves = {trial: [] for trial in CURVES}
    world.failing = dict.fromkeys(CURVES, "no")
    assert tune() == 1
    assert set(states().values()) == {"failed"}
    said = capsys.readouterr().out
    assert "Best" not in said
    assert "Written: runs/an4/tune-base/results.csv, runs/an4/tune-base/results.md\n" in said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_stops_the_trial_and_begins_no_other(
    number: int, status: int, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.signal_at = {(3, 2): number}
    assert tune() == status
    assert world.passed_on == [(3, number)]
    assert states() == {
        1: "done",
        2: "stopped early",
        3: "interrupted",
        4: "not begun",
        5: "not begun",
    }
    said = capsys.readouterr()
    name = signal.Signals(number).name
    assert said.err.endswith(f"asr: stopped by {name}; the same command goes on\n")
    assert "Best: trial 1" in said.out
    world.begun.clear()
    world.signal_at = {(4, 1): number}
    assert tune() == status
    assert world.begun == [(3, 2), (4, 0)]
    assert tune() == 0
    assert states() == STATES


@pytest.mark.usefixtures("undrawn")
def test_what_was_interrupted_is_called_so_until_it_goes_on(world: World) -> None:
    world.signal_at = {(1, 2): signal.SIGINT, (2, 1): signal.SIGINT}
    world.curves[2] = [0.5] * 5
    assert tune("tune.concurrent=2", "tune.grace_epochs=5") == 130
    assert (states()[1], states()[3]) == ("interrupted", "not begun")


@pytest.mark.usefixtures("undrawn")
def test_so_many_trials_train_at_a_time_and_share_the_cores(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    world.signal_at = {(2, 2): signal.SIGINT}
    tune("trainer.threads=null", "tune.concurrent=3", "tune.grace_epochs=5")
    assert world.most == 3
    tune("trainer.threads=null", "tune.concurrent=1", "tune.grace_epochs=5")
    best = Path("runs/an4/tune-base/results.md").read_text()
    assert " trainer.threads=4 " in best  # as they began: else the weights would not be the same
    tune("trainer.threads=null", "tune.concurrent=2", "trainer.devices=2", "name=two", trials=2)
    assert " trainer.threads=3 " in Path("runs/an4/tune-two/results.md").read_text()
    tune("tune.concurrent=2", "trainer.threads=7", "name=given", trials=2)
    assert " trainer.threads=7 " in Path("runs/an4/tune-given/results.md").read_text()
    assert "=6" not in Path("runs/an4/tune-given/results.md").read_text()


NO_CHOICE = "space: {optim.warmup: {choice: []}}"


@pytest.mark.parametrize(
    ("space", "words", "message"),
    [
        (NO_CHOICE, [], "^tune.space: optim.warmup=.* has nothing to choose from"),
        (
            "space: {optim.warm: {choice: [1]}}",
            [],
            r"^tune.space: trial 1 \(optim.warm=1\): No set",
        ),
        ("space: {optim.warmup: {choice: [7]}}", [], r"trial 1 \(optim.warmup=7\): optim.warmup=7"),
        ("space: {model.hidden: {uniform: [8, 9]}}", [], "must be a whole number"),
        ("space: [1, 2]", [], "tune.space"),
        ("trials: 3", [], "'tune.space' has no value"),
        (
            "space: {units.kind: {choice: [phones, words]}}",
            ["tune.trials=5"],
            "only trials that are validated",
        ),
        (
            "space: {data: {choice: [standard, all]}}",
            ["tune.trials=5"],
            "only trials that are validated",
        ),
        (SPACE, ["optim.learning_rate=1e-3"], "^'optim.learning_rate=1e-3': tune.space says"),
        (SPACE, ["tune.space={seed:{choice:[1]}}"], "^tune.space is a file, conf/tune/NAME.yaml"),
        (SPACE, ["tune.space.seed.choice=[1]"], "^tune.space is a file, conf/tune/NAME.yaml"),
        (SPACE, ["preflight=only"], "leave out preflight, bundle and data=all"),
        (SPACE, ["bundle=model"], "leave out preflight, bundle and data=all"),
        (SPACE, ["data=all"], "leave out preflight, bundle and data=all"),
        (SPACE, ["trainer.nodes=2"], "^trainer.nodes=2: asr tune trains on several machines with"),
        (SPACE, ["tune.trials=0"], "tune.trials=0 must be between 1 and 1000"),
        (SPACE, ["tune=none"], "No tune is called 'none'"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_begins(
    space: str, words: list[str], message: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "compose", compose)  # not what it was of another space
    Path("conf/tune/few.yaml").write_text(space + "\n")
    with pytest.raises(UserError, match=message) as told:
        command.tune([*WORDS, "tune.trials=1", *words])
    assert "\n" not in str(told.value)
    assert world.begun == []
    assert not Path("runs").exists()


def test_the_settings_of_every_trial_are_checked_before_anything_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(jobs: list[Job]) -> None:
        assert [job.config.name for job in jobs] == ["tune-base-001", "tune-base-002"]
        raise UserError("no network is so large")

    monkeypatch.setattr(command, "check_training", check)
    with pytest.raises(UserError, match="no network is so large"):
        tune(trials=2)
    assert world.begun == []
    assert not Path("runs").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_belongs_to_another_is_left_alone(world: World) -> None:
    tune(trials=1)
    world.begun.clear()
    with pytest.raises(UserError, match=r"runs/an4/tune-base holds another run: tune.seed \(1 th"):
        tune("tune.seed=2")
    with pytest.raises(UserError, match=r"tune-base holds another run: model.dropout"):
        tune("model.dropout=0.2")
    other = Path("runs/an4/tune-base-002/config.yaml")
    other.parent.mkdir()
    other.write_text("who knows whose")
    with pytest.raises(UserError, match=r"tune-base-002/config\.yaml does not say which run"):
        tune(trials=2)
    assert world.begun == []


def test_the_command_of_the_best_survives_a_shell_and_is_the_same_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "compose", compose)
    awkward = "noises/of my own's, $HOME {a} #1 *"
    words = [*WORDS, f"augment.noise.folder={awkward}", "name=x", "seed=5", "tune.seed=3"]
    config = compose([*words, "tune.trials=2"])
    _, two = command.plan([*words, "tune.trials=2"], config, 1)
    line = command.training_again(two)
    said = subprocess.run(
        ["sh", "-c", f"asr() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True
    )
    verb, *again = said.stdout.decode().split("\0")[:-1]
    assert verb == "train"
    assert not any(word.startswith("tune") for word in again)
    found, tried = compose(again), two.job.config
    assert (found.name, tried.name) == ("tuned", "tune-x-002")
    assert (found.augment.noise.folder, found.trainer.max_epochs, found.seed) == (awkward, 5, 5)
    same = {**vars(found), "name": "", "tune": None}
    assert same == {**vars(tried), "name": "", "tune": None}


def drawn_by(
    trials: list[Trial], monkeypatch: pytest.MonkeyPatch, draw: Callable[..., None] = tuning.draw
) -> Any:
    figures: list[Figure] = []

    def save(figure: Figure, stream: Any, **options: Any) -> None:
        figures.append(figure)
        figure.draw_without_rendering()

    monkeypatch.setattr(Figure, "savefig", save)
    draw(Path("curves.png"), trials)
    (axes,) = figures[0].axes
    return axes


def test_the_picture_has_a_curve_of_each_trial_and_says_how_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("conf/tune/few.yaml").write_text("space: {optim.warmup: {choice: [0.1]}}\n")
    monkeypatch.setattr(command, "compose", compose)
    words = [*WORDS, "tune.trials=5"]
    trials = command.plan(words, compose(words), 1)
    ends = [DONE, STOPPED_EARLY, DONE, FAILED, "not begun"]
    for trial, state in zip(trials, ends, strict=True):
        trial.state = state
        curve = CURVES[trial.number][: 5 if state == DONE else 2 if state == FAILED else 1]
        trial.reports = [Report(trial.number, 1 + n, rate) for n, rate in enumerate(curve)]
    trials[4].reports = []
    trials[3].reports[1] = Report(4, 2, 7.0)  # more words than there are
    axes = drawn_by(trials, monkeypatch)
    lines = {tuple(line.get_ydata()): line for line in axes.lines}
    assert len(lines) == 4
    best = lines[tuple(100 * rate for rate in CURVES[3])]
    assert axes.lines[-1] is best  # above the others
    assert axes.get_title() == "trial 3: optim.warmup=0.1"
    legend = {
        text.get_text(): to_hex(line.get_color())
        for text, line in zip(
            axes.get_legend().texts, axes.get_legend().legend_handles, strict=True
        )
    }
    assert list(legend) == ["the best", "trained to the end", "stopped early", "failed"]
    kinds = ["the best", "trained to the end", "stopped early", "failed"]
    curves = [best, lines[tuple(100 * rate for rate in CURVES[1])], lines[(95.0,)]]
    curves.append(next(line for line in axes.lines if 700.0 in line.get_ydata()))
    assert [to_hex(line.get_color()) for line in curves] == [legend[kind] for kind in kinds]
    assert [line.get_marker() for line in curves] == ["", "", "x", "x"]
    assert sorted(text.get_text() for text in axes.texts) == ["1", "3"]
    assert axes.get_ylabel() == "WER on validation, %"
    assert axes.get_ylim() == (0, 110)


def test_the_numbers_in_the_picture_do_not_stand_upon_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*WORDS, "tune.trials=5"]
    trials = command.plan(words, quick(words), 1)
    for trial in trials:
        trial.state = DONE
        trial.reports = [Report(trial.number, 5, 0.3 + 0.001 * trial.number)]
    axes = drawn_by(trials, monkeypatch)
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    assert not any(
        one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number]
    )
