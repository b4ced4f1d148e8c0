"""Mini LibriSpeech: five hours of read books, the small sibling of LibriSpeech (Panayotov 2015).

From      OpenSLR 31, https://www.openslr.org/31/: train-clean-5.tar.gz, dev-clean-2.tar.gz.
Licence   CC BY 4.0.
Counts    train-clean-5: 1519 utterances of 28 speakers, 5.31 hours. dev-clean-2: 1089 utterances.
Layout    `LibriSpeech/train-clean-5/<speaker>/<chapter>/` holds `<speaker>-<chapter>.trans.txt`
          with a line `<speaker>-<chapter>-<number> WORDS` for each recording, and the recordings
          of these names: flac as published, or opus where space was saved.

No test part is published. Three speakers of train-clean-5 are held out for it; validation is
dev-clean-2 where it is there, and else three further speakers.
"""

from __future__ import annotations

import os
from pathlib import Path

from asr.errors import UserError
from asr.files import InputError, resolve_inside
from asr.utterance import Listing, Rejection, Utterance

EXPECTED = {"train-clean-5": 1519, "dev-clean-2": 1089}
TRAINING, VALIDATION = EXPECTED

# In the order of their numbers, every ninth speaker from the third on and every ninth from the
# eighth on: decided before any result was seen. Both are two women and a man.
TEST_SPEAKERS = ("118", "1898", "4680")
VALIDATION_SPEAKERS = ("669", "3526", "7367")

ENDINGS = (".flac", ".opus")  # the first that is there is read


def read(root: Path) -> Listing:
    """The utterances of the folder that holds `LibriSpeech/`, of that folder or of `train-clean-5`.

    Raises:
        UserError: the folder is missing or of another layout.
    """
    root = root.resolve()
    parts = _parts(root)
    utterances: list[Utterance] = []
    rejected: list[Rejection] = []
    notes = [
        f"test: the speakers {', '.join(TEST_SPEAKERS)}; validation: "
        + (VALIDATION if VALIDATION in parts else f"the speakers {', '.join(VALIDATION_SPEAKERS)}")
    ]
    for part, folder in parts.items():
        found = _read_part(root, folder, part, held_out_for_validation=VALIDATION not in parts)
        utterances += [entry for entry in found if isinstance(entry, Utterance)]
        rejected += [entry for entry in found if isinstance(entry, Rejection)]
        if len(found) != EXPECTED[part]:
            notes.append(f"{part}: {len(found)} utterances found, {EXPECTED[part]} were published")
    return Listing(utterances, rejected, notes)


def _parts(root: Path) -> dict[str, Path]:
    """The published parts that are there, wherever above them the root lies."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}. Give recipe.root=PATH of Mini LibriSpeech.")
    if root.name == TRAINING and any(root.glob("*/*/*.trans.txt")):
        return {TRAINING: root}
    for above in (root / "LibriSpeech", root):
        if any((above / TRAINING).glob("*/*/*.trans.txt")):
            return {part: above / part for part in EXPECTED if (above / part).is_dir()}
    found = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
    raise UserError(
        f"{root} is not laid out as Mini LibriSpeech: no {TRAINING}/SPEAKER/CHAPTER/*.trans.txt in "
        f"it, found {found}. Give recipe.root= the folder that holds LibriSpeech/."
    )


def _read_part(
    root: Path, folder: Path, part: str, held_out_for_validation: bool
) -> list[Utterance | Rejection]:
    entries: list[Utterance | Rejection] = []
    seen: set[str] = set()
    for chapter in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        speaker = chapter.parent.name
        split = _split(part, speaker, held_out_for_validation)
        recordings = {path.name for path in chapter.iterdir() if path.suffix in ENDINGS}
        transcribed: set[str] = set()
        for transcripts in sorted(chapter.glob("*.trans.txt")):
            for line in transcripts.read_text("utf-8").splitlines():
                name, _, text = line.strip().partition(" ")
                if not name:
                    continue
                transcribed.add(name)
                entries.append(_utterance(root, chapter, name, text, split, speaker, seen))
                seen.add(name)
        for recording in sorted(recordings):
            name = Path(recording).stem
            if name not in transcribed:
                detail = f"no *.trans.txt of {chapter.name} has a line for it"
                where = str(chapter / recording)
                entries.append(
                    Rejection(name, where, split, "no-transcript", detail, speaker=speaker)
                )
    return entries


def _split(part: str, speaker: str, held_out_for_validation: bool) -> str:
    if part == VALIDATION:
        return "validation"
    if speaker in TEST_SPEAKERS:
        return "test"
    if held_out_for_validation and speaker in VALIDATION_SPEAKERS:
        return "validation"
    return "train"


def _utterance(
    root: Path, chapter: Path, name: str, text: str, split: str, speaker: str, seen: set[str]
) -> Utterance | Rejection:
    candidates = [chapter / f"{name}{ending}" for ending in ENDINGS]
    # A dangling link is there, too, and has a reason of its own.
    audio = next((path for path in candidates if os.path.lexists(path)), None)

    def rejection(reason: str, detail: str) -> Rejection:
        where = str(audio or chapter / name)
        return Rejection(name, where, split, reason, detail, text, speaker)

    if name in seen:
        return rejection("duplicate-id", f"{name} has a second transcript in {chapter}")
    if audio is None:
        return rejection("no-audio", f"no {name}.flac or {name}.opus in {chapter}")
    try:
        return Utterance(name, str(resolve_inside(root, audio)), text, split, speaker)
    except InputError as error:
        return rejection(error.reason, str(error))
