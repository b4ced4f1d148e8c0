"""The utterance: one stretch of audio and what was said in it; manifests of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.files import InputError, resolve_inside


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    `audio` is an absolute path; `end_s` None means to the end of the file; `speaker` is ''
    where unknown.
    """

    id: str
    audio: str
    text: str
    split: str
    speaker: str = ""
    start_s: float = 0.0
    end_s: float | None = None

    def rejected(self, reason: str, detail: str) -> Rejection:
        """The same as something that was left out."""
        return Rejection(self.id, self.audio, self.split, reason, detail, self.text, self.speaker)


@dataclass(frozen=True)
class Rejection:
    """Something that was left out, where it stood, and why.

    `reason` is a short fixed code (see docs/bad-input.md), `detail` one sentence for a person.
    `text` and `speaker` are kept where known, so that a test utterance can count as missing.
    """

    id: str
    audio: str
    split: str
    reason: str
    detail: str
    text: str = ""
    speaker: str = ""


@dataclass(frozen=True)
class Listing:
    """What a recipe found: utterances, what was left out, what was decided.

    `lexicon` is the path of a pronunciation dictionary, where the publisher has one.
    """

    utterances: list[Utterance]
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lexicon: str | None = None


def read_manifest(
    path: str | Path, audio_root: str | Path | None = None, text_needed: bool = True
) -> Iterator[Utterance | Rejection]:
    """The lines of a JSONL manifest, each an utterance or what is wrong with it.

    Keys: `audio` and `text`, optionally `id`, `speaker`, `start_s`, `end_s`, `split`; and NeMo's
    `audio_filepath`, `offset`, `duration`. A duration without an offset is the whole file's. A
    relative path is below `audio_root` (the manifest's folder where None) and must stay there; an
    absolute one is taken as it stands. An id that is not given is made from the path and the times.
    `split` is '' where it is not given, and so is `text` where none is needed.

    A line that is no utterance is a `Rejection` that names file and line.

    Raises:
        UserError: the manifest cannot be read, or none of its lines is an utterance.
    """
    path = Path(path)
    folder = path.parent if audio_root is None else Path(audio_root)
    try:
        handle = path.open("rb")
    except OSError as error:
        raise UserError(
            f"Cannot read the manifest {path}: {error.strerror}. Give a JSONL file."
        ) from None
    good = 0
    first_fault = ""
    with handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            entry = _read_line(path, number, line, folder, text_needed)
            if isinstance(entry, Utterance):
                good += 1
            first_fault = first_fault or (entry.detail if isinstance(entry, Rejection) else "")
            yield entry
    if not good:
        raise UserError(
            f"The manifest {path} holds no utterance: {first_fault or 'it is empty'}. "
            'A line is like {"audio": "a.wav", "text": "what was said"}.'
        )


def _read_line(
    path: Path, number: int, line: bytes, folder: Path, text_needed: bool
) -> Utterance | Rejection:
    """One line of a manifest."""
    where = f"{path}:{number}"
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both
        return _bad_line(where, f"not JSON ({error})")
    if not isinstance(entry, dict):
        return _bad_line(where, "not a JSON object")
    try:
        audio = _text(entry, "audio", "audio_filepath")
        text = _text(entry, "text") if text_needed else ""
        start_s, end_s = _times(entry)
        given = {key: _text(entry, key) for key in ("id", "speaker", "split") if key in entry}
    except (KeyError, ValueError) as error:
        return _bad_line(where, error.args[0])
    if not audio:
        return _bad_line(where, "`audio` is empty")
    known = {
        "id": given.get("id") or _identity(audio, start_s, end_s),
        "text": text,
        "speaker": given.get("speaker", ""),
        "split": given.get("split", ""),
    }
    try:
        if not Path(audio).is_absolute():
            audio = str(resolve_inside(folder, audio))
    except InputError as error:
        reason = "no-audio" if error.reason == "missing" else error.reason
        return Rejection(audio=audio, reason=reason, detail=f"{where}: {error}", **known)
    return Utterance(audio=audio, start_s=start_s, end_s=end_s, **known)


def _bad_line(where: str, fault: str) -> Rejection:
    return Rejection(
        id=where, audio="", split="", reason="bad-line", detail=f"{where} is no utterance: {fault}"
    )


def _text(entry: dict[str, Any], *keys: str) -> str:
    """The text of the first key that is there; an id or speaker may be written as a number."""
    for key in keys:
        if key in entry:
            value = entry[key]
            if isinstance(value, int) and not isinstance(value, bool) and key in ("id", "speaker"):
                return str(value)
            if not isinstance(value, str):
                raise ValueError(f"`{key}` is {value!r}, not a text")
            return value
    raise KeyError(f"it has no `{keys[0]}`")


def _times(entry: dict[str, Any]) -> tuple[float, float | None]:
    """Start and end of the stretch; None for the end of the file."""
    numbers: dict[str, float] = {}
    for key in ("start_s", "end_s", "offset", "duration"):
        value = entry.get(key)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ValueError(f"`{key}` is {value!r}, not a number")
        numbers[key] = float(value)
    start_s = numbers.get("start_s", numbers.get("offset", 0.0))
    end_s = numbers.get("end_s")
    if end_s is None and "offset" in numbers and "duration" in numbers:
        end_s = start_s + numbers["duration"]
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise ValueError(f"it goes from {start_s} to {end_s} s")
    return start_s, end_s


def _identity(audio: str, start_s: float, end_s: float | None) -> str:
    """An id made from a path and the times, e.g. `talks/a-1200-3400` (milliseconds)."""
    name = Path(audio).with_suffix("").as_posix()
    if start_s == 0.0 and end_s is None:
        return name
    return f"{name}-{round(start_s * 1000)}-{'' if end_s is None else round(end_s * 1000)}"
