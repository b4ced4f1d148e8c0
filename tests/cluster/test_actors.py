"""Workers on a Ray cluster of two nodes, which is started once; actors and a node are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("losses_on_ray.py")


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each item that was begun."""
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def found(notes: Path) -> dict[str, Any]:
    """What happened; nothing was said but that."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(notes)],
        cwd=notes,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return dict(json.loads(done.stdout))


def test_an_actor_keeps_its_worker_and_each_node_has_one(found: dict[str, Any]) -> None:
    assert found["workers"] == 2
    assert len(found["loaded"]) == 20
    nodes: dict[str, list[int]] = {}
    for count, pid, node, threads in found["loaded"]:
        nodes.setdefault(f"{node} {pid}", []).append(count)
        assert threads == "1"
    assert len(nodes) == 2
    assert all(sorted(counts) == list(range(1, len(counts) + 1)) for counts in nodes.values())
    assert found["none"] == []


def test_an_item_that_kills_its_process_is_lost_and_what_was_queued_behind_it_is_not(
    found: dict[str, Any], notes: Path
) -> None:
    assert found["dies"] == {
        "deadly": [f"its process ended, on {found['node']}", False],
        "one": "ONE",
        "two": "TWO",
        "last": "LAST",
    }
    for item in found["dies"]:
        assert len((notes / item).read_text().splitlines()) == 1  # begun once


def test_an_item_that_takes_too_long_is_ended_and_its_process_with_it(
    found: dict[str, Any],
) -> None:
    assert found["hangs"] == {
        "hung": [f"it took longer than 1 s, on {found['node']}", True],
        "quick": "QUICK",
    }
    assert found["hung process gone"]


def test_what_a_worker_raises_is_raised_here(found: dict[str, Any]) -> None:
    assert found["refuses"] == "three"


def test_a_process_without_memory_is_replaced(found: dict[str, Any]) -> None:
    assert found["out of memory"].pop("1") == [f"it ran out of memory, on {found['node']}", False]
    assert sorted(found["out of memory"]) == ["2"]


@pytest.mark.parametrize(
    ("worker", "why"),
    [
        ("no such module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("dies at once", "its process ended"),
    ],
)
def test_a_worker_that_cannot_start_is_an_error_that_names_the_node(
    found: dict[str, Any], worker: str, why: str
) -> None:
    assert found[worker] == f"A worker cannot be started on {found['node']}: {why}"


def test_items_are_taken_as_they_are_wanted_and_results_are_not_kept(
    found: dict[str, Any],
) -> None:
    assert found["unfinished"] <= 2 * found["workers"]
    assert found["growth"] < 9 * 2**20  # 600 results of 20,000 bytes have passed


def test_nodes_that_have_all_they_need_pass_and_others_are_named(found: dict[str, Any]) -> None:
    assert found["nodes lack"] == ""
    for said in ("it has asr 0.1.0, not 9.9", found["node"], "under the same paths"):
        assert said in found["another version"]


def test_a_lost_node_costs_the_item_it_worked_on_and_one_that_comes_is_used(
    found: dict[str, Any],
) -> None:
    lost = found["lost node"]
    assert lost["nodes"] == 2
    assert len(lost["lost"]) <= 1
    assert lost["all"]


def test_leaving_early_ends_the_processes(found: dict[str, Any]) -> None:
    assert found["stopped process gone"]


def test_a_signal_while_ray_waits_is_answered_as_anywhere(found: dict[str, Any]) -> None:
    assert found["asked to stop"] == signal.SIGINT
    assert found["asked process gone"]
