"""The trials of a search: what each is, how far it has come, and the processes that train them."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from asr.commands.jobs import Job
from asr.commands.process import last_words
from asr.commands.runs import read_finished, run_folder
from asr.errors import UserError
from asr.files import write_atomically
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units

COMMAND = """\
import sys
sys.path[:] = filter(None, sys.path)
from asr.cluster.child import die_with
die_with(int(sys.argv.pop(1)))
from asr.commands.main import main
sys.exit(main())
"""
REPORTS = "reports.csv"

# How a trial stands.
WAITING, RUNNING, DONE, STOPPED_EARLY, INTERRUPTED, FAILED = (
    *("not begun", "running", "done", "stopped early", "interrupted", "failed"),
)


@dataclass(frozen=True)
class Report:
    """The error rate on validation, as a share, after an epoch of a trial (both from 1).

    It is that of words, or of phones where phones are decoded.
    """

    trial: int
    epoch: int
    rate: float


@dataclass
class Trial:
    """A training with values of its own, the reports of it so far, and how it stands."""

    number: int
    job: Job
    state: str = WAITING
    why: str = ""
    reports: list[Report] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """Its folder."""
        return run_folder(self.job.config)

    @property
    def rate_name(self) -> str:
        """Of the rate that is reported: "wer" or "per"."""
        kind = self.job.config.units.kind
        return PhoneUnits.rate_name if kind == PhoneUnits.kind else Units.rate_name

    @property
    def best(self) -> Report | None:
        """Of the model that is kept; of a trial that is not done, the report of the lowest rate."""
        finished = read_finished(self.run) if self.state == DONE else None
        if finished is not None and finished.best_wer is not None:
            return Report(self.number, finished.best_epoch, finished.best_wer)
        return min(self.reports, key=lambda one: (one.rate, -one.epoch), default=None)

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained, or patience has ended it."""
        finished = read_finished(self.run)
        return finished is not None and finished.max_epochs >= self.job.config.trainer.max_epochs

    def news(self) -> list[Report]:
        """Of epochs that have been validated since the last report."""
        known = self.reports[-1].epoch if self.reports else 0
        with contextlib.suppress(OSError), (self.run / "metrics.csv").open(newline="") as stream:
            lines = [
                (int(line["epoch"]), float(line[self.rate_name])) for line in csv.DictReader(stream)
            ]
            return [
                Report(self.number, epoch, rate)
                for epoch, rate in lines
                if epoch > known and not math.isnan(rate)
            ]
        return []


def read_reports(folder: Path) -> list[Report]:
    """All that have been decided upon, in that order; decisions depend on it.

    Raises:
        UserError: somebody else has written the file.
    """
    path = folder / REPORTS
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as stream:
            return [
                Report(int(line["trial"]), int(line["epoch"]), float(line["rate"]))
                for line in csv.DictReader(stream)
            ]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path} holds no reports: choose another name=, or move {folder} away."
        ) from None


def write_reports(folder: Path, reports: Iterable[Report]) -> None:
    """The whole file, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "epoch", "rate"])
    writer.writerows([one.trial, one.epoch, one.rate] for one in reports)
    with write_atomically(folder / REPORTS) as stream:
        stream.write(text.getvalue())


class Process:
    """`asr train` with a trial's settings; what it says goes to a file.

    It has a session of its own, so that Ctrl-C reaches it only as it is passed on; and it dies with
    this process.
    """

    def __init__(self, trial: Trial, output: Path) -> None:
        self.trial = trial
        self.output = output
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, str(os.getpid()), "train", *trial.job.words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._asked = False

    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def pass_on(self, number: int) -> None:
        """Send it a signal that has come to this process."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to save and leave; once, since asked again it would leave without saving."""
        if not self._asked:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()

    def failure(self) -> str:
        """Why it ended, if not well; '' if well."""
        status = self._process.returncode
        if status == 0:
            return ""
        by = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        said = self.output.read_text(encoding="utf-8", errors="replace")
        return f"{last_words(said) or by} ({self.output})"
