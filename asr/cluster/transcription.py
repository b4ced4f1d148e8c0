"""What a worker does: it reads the files of a part, recognises them, and writes their outputs."""

from __future__ import annotations

import io
import itertools
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from asr import audio, registry
from asr.cluster.ahead import Ahead, TimedOut
from asr.cluster.journal import is_current, partial_folder
from asr.cluster.plan import PART_BYTES, File, Part
from asr.decoding.hypothesis import Transcript
from asr.errors import UserError
from asr.files import InputError, Together, digest_bytes, printable
from asr.inputs import Failure
from asr.waveforms import BATCH_S, LONGEST_S, WHOLE_S, batches_by_length

if TYPE_CHECKING:
    from asr.bundle import Bundle

READ_AHEAD = 64  # short files
BLOCKS_AHEAD = 4  # of a long one

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """What is asked of all files alike.

    `decoder` are the settings in which the decoder differs from the model's own, `folder` where
    outputs go (None: nowhere), `longest_s` the decoded duration that is taken, `timeout_s` how long
    a file may keep its worker waiting, `threads` those of a worker, `options` those of formats'
    writers, and `token` the run's.
    """

    model: str
    formats: tuple[str, ...] = ()
    folder: str | None = None
    decoder: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int | None = None
    split_channels: bool = False
    longest_s: float = LONGEST_S
    timeout_s: float = 600.0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    token: str = ""

    def limit_s(self, part: Part) -> float:
        """How long a part may keep a worker busy: more where there are more bytes."""
        return self.timeout_s * (1 + part.size / PART_BYTES)


@dataclass(frozen=True)
class Done:
    """A file's outputs, with their digests, are on the disk."""

    outputs: tuple[tuple[str, str], ...]
    audio_s: float


