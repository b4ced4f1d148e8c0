"""What a worker does: it reads the files of a part, recognises them, and writes their outputs."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cluster.attempt import why_it_cannot_go_on
from asr.cluster.plan import PART_BYTES, Part
from asr.cluster.reading import Floats, Piece, Reader, failure
from asr.cluster.writing import Done, Outputs
from asr.decoding.hypothesis import Hypothesis, Transcript
from asr.decoding.settings import combined
from asr.errors import UserError
from asr.files import InputError
from asr.inputs import Failure
from asr.waveforms import BATCH_S, LONGEST_S, WHOLE_S, batches_by_length

if TYPE_CHECKING:
    from asr.bundle import Bundle

DIGITS_S = 3  # of a time in seconds

Heard = list[Transcript] | Failure | None


@dataclass(frozen=True)
class Settings:
    """What is asked of all files alike.

    `decoder` are the settings in which the decoder differs from the model's own, `folder` where
    outputs go (None: nowhere), `longest_s` the decoded duration that is taken, `timeout_s` how long
    a file may keep its worker waiting, `threads` those of a worker, `options` those of formats'
    writers, `token` the run's, and `overwrite` whether files that no record knows are replaced.
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
    overwrite: bool = False

    def limit_s(self, part: Part) -> float:
        """How long a part may keep a worker busy: more where there are more bytes.

        Twice what its files may keep a reader waiting, so that a worker tells which of them did.
        """
        return 2 * self.timeout_s * (1 + part.size / PART_BYTES)


@dataclass(frozen=True)
class Result:
    """What became of each file of a part; None where it was not wanted.

    `seconds` says how long the worker waited for audio, recognised and wrote. Where a signal
    `stopped` it, what had not been recognised by then is None too.
    """

    outcomes: tuple[Done | Failure | None, ...]
    seconds: Mapping[str, float]
    stopped: BaseException | None = None


