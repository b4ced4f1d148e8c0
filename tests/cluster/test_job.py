from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from asr.cluster import plan as plan_module
from asr.cluster.executor import LocalExecutor, Lost
from asr.cluster.job import FILE_LOSSES, PART_LOSSES, Job
from asr.cluster.journal import Journal
from asr.cluster.plan import Choice, File, Part, Plan
from asr.cluster.transcription import Result, Settings
from asr.cluster.writing import Done
from asr.inputs import Failure, Recording


class Worker:
    """Recognises by counting how many files are recognised together."""

    def __init__(self) -> None:
        self.settings = Settings(model="none")
        self.calls: list[list[str]] = []

    def __call__(self, part: Part) -> Result:
        names = [file.recording.name for file in part.files]
        self.calls.append(names)
        outcomes: list[Done | Failure | None] = []
        for file in part.files:
            name = file.recording.name
            if not file.wanted:
                outcomes.append(None)
            elif name.startswith("bad"):
                outcomes.append(Failure(file.recording.path, "read", "truncated", name))
            else:
                outcomes.append(Done(((f"{name}.txt", f"with {len(names)}"),), 2.0))
        return Result(tuple(outcomes), {"read": 1.0})

    def recognise(self, part: Part) -> None:
        self.calls.append([file.recording.name for file in part.files])


@dataclass
class Deadly(LocalExecutor):
    """Loses the worker where `kills` says so, of the items and how often they were tried."""

    kills: Callable[[Sequence[str], int], bool]
    tried: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def map(
        self, worker: Callable[[Any], Any], items: Iterable[Any], limit_s: Any = None
    ) -> Iterator[tuple[Any, Any]]:
        for part in items:
            names = tuple(file.recording.name for file in part.files)
            self.tried[names] += 1
            if self.kills(names, self.tried[names]):
                yield part, Lost("killed", timed_out="slow" in "".join(names))
            else:
                yield part, worker(part)


@dataclass
class Watched:
    """Keeps what it is told."""

    outcomes: dict[str, Done | Failure] = field(default_factory=dict)

    def ended(self, file: File, outcome: Done | Failure) -> None:
        assert file.recording.name not in self.outcomes  # exactly once
        self.outcomes[file.recording.name] = outcome

    def say(self, line: str) -> None:
        pass

    @property
    def reasons(self) -> dict[str, str]:
        return {n: o.reason for n, o in self.outcomes.items() if isinstance(o, Failure)}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "PART_FILES", 3)


@pytest.fixture
def recordings(tmp_path: Path) -> Callable[..., list[Recording]]:
    def made(*names: str) -> list[Recording]:
        for name in names:
            (tmp_path / f"{name}.wav").write_bytes(b"x")
        return [Recording(str(tmp_path / f"{name}.wav"), name) for name in names]

    return made


def run(
    output: Path,
    recordings: list[Recording],
    kills: Callable[[Sequence[str], int], bool] = lambda names, times: False,
    in_process: bool = False,
    choice: Choice = Choice(),  # noqa: B008  frozen
) -> tuple[Worker, Watched, dict[str, Any]]:
    """One run; the worker, what was told, and each recording's record."""
    worker, watched, executor = Worker(), Watched(), Deadly(kills)
    with Journal(output) as journal:
        plan = Plan(recordings, journal, "s", choice, 255)
        trials = Deadly(kills)
        Job(plan, journal, worker, executor, trials, watched, in_process).run()  # type: ignore[arg-type]
        records = {r.name: journal.find(r.path) for r in recordings}
    return worker, watched, records


NAMES = ("a", "b", "c", "d", "e", "f", "g")


