"""Outputs of the files of a part: all of them on the disk, or none."""

from __future__ import annotations

import errno
import io
import os
import stat
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
from asr.files import Together, digest_bytes, printable
from asr.inputs import Failure


@dataclass(frozen=True)
class Done:
    """A file's outputs, with their digests, are on the disk."""

    outputs: tuple[tuple[str, str], ...]
    audio_s: float


class Outputs:
    """The outputs of a part's files, which are flushed while the next ones are recognised.

    A context manager.

    Args:
        folder: where they go.
        formats: their names.
        options: of the formats' writers, by their names.
        token: of the run that has to hold the folder; one that outlived it writes nothing.
        files: all of the part.
        overwrite: whether files that no record knows are replaced.
    """

    def __init__(
        self,
        folder: Path,
        formats: Sequence[str],
        options: Mapping[str, Mapping[str, Any]],
        token: str,
        files: Sequence[File],
        overwrite: bool = False,
    ) -> None:
        self._folder = folder
        self._formats = formats
        self._options = options
        self._token = token
        self._overwrite = overwrite
        self._folders = {above for f in files for above in (folder / f.recording.name).parents}
        self._together = Together(partial_folder(folder, token))
        self._files: dict[Path, File] = {}  # whose outputs they are
        self._open: dict[Path, bool] = {}  # folders, and whether files can be in them

    def __enter__(self) -> Outputs:
        self._together.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._together.__exit__(*error)

    def add(self, file: File, transcripts: Sequence[Transcript]) -> Done | Failure:
        """Begin to write the outputs of a file; what becomes of it once `finish` has ended well."""
        own = dict(self._outputs(file, transcripts))
        paths = {self._folder / name: content for name, content in own.items()}
        taken = next((path for path in paths if self._is_taken(path)), None)
        if taken is not None:
            what = "a folder is called so, or a file as the folder it would be in"
            detail = f"{printable(taken)} cannot be written: {what}"
            return failure(file, "write", "name-taken", detail)
        if not (file.recorded or self._overwrite):
            for path, content in paths.items():
                if _is_anothers(path, content):
                    what = "a file is there that is no output of asr's (--overwrite replaces it)"
                    detail = f"{printable(path)} is not written: {what}"
                    return failure(file, "write", "name-taken", detail)
        for path, content in paths.items():
            self._together.add(path, content)
            self._files[path] = file
        digests = tuple((name, digest_bytes(content)) for name, content in own.items())
        # Channels of one file last as long as it does, once.
        return Done(digests, max((one.duration_s for one in transcripts), default=0.0))

    def finish(self) -> dict[str, Failure]:
        """All that were added are on the disk, under their own names.

        Returns, by their names, the files whose outputs cannot be called so there.

        Raises:
            UserError: one cannot be written, or another run holds the folder.
        """
        if not is_current(self._folder, self._token):
            raise UserError(f"Another run holds {self._folder} now: nothing more is written.")
        refused = self._together.finish()
        found: dict[str, Failure] = {}
        for path, error in refused.items():
            file = self._files[path]
            reason = "name-too-long" if error.errno == errno.ENAMETOOLONG else "name-taken"
            detail = f"{printable(path)} cannot be written: {os.strerror(error.errno or 0)}"
            found[file.recording.name] = failure(file, "write", reason, detail)
        return found

    def _is_taken(self, path: Path) -> bool:
        """Whether a folder has that name already, or a file one of those above it."""
        if path.parent not in self._open:  # looked at once: they are the same for many files
            self._open[path.parent] = not any(os.path.isfile(above) for above in path.parents)
        return path in self._folders or not self._open[path.parent] or os.path.isdir(path)

    def _outputs(
        self, file: File, transcripts: Sequence[Transcript]
    ) -> Iterator[tuple[str, bytes]]:
        """Names below the output folder, and what is to be in them."""
        for transcript in transcripts:
            name = file.recording.name
            if transcript.channel is not None:
                name = f"{name}.{transcript.channel}"
            for kind in self._formats:
                stream = io.StringIO()
                writer = registry.find("formats", kind)(**self._options.get(kind, {}))
                writer.write(transcript, stream)
                yield f"{name}.{kind}", stream.getvalue().encode("utf-8", "surrogateescape")


def _is_anothers(path: Path, content: bytes) -> bool:
    """Whether a file is there that is not what a killed run wrote and could not record any more."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    return status.st_size != len(content) or path.read_bytes() != content
