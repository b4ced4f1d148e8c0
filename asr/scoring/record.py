"""What an evaluation leaves on disk, and whether an earlier one still stands."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.files import replace_folder
from asr.scoring.confidence import Reliability
from asr.scoring.page import page
from asr.scoring.rates import MEASURES, PER, WER, Scored
from asr.scoring.report import Report

METRICS = "metrics.json"
SCORING = 1  # counts up when the same texts would be scored otherwise, so that it is done again


@dataclass(frozen=True)
class Stamp:
    """All that decides an evaluation's result: digests, the decoder's settings, the normaliser."""

    bundle: str
    corpus: str
    left_out: str
    decoder: dict[str, Any]
    normaliser: str
    scoring: int = SCORING


# How a line calls each part of the stamp that says why an evaluation is done again.
CALLED = {
    "bundle": "the model",
    "corpus": "the corpus",
    "left_out": "what preparation left out",
    "decoder": "the decoder's settings",
    "normaliser": "the normaliser",
    "scoring": "the way of scoring",
}


@dataclass(frozen=True)
class Hardware:
    """What decoding ran on: the GPU's name or the processor's kind, and torch's threads."""

    device: str
    threads: int
    cores: int

    def __str__(self) -> str:
        return f"{self.device}, {self.threads} thread{'' if self.threads == 1 else 's'}"


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json; docs/evaluation.md says what each figure means.

    `rate_name` says what `rate` is and what there are `count` of: words, or phones, of which no
    character error rate is counted. Rates are infinite where errors stand over no words at all;
    JSON has null for them. `reliability` is None where no confidence is known.
    """

    rate_name: str
    rate: float
    cer: float | None
    ser: float
    count: int
    substitutions: int
    deletions: int
    insertions: int
    rate_ci95: tuple[float, float]
    rate_ci95_drawn: str
    missing: int
    failed: int
    utterances: int
    audio_seconds: float
    rtfx: float
    normaliser: str
    trained_on_this_split: bool
    command: str
    recipe: str
    split: str
    model: str
    hardware: Hardware
    date: str
    stamp: Stamp
    reliability: Reliability | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON and YAML can hold it, each figure by its own name: `wer` and `words`."""
        measure = MEASURES[self.rate_name]
        names = {
            "rate": measure.name,
            "count": measure.nouns,
            "rate_ci95": f"{measure.name}_ci95",
            "rate_ci95_drawn": f"{measure.name}_ci95_drawn",
        }
        content = dataclasses.asdict(self)
        del content["rate_name"], content["reliability"]
        if self.cer is None:
            del content["cer"]
        if self.reliability is not None:
            content |= {"ece": self.reliability.ece, "nce": self.reliability.nce}
            content["confidence_bins"] = [dataclasses.asdict(one) for one in self.reliability.bins]
        return {names.get(key, key): _plain(value) for key, value in content.items()}


@dataclass(frozen=True)
class Result:
    """An utterance with what was heard; `missing` says why nothing could be, '' where it could.

    `error` is what went wrong where decoding failed.
    """

    scored: Scored
    missing: str = ""
    error: str = ""


@dataclass(frozen=True)
class Earlier:
    """What an earlier evaluation in a folder found; `rate` is infinite where it is undefined."""

    rate_name: str
    rate: float
    failed: int
    stamp: dict[str, Any]


def read_earlier(folder: Path) -> Earlier | None:
    """The earlier evaluation in a folder; None where there is none that can be read."""
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        name = PER.name if PER.name in metrics else WER.name
        rate = math.inf if metrics[name] is None else float(metrics[name])
        return Earlier(name, rate, int(metrics["failed"]), dict(metrics["stamp"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def why_again(earlier: Earlier, stamp: Stamp) -> str:
    """Why an earlier evaluation does not stand for this one, as a phrase; '' where it does."""
    now = dataclasses.asdict(stamp)
    changed = [called for key, called in CALLED.items() if earlier.stamp.get(key) != now[key]]
    if changed:
        return f"{' and '.join(changed)} changed"
    if earlier.failed:
        return f"{earlier.failed} could not be decoded the last time"
    return ""


def write(folder: Path, metrics: Metrics, results: Sequence[Result], report: Report) -> None:
    """Write an evaluation in place of the earlier one; `results` are in the order of the report.

    Raises:
        UserError: the folder cannot be written.
    """
    hypotheses = [
        {
            **_without_confidences(result.scored),
            "errors": line.scores.errors,
            **_words(result.scored),
            **({"missing": result.missing} if result.missing else {}),
        }
        for result, line in zip(results, report.lines, strict=True)
    ]
    failures = [{"id": one.scored.id, "error": one.error} for one in results if one.error]
    with replace_folder(folder) as new:
        text = json.dumps(metrics.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (new / METRICS).write_text(text + "\n", encoding="utf-8")
        _write_lines(new / "hypotheses.jsonl", hypotheses)
        if failures:
            _write_lines(new / "failures.jsonl", failures)
        (new / "report.html").write_text(page(report), encoding="utf-8")


def _without_confidences(scored: Scored) -> dict[str, Any]:
    content = dataclasses.asdict(scored)
    del content["confidences"]
    return content


def _words(scored: Scored) -> dict[str, Any]:
    """The words of a hypothesis with their confidences, where they are known."""
    if scored.confidences is None or scored.hypothesis is None:
        return {}
    pairs = zip(scored.hypothesis.split(), scored.confidences, strict=True)
    return {"words": [{"word": word, "confidence": round(sure, 4)} for word, sure in pairs]}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value
