"""Files of a part to waveforms: probed and decoded ahead, each in its time, by a thread."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr import audio
from asr.cluster.ahead import Ahead, TimedOut
from asr.cluster.plan import PART_BYTES, PART_FILES, File
from asr.files import InputError, printable
from asr.inputs import Failure
from asr.waveforms import WHOLE_S

READ_AHEAD = 8  # short files: 16 minutes of audio at most, 60 MB of floats
BLOCKS_AHEAD = 4  # of a long one

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Piece:
    """A file, or one of its channels (counted from 0), that is recognised by itself.

    `position` is that of its file in the part.
    """

    position: int
    file: File
    channel: int | None
    duration_s: float

    @property
    def source(self) -> str:
        """The file's path as text."""
        return printable(self.file.recording.path)

    @property
    def number(self) -> int | None:
        """The channel as outputs have it: counted from 1."""
        return None if self.channel is None else self.channel + 1


class Reader:
    """Reads files, and says of those that cannot be read why.

    `waited_s` is how long its caller has waited for it.

    Args:
        longest_s: of audio that is taken.
        timeout_s: how long a file may keep its caller waiting, and longer where it is large.
        split: whether channels are read one by one.
    """

    def __init__(self, longest_s: float, timeout_s: float, split: bool) -> None:
        self.waited_s = 0.0
        self._left_s = math.inf  # of what all files of the part may take, after one timed out
        self._longest_s = longest_s
        self._timeout_s = timeout_s
        self._split = split

    def pieces(self, files: Sequence[File]) -> Iterator[Piece | tuple[int, Failure]]:
        """What there is to recognise; of a file in which there is nothing position and reason."""
        size = sum(file.size for file in files)
        self._left_s = self._timeout_s * (1 + size / PART_BYTES)
        for position, (file, info) in enumerate(self._ahead(self._probe, files)):
            if isinstance(info, Failure):
                yield position, info
                continue
            recording = file.recording
            end_s = info.duration_s if recording.end_s is None else recording.end_s
            duration_s = min(end_s, info.duration_s) - recording.start_s
            if duration_s > self._longest_s:
                hours = f"{self._longest_s / 3600:g} hours (--max-hours)"
                what = f"a stretch of {printable(recording.path)} lasts more than {hours}"
                yield position, failure(file, "read", "too-long", what)
                continue
            for channel in range(info.channels) if self._split else (None,):
                yield Piece(position, file, channel, duration_s)

    def waveforms(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Floats | Failure]]:
        """Pieces in their order, as floats [S] at 16 kHz.

        `too-long` is what proves to be longer than is recognised whole: its header did not say so.
        """
        return self._ahead(_load, pieces)

    def blocks(self, piece: Piece) -> Iterator[Floats]:
        """The samples of a long piece, in blocks that are read ahead.

        Raises:
            InputError: it cannot be read, or does not come in time.
        """
        recording = piece.file.recording
        if recording.start_s or recording.end_s is not None:
            for _, loaded in self._ahead(_load, [piece]):
                if isinstance(loaded, Failure):
                    raise InputError(loaded.reason, loaded.detail)
                yield loaded
            return
        blocks = audio.blocks(recording.path, channel=piece.channel, limit_s=self._longest_s)

        def read(_: int) -> Floats | Exception | None:
            try:
                return next(blocks, None)
            except Exception as error:  # noqa: BLE001  raised where the block is asked for
                return error

        limit_s = self._limit_s(piece.file)
        began = time.perf_counter()
        for _, block in Ahead(read, range(sys.maxsize), lambda _: limit_s, BLOCKS_AHEAD):
            self.waited_s += time.perf_counter() - began
            if block is None:
                break
            if isinstance(block, TimedOut):
                raise InputError("timed-out", _late(piece.file, limit_s))
            if isinstance(block, Exception):
                raise block
            yield block
            began = time.perf_counter()
        if changed := _changed(piece.file):
            raise InputError(changed.reason, changed.detail)

    def _ahead(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """What `work` gives for files or pieces, read ahead; a failure where it takes too long."""

        def file_of(item: Any) -> File:
            return item if isinstance(item, File) else item.file

        began = time.perf_counter()
        for item, result in Ahead(work, items, lambda one: self._limit_s(file_of(one)), READ_AHEAD):
            self.waited_s += time.perf_counter() - began
            if isinstance(result, MemoryError):  # which is no file's fault
                raise result
            if isinstance(result, TimedOut):
                file = file_of(item)
                waited_s = time.perf_counter() - began
                self._left_s -= waited_s
                late = _late(file, waited_s)
                yield item, failure(file, "read", "timed-out", late)
            else:
                yield item, result
            began = time.perf_counter()

    def _probe(self, file: File) -> audio.AudioInfo | Failure:
        """What a file's header says; no more is decoded than may be taken where it says little."""
        recording = file.recording
        whole = not recording.start_s and recording.end_s is None
        limit_s = self._longest_s if whole else None
        return _attempt(file, lambda: audio.probe(recording.path, limit_s))

    def _limit_s(self, file: File) -> float:
        """As long as it may take, but no longer than those that timed out have left of the part's.

        A little is left to each file: what is read already is not lost.
        """
        own_s = self._timeout_s * (1 + file.size / PART_BYTES)
        return min(own_s, max(self._left_s, self._timeout_s / PART_FILES))


def failure(file: File, stage: str, reason: str, detail: str) -> Failure:
    """Why a file has no transcript."""
    return Failure(file.recording.path, stage, reason, detail)


def _load(piece: Piece) -> Floats | Failure:
    recording = piece.file.recording
    return _attempt(
        piece.file,
        lambda: audio.load(
            recording.path,
            recording.start_s,
            recording.end_s,
            channel=piece.channel,
            limit_s=max(piece.duration_s + 1.0, 2 * WHOLE_S),  # of a stretch: of it alone
        ),
    )


def _attempt(file: File, read: Callable[[], Any]) -> Any:
    """What `read` gives for a file that stays as it is, or why not; `MemoryError` as it is."""
    try:
        found = read()
        return _changed(file) or found
    except InputError as error:
        return _changed(file) or failure(file, "read", error.reason, str(error))
    except MemoryError as error:
        return error
    except Exception as error:  # noqa: BLE001  one bad file stops none of the others
        return failure(file, "read", "error", f"{type(error).__name__}: {error}")


def _changed(file: File) -> Failure | None:
    """That a file is another one than when the work was planned: somebody writes it."""
    path = file.recording.path
    try:
        status = os.stat(path)
    except OSError as error:
        return failure(file, "read", "missing", f"{path} is gone: {error.strerror}")
    if (status.st_size, status.st_mtime_ns) == (file.size, file.changed_ns):
        return None
    return failure(file, "read", "changed", f"{path} was changed while it was to be read")


def _late(file: File, limit_s: float) -> str:
    return f"{file.recording.path}: nothing was read of it in {limit_s:.0f} s"
