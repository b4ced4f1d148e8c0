"""Where transcripts go: printed on the screen, or written into a folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.text import Text

from asr import registry
from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.files import explain_write_errors, write_atomically
from asr.inputs import Recording

FAILURES = "failures.jsonl"
# Words below these confidences are doubtful, and shown so on a terminal.
DOUBTFUL = {0.5: "red", 0.8: "yellow"}


class Output(Protocol):
    """Where transcripts go."""

    def add(self, recording: Recording, transcript: Transcript) -> None:
        """One more transcript, in any order within a window."""
        ...

    def end_window(self, recordings: Sequence[Recording]) -> None:
        """All of these recordings are done or have failed."""
        ...


class Screen:
    """Prints transcripts in the order of the inputs: as text, or in another format."""

    def __init__(self, formats: Sequence[str], several: bool) -> None:
        if len(formats) != 1:
            raise UserError("Without -o one format is printed: give one, or a folder with -o.")
        (self._format,) = formats
        writer = registry.find("formats", self._format)
        # A line for each transcript, so that a program can read them one by one.
        self._writer = writer(indent=None) if self._format == "json" else writer()
        self._several = several
        self._waiting: dict[Path, Transcript] = {}

    def add(self, recording: Recording, transcript: Transcript) -> None:
        self._waiting[recording.path] = transcript

    def end_window(self, recordings: Sequence[Recording]) -> None:
        for recording in recordings:
            transcript = self._waiting.pop(recording.path, None)
            if transcript is None:
                continue
            self.show(transcript)
        sys.stdout.flush()

    def show(self, transcript: Transcript) -> None:
        """Print one; on a terminal with its doubtful words in a colour."""
        if self._several and self._format == "txt":
            sys.stdout.write(f"{transcript.source}\t")
        if self._format == "txt" and sys.stdout.isatty():
            sys.stdout.flush()
            Console(highlight=False).print(coloured(transcript), soft_wrap=True)
        else:
            self._writer.write(transcript, sys.stdout)


def coloured(transcript: Transcript) -> Text:
    """A transcript's text, its doubtful words in a colour."""
    words = [
        Text(word.word, next((c for least, c in DOUBTFUL.items() if word.confidence < least), ""))
        for word in transcript.words
    ]
    text = Text(" ").join(words)
    return text if text.plain == transcript.text else Text(transcript.text)


class Folder:
    """Writes each transcript under its recording's name, in each format, whole or not at all."""

    def __init__(
        self, folder: Path, formats: Sequence[str], recordings: Sequence[Recording]
    ) -> None:
        self._folder = folder
        self._writers = {name: registry.find("formats", name)() for name in formats}
        inputs = {os.path.abspath(recording.path) for recording in recordings}
        for recording in recordings:
            for path in self._paths(recording).values():
                if os.path.abspath(path) in inputs:
                    raise UserError(f"{path} is an input, and would be overwritten: change -o.")
        with explain_write_errors(folder / FAILURES):
            folder.mkdir(parents=True, exist_ok=True)
            # Before any work is done; by its name a refusal is known to be of this file.
            with tempfile.TemporaryFile(dir=folder, prefix=f".{FAILURES}."):
                pass

    def add(self, recording: Recording, transcript: Transcript) -> None:
        for name, path in self._paths(recording).items():
            with explain_write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with write_atomically(path) as stream:
                self._writers[name].write(transcript, stream)

    def end_window(self, recordings: Sequence[Recording]) -> None:
        pass

    def _paths(self, recording: Recording) -> dict[str, Path]:
        # Not with_suffix: a name may hold a dot of its own.
        return {name: self._folder / f"{recording.name}.{name}" for name in self._writers}


def check_writable(target: Path) -> None:
    """Find that a file can be written before any work is done, and make nothing for it yet.

    Raises:
        UserError: it cannot.
    """
    first = next(path for path in (target, *target.parents) if os.path.exists(path.parent))
    trial = first.with_name(f".{first.name}.trial")  # of what would have to be made
    with explain_write_errors(first):
        trial.touch()
        trial.unlink(missing_ok=True)


def printable(path: Path | str) -> str:
    """A path as text; bytes of it that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
