"""What was said in the utterances of a split, and what was heard in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asr.decoding.hypothesis import Transcript, Word
from asr.errors import UserError
from asr.scoring.rates import Scored
from asr.scoring.record import Result
from asr.text import normalise
from asr.utterance import Rejection

if TYPE_CHECKING:
    from asr.corpus import Split

FAILED = "not-decoded"  # why an utterance is missing whose decoding failed


@dataclass(frozen=True)
class Said:
    """An utterance and what a hypothesis of it is compared with.

    `position` is its place in the split, None where preparation left it out, for `reason`.
    """

    id: str
    speaker: str
    reference: str
    position: int | None = None
    reason: str = ""


def references(
    spell: Callable[[str], str | None], split: Split, left_out: list[Rejection], normaliser: str
) -> tuple[list[Said], list[str]]:
    """All utterances that have a reference, and by name those of which nobody can say the phones.

    `spell` makes of a text what a decoder is to give of it: the text, or its phones, or None.

    Raises:
        UserError: not one has a reference.
    """
    utterances = [
        (text, Said(id, speaker, "", position))
        for position, (id, speaker, text) in enumerate(
            zip(split.ids, split.speakers, split.texts, strict=True)
        )
    ]
    utterances += [
        (one.text, Said(one.id, one.speaker, "", reason=one.reason)) for one in left_out if one.text
    ]
    said, unknown = [], []
    for text, one in utterances:
        text = normalise(normaliser, text)
        reference = spell(text)
        if reference is not None:
            said.append(Said(one.id, one.speaker, reference, one.position, one.reason))
            continue
        word = next(word for word in text.split() if spell(word) is None)
        unknown.append(f"{one.id} ({word!r})")
    if unknown and not said:
        raise UserError(
            "Nothing can be scored: in every text is a word that the model's lexicon does not have,"
            f" as in {unknown[0]}."
        )
    return said, unknown


def results(
    said: list[Said],
    heard: Mapping[int, Transcript],
    failures: Mapping[int, str],
    written: Callable[[str], str],
) -> list[Result]:
    """Every utterance with what was heard, `written` as the references are; some are missing."""
    found = []
    for one in said:
        if one.position is None:
            missing, error, transcript = one.reason, "", None
        else:
            error = failures.get(one.position, "")
            missing = FAILED if error else ""
            transcript = heard.get(one.position)
        scored = Scored(one.id, one.speaker, one.reference, None)
        if transcript is not None:
            hypothesis = written(transcript.text)
            sure = confidences(transcript.words, hypothesis, written)
            scored = replace(scored, hypothesis=hypothesis, confidences=sure)
        found.append(Result(scored, missing, error))
    return found


def confidences(
    words: Sequence[Word], text: str, written: Callable[[str], str]
) -> tuple[float, ...] | None:
    """The confidence of each word of a hypothesis's `written` text.

    A word that is written as several, as `e-mail` may be, lends each its own. None where the words
    written one by one are not those of the text.
    """
    parts = [(part, word.confidence) for word in words for part in written(word.word).split()]
    if [part for part, _ in parts] != text.split():
        return None
    return tuple(confidence for _, confidence in parts)
