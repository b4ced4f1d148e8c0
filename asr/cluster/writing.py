"""Outputs of the files of a part: all of them on the disk, or none."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr import registry
from asr.cluster.journal import is_current, partial_folder
from asr.cluster.plan import File
from asr.cluster.reading import failure
from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.files import digest_bytes, printable, write_together
from asr.inputs import Failure


@dataclass(frozen=True)
class Done:
    """A file's outputs, with their digests, are on the disk."""

    outputs: tuple[tuple[str, str], ...]
    audio_s: float


@dataclass(frozen=True)
class Outputs:
    """Where transcripts go and in which formats, `options` being those of the formats' writers.

    The run of that `token` has to hold the folder: one that outlived it writes nothing.
    """

    folder: Path
    formats: Sequence[str]
    options: Mapping[str, Mapping[str, Any]]
    split: bool
    token: str

    def write(
        self, files: Sequence[File], heard: Sequence[list[Transcript] | Failure | None]
    ) -> list[Done | Failure | None]:
        """Write the outputs of all files together: all flushed, then all renamed.

        Raises:
            UserError: one cannot be written, or another run holds the folder.
        """
        contents: dict[Path, bytes] = {}
        written: list[Done | Failure | None] = []
        folders = {above for f in files for above in (self.folder / f.recording.name).parents}
        for file, transcripts in zip(files, heard, strict=True):
            if not isinstance(transcripts, list):
                written.append(transcripts)
                continue
            own = dict(self._outputs(file, transcripts))
            paths = {self.folder / name: content for name, content in own.items()}
            taken = next((path for path in paths if path in folders or _is_taken(path)), None)
            if taken is not None:
                what = "a folder is called so, or a file as the folder it would be in"
                detail = f"{printable(taken)} cannot be written: {what}"
                written.append(failure(file, "write", "name-taken", detail))
                continue
            contents |= paths
            digests = tuple((name, digest_bytes(content)) for name, content in own.items())
            # Channels of one file last as long as it does, once.
            written.append(Done(digests, max((one.duration_s for one in transcripts), default=0)))
        if contents:
            if not is_current(self.folder, self.token):
                raise UserError(f"Another run holds {self.folder} now: nothing more is written.")
            write_together(contents, partial_folder(self.folder, self.token))
        return written

    def _outputs(self, file: File, transcripts: list[Transcript]) -> Iterator[tuple[str, bytes]]:
        """Names below the output folder, and what is to be in them."""
        name, ending = file.recording.name, os.path.splitext(file.recording.path)[1]
        if self.split and not name.endswith(ending):
            name += ending  # with a number behind its ending it is nobody else's name
        for transcript in transcripts:
            numbered = name if transcript.channel is None else f"{name}.{transcript.channel}"
            for kind in self.formats:
                stream = io.StringIO()
                writer = registry.find("formats", kind)(**self.options.get(kind, {}))
                writer.write(transcript, stream)
                yield f"{numbered}.{kind}", stream.getvalue().encode("utf-8", "surrogateescape")


def _is_taken(path: Path) -> bool:
    """Whether a folder has that name already, or a file one of those above it."""
    return path.is_dir() or any(above.is_file() for above in path.parents)
