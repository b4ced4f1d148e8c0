"""Wrong use: status 2 and one line on stderr with the nearest right name, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def asr(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asr", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("trian recipe=an4", "'train'"),
        ("transcribe model a.wav --fromat txt", "'--format'"),
        ("transcribe model a.wav --format jsn", "'json'"),
        ("train --cgf job recipe=an4", "'--cfg'"),
        ("train recipe=an5", "'an4'"),
        ("train recipe=an4 model=lstmm", "'lstm'"),
        ("train recipe=an4 trainer.max_epoch=3", "'trainer.max_epochs'"),
        ("evaluate recipe=an4 split=tets", "'test'"),
        ("run recipe=an4 seed=one", "whole number"),
        ("prepare recipe=an4 prepare.max_rejectd=1", "'prepare.max_rejected'"),
        ("prepare", "recipe=NAME"),
        ("train an4", "'recipe=an4'"),
        ("prepare recipe=an4 -m seed=1,2", "-m"),
        (
            "train recipe=an4 model=lstm,gru",
            "with -m, train, evaluate and run take one after another",
        ),
        ("train -m recipe=an4 seed=1", "KEY=A,B"),
        ("run -m recipe=an4 model=lstm,grru", "model=grru: No model is called 'grru'."),
        ("run -m recipe=an4 model.hidden=128,0", "model.hidden=0: model: hidden is at least 1"),
        ("train -m recipe=an4 model.layers=2,1", "model.layers=1: inner_ctc.layer=2 is more than"),
        ("transcribe model", "INPUT"),
        ("describe model --jsno", "'--json'"),
        ("doctor --jsn", "'--json'"),
        ("--versoin", "'--version'"),
        ("train recipe=an4 --cfg jbo", "'job'"),
    ],
)
def test_a_mistyped_word_is_answered_in_one_line_with_the_right_one(
    words: str, right: str, tmp_path: Path
) -> None:
    done = asr(*words.split(), folder=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert right in done.stderr
    assert done.stderr.startswith("asr: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m asr train recipe=an4 --cfg job | true"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


SIGNALS = [
    (signal.SIGINT, 130, "asr: interrupted\n"),
    (signal.SIGTERM, 143, "asr: asked to stop\n"),
]


def told_while(busy: str, number: int, folder: Path) -> tuple[int, str]:
    """Status and last words of a command that is sent a signal while it is busy so."""
    program = (
        "import sys, time, types\n"
        "doctor = types.ModuleType('asr.commands.doctor')\n"
        "def busy(as_json):\n"
        f"    {busy}\n"
        "doctor.doctor = busy\n"
        "import asr.commands\n"
        "asr.commands.doctor = sys.modules['asr.commands.doctor'] = doctor\n"
        "from asr.commands.main import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "busy\n"
        os.kill(process.pid, number)
        complaint = process.stderr.read()
        return process.wait(60), complaint


@pytest.mark.parametrize(("number", "status", "complaint"), SIGNALS)
def test_a_signal_ends_the_command_with_its_status(
    number: int, status: int, complaint: str, tmp_path: Path
) -> None:
    busy = "print('busy', flush=True); time.sleep(60)"
    assert told_while(busy, number, tmp_path) == (status, complaint)


@pytest.mark.parametrize(("number", "status", "complaint"), SIGNALS)
def test_a_signal_in_the_middle_of_an_import_is_not_lost(
    number: int, status: int, complaint: str, tmp_path: Path
) -> None:
    """As compiled modules do, this one forgets whatever is raised while it is imported."""
    (tmp_path / "forgetful.py").write_text(
        "import time\n"
        "try:\n"
        "    print('busy', flush=True); time.sleep(0.5)\n"
        "except BaseException:\n"
        "    pass\n"
    )
    busy = "import forgetful; time.sleep(30)"
    assert told_while(busy, number, tmp_path) == (status, complaint)
