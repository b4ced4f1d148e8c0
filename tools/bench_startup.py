"""How long `asr` takes to answer: its help, beyond the bare interpreter, and a mistake.

    python tools/bench_startup.py

Prints the median of several starts each, and leaves with status 1 where a limit is passed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

STARTS = 7
# What is started, and the seconds it may take: beyond the bare interpreter for help, in all for
# the mistakes.
HELP_LIMIT_S = 0.5
MISTAKE_LIMIT_S = 2.0
MISTAKES = (
    ("trian", "recipe=an4"),
    ("train", "recipe=an5"),
    ("train", "recipe=an4", "model=lstmm"),
    ("train", "recipe=an4", "trainer.max_epoch=3"),
    ("transcribe", "model", "a.wav", "--fromat", "txt"),
)


def seconds(*words: str) -> float:
    """The median time of one command line of Python."""
    times = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=False)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> int:
    """Measure and print; 1 where a limit is passed."""
    bare = seconds("-c", "pass")
    page = seconds("-m", "asr", "--help")
    print(f"bare interpreter           {bare:.2f} s")
    print(
        f"asr --help                 {page:.2f} s: {page - bare:.2f} s more, at most {HELP_LIMIT_S}"
    )
    good = page - bare <= HELP_LIMIT_S
    for words in MISTAKES:
        took = seconds("-m", "asr", *words)
        good = good and took <= MISTAKE_LIMIT_S
        print(f"{took:.2f} s, at most {MISTAKE_LIMIT_S}   asr {' '.join(words)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
