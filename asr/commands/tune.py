"""`asr tune`: trainings with settings drawn from a space; the poor ones are stopped early.

Everything it knows is on the disk: what is drawn is a function of the seed, how far a trial has
come is its run's own business, and decisions are a function of the reports, which are kept in
order. So the same command goes on from wherever it was ended.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from asr.cluster.halving import Halving
from asr.commands.compose import compose
from asr.commands.jobs import Job
from asr.commands.runs import SETTINGS, TUNING, check_owner, claim, occupied, run_folder
from asr.commands.space import draw, parse, shown
from asr.commands.sweep import check_training
from asr.commands.trials import (
    DONE,
    FAILED,
    INTERRUPTED,
    RUNNING,
    STOPPED_EARLY,
    WAITING,
    Process,
    Report,
    Trial,
    read_reports,
    write_reports,
)
from asr.commands.tuning import Display, show, write
from asr.config import Config
from asr.corpus import Corpus
from asr.errors import UserError

LOOK_S = 0.3  # how often the trials are looked at
TUNED = "tuned"  # the name of the run that trains the best settings again


def tune(words: Sequence[str]) -> int:
    """Search as the words say, or go on with it.

    Returns:
        0; 1 where a trial failed; 128 and the number of the signal that stopped it.

    Raises:
        UserError: the settings of the search, or of any trial, are wrong; the corpus is not
            prepared; another search, or run, has a name that is needed. Nothing was begun.
    """
    config = _composed(words)
    corpus = Corpus.open(Path(config.prepare.folder))
    corpus.split("validation")
    folder = run_folder(config, f"tune-{config.name}")
    check_owner(folder, config, corpus.fingerprint, TUNING)
    trials = plan(words, config, _concurrent_at_first(folder, config))
    for trial in trials:
        check_owner(trial.run, trial.job.config, corpus.fingerprint)
    check_training([trial.job for trial in trials])
    halving = Halving(config.tune.max_epochs, config.tune.grace_epochs)
    claim(folder, config, corpus.fingerprint, TUNING)
    with occupied(folder):
        search = Search(trials, folder, config.tune.concurrent, halving)
        stopped_by = search.run()
        best = best_of(trials)
        written = write(folder, trials, training_again(best) if best else None)
    return _conclude(trials, best, written, stopped_by)


def _composed(words: Sequence[str]) -> Config:
    """The settings, fit for a search.

    Raises:
        UserError: they are not.
    """
    if any(word.startswith(("tune.space=", "tune.space.")) for word in words):
        raise UserError("tune.space is a file, conf/tune/NAME.yaml: choose it with tune=NAME.")
    config = compose(list(words))
    if config.preflight is not None or config.bundle is not None or not _validates(config):
        raise UserError(
            "asr tune compares trainings by validation: leave out preflight, bundle and data=all."
        )
    if config.trainer.nodes > 1 and config.cluster.name != "ray":
        raise UserError(
            f"trainer.nodes={config.trainer.nodes}: asr tune trains on several machines with"
            " cluster=ray only."
        )
    return config


def _validates(config: Config) -> bool:
    return "validation" not in config.data.train_splits


def _concurrent_at_first(folder: Path, config: Config) -> int:
    """Trials at a time when the search began: how many threads each has, for good."""
    settings = folder / SETTINGS
    if not settings.is_file():
        return config.tune.concurrent
    stored = yaml.safe_load(settings.read_text(encoding="utf-8"))
    return int(stored["settings"]["tune"]["concurrent"])


def plan(words: Sequence[str], config: Config, concurrent: int) -> list[Trial]:
    """All trials, each with its settings checked.

    Args:
        words: of the command.
        config: what they come to.
        concurrent: the trials that the cores of this machine are shared by.

    Raises:
        UserError: the space or what was drawn from it is wrong; or a setting is both given and
            searched.
    """
    space = parse(config.tune.space)
    for word in words:
        if word.partition("=")[0] in space:
            raise UserError(
                f"{word!r}: tune.space says what is tried of it. Leave one of them out."
            )
    common = [*training_words(words), f"trainer.max_epochs={config.tune.max_epochs}"]
    if concurrent > 1 and config.trainer.threads is None and "trainer.threads" not in space:
        cores = (os.cpu_count() or 1) // (concurrent * config.trainer.devices)
        common.append(f"trainer.threads={max(1, cores)}")
    trials = []
    for number in range(1, config.tune.trials + 1):
        drawn = {key: shown(value) for key, value in draw(space, config.tune.seed, number).items()}
        own = [f"{key}={value}" for key, value in drawn.items()]
        name = f"name=tune-{config.name}-{number:03d}"
        try:
            settings = compose([*common, *own, name])
        except UserError as error:
            raise UserError(f"tune.space: trial {number} ({' '.join(own)}): {error}") from None
        trials.append(Trial(number, Job((*common, *own, name), drawn, settings)))
    if len({trial.rate_name for trial in trials}) > 1 or not all(
        _validates(trial.job.config) for trial in trials
    ):
        raise UserError("tune.space: only trials that are validated alike can be compared.")
    return trials


def training_words(words: Sequence[str]) -> list[str]:
    """Those that mean something to `asr train`, but for the run's name."""
    keys = ("tune", "name", "trainer.max_epochs")
    return [
        word
        for word in words
        if (key := word.partition("=")[0]) not in keys and not key.startswith("tune.")
    ]


