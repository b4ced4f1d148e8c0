"""Transcripts on the screen; and whether a file can be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from asr import registry
from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.files import explain_write_errors, on_one_line

WHOLE_FILES = ("srt", "vtt", "textgrid")  # one behind another they are none of their kind
# Words below these confidences are doubtful, and shown so on a terminal.
DOUBTFUL = {0.5: "red", 0.8: "yellow"}


class Screen:
    """Prints transcripts in the order of the inputs: as text, or in another format."""

    def __init__(
        self, formats: Sequence[str], several: bool, options: Mapping[str, Mapping[str, Any]]
    ) -> None:
        if len(formats) != 1:
            raise UserError("Without -o one format is printed: give one, or a folder with -o.")
        (self._format,) = formats
        if several and self._format in WHOLE_FILES:
            raise UserError(f"Several of {self._format} are no file: give a folder with -o.")
        writer = registry.find("formats", self._format)
        # A line for each transcript, so that a program can read them one by one.
        given = {"indent": None} if self._format == "json" else options.get(self._format, {})
        self._writer = writer(**given)
        self._several = several

    def show(self, transcript: Transcript) -> None:
        """Print one; on a terminal with its doubtful words in a colour.

        Text stands behind its recording, where there are several, and the channel, if it is of one.
        """
        if self._format == "txt":
            source = [on_one_line(transcript.source)] if self._several else []
            channel = [] if transcript.channel is None else [str(transcript.channel)]
            sys.stdout.write("".join(f"{column}\t" for column in (*source, *channel)))
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
