"""Hotwords on speech: a model that has hardly heard any name finds them where it is told to listen.

The model is trained here, on synthetic speech, for a minute: half of its words are wrong, and
nearly all names, each of which training has a handful of times. That is what hotwords are for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("compiled_search")

pytest.importorskip("espeakng_loader", reason="needs the extra .[synth]")

NAMES = frozenset({
    "alice", "arthur", "barbara", "charles", "daniel", "edward", "emma", "frank", "george",
    "hannah", "harold", "irene", "jacob", "julia", "kevin", "laura", "martin", "nancy", "oliver",
    "peter", "rachel", "robert", "sandra", "simon", "susan", "thomas", "victor", "anderson",
    "baker", "carter", "cooper", "fisher", "graham", "hudson", "jackson", "kennedy", "lambert",
    "marshall", "nelson", "parker", "porter", "russell", "shepherd", "turner", "walker", "watson",
    "young",
})  # fmt: skip
TRAINING = (
    *("recipe.options.sentences=600", "model.hidden=128", "model.layers=1", "model.channels=8"),
    *("trainer.max_epochs=11", "trainer.validate_every=11"),
    *("trainer.threads=1", "trainer.accelerator=cpu"),
)


@pytest.mark.timeout(600)
def test_rare_names_are_found_and_none_is_heard_that_was_not_said(
    asr: Callable[..., Any], tmp_path: Path
) -> None:
    def named(*words: str) -> tuple[int, int, int]:
        """How many names were said, how many of these were heard, how many others were heard."""
        asr(tmp_path, "evaluate", "recipe=synth", "decoder=beam", "trainer.threads=1", *words)
        decoder = "beam-names" if words else "beam"
        hypotheses = tmp_path / f"runs/synth/base/eval/test-{decoder}/hypotheses.jsonl"
        said = found = others = 0
        for line in map(json.loads, hypotheses.read_text().splitlines()):
            reference, heard = (
                Counter(word for word in line[key].split() if word in NAMES)
                for key in ("reference", "hypothesis")
            )
            said += reference.total()
            found += (reference & heard).total()
            others += (heard - reference).total()
        return said, found, others

    asr(tmp_path, "prepare", "recipe=synth", *TRAINING)
    asr(tmp_path, "train", "recipe=synth", *TRAINING)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    said, without, wrong_without = named()
    said_again, found, wrong = named("decoder.hotwords=names.txt")
    print(
        f"{said} names said; found {without} without, {found} with; wrong {wrong_without}, {wrong}"
    )
    assert said == said_again > 50
    assert without < 0.4 * said
    assert found > without + 0.3 * said
    assert wrong <= wrong_without + 0.1 * said
