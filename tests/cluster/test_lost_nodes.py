"""What is said of nodes that cannot do the work; the answers themselves: losses_on_ray.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr.cluster import nodes as module
from asr.cluster.nodes import check_nodes
from asr.errors import UserError


class Ray:
    """Lists two nodes, of which one is found to be lost after so many times."""

    def __init__(self, lost_after: int) -> None:
        self._lost_after = lost_after

    def nodes(self) -> list[dict[str, Any]]:
        self._lost_after -= 1
        alive = {"one": True, "two": self._lost_after >= 0}
        return [
            {
                "NodeID": name,
                "NodeManagerHostname": name,
                "NodeManagerAddress": "10.0.0.1",
                "Alive": alive[name],
                "Resources": {"CPU": 1.0},
            }
            for name in alive
        ]


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first node sees everything, the second one cannot be asked."""

    def ask(ray: Any, nodes: dict[str, str], sight: module.Sight) -> dict[str, str]:
        (tmp_path / f"{module.TOKEN_NAME}{sight.token}-one").write_text(sight.token)
        return {"one": "", "two": "it does not answer"}

    monkeypatch.setattr(module, "_ask", ask)


def test_a_node_that_lacks_something_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^node two \(10\.0\.0\.1\): it does not answer"):
        check_nodes(Ray(lost_after=2), [], None, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_was_lost_meanwhile_is_not_asked_for(tmp_path: Path) -> None:
    check_nodes(Ray(lost_after=1), [], None, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
