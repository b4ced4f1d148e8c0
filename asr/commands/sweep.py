"""`asr train|evaluate|run -m`: a job for each combination of values, and a table of them all.

The jobs run one after the other, each in a process of its own: no job's memory or random state
reaches another's, and one that dies takes none along.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from asr.commands.comparison import Row, show, write
from asr.commands.jobs import Job, plan
from asr.commands.process import Runner, last_words
from asr.commands.results import Figures, add_evaluation, read_training
from asr.commands.runs import read_finished, run_folder
from asr.errors import UserError
from asr.files import explain_write_errors
from asr.training.signals import STOPPING

# The exit status of a command that a signal stopped, or which it ended before it could say so.
STOPPED = (*(128 + number for number in STOPPING), *(-number for number in STOPPING))
# `asr`, but not as `python -m asr`, which would import what lies in the working folder before all
# else. (-P, which is for this, came with Python 3.11.)
COMMAND = """\
import sys
sys.path[:] = filter(None, sys.path)
from asr.commands.main import main
sys.exit(main())
"""


def sweep(command: str, words: Sequence[str]) -> int:
    """Run a command for every combination of the words' values, and compare what came out.

    Returns:
        0, or 1 where a job did not end well, or 2 where each one was refused, or 128 and the number
        of the signal that stopped it.

    Raises:
        UserError: the settings of a combination are wrong, or the comparison cannot be written. No
            job was begun.
    """
    jobs, place = plan(words)
    if command != "evaluate":
        check_training(jobs)
    compared = jobs[0].config.preflight is None  # else nothing is trained
    if compared:
        _check_writable(place)
    notes = Console(stderr=True, highlight=False)
    rows: list[Row] = []
    statuses: set[int] = set()
    with Runner() as runner:
        for number, job in enumerate(jobs, start=1):
            if runner.stopped_by is not None:
                rows.append(_row(job, "not begun"))
                continue
            header = Text(f"[{number}/{len(jobs)}] {job}", style="bold")
            notes.print(header, soft_wrap=True, new_line_start=number > 1)
            began_s = time.time()
            status, stderr = runner.run([sys.executable, "-c", COMMAND, command, *job.words])
            statuses.add(status)
            # At once: a job that differs only in how it is scored writes to the same place.
            rows.append(_outcome(command, job, status, stderr, began_s))
        if compared:
            written = ", ".join(map(str, write(place, rows)))
            show(rows)
            print(f"Written: {written}", flush=True)
    for job, row in zip(jobs, rows, strict=True):
        if row.why:
            print(f"asr: {job}: {row.why}", file=sys.stderr)
    if runner.stopped_by is not None:
        name = signal.Signals(runner.stopped_by).name
        print(f"asr: stopped by {name}; the same command goes on", file=sys.stderr)
        return 128 + runner.stopped_by
    return statuses.pop() if statuses in ({0}, {2}) else 1


def _row(job: Job, ended: str, why: str = "", figures: Figures | None = None) -> Row:
    run = run_folder(job.config)
    return Row(job.varying, run, job.config.split, ended, why, figures or Figures())


def _outcome(command: str, job: Job, status: int, stderr: str, began_s: float) -> Row:
    """What came of a job. What lay there before one that failed is not taken for its own."""
    if status in STOPPED:
        return _row(job, "stopped")
    if status == 0:
        training = read_training(job.config)
        scored = None if command == "train" else add_evaluation(training, job.config)
        return _row(job, "done", "", scored or training)
    by = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    # Status 1 is also that of an evaluation which could not decode every utterance.
    scored = None
    if status == 1:
        scored = add_evaluation(read_training(job.config), job.config, began_s)
    return _row(job, "failed", last_words(stderr) or by, scored)


def check_training(jobs: Sequence[Job]) -> None:
    """Refuse what would be refused once its turn came, hours later."""
    left = [job for job in jobs if read_finished(run_folder(job.config)) is None]
    if not left:
        return
    from asr.commands.train import check_settings

    for job in left:
        try:
            check_settings(job.config)
        except UserError as error:
            raise UserError(f"{job}: {error}") from None


def _check_writable(place: Path) -> None:
    """Refuse what would be refused after a night of trainings."""
    trial = place.with_name(f".{place.name}.trial")
    with explain_write_errors(place):
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink(missing_ok=True)
