"""`asr run` is prepare, train and evaluate, and stops where one does not end well."""

from __future__ import annotations

import pytest

from asr.commands import run as command
from asr.commands.compose import compose


@pytest.mark.parametrize(
    ("statuses", "called", "status"),
    [
        ((0, 0, 0), ["prepare", "train", "evaluate"], 0),
        ((1, 0, 0), ["prepare"], 1),
        ((0, 130, 0), ["prepare", "train"], 130),
        ((0, 0, 1), ["prepare", "train", "evaluate"], 1),
    ],
)
def test_the_stages_run_in_order_until_one_fails(
    statuses: tuple[int, ...], called: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def stage(name: str, result: int) -> None:
        def run(config: object) -> int:
            assert config is settings
            seen.append(name)
            return result

        monkeypatch.setattr(command, name, run)

    settings = compose(["recipe=an4"])
    for name, result in zip(("prepare", "train", "evaluate"), statuses, strict=True):
        stage(name, result)

    assert command.run(settings) == status
    assert seen == called
