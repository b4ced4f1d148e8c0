"""`make demo`: a recogniser from nothing, on speech that is made up on the spot, then put to use.

Runs the same commands that a person would type, and shows them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RUN = Path("runs/synth/base")
SPOKEN = Path("downloads/synth/audio")  # where the recipe lets eSpeak NG speak to
TRANSCRIPTS = Path("demo")
SHOWN = 6


def main() -> int:
    """Train, score, transcribe; the exit status is that of the first command that fails."""
    os.chdir(REPOSITORY)
    began = time.monotonic()
    print("From made-up speech to a recogniser: some minutes on two cores.\n", flush=True)
    status = asr("run", "recipe=synth")
    if status != 0:
        return status
    evaluation = RUN / "eval" / "test-greedy"
    examples = spread(read_lines(evaluation / "hypotheses.jsonl"))
    files = {example["id"]: audio_of(example["id"]) for example in examples}

    print("\nThe model at work on recordings of voices it has never heard:\n", flush=True)
    status = asr(
        "transcribe", str(RUN / "model"), *map(str, files.values()), "-o", f"{TRANSCRIPTS}"
    )
    if status != 0:
        return status
    print()
    for example in examples:
        file = files[example["id"]]
        heard = (TRANSCRIPTS / f"{file.stem}.txt").read_text(encoding="utf-8").strip()
        print(f"{file}\n  said   {example['reference']}\n  heard  {heard}")
    print_summary(json.loads((evaluation / "metrics.json").read_text(encoding="utf-8")), evaluation)
    print(f"\nAll in {(time.monotonic() - began) / 60:.1f} minutes.")
    return 0


def asr(*words: str) -> int:
    """Run and show one command."""
    print(f"$ asr {shlex.join(words)}", flush=True)
    return subprocess.run([sys.executable, "-m", "asr", *words], check=False).returncode


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def spread(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A few lines from all over the split, whose neighbours are of one voice."""
    return lines[:: max(1, len(lines) // SHOWN) | 1][:SHOWN]  # odd: not every second voice


def audio_of(utterance: str) -> Path:
    """The recording of an utterance, whose file is called after it."""
    (file,) = SPOKEN.rglob(f"{utterance}.flac")
    return file


def print_summary(metrics: dict[str, Any], evaluation: Path) -> None:
    """The score, where everything lies, and what to try next."""
    low, high = metrics["wer_ci95"]
    print(
        f"\nWord error rate {metrics['wer']:.1%} (95 % interval {low:.1%} to {high:.1%}) over"
        f" {metrics['words']} words in {metrics['utterances']} utterances of held-out voices."
    )
    print("\nWhere everything lies")
    for path, what in (
        (RUN / "model", "the trained model: copy it anywhere"),
        (RUN / "curves.png", "how training went"),
        (evaluation / "report.html", "every utterance, aligned word by word"),
        (TRANSCRIPTS, "the transcripts above, as text and as JSON with times"),
        (Path("corpora/synth"), "the prepared corpus"),
    ):
        print(f"  {path!s:<48}{what}")
    print("\nWhat to try next (or `. .venv/bin/activate`, and then asr alone)")
    for command in (
        f".venv/bin/asr transcribe {RUN / 'model'} YOUR.wav",
        f".venv/bin/asr describe {RUN / 'model'}",
        ".venv/bin/asr run recipe=an4                       real speech; downloads 64 MB",
        ".venv/bin/asr run recipe=custom recipe.root=M.jsonl   your own recordings",
        ".venv/bin/asr --help",
    ):
        print(f"  {command}")


if __name__ == "__main__":
    sys.exit(main())
