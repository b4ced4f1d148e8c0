from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asr.cluster import executor, ray
from asr.cluster.executor import LocalExecutor, RayExecutor, choose_executor
from asr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]

# Ray starts processes of its own, which import the worker by its module: so does a command.
SCRIPT = """
import os, sys, time
from asr.cluster.executor import RayExecutor
from asr.errors import UserError

def work(item):
    time.sleep(0.1)
    if item == 13:
        raise UserError("thirteen")
    return item * item, os.getpid(), os.environ["OMP_NUM_THREADS"]

if __name__ == "__main__":
    with RayExecutor(2) as executor:
        results = dict(executor.map(work, range(12)))
        assert [results[item][0] for item in range(12)] == [item * item for item in range(12)]
        assert len({result[1] for result in results.values()} - {os.getpid()}) == 2
        assert {result[2] for result in results.values()} == {"1"}
        assert list(executor.map(work, [])) == []
        try:
            list(executor.map(work, range(20)))
        except UserError as error:
            assert str(error) == "thirteen"
        else:
            raise AssertionError
        assert executor.start_s > 0
    import ray
    assert not ray.is_initialized()
"""


def skip_if_too_busy(said: str) -> None:
    """Ray gives its processes thirty seconds to start, which a machine under heavy load exceeds."""
    load = os.getloadavg()[0]
    if "Ray could not be started" in said and load > 2 * (os.cpu_count() or 1):
        pytest.skip(f"Ray does not start on a machine this busy (load {load:.0f})")


def square(item: int) -> int:
    if item == 13:
        raise UserError("thirteen")
    return item * item


def test_in_the_process_results_come_in_order_and_one_at_a_time() -> None:
    with LocalExecutor() as executor:
        results = executor.map(square, [3, 2, 13])
        assert next(results) == (3, 9)
        assert next(results) == (2, 4)
        with pytest.raises(UserError, match="thirteen"):
            next(results)


def test_ray_gives_every_result_from_as_many_processes_as_asked_and_says_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    # The package is found although it is not installed there and another folder is current.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    skip_if_too_busy(done.stderr)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_named_at_once(address: str) -> None:
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1"), RayExecutor(2, address):
        pass
    assert time.perf_counter() - began < 5


def test_a_cluster_that_is_noted_but_gone_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # as `ray start` notes it in a file
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"answers at \S+:1: "), RayExecutor(2, "auto"):
        pass
    assert time.perf_counter() - began < 30  # Ray itself tries for a quarter of an hour


def test_what_compiled_code_writes_while_ray_starts_is_not_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with ray._silent_stderr():
        os.write(2, b"gcs_client.cc: trying")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


def test_where_ray_is_not_installed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="not installed"), RayExecutor(2):
        pass


def test_an_address_without_a_port_is_explained() -> None:
    with pytest.raises(UserError, match="HOST:PORT"), RayExecutor(2, "head-node"):
        pass


def test_one_local_worker_needs_no_ray() -> None:
    assert isinstance(choose_executor("local", 1, None), LocalExecutor)
    assert isinstance(choose_executor("local", 2, None), RayExecutor)
    assert isinstance(choose_executor("ray", 1, None), RayExecutor)
    assert choose_executor("ray", 3, None).workers == 3


def test_nonsense_about_the_cluster_is_refused() -> None:
    with pytest.raises(UserError, match="local or ray"):
        choose_executor("slurm", 1, None)
    with pytest.raises(UserError, match="at least one"):
        choose_executor("ray", 0, None)


def node(cpus: float, gpus: float = 0.0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}}


def test_there_are_as_many_workers_as_fit_on_the_nodes_that_are_there() -> None:
    nodes = [node(8), node(3, 2), node(1, 4), node(16, 8, alive=False)]
    cluster = SimpleNamespace(nodes=lambda: nodes)
    assert executor._room(cluster, threads=1, gpus=False) == 12
    assert executor._room(cluster, threads=2, gpus=False) == 5
    assert executor._room(cluster, threads=1, gpus=True) == 3
    with pytest.raises(UserError, match="has 9 free cores: "):
        executor._room(cluster, threads=9, gpus=False)
    with pytest.raises(UserError, match="has 4 free cores and a GPU: "):
        executor._room(cluster, threads=4, gpus=True)


@pytest.mark.parametrize(
    ("wanted", "gpus", "expected"), [(2, None, 2), (16, None, 3), (None, None, 3), (16, False, 12)]
)
def test_there_are_no_more_workers_than_there_is_room_for_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: int | None,
    gpus: bool | None,
    expected: int,
) -> None:
    cluster = SimpleNamespace(
        nodes=lambda: [node(8), node(4, 3)],
        cluster_resources=lambda: {"CPU": 12.0, "GPU": 3.0},
        shutdown=lambda: None,
    )
    monkeypatch.setattr(executor, "start_ray", lambda *_: cluster)
    monkeypatch.setattr(executor, "import_ray", lambda: cluster)
    with RayExecutor(wanted, "head:1", gpus=gpus) as ray_executor:
        assert ray_executor.workers == expected
        assert ray_executor.gpus is (gpus is None)
    said = f"asr: there is room for {expected} workers, not 16\n" if wanted == 16 else ""
    assert capsys.readouterr().err == said
