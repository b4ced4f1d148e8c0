"""Recognition while somebody speaks: samples in chunks of any size, emissions once certain.

Each step of a network that streams sees a few frames at a time and moves on by a stride. So all
that a stream keeps is the last few frames before each step, and the state of each recurrent layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.decoding.greedy import BLANK
from asr.errors import UserError
from asr.features import SAMPLE_RATE_HZ, LogMel
from asr.models.ctc import CtcModel
from asr.models.lstm_unidirectional import UnidirectionalLstmEncoder
from asr.models.recurrent import RecurrentEncoder
from asr.units.symbols import Units
from asr.waveforms import waveform_of

# A chunk is computed in pieces of so many samples, so that an hour at once takes no more memory.
PIECE_SAMPLES = 10 * SAMPLE_RATE_HZ


class Step:
    """One step of a network, over frames that come bit by bit.

    Each output sees `size` frames; those of the next one begin `stride` further on. `before` frames
    of zeros stand before the first frame, `after` behind the last. `compute` takes the frames that
    some outputs see together, and gives these outputs. Time is the axis `axis`.
    """

    def __init__(
        self,
        compute: Callable[[Tensor], Tensor],
        size: int = 1,
        stride: int = 1,
        before: int = 0,
        after: int = 0,
        axis: int = 1,
    ) -> None:
        self.compute = compute
        self.size, self.stride = size, stride
        self.before, self.after = before, after
        self.axis = axis
        self.kept: Tensor | None = None  # what outputs to come will see

    def push(self, frames: Tensor) -> Tensor | None:
        """The outputs that are certain with these frames, if any."""
        kept = self._zeros(frames, self.before) if self.kept is None else self.kept
        frames = torch.cat([kept, frames], self.axis)
        count = frames.shape[self.axis]
        outputs = max(0, 1 + (count - self.size) // self.stride)
        begin = outputs * self.stride  # of what the next output sees
        # Copied, because a view would keep the whole chunk in memory.
        self.kept = frames.narrow(self.axis, begin, count - begin).clone()
        if outputs == 0:
            return None
        return self.compute(frames.narrow(self.axis, 0, begin - self.stride + self.size))

    def finish(self) -> Tensor | None:
        """The outputs that waited for more frames, if any."""
        if self.kept is None or self.after == 0:
            return None
        return self.push(self._zeros(self.kept, self.after))

    def frames_for(self, outputs: int) -> int:
        """How many frames must have come before so many outputs are certain."""
        return (outputs - 1) * self.stride + self.size - self.before

    def _zeros(self, like: Tensor, count: int) -> Tensor:
        shape = list(like.shape)
        shape[self.axis] = count
        return like.new_zeros(shape)


class Stream:
    """A recording's emissions while it comes, in all those of the whole.

    Several streams may share one network: what a stream remembers, it keeps to itself.

    Raises:
        UserError: features or network need the whole utterance; says what to train instead.
    """

    def __init__(self, network: CtcModel, features: LogMel, units: Units) -> None:
        if features.normalisation == "utterance":
            raise UserError(
                "This model cannot stream: features.normalisation=utterance needs the whole"
                " utterance. Train with features.normalisation=corpus."
            )
        self.encoder = _streaming_encoder(network)
        self.network, self.features, self.units = network, features, units
        self.steps = self._steps()
        self.states: list[Any] = [None] * len(self.encoder.layers)
        self.labels: list[int] = []  # of the text so far
        self.last_label = BLANK
        self.finished = False

    @property
    def latency_s(self) -> float:
        """From the first sample of a frame of emissions to the last one that it waits for.

        One window, and what the convolutions and the lookahead see of the following frames. Neither
        the length of a chunk nor the time to compute it is part of it.
        """
        count = 1
        for step in reversed(self.steps):
            count = step.frames_for(count)
        return count / SAMPLE_RATE_HZ

    @property
    def text(self) -> str:
        """What was heard so far: each frame's likeliest unit, repeats merged, blanks dropped."""
        return self.units.decode(self.labels)

    def push(self, samples: np.ndarray) -> Tensor:
        """Log-probabilities `[n, V]` of the n frames that became certain, which may be none.

        Takes any number of samples `[S]` at 16 kHz, mono: floats in [-1, 1], or int16.

        Raises:
            UserError: the samples are not of that kind, and nothing was changed; or the stream is
                finished.
        """
        self._check_open()
        device = self.network.head.weight.device
        waveform = torch.tensor(waveform_of(samples, "the chunk"), device=device)  # [S]
        pieces = waveform[None].split(PIECE_SAMPLES, dim=1)
        return self._emissions(_through(self.steps, piece) for piece in pieces)

    def finish(self) -> Tensor:
        """Log-probabilities `[n, V]` of the frames that waited for more samples; ends the stream.

        Raises:
            UserError: the stream is finished already.
        """
        self._check_open()
        self.finished = True
        return self._emissions(
            _through(self.steps[position:], step.finish())
            for position, step in enumerate(self.steps, start=1)
        )

    def _check_open(self) -> None:
        if self.finished:
            raise UserError("This stream is finished: begin another with stream().")

    def _steps(self) -> list[Step]:
        """From samples to emissions."""
        window, hop = self.features.window_samples, self.features.hop_samples
        frontend = self.encoder.frontend

        def first(frames: Tensor) -> Tensor:  # [1, 1, T, F] -> [1, C, T / s, F / 2]
            return frontend.convolved(0, frames, time_padding=0)

        def second(frames: Tensor) -> Tensor:  # [1, C, T / s, F / 2] -> [1, T', H]
            return frontend.projected(frontend.convolved(1, frames, time_padding=0))

        steps = [
            # Between windows shorter than the hop lie samples that are waited for and not used.
            Step(self._log_mel, max(window, hop), hop, after=max(0, hop - window)),
            Step(first, 3, frontend.strides[0], before=1, after=1, axis=2),
            Step(second, 3, frontend.strides[1], before=1, after=1, axis=2),
            Step(self._recurrent),
        ]
        encoder = self.encoder
        if isinstance(encoder, UnidirectionalLstmEncoder) and encoder.lookahead is not None:
            ahead, look_ahead = encoder.lookahead.frames, encoder.look_ahead

            def lookahead(frames: Tensor) -> Tensor:  # [1, T' + L, H] -> [1, T', H]
                return frames[:, :-ahead] + look_ahead(frames)

            steps.append(Step(lookahead, ahead + 1, after=ahead))
        return steps

    def _log_mel(self, samples: Tensor) -> Tensor:  # [1, S] -> [1, 1, T, F]
        lengths = torch.tensor([samples.shape[1]], device=samples.device)
        return self.features(samples, lengths)[0][:, None]

    def _recurrent(self, frames: Tensor) -> Tensor:  # [1, T', H] -> [1, T', H]
        layers = zip(self.encoder.layers, self.encoder.norms, strict=True)
        for position, (layer, norm) in enumerate(layers):
            cell = layer.get_submodule("forwards")
            outputs, state = _run(cell, frames, self.states[position])
            self.states[position] = _copied(state)
            frames = norm(outputs) + frames
        return frames

    def _emissions(self, pieces: Iterator[Tensor | None]) -> Tensor:
        """Computes pieces [1, n, H], and of all of them together emissions [n, V] and text."""
        head = self.network.head
        self.network.eval()
        # TF32 would round differently for chunks of different sizes.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            frames = [piece[0] for piece in pieces if piece is not None]
            joined = torch.cat([head.weight.new_empty(0, head.in_features), *frames])  # [n, H]
            emissions = head(joined).log_softmax(dim=-1)  # [n, V]
        for label in emissions.argmax(dim=-1).tolist():
            if label not in (self.last_label, BLANK):
                self.labels.append(label)
            self.last_label = label
        return emissions


