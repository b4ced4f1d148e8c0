"""Times decoders that live in an environment of their own; `bench_decoding.py` runs it there.

    python other_decoders.py emissions.npz job.json found.json

`emissions.npz` has log-probabilities [T', V], an array an utterance; the job says which
decoder, how wide, with how many processes and how often. Found are the texts, the seconds of the
fastest turn, or why there are none. Nothing of asr is imported.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Decode = Callable[[np.ndarray], str]

LONG_S = 20.0  # of a turn
SMALLEST = 1e-4  # of the probabilities that fast-ctc-decode looks at: about e^-9
decode: Decode
items: list[np.ndarray]


def pyctcdecode(job: dict[str, Any]) -> Decode:
    """With the thresholds that it has by itself."""
    from pyctcdecode import build_ctcdecoder

    labels = ["", *(" " if symbol == "|" else symbol for symbol in job["symbols"][1:])]
    words = None if job["lm"] is None else job["words"]
    decoder = build_ctcdecoder(labels, job["lm"], words, alpha=job["alpha"], beta=job["beta"])
    beam = job["beam"]
    return lambda emissions: decoder.decode(emissions, beam_width=beam)


def fast_ctc_decode(job: dict[str, Any]) -> Decode:
    """Which knows no words."""
    from fast_ctc_decode import beam_search

    labels = ["_", *(" " if symbol == "|" else symbol for symbol in job["symbols"][1:])]
    beam, least = job["beam"], min(SMALLEST, 0.5 / len(labels))
    return lambda emissions: beam_search(np.exp(emissions), labels, beam, least)[0]


DECODERS = {"pyctcdecode": pyctcdecode, "fast-ctc-decode": fast_ctc_decode}


def decode_item(position: int) -> str:
    return " ".join(decode(items[position]).split())


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Texts and the seconds of the fastest of the turns, after one that does not count.

    Where a turn takes long there are fewer, and that one counts.
    """
    global decode
    if job["lm"] is not None and importlib.util.find_spec("kenlm") is None:
        return {"reason": "kenlm is not installed"}
    decode = DECODERS[job["decoder"]](job)
    positions = range(len(items))
    if job["workers"] == 1:
        return timed(lambda: [decode_item(position) for position in positions], job["turns"])
    with multiprocessing.get_context("fork").Pool(job["workers"]) as pool:
        return timed(lambda: pool.map(decode_item, positions, chunksize=1), job["turns"])


def timed(decode_all: Callable[[], list[str]], turns: int) -> dict[str, Any]:
    began = time.perf_counter()
    texts = decode_all()
    first = time.perf_counter() - began
    taken = [first] if first > LONG_S else []
    for _ in range(0 if taken else turns):
        began = time.perf_counter()
        decode_all()
        taken.append(time.perf_counter() - began)
    return {"texts": texts, "seconds": min(taken)}


def main() -> int:
    global items
    emissions, job, found = sys.argv[1:]
    logging.disable(logging.WARNING)
    with np.load(emissions) as arrays:
        items = [arrays[name] for name in arrays.files]
    with open(job, encoding="utf-8") as file:
        result = run(json.load(file))
    with open(found, "w", encoding="utf-8") as file:
        json.dump(result, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
