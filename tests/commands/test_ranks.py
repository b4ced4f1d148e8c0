"""The processes of a run on one machine: what they are told, and whose end counts."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from asr.commands import ranks
from asr.commands.compose import compose
from asr.commands.launch import launch
from asr.commands.ranks import Ended, Layout, Ranks
from asr.training.signals import STOPPING

SAYS = "import os, sys; rank = int(os.environ['RANK'])\n"


def run(monkeypatch: pytest.MonkeyPatch, program: str, layout: Layout) -> Ended:
    """Let each of the processes be a program in place of a training."""
    monkeypatch.setattr(ranks, "COMMAND", SAYS + program)
    with Ranks(layout, os.environ) as processes:
        processes.start("{}")
        return processes.wait()


TWO = Layout(2, ("127.0.0.1", 1234))


def test_each_process_is_told_its_place_as_torchrun_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = (
        "import json; from pathlib import Path\n"
        "names = 'LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK MASTER_ADDR MASTER_PORT'\n"
        "told = [os.environ[name] for name in names.split()]\n"
        f"Path({str(tmp_path)!r}, str(rank)).write_text(json.dumps(told))"
    )
    second = Layout(2, ("first.machine", 1234), machine=1, machines=3)
    assert run(monkeypatch, program, second) == Ended(0)
    told = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert told == {
        "2": ["0", "6", "2", "1", "first.machine", "1234"],
        "3": ["1", "6", "2", "1", "first.machine", "1234"],
    }


def test_the_first_speaks_and_of_the_others_the_last_words_are_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = "print('asr: words of', rank, file=sys.stderr, flush=True); sys.exit(2 * rank)"
    assert run(monkeypatch, program, TWO) == Ended(2, "process 2 of 2", words="words of 1")
    assert capfd.readouterr().err == "asr: words of 0\n"


def test_of_a_crash_the_last_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "print('Fatal: of', rank, file=sys.stderr, flush=True)\nif rank: os.abort()"
    assert run(monkeypatch, program, TWO) == Ended(
        134, "process 2 of 2", killed_by="SIGABRT", words="Fatal: of 1"
    )


def test_what_happens_as_python_ends_is_not_taken_for_the_end_of_the_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit, os; atexit.register(os.abort)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Ranks(Layout(1, ("127.0.0.1", 1234)), os.environ) as processes:
        processes.start(json.dumps({"settings": {}, "command": ["asr", "train"]}))
        assert processes.wait() == Ended(2, "process 1 of 1")


def test_a_process_that_was_killed_is_named_before_those_that_lost_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = "import time\nif rank == 0: time.sleep(0.3); os.kill(os.getpid(), 9)\nsys.exit(1)"
    assert run(monkeypatch, program, TWO) == Ended(137, "process 1 of 2", killed_by="SIGKILL")


def test_a_fault_of_its_own_is_named_before_the_loss_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = "import time; time.sleep(0.3 * rank); sys.exit(1 + rank)"
    assert run(monkeypatch, program, TWO) == Ended(2, "process 2 of 2")


def test_a_crash_is_named_before_the_loss_of_the_one_that_crashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crash = "exec(COMMAND) if rank else sys.exit(1)"
    begin = f"import time; time.sleep(0.3 * rank); COMMAND = {ranks.COMMAND!r}\n"
    failing = "import asr.commands.ranks as ranks; ranks.train_as_rank = lambda: 1 / 0\n"
    assert run(monkeypatch, failing + begin + crash, TWO) == Ended(
        1, "process 2 of 2", words="ZeroDivisionError: division by zero"
    )


def test_a_signal_reaches_those_too_that_start_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "COMMAND", "import time; time.sleep(60)")
    with Ranks(TWO, os.environ) as processes:
        processes.pass_on(signal.SIGTERM)
        processes.start("{}")
        assert processes.wait().status == 143


@pytest.mark.parametrize("number", STOPPING)
def test_every_signal_that_stops_is_passed_on_by_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    heeds = (
        "import signal, time; from pathlib import Path\n"
        f"signal.signal({int(number)}, lambda *ignored: sys.exit({128 + number}))\n"
        f"Path({str(tmp_path)!r}, str(rank)).touch(); time.sleep(60)"
    )
    monkeypatch.setattr(ranks, "COMMAND", SAYS + heeds)

    def send() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    assert launch(compose(["recipe=custom", "trainer.devices=2"])) == 128 + number


def test_one_that_does_not_end_in_time_is_killed_and_not_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks, "GRACE_S", 0.2)
    program = "import time\nif rank == 1: time.sleep(60)\nsys.exit(2)"
    assert run(monkeypatch, program, TWO) == Ended(2, "process 1 of 2")


def test_a_signal_that_is_passed_on_reaches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(143))\n"
        "print('ready', file=sys.stderr, flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(ranks, "COMMAND", SAYS + program)
    source, target = os.pipe()
    with Ranks(Layout(1, ("127.0.0.1", 1234)), os.environ, stderr=target) as processes:
        processes.start("{}")
        assert os.read(source, 5) == b"ready"
        processes.pass_on(signal.SIGTERM)
        assert processes.wait() == Ended(143, "process 1 of 1")
    os.close(source)
    os.close(target)


def test_a_process_hears_an_interrupt_although_what_started_it_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray blocks it in its workers, and a block is inherited."""
    heard: list[int] = []
    order = tmp_path / "order.json"
    order.write_text(json.dumps({"settings": {}, "command": sys.argv}))
    monkeypatch.setattr(ranks, "die_with", lambda parent: None)
    monkeypatch.setattr("asr.commands.main.guarded", lambda command: signal.raise_signal(2) or 0)
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        assert ranks.train_as_rank([str(order), "1"]) == 0
        assert heard == [signal.SIGINT]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
