"""What there is to transcribe and what became of it, in words, before and after."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from asr.cluster.journal import Journal
from asr.cluster.plan import Plan, Totals
from asr.cluster.transcription import Transcriber
from asr.commands.estimate import estimate, length, measured
from asr.commands.tally import FAILURES, NAMED_FAILURES, Tally, list_failures, name_failures, told
from asr.files import printable
from asr.inputs import Failure

if TYPE_CHECKING:
    from asr.commands.transcribe import Options

NAMED_INPUTS = 10  # in the log: a shell may have made thousands of a pattern
SPEED = "speed"  # the note of the journal: seconds of audio that a worker did in a second


def beforehand(totals: Totals) -> str:
    """What there is to do and what was done before, in a line."""
    again = []
    if totals.changed:
        again.append(f"{totals.changed} of them changed")
    if totals.outdated:
        others = "model, decoder, formats or channels are others than before"
        again.append(f"{totals.outdated} of them again: {others}")
    parts = [f"{totals.wanted} to do" + (f" ({'; '.join(again)})" if again else "")]
    parts.append(f"{totals.done} done before")
    if totals.failed:
        parts.append(f"{totals.failed} failed before (--retry-failed tries them again)")
    return ", ".join(parts)


def begin_log(options: Options, tally: Tally, totals: Totals, failures: Iterable[Failure]) -> None:
    """Log what was asked for, what there is to do, and what was found wrong."""
    inputs = " ".join(options.inputs[:NAMED_INPUTS])
    if len(options.inputs) > NAMED_INPUTS:
        inputs += f" … and {len(options.inputs) - NAMED_INPUTS} more"
    decoder = ", ".join(f"{key} {value}" for key, value in options.decoder.items())
    tally.say(
        f"asr transcribe {options.model} {inputs} -o {options.output}: {beforehand(totals)};"
        f" formats {', '.join(options.formats)}; decoder {decoder or 'of the model'};"
        f" channels {options.channels}"
    )
    for failure in failures:
        tally.say(told(failure))


def foretell(
    plan: Plan,
    journal: Journal,
    failures: Sequence[Failure],
    transcriber: Transcriber,
    noted: str,
    workers: int,
) -> None:
    """Say what would be done and how long it takes; a speed may be `noted` under that name."""
    totals = plan.totals
    print(f"{beforehand(totals)}; {len(failures)} that cannot be used as they are")
    if totals.wanted:
        expected = estimate(totals.sample, totals.wanted_bytes)
        speeds = journal.noted(SPEED)
        known = speeds.get(noted) if isinstance(speeds, dict) else None
        speed = known or measured(transcriber, totals.sample)
        print(replace(expected, speed=speed).told(workers))
    name_failures(failures[:NAMED_FAILURES], len(failures))


def account(
    formats: Sequence[str],
    quiet: bool,
    journal: Journal,
    tally: Tally,
    failures: Sequence[Failure],
    totals: Totals,
) -> None:
    """List what failed, and say what was done and where it lies."""
    output = journal.output
    listing = output / FAILURES
    listed = list_failures(listing, _all_failures(journal, [*failures, *tally.gone]))
    failed = len(failures) + sum(tally.reasons.values())
    if not quiet:
        # Those of this run first: what was found wrong is so at every start.
        kept = [*tally.failures, *failures][:NAMED_FAILURES]
        name_failures(kept, failed)
    parts = [f"{tally.done} transcribed{_how_fast(tally)}"]
    if totals.done:
        parts.append(f"{totals.done} were there before")
    if tally.left:
        parts.append(f"{tally.left} are left: the same command goes on")
    parts.append(f"written to {printable(output)} ({', '.join(formats)})")
    if failed or totals.failed:
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in by_reason(failures, tally.reasons)
        )
        before = f"{totals.failed} before" if totals.failed else ""
        counted = ", ".join(filter(None, (reasons, before)))
        parts.append(f"{failed + totals.failed} failed ({counted}), listed in {printable(listing)}")
    elif listed:
        parts.append(f"earlier failures of other inputs are listed in {printable(listing)}")
    tally.say("; ".join(parts))
    if not quiet:
        print("; ".join(parts) + ".", file=sys.stderr)
    elif failed or totals.failed:
        count = failed + totals.failed
        print(f"asr: {count} failed, listed in {printable(listing)}", file=sys.stderr)


def _how_fast(tally: Tally) -> str:
    """How much was transcribed in what time, where it was anything."""
    if not tally.audio_s:
        return ""
    rate = tally.audio_s / tally.seconds
    times = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
    return f": {length(tally.audio_s)} of audio in {tally.seconds:.1f} s, {times} times real time"


def _all_failures(journal: Journal, failures: Sequence[Failure]) -> Iterator[Failure]:
    """Those of this call that no record has, and all recorded ones of files that are there."""
    yield from failures
    for record in journal.failed():
        if record.failure is not None and os.path.lexists(record.path):
            yield record.failure


def by_reason(
    failures: Sequence[Failure], counted: Mapping[str, int] | None = None
) -> list[tuple[str, int]]:
    """Failures, and others that are counted already, by their reasons; the most frequent first."""
    reasons = Counter(counted or {})
    reasons.update(failure.reason for failure in failures)
    return reasons.most_common()