def training_again(trial: Trial) -> str:
    """The command, for a shell, that trains the same as a trial."""
    words = [word for word in trial.job.words if not word.startswith("name=")]
    return shlex.join(["asr", "train", *words, f"name={TUNED}"])


@contextlib.contextmanager
def _ended_with(running: list[Process]) -> Iterator[None]:
    """What an error leaves running saves and ends before it is told."""
    try:
        yield
    except Exception:
        for process in running:
            process.stop()
        for process in running:
            process.wait()
        raise


class Search:
    """Trials, a few at a time; what each reports decides whether it goes on."""

    def __init__(
        self, trials: Sequence[Trial], folder: Path, concurrent: int, halving: Halving
    ) -> None:
        self.trials = {trial.number: trial for trial in trials}
        self.folder = folder
        self.concurrent = concurrent
        self.halving = halving
        self.reports: list[Report] = []
        for report in read_reports(folder):
            self._decide(report)
        for trial in trials:
            self._listen(trial)  # to what was trained while nobody did
            if trial.state != STOPPED_EARLY and trial.finished:
                trial.state = DONE
            elif trial.state == WAITING and trial.reports:
                trial.state = INTERRUPTED

    def run(self) -> int | None:
        """Until all trials have ended, or a signal has stopped them: its number."""
        from asr.training.signals import Signals

        left = (WAITING, INTERRUPTED)
        waiting = [trial for trial in self.trials.values() if trial.state in left]
        running: list[Process] = []
        passed_on: int | None = None
        with (
            Signals() as signals,
            Display(list(self.trials.values())) as display,
            _ended_with(running),
        ):
            while running or (waiting and signals.received is None):
                while waiting and len(running) < self.concurrent and signals.received is None:
                    running.append(self._start(waiting.pop(0), display))
                if signals.received is not None and signals.received != passed_on:
                    passed_on = signals.received
                    for process in running:
                        process.pass_on(passed_on)
                time.sleep(LOOK_S)
                for process in list(running):
                    over = process.ended()  # before its reports are read, so that none is missed
                    if not self._listen(process.trial) and not over and passed_on is None:
                        process.stop()
                    if over:
                        running.remove(process)
                        self._end(process, passed_on)
                        display.end(process.trial)
                display.show()
            return signals.received

    def _start(self, trial: Trial, display: Display) -> Process:
        trial.state = RUNNING
        display.begin(trial)
        return Process(trial, self.folder / f"output-{trial.number:03d}.txt")

    def _listen(self, trial: Trial) -> bool:
        """Take its new reports; whether it goes on."""
        for report in trial.news() if trial.state != STOPPED_EARLY else []:
            self._decide(report)
            write_reports(self.folder, self.reports)
            if trial.state == STOPPED_EARLY:
                break
        return trial.state != STOPPED_EARLY

    def _decide(self, report: Report) -> None:
        trial = self.trials.get(report.trial)
        self.reports.append(report)
        goes_on = self.halving.goes_on(report.trial, report.epoch, report.rate)
        if trial is None:  # there were more trials once
            return
        trial.reports.append(report)
        if not goes_on:
            trial.state = STOPPED_EARLY

    def _end(self, process: Process, passed_on: int | None) -> None:
        trial = process.trial
        if trial.state == STOPPED_EARLY:
            return
        why = process.failure()
        if not why:
            trial.state = DONE
        elif passed_on is not None:
            trial.state = INTERRUPTED
        else:
            trial.state, trial.why = FAILED, why


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Of those that came to their end, which alone can be trained again as they were."""
    rates = {
        trial.number: trial.best.rate for trial in trials if trial.state == DONE and trial.best
    }
    return min(
        (trial for trial in trials if trial.number in rates),
        key=lambda trial: rates[trial.number],
        default=None,
    )


def _conclude(
    trials: Sequence[Trial], best: Trial | None, written: Sequence[Path], stopped_by: int | None
) -> int:
    """Say what came out; the exit status."""
    show(trials)
    print(f"Written: {', '.join(map(str, written))}")
    if best is not None and best.best is not None:
        rate = f"validation {best.rate_name.upper()} {100 * best.best.rate:.1f} %"
        where = f"in epoch {best.best.epoch}: {best.run / 'model'}"
        print(f"Best: trial {best.number}, {rate} {where}. The same again:")
        print(f"  {training_again(best)}", flush=True)
    failed = [trial for trial in trials if trial.state == FAILED]
    for trial in failed:
        print(f"asr: trial {trial.number}: {trial.why}", file=sys.stderr)
    if stopped_by is not None:
        name = signal.Signals(stopped_by).name
        print(f"asr: stopped by {name}; the same command goes on", file=sys.stderr)
        return 128 + stopped_by
    return 1 if failed else 0