class Transcriber:
    """Recognises parts and writes their outputs. The model is loaded once, by the first part.

    `heard`, where it is set, is told of seconds of audio as soon as they are recognised. A signal
    that comes meanwhile is raised, or comes with the result of a part where it is `stoppable`.
    """

    def __init__(self, settings: Settings, bundle: Bundle | None = None) -> None:
        self.settings = settings
        self.heard: Callable[[float], None] | None = None
        self.stoppable = False
        self._bundle = bundle

    def __reduce__(self) -> tuple[Any, ...]:
        return Transcriber, (self.settings,)  # a worker loads its own model

    def __call__(self, part: Part) -> Result:
        """A worker's work: what became of the files, once their outputs are on the disk."""
        settings = self.settings
        assert settings.folder is not None
        reader = self._reader()
        began = time.perf_counter()
        ended: list[Done | Failure | None] = [None] * len(part.files)
        stopped: BaseException | None = None
        with Outputs(
            Path(settings.folder),
            settings.formats,
            settings.options,
            settings.token,
            part.files,
            settings.overwrite,
        ) as outputs:
            following = self._ended(part, reader)
            while True:
                try:
                    position, heard = next(following)
                except StopIteration:
                    break
                except BaseException as error:
                    if isinstance(error, Exception) or not self.stoppable:
                        raise
                    stopped = error
                    break
                if isinstance(heard, Failure):
                    ended[position] = heard
                else:
                    ended[position] = outputs.add(part.files[position], heard)
            recognised = time.perf_counter()
            refused = outputs.finish()
        for position, file in enumerate(part.files):
            if file.wanted and file.recording.name in refused:
                ended[position] = refused[file.recording.name]
        seconds = {
            "read": reader.waited_s,
            "recognise": recognised - began - reader.waited_s,
            "write": time.perf_counter() - recognised,
        }
        return Result(tuple(ended), seconds, stopped)

    def recognise(self, part: Part) -> list[Heard]:
        """The transcripts of each wanted file, one a channel, or why there are none."""
        found: list[Heard] = [None] * len(part.files)
        for position, heard in self._ended(part, self._reader()):
            found[position] = heard
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
                settings = combined(bundle.own_decoder, self.settings.decoder)
                bundle.search = bundle.build_decoder(settings)
            self._bundle = bundle
        return self._bundle

    def _reader(self) -> Reader:
        settings = self.settings
        return Reader(settings.longest_s, settings.timeout_s, settings.split_channels)

    def _ended(
        self, part: Part, reader: Reader
    ) -> Iterator[tuple[int, list[Transcript] | Failure]]:
        """The wanted files' positions and what becomes of them, as soon as that is known."""
        short: list[Piece] = []
        long: list[Piece] = []
        left: Counter[int] = Counter()  # pieces
        for piece in reader.pieces(part.files):
            if isinstance(piece, Piece):
                (short if piece.duration_s <= WHOLE_S else long).append(piece)
                left[piece.position] += 1
            elif part.files[piece[0]].wanted:
                yield piece
        heard: dict[int, list[Transcript]] = {}
        failed: set[int] = set()
        pieces = itertools.chain(
            self._short(short, reader), *(self._long(piece, reader) for piece in long)
        )
        for piece, transcript in pieces:
            position = piece.position
            left[position] -= 1
            if not piece.file.wanted or position in failed:
                continue
            if isinstance(transcript, Failure):
                failed.add(position)
                yield position, transcript
                continue
            heard.setdefault(position, []).append(transcript)
            if not left[position]:
                yield position, sorted(heard.pop(position), key=lambda one: one.channel or 0)

    def _short(
        self, pieces: Sequence[Piece], reader: Reader
    ) -> Iterator[tuple[Piece, Transcript | Failure]]:
        """Of pieces that are recognised whole, in batches of similar length."""
        batches = [
            [pieces[position] for position in batch]
            for batch in batches_by_length([piece.duration_s for piece in pieces], BATCH_S)
        ]
        # A batch of which something is wanted is computed whole, so that it is always the same.
        batches = [batch for batch in batches if any(piece.file.wanted for piece in batch)]
        waveforms = reader.waveforms([piece for batch in batches for piece in batch])
        for batch in batches:
            loaded = []
            for piece, waveform in itertools.islice(waveforms, len(batch)):
                if isinstance(waveform, Failure) and waveform.reason == "too-long":
                    yield from self._long(piece, reader)
                elif isinstance(waveform, Failure):
                    yield piece, waveform
                else:
                    loaded.append((piece, waveform))
            yield from self._recognised(loaded)

    def _recognised(
        self, loaded: Sequence[tuple[Piece, Floats]]
    ) -> Iterator[tuple[Piece, Transcript | Failure]]:
        """A batch's transcripts. Where it fails as a whole, each recording is tried alone."""
        if not loaded:
            return
        bundle = self.bundle  # which may fail, and that is no recording's fault
        pieces = [piece for piece, _ in loaded]
        try:
            transcripts = bundle.recognise(
                [waveform for _, waveform in loaded], [piece.source for piece in pieces]
            )
        except Exception as error:
            if why_it_cannot_go_on(error):
                raise
            if len(loaded) > 1:  # one bad recording stops none of the others
                for one in loaded:
                    yield from self._recognised([one])
                return
            yield pieces[0], failure(pieces[0].file, "recognise", "error", _what(error))
            return
        for piece, transcript in zip(pieces, transcripts, strict=True):
            yield piece, self._checked(piece, transcript)

    def _long(self, piece: Piece, reader: Reader) -> Iterator[tuple[Piece, Transcript | Failure]]:
        """Of a piece that is recognised in windows, where it is wanted."""
        if not piece.file.wanted:
            return
        from asr.recognition import recognise_long

        bundle = self.bundle
        try:
            transcript = recognise_long(bundle, lambda: reader.blocks(piece), piece.source)
        except InputError as error:
            yield piece, failure(piece.file, "read", error.reason, str(error))
        except Exception as error:
            if why_it_cannot_go_on(error):
                raise
            yield piece, failure(piece.file, "recognise", "error", _what(error))
        else:
            yield piece, self._checked(piece, transcript)

    def _checked(self, piece: Piece, transcript: Transcript) -> Transcript | Failure:
        """A transcript in which everything is a number, with its channel and the file's times."""
        if not math.isfinite(transcript.score):
            detail = f"for {piece.source} the model gives values that are no numbers"
            return failure(piece.file, "recognise", "not-finite", detail)
        if self.heard is not None and piece.file.wanted:
            self.heard(transcript.duration_s)
        start_s = piece.file.recording.start_s
        nbest = tuple(_later(one, start_s) for one in transcript.nbest)
        return replace(transcript, nbest=nbest, channel=piece.number, start_s=start_s)


class Trial:
    """Recognises the files of a part and gives nothing back: it shows whether that ends well."""

    def __init__(self, transcriber: Transcriber) -> None:
        self._transcriber = transcriber

    def __call__(self, part: Part) -> None:
        """Do the work once, whether or not it is wanted."""
        files = tuple(replace(file, wanted=True) for file in part.files)
        self._transcriber.recognise(Part(files))


def _device(wanted: str) -> str:
    """`cuda` where torch finds a GPU, unless the CPU is wanted."""
    import torch

    found = torch.cuda.is_available()
    if wanted == "gpu" and not found:
        raise UserError("--device gpu: torch finds no GPU here. Try asr doctor.")
    return "cuda" if found and wanted != "cpu" else "cpu"


def _later(hypothesis: Hypothesis, start_s: float) -> Hypothesis:
    """With times of the whole file, where a stretch of it was recognised."""
    if not start_s:
        return hypothesis
    words = tuple(
        replace(
            word,
            start_s=round(word.start_s + start_s, DIGITS_S),
            end_s=round(word.end_s + start_s, DIGITS_S),
        )
        for word in hypothesis.words
    )
    return replace(hypothesis, words=words)


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