def test_each_file_ends_once_and_is_recorded(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings("a", "b", "c", "bad", "e")
    worker, watched, records = run(tmp_path / "out", given)
    assert worker.calls == [["a", "b", "c"], ["bad", "e"]]
    assert list(watched.outcomes) == ["a", "b", "c", "bad", "e"]
    assert watched.reasons == {"bad": "truncated"}
    assert records["a"].outputs == (("a.txt", "with 3"),)
    assert records["bad"].failure.detail == "bad"
    worker, watched, _ = run(tmp_path / "out", given)
    assert worker.calls == []  # nothing is done twice
    worker, watched, records = run(tmp_path / "out", given, choice=Choice(failed=True))
    assert list(watched.outcomes) == ["bad"]
    assert records["bad"].attempts == 2


def test_a_worker_that_is_lost_now_and_then_changes_nothing(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings(*NAMES)
    _, quiet, expected = run(tmp_path / "quiet", given)
    for first in range(1, 2 * PART_LOSSES):  # every part, so often that its files are tried, too

        def kills(names: Sequence[str], times: int, last: int = first) -> bool:
            return len(names) > 1 and times <= last

        _, watched, records = run(tmp_path / str(first), given, kills)
        assert records == expected
        assert watched.outcomes == quiet.outcomes


def test_a_file_that_ends_its_worker_is_a_failure_and_the_others_are_not(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings("a", "deadly", "c", "slow", "e")

    def kills(names: Sequence[str], times: int) -> bool:
        return "deadly" in names or "slow" in names

    _, watched, records = run(tmp_path / "out", given, kills)
    assert watched.reasons == {"deadly": "crashed", "slow": "timed-out"}
    assert records["a"].outputs == (("a.txt", "with 2"),)  # as if it had never been there
    assert records["e"].outputs == (("e.txt", "with 1"),)
    worker, _, _ = run(tmp_path / "out", given, kills)
    assert worker.calls == []


def test_a_file_is_given_up_when_it_has_ended_two_workers_of_its_own(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    executor = Deadly(lambda names, times: "deadly" in names)
    trials = Deadly(lambda names, times: "deadly" in names)
    with Journal(tmp_path / "out") as journal:
        plan = Plan(recordings("a", "deadly"), journal, "s", Choice(), 255)
        Job(plan, journal, Worker(), executor, trials, Watched(), False).run()  # type: ignore[arg-type]
    assert executor.tried[("a", "deadly")] == 3
    assert trials.tried == {("a",): 1, ("deadly",): 2}


def test_a_file_that_ends_its_worker_once_is_no_failure(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    def kills(names: Sequence[str], times: int) -> bool:
        return len(names) == 3 or (names == ("b",) and times < FILE_LOSSES)

    _, watched, _ = run(tmp_path / "out", recordings("a", "b", "c"), kills)
    assert watched.reasons == {}


def test_files_that_end_their_worker_only_together_are_recognised_alone(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    def kills(names: Sequence[str], times: int) -> bool:
        return len(names) > 1

    _, watched, records = run(tmp_path / "out", recordings("a", "b", "c"), kills)
    assert watched.reasons == {}
    assert records["b"].outputs == (("b.txt", "with 1"),)


def test_a_file_that_ends_its_worker_only_when_its_outputs_are_written_is_a_failure(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings("a", "b")
    worker, watched = Worker(), Watched()
    with Journal(tmp_path / "out") as journal:
        plan = Plan(given, journal, "s", Choice(), 255)
        executor = Deadly(lambda names, times: "b" in names)
        Job(plan, journal, worker, executor, LocalExecutor(), watched, False).run()  # type: ignore[arg-type]
    assert watched.reasons == {"b": "crashed"}
    assert isinstance(watched.outcomes["a"], Done)


def test_a_part_in_which_this_process_ended_too_often_has_its_files_tried_elsewhere(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings("a", "deadly", "c", "d")

    class Killed(BaseException):
        pass

    class Here(Worker):
        def __call__(self, part: Part) -> Result:
            if any(file.recording.name == "deadly" for file in part.files):
                raise Killed  # as if the process had gone: nothing is cleaned up
            return super().__call__(part)

    def once() -> Watched:
        watched = Watched()
        with Journal(tmp_path / "out") as journal:
            plan = Plan(given, journal, "s", Choice(), 255)
            trials = Deadly(lambda names, times: names == ("deadly",))
            Job(plan, journal, Here(), LocalExecutor(), trials, watched, True).run()  # type: ignore[arg-type]
        return watched

    for _ in range(PART_LOSSES):
        with pytest.raises(Killed):
            once()
    watched = once()
    assert watched.reasons == {"deadly": "crashed"}
    assert sorted(watched.outcomes) == ["a", "c", "d", "deadly"]


def test_a_file_that_is_done_keeps_its_outputs_though_it_ends_its_worker_now(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings("a", "b", "c")
    _, _, before = run(tmp_path / "out", given)
    (tmp_path / "c.wav").write_bytes(b"another")
    _, watched, after = run(tmp_path / "out", given, lambda names, times: "a" in names)
    assert after["a"] == before["a"]
    assert watched.reasons == {}
    assert after["c"].outputs == (("c.txt", "with 2"),)


def test_a_stop_in_the_middle_leaves_what_is_recorded(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    given = recordings(*NAMES)

    class Stopping(Watched):
        def ended(self, file: File, outcome: Done | Failure) -> None:
            super().ended(file, outcome)
            if file.recording.name == "d":
                raise KeyboardInterrupt

    with Journal(tmp_path / "out") as journal:
        plan = Plan(given, journal, "s", Choice(), 255)
        here = LocalExecutor()
        job = Job(plan, journal, Worker(), here, here, Stopping(), True)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            job.run()
    worker, watched, _ = run(tmp_path / "out", given)
    assert worker.calls == [["g"]]
    assert list(watched.outcomes) == ["g"]


def test_what_a_part_had_done_when_a_signal_stopped_it_is_recorded(
    tmp_path: Path, recordings: Callable[..., list[Recording]]
) -> None:
    class Stopped(Worker):
        def __call__(self, part: Part) -> Result:
            result = super().__call__(part)
            if part.files[0].recording.name != "d":
                return result
            return replace(result, outcomes=(result.outcomes[0], None, None), stopped=Asked())

    class Asked(BaseException):
        pass

    given = recordings(*NAMES)
    with Journal(tmp_path / "out") as journal:
        plan = Plan(given, journal, "s", Choice(), 255)
        _, second, _ = plan.parts()
        here = LocalExecutor()
        for _ in range(PART_LOSSES):
            job = Job(plan, journal, Stopped(), here, here, Watched(), True)  # type: ignore[arg-type]
            with pytest.raises(Asked):
                job.run()
        assert journal.begun(second.key) == 0  # a part that is stopped has not been lost
        done = [recording.name for recording in given if journal.find(recording.path)]
        assert done == ["a", "b", "c", "d"]
    worker, watched, _ = run(tmp_path / "out", given)
    assert worker.calls == [["d", "e", "f"], ["g"]]
    assert list(watched.outcomes) == ["e", "f", "g"]


def test_parts_are_small_when_they_travel(recordings: Callable[..., list[Recording]]) -> None:
    given = recordings(*NAMES)
    part = Part(tuple(File(recording, 10, 20) for recording in given))
    assert len(pickle.dumps(part)) / len(given) < 300