def _streaming_encoder(network: CtcModel) -> RecurrentEncoder:
    """The network's encoder, once it is known that no frame of it needs the utterance's end."""
    encoder = network.encoder
    known = (RecurrentEncoder.layer_outputs, UnidirectionalLstmEncoder.layer_outputs)
    if not isinstance(encoder, RecurrentEncoder) or type(encoder).layer_outputs not in known:
        raise UserError(
            f"This model cannot stream: {type(encoder).__name__} needs the whole utterance."
            " Train with model=lstm_unidirectional."
        )
    if any(layer.backwards is not None for layer in encoder.layers):
        raise UserError(
            "This model cannot stream: its backward direction begins at the utterance's end."
            " Train with model=lstm_unidirectional, or with model.bidirectional=false."
        )
    return encoder


def _through(steps: Sequence[Step], frames: Tensor | None) -> Tensor | None:
    """What comes out of the last of some steps, if anything."""
    for step in steps:
        if frames is None:
            return None
        frames = step.push(frames)
    return frames


def _run(cell: nn.Module, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
    """One layer over frames [1, T', I], from its state before them to that after."""
    if type(cell) is not nn.LSTM or frames.device.type != "cpu":
        return cell(frames, state)
    # On a CPU PyTorch sorts an LSTM's weights anew in each call, which takes as long as 30 frames.
    state = state or (frames.new_zeros(1, cell.hidden_size),) * 2
    weights, outputs = list(cell.parameters()), []
    for frame in frames.unbind(1):  # [1, I]
        state = torch.lstm_cell(frame, state, *weights)
        outputs.append(state[0])
    return torch.stack(outputs, 1), state  # [1, T', H]


def _copied(state: Any) -> Any:
    """A cell's state without the outputs that it may be a view of."""
    if isinstance(state, Tensor):
        return state.clone()
    return tuple(_copied(part) for part in state)
