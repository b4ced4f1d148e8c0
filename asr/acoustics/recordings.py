"""A folder of recordings, noise or impulse responses, of which one is drawn at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.audio import EXTENSIONS, SAMPLE_RATE_HZ, SEGMENT_TOLERANCE_S, AudioError, load, probe
from asr.errors import UserError
from asr.files import InputError, resolve_inside

PIECE_S = 60.0  # what is read at once of a long recording when it is checked
KEPT_BYTES = 256 << 20  # of whole recordings in memory: 70 minutes
NAMED_FAULTS = 3  # recordings that an error names, where more are at fault

Samples = npt.NDArray[np.float32]


class Recordings:
    """The recordings in a folder and below it; `setting` is the one that names the folder.

    Hidden files are passed over, and so are links to folders: what they lead to must be inside the
    folder, where it is found anyway.
    """

    def __init__(self, setting: str, folder: str) -> None:
        self.setting = setting
        self.folder = os.path.expanduser(folder)
        self._kept: dict[Path, Samples] = {}
        self._kept_bytes = 0

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """In the order of their paths below the folder, which is the same on every machine.

        Raises:
            UserError: there is no such folder, it cannot be read, or holds no recording; or a link
                in it leads nowhere or out of it.
        """
        if not os.path.isdir(self.folder):
            raise UserError(f"{self.setting}={self.folder} is no folder: name one of recordings.")
        try:
            found = sorted(self._found(), key=lambda path: path.relative_to(self.folder).as_posix())
        except OSError as error:
            detail = f"{error.filename} cannot be read: {error.strerror}"
            raise UserError(f"{self.setting}={self.folder}: {detail}.") from None
        except InputError as error:
            raise UserError(f"{self.setting}={self.folder}: {error}.") from None
        if not found:
            raise UserError(
                f"{self.setting}={self.folder} holds no recordings: no wav, flac or the like."
            )
        return tuple(found)

    def _found(self) -> Iterator[Path]:
        def stop(error: OSError) -> None:
            raise error

        for parent, folders, files in os.walk(self.folder, onerror=stop):
            folders[:] = [name for name in folders if not name.startswith(".")]
            recordings = [
                Path(parent, name)
                for name in files
                if Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
            ]
            for path in (*(Path(parent, name) for name in folders), *recordings):
                if path.is_symlink():
                    resolve_inside(self.folder, path.absolute())
            yield from recordings

    def check(self, longest_s: float = math.inf) -> None:
        """Read every recording from beginning to end.

        Raises:
            UserError: some cannot be used; it names the first ones. Or as `paths`.
        """
        faults = [fault for path in self.paths if (fault := _fault(path, longest_s))]
        if faults:
            more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
            raise UserError(
                f"{self.setting}={self.folder}: {len(faults)} of {len(self.paths)} recordings "
                f"cannot be used: {'; '.join(faults[:NAMED_FAULTS])}{more}. "
                "Mend them or take them out of the folder."
            )

    def whole(self, share: float) -> Samples:
        """The recording at a share in [0, 1) of the list: [S]. As many are kept as fit.

        Raises:
            UserError: it cannot be read.
        """
        path = self._at(share)
        if path in self._kept:
            return self._kept[path]
        waveform = self._load(path, 0.0, None)
        # Each is as likely to be wanted next as another, so nothing is gained by exchanging them.
        if self._kept_bytes + waveform.nbytes <= KEPT_BYTES:
            self._kept[path] = waveform
            self._kept_bytes += waveform.nbytes
        return waveform

    def stretch(self, share: float, offset: float, samples: int) -> Samples:
        """So many samples of the recording at a share in [0, 1) of the list: [samples].

        `offset` in [0, 1) says where it begins, between the first and the last place. A recording
        that is shorter is repeated, from that share of it on.

        Raises:
            UserError: it cannot be read.
        """
        path = self._at(share)
        try:
            duration_s = probe(path).duration_s
        except AudioError as error:
            raise self._gone(error) from None
        spare = round(duration_s * SAMPLE_RATE_HZ) - samples
        if spare < 0:
            recording = self._load(path, 0.0, duration_s)
            return np.resize(np.roll(recording, -int(offset * len(recording))), samples)
        start_s = int(offset * (spare + 1)) / SAMPLE_RATE_HZ
        end_s = min(start_s + samples / SAMPLE_RATE_HZ, duration_s)
        # Resampled, it may have a sample more or less.
        return np.resize(self._load(path, start_s, end_s), samples)

    def _at(self, share: float) -> Path:
        return self.paths[int(share * len(self.paths))]

    def _load(self, path: Path, start_s: float, end_s: float | None) -> Samples:
        try:
            return load(path, start_s, end_s)
        except AudioError as error:
            raise self._gone(error) from None

    def _gone(self, error: AudioError) -> UserError:
        return UserError(
            f"{self.setting}: {error}. Bring the recording back; the same command then goes on."
        )


def _fault(path: Path, longest_s: float) -> str | None:
    """Why a recording cannot be used, or None. A long one is read in pieces, as it is later on."""
    try:
        duration_s = probe(path).duration_s
        if duration_s > longest_s:
            return f"{path} is {duration_s:.0f} s long, more than {longest_s:g} s"
        pieces = max(1, math.ceil(duration_s / PIECE_S))
        starts_s = [number * duration_s / pieces for number in range(pieces)]
        ends_s = [*starts_s[1:], None]
        samples = sum(
            len(load(path, start_s, end_s)) for start_s, end_s in zip(starts_s, ends_s, strict=True)
        )
    except AudioError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a decoder stumbles over, the file is named
        return f"{path} cannot be decoded: {type(error).__name__}: {error}"
    read_s = samples / SAMPLE_RATE_HZ
    if read_s < duration_s - SEGMENT_TOLERANCE_S:  # the length that an MP3 states may be a guess
        return f"{path} should be {duration_s:.2f} s long and has {read_s:.2f} s: convert it to wav"
    return None
