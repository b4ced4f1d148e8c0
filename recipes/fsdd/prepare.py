"""Free Spoken Digit Dataset: single English digits, said fifty times each by six speakers.

From      Zohar Jackson and others, github.com/Jakobovski/free-spoken-digit-dataset (26eb9aa).
Licence   CC BY-SA 4.0.
Counts    3000 recordings (10 digits, 6 speakers, 50 takes), 0.36 hours, 8 kHz.
Layout    `recordings/{digit}_{speaker}_{take}.wav`. The publisher's test set is takes 0 to 4.

Training and test share their speakers there. The harder question is a speaker never heard:
`recipe.options.held_out_speaker=NAME` makes all of that speaker's recordings the test set.
"""

from __future__ import annotations

import re
from pathlib import Path

from asr.errors import UserError, nearest
from asr.files import InputError, resolve_inside
from asr.utterance import Listing, Rejection, Utterance

EXPECTED = {"train": 2700, "test": 300}

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = range(5)
VALIDATION_TAKES = range(5, 8)

_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<take>\d+)\.wav")


def read(root: Path, held_out_speaker: str | None = None) -> Listing:
    """The utterances of the folder that holds `recordings/`.

    Official split (no `held_out_speaker`): takes 0-4 are test, 5-7 validation, the rest training.
    With one: all of that speaker is test; of the others takes 0-4 are validation, the rest
    training.

    Raises:
        UserError: the folder is missing or of another layout, or the speaker is not in it.
    """
    root = root.resolve()
    folder = root / "recordings"
    if not root.is_dir():
        raise UserError(f"There is no folder {root}. Give recipe.root=PATH of the corpus FSDD.")
    entries = sorted(folder.glob("*.wav")) if folder.is_dir() else []
    named = {path: match for path in entries if (match := _NAME.fullmatch(path.name))}
    if not named:
        raise UserError(
            f"{root} is not laid out as FSDD: no recordings/DIGIT_SPEAKER_TAKE.wav in it. "
            "Give recipe.root= the folder that holds recordings/."
        )
    speakers = sorted({match["speaker"] for match in named.values()})
    if held_out_speaker is not None and held_out_speaker not in speakers:
        raise UserError(
            f"No speaker is called {held_out_speaker!r} in {folder}."
            f"{nearest(held_out_speaker, speakers)} Known: {', '.join(speakers)}."
        )

    utterances: list[Utterance] = []
    rejected: list[Rejection] = []
    for path in entries:
        match = named.get(path)
        if match is None:
            detail = "its name is not DIGIT_SPEAKER_TAKE.wav, so what was said is unknown"
            rejected.append(Rejection(path.stem, str(path), "train", "no-transcript", detail))
            continue
        speaker, text = match["speaker"], DIGITS[int(match["digit"])]
        split = _split(speaker, int(match["take"]), held_out_speaker)
        try:
            audio = str(resolve_inside(root, path))
        except InputError as error:
            rejected.append(
                Rejection(path.stem, str(path), split, error.reason, str(error), text, speaker)
            )
            continue
        utterances.append(Utterance(path.stem, audio, text, split, speaker))

    notes = []
    if held_out_speaker is None:
        notes.append("test: takes 0-4 (official); validation: takes 5-7")
    else:
        notes.append(f"test: all of {held_out_speaker}; validation: takes 0-4 of the others")
    if len(named) != (published := sum(EXPECTED.values())):
        notes.append(f"{len(named)} recordings found, {published} were published")
    return Listing(utterances, rejected, notes)


def _split(speaker: str, take: int, held_out_speaker: str | None) -> str:
    if held_out_speaker is None:
        if take in TEST_TAKES:
            return "test"
        return "validation" if take in VALIDATION_TAKES else "train"
    if speaker == held_out_speaker:
        return "test"
    return "validation" if take in TEST_TAKES else "train"