@dataclass(frozen=True)
class Result:
    """What became of each file of a part; None where it was not wanted.

    `seconds` says how long the worker recognised, wrote, and waited for audio.
    """

    outcomes: tuple[Done | Failure | None, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Piece:
    """A file, or one of its channels, that is recognised by itself."""

    position: int
    file: File
    channel: int | None  # counted from 0
    duration_s: float


class Transcriber:
    """Recognises parts and writes their outputs. The model is loaded once, by the first part.

    `heard`, where it is set, is told of seconds of audio as soon as they are recognised.
    """

    def __init__(self, settings: Settings, bundle: Bundle | None = None) -> None:
        self.settings = settings
        self.heard: Callable[[float], None] | None = None
        self._bundle = bundle
        self._seconds: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "heard": None, "_bundle": None, "_seconds": {}}

    def __call__(self, part: Part) -> Result:
        """A worker's work: what became of the files, once their outputs are on the disk."""
        self._seconds = dict.fromkeys(("read", "recognise", "write"), 0.0)
        folder, token = self.settings.folder, self.settings.token
        assert folder is not None
        folders = {
            above for file in part.files for above in Path(folder, file.recording.name).parents
        }
        written: dict[int, Done | Failure] = {}
        with Together(partial_folder(folder, token)) as outputs:

            def write(position: int, transcripts: list[Transcript]) -> None:
                file = part.files[position]
                written[position] = self._write(file, transcripts, folders, outputs)

            outcomes = self.recognise(part, write)
            began = time.perf_counter()
            if not is_current(folder, token):
                raise UserError(f"Another run holds {folder} now: nothing more is written.")
            outputs.finish()
            self._seconds["write"] += time.perf_counter() - began
        ended: list[Done | Failure | None] = []
        for position, outcome in enumerate(outcomes):
            ended.append(written[position] if isinstance(outcome, list) else outcome)
        return Result(tuple(ended), dict(self._seconds))

    def recognise(
        self, part: Part, ready: Callable[[int, list[Transcript]], None] | None = None
    ) -> list[list[Transcript] | Failure | None]:
        """The transcripts of each wanted file, one a channel, or why there are none.

        `ready`, where it is given, has those of a file, by its position, as soon as all are there.
        """
        self._seconds = self._seconds or dict.fromkeys(("read", "recognise", "write"), 0.0)
        found: list[list[Transcript] | Failure | None] = [[] for _ in part.files]
        pieces = list(self._pieces(part, found))
        count = Counter(piece.position for piece in pieces)
        short = [piece for piece in pieces if piece.duration_s <= WHOLE_S]
        for piece, transcript in itertools.chain(
            self._short(short),
            *(self._long(piece) for piece in pieces if piece.duration_s > WHOLE_S),
        ):
            heard = found[piece.position]
            if isinstance(transcript, Failure):
                found[piece.position] = transcript
            elif isinstance(heard, list):
                heard.append(transcript)
                heard.sort(key=lambda transcript: transcript.channel or 0)
                if ready and piece.file.wanted and len(heard) == count[piece.position]:
                    ready(piece.position, heard)
        for position, file in enumerate(part.files):
            if not file.wanted:
                found[position] = None
        return found

    @property
    def bundle(self) -> Bundle:
        """The model."""
        if self._bundle is None:
            import torch

            from asr.pipelines import open_model

            if self.settings.threads is not None:  # results differ with it, in the last digits
                torch.set_num_threads(self.settings.threads)
            bundle = open_model(self.settings.model, _device(self.settings.device))
            if self.settings.decoder:
                own = bundle.own_decoder
                name = self.settings.decoder.get("name")
                if name is not None and name != own["name"]:
                    own = {}
                elif name is None and own["name"] == "greedy":
                    own = {"name": "beam"}
                bundle.search = bundle.build_decoder({**own, **self.settings.decoder})
            self._bundle = bundle
        return self._bundle

    def _pieces(
        self, part: Part, found: list[list[Transcript] | Failure | None]
    ) -> Iterator[_Piece]:
        """What there is to recognise, and in `found` which files have nothing."""
        for position, (file, info) in enumerate(self._ahead(_probe, part.files)):
            if isinstance(info, Failure):
                found[position] = info
                continue
            recording = file.recording
            end_s = info.duration_s if recording.end_s is None else recording.end_s
            duration_s = min(end_s, info.duration_s) - recording.start_s
            if duration_s > self.settings.longest_s:
                found[position] = self._too_long(file, duration_s)
                continue
            split = self.settings.split_channels
            for channel in range(info.channels) if split else (None,):
                yield _Piece(position, file, channel, duration_s)

    def _short(self, pieces: Sequence[_Piece]) -> Iterator[tuple[_Piece, Transcript | Failure]]:
        """Of pieces that are recognised whole, in batches of similar length."""
        batches = [
            [pieces[position] for position in batch]
            for batch in batches_by_length([piece.duration_s for piece in pieces], BATCH_S)
        ]
        # A batch of which something is wanted is computed whole, so that it is always the same.
        batches = [batch for batch in batches if any(piece.file.wanted for piece in batch)]
        waveforms = iter(self._ahead(_load, [piece for batch in batches for piece in batch]))
        for batch in batches:
            loaded = []
            for piece, waveform in itertools.islice(waveforms, len(batch)):
                if isinstance(waveform, Failure) and waveform.reason == "too-long":
                    yield from self._long(piece)  # its header did not say so
                elif isinstance(waveform, Failure):
                    yield piece, waveform
                else:
                    loaded.append((piece, waveform))
            yield from self._recognised(loaded)

    def _recognised(
        self, loaded: Sequence[tuple[_Piece, Floats]]
    ) -> Iterator[tuple[_Piece, Transcript | Failure]]:
        """A batch's transcripts. Where it fails as a whole, each recording is tried alone."""
        if not loaded:
            return
        pieces = [piece for piece, _ in loaded]
        began = time.perf_counter()
        try:
            transcripts = self.bundle.recognise(
                [waveform for _, waveform in loaded],
                [printable(piece.file.recording.path) for piece in pieces],
            )
        except UserError:  # of the settings, not of a recording
            raise
        except Exception as error:  # noqa: BLE001  one bad recording stops none of the others
            if len(loaded) > 1:
                for one in loaded:
                    yield from self._recognised([one])
                return
            yield pieces[0], _failure(pieces[0].file, "recognise", "error", _what(error))
            return
        finally:
            self._seconds["recognise"] += time.perf_counter() - began
        for piece, transcript in zip(pieces, transcripts, strict=True):
            yield piece, self._checked(piece, transcript)

    def _long(self, piece: _Piece) -> Iterator[tuple[_Piece, Transcript | Failure]]:
        """Of a piece that is recognised in windows, where it is wanted."""
        if not piece.file.wanted:
            return
        from asr.recognition import recognise_long

        began, waited = time.perf_counter(), self._seconds["read"]
        try:
            source = printable(piece.file.recording.path)
            channel = None if piece.channel is None else piece.channel + 1
            transcript = recognise_long(self.bundle, lambda: self._blocks(piece), source, channel)
        except UserError:
            raise
        except InputError as error:
            yield piece, _failure(piece.file, "read", error.reason, str(error))
            return
        except Exception as error:  # noqa: BLE001  one bad recording stops none of the others
            yield piece, _failure(piece.file, "recognise", "error", _what(error))
            return
        finally:
            reading_s = self._seconds["read"] - waited
            self._seconds["recognise"] += time.perf_counter() - began - reading_s
        changed = _changed(piece.file)
        yield piece, changed or self._checked(piece, transcript)

    def _checked(self, piece: _Piece, transcript: Transcript) -> Transcript | Failure:
        """A transcript in which everything is a number, its times those of the whole file."""
        source = printable(piece.file.recording.path)
        if not math.isfinite(transcript.score):
            detail = f"for {source} the model gives values that are no numbers"
            return _failure(piece.file, "recognise", "not-finite", detail)
        if self.heard is not None and piece.file.wanted:
            self.heard(transcript.duration_s)
        return _placed(transcript, piece)

    def _blocks(self, piece: _Piece) -> Iterator[Floats]:
        """The samples of a long piece, in blocks that are read ahead."""
        recording = piece.file.recording
        if recording.start_s or recording.end_s is not None:
            loaded = _load(piece)
            if isinstance(loaded, Failure):
                raise InputError(loaded.reason, loaded.detail)
            yield loaded
            return
        blocks = audio.blocks(
            recording.path, channel=piece.channel, limit_s=self.settings.longest_s
        )

        def read(_: int) -> Floats | Exception | None:
            try:
                return next(blocks, None)
            except Exception as error:  # noqa: BLE001  raised where the block is asked for
                return error

        limit_s = self._limit_s(piece.file)
        began = time.perf_counter()
        for _, block in Ahead(read, range(sys.maxsize), lambda _: limit_s, BLOCKS_AHEAD):
            self._seconds["read"] += time.perf_counter() - began
            if block is None:
                return
            if isinstance(block, TimedOut):
                raise InputError("timed-out", _late(piece.file, limit_s))
            if isinstance(block, Exception):
                raise block
            yield block
            began = time.perf_counter()

    def _ahead(self, work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """What `work` gives for items, read ahead; a failure where it takes too long."""

        def limit_s(item: Any) -> float:
            return self._limit_s(item if isinstance(item, File) else item.file)

        began = time.perf_counter()
        for item, result in Ahead(work, items, limit_s, READ_AHEAD):
            self._seconds["read"] += time.perf_counter() - began
            if isinstance(result, TimedOut):
                file = item if isinstance(item, File) else item.file
                yield item, _failure(file, "read", "timed-out", _late(file, limit_s(item)))
            else:
                yield item, result
            began = time.perf_counter()

    def _limit_s(self, file: File) -> float:
        return self.settings.timeout_s * (1 + file.size / PART_BYTES)

    def _too_long(self, file: File, duration_s: float) -> Failure:
        hours = self.settings.longest_s / 3600
        detail = (
            f"{printable(file.recording.path)} lasts {duration_s / 3600:.1f} hours, more than the"
            f" {hours:g} that --max-hours allows"
        )
        return _failure(file, "read", "too-long", detail)

    def _write(
        self, file: File, transcripts: list[Transcript], folders: set[Path], outputs: Together
    ) -> Done | Failure:
        """Begin to write the outputs of a file; what becomes of it when that has ended well.

        `folders` will be there for those of other files.
        """
        assert self.settings.folder is not None
        own = dict(self._outputs(file, transcripts))
        paths = {Path(self.settings.folder, name): content for name, content in own.items()}
        taken = next((path for path in paths if path in folders or _is_taken(path)), None)
        if taken is not None:
            what = "a folder is called so, or a file as the folder it would be in"
            detail = f"{printable(taken)} cannot be written: {what}"
            return _failure(file, "write", "name-taken", detail)
        for path, content in paths.items():
            outputs.add(path, content)
        digests = tuple((name, digest_bytes(content)) for name, content in own.items())
        return Done(digests, sum(one.duration_s for one in transcripts))

    def _outputs(self, file: File, transcripts: list[Transcript]) -> Iterator[tuple[str, bytes]]:
        """Names below the output folder, and what is to be in them."""
        name, ending = file.recording.name, os.path.splitext(file.recording.path)[1]
        if self.settings.split_channels and not name.endswith(ending):
            name += ending  # with a number behind its ending it is nobody else's name
        for transcript in transcripts:
            numbered = name if transcript.channel is None else f"{name}.{transcript.channel}"
            for kind in self.settings.formats:
                stream = io.StringIO()
                writer = registry.find("formats", kind)(**self.settings.options.get(kind, {}))
                writer.write(transcript, stream)
                yield f"{numbered}.{kind}", stream.getvalue().encode("utf-8", "surrogateescape")


class Trial:
    """Recognises the files of a part and gives nothing back: it shows whether that ends well."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    def __call__(self, part: Part) -> None:
        """Do the work once, whether or not it is wanted."""
        files = tuple(replace(file, wanted=True) for file in part.files)
        self._transcriber.recognise(Part(files))


def _is_taken(path: Path) -> bool:
    """Whether a folder has that name already, or a file one of those above it."""
    return path.is_dir() or any(above.is_file() for above in path.parents)


def _probe(file: File) -> audio.AudioInfo | Failure:
    return _attempt(file, lambda: audio.probe(file.recording.path))


def _load(piece: _Piece) -> Floats | Failure:
    recording = piece.file.recording
    return _attempt(
        piece.file,
        lambda: audio.load(
            recording.path,
            recording.start_s,
            recording.end_s,
            channel=piece.channel,
            limit_s=max(piece.duration_s, 2 * WHOLE_S),
        ),
    )


def _device(wanted: str) -> str:
    """`cuda` where torch finds a GPU, unless the CPU is wanted."""
    import torch

    found = torch.cuda.is_available()
    if wanted == "gpu" and not found:
        raise UserError("--device gpu: torch finds no GPU here. Try asr doctor.")
    return "cuda" if found and wanted != "cpu" else "cpu"


def _placed(transcript: Transcript, piece: _Piece) -> Transcript:
    """With its channel, and with times of the whole file where a stretch of it was recognised."""
    start_s = piece.file.recording.start_s
    nbest = transcript.nbest
    if start_s:
        nbest = tuple(
            replace(
                hypothesis,
                words=tuple(
                    replace(word, start_s=word.start_s + start_s, end_s=word.end_s + start_s)
                    for word in hypothesis.words
                ),
            )
            for hypothesis in nbest
        )
    channel = None if piece.channel is None else piece.channel + 1
    return replace(transcript, nbest=nbest, channel=channel)


def _attempt(file: File, read: Callable[[], Any]) -> Any:
    """What `read` gives for a file that stays as it is, or why it gives nothing."""
    try:
        found = read()
        return _changed(file) or found
    except InputError as error:
        return _changed(file) or _failure(file, "read", error.reason, str(error))
    except Exception as error:  # noqa: BLE001  one bad file stops none of the others
        return _failure(file, "read", "error", _what(error))


def _changed(file: File) -> Failure | None:
    """That a file is another one than when the work was planned: somebody writes it."""
    path = file.recording.path
    try:
        status = os.stat(path)
    except OSError as error:
        return _failure(file, "read", "missing", f"{path} is gone: {error.strerror}")
    if (status.st_size, status.st_mtime_ns) == (file.size, file.changed_ns):
        return None
    return _failure(file, "read", "changed", f"{path} was changed while it was to be read")


def _late(file: File, limit_s: float) -> str:
    return f"{file.recording.path}: nothing was read of it in {limit_s:.0f} s"


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failure(file: File, stage: str, reason: str, detail: str) -> Failure:
    return Failure(file.recording.path, stage, reason, detail)
