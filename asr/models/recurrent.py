"""What the recurrent encoders share: layers in which padding cannot leak, and their stack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr.models.frontend import ConvSubsampling

# Input width and hidden width to a layer of one direction: frames [B, T, I] and, where given, the
# state to begin with, to outputs [B, T, H] and the state at the end.
Cell = Callable[[int, int], nn.Module]
State = Tensor | tuple[Tensor, ...]


def reverse_within_lengths(frames: Tensor, lengths: Tensor) -> Tensor:
    """Each utterance's own frames in reverse, its padding left where it is: [B, T, H] -> [B, T, H].

    Its own inverse.
    """
    positions = torch.arange(frames.shape[1], device=frames.device)[None, :]  # [1, T]
    own = positions < lengths[:, None]
    indices = torch.where(own, lengths[:, None] - 1 - positions, positions)  # [B, T]
    return frames.gather(1, indices[:, :, None].expand_as(frames))


def start_cell(cell: nn.Module, hidden: int) -> None:
    """Orthogonal recurrent weights, Glorot input weights, forget-gate bias 1; others stay.

    (Saxe et al. 2014; Jozefowicz et al. 2015. Weights are named as PyTorch names them, and an
    LSTM's gates stand in the order i, f, g, o.)
    """
    for name, parameter in cell.named_parameters():
        if "weight_hh" in name:
            for gate in parameter.data.split(hidden):
                nn.init.orthogonal_(gate)
        elif "weight_ih" in name:
            for gate in parameter.data.split(hidden):
                nn.init.xavier_uniform_(gate)
        elif "bias_" in name:
            nn.init.zeros_(parameter)
            if "bias_ih" in name and len(parameter) == 4 * hidden:
                parameter.data[hidden : 2 * hidden] = 1.0


def detached(state: State) -> State:
    """The same state, through which no gradient flows back."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(part.detach() for part in state)


def check_sizes(dropout: float, **sizes: int) -> None:
    """Refuse what no network can be made of.

    Raises:
        ValueError: a size below 1, or a dropout outside [0, 1); names it.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is at least 1, not {size}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout lies in [0, 1), not {dropout}")


class RecurrentLayer(nn.Module):
    """One recurrent layer in one or both directions, exact for padded batches.

    Packing forces cuDNN's slowest algorithm, and costs two thirds of a training step on a CPU. So
    the backward direction runs as a forward one over each utterance reversed within its own length:
    both directions meet an utterance's padding after its last frame only.

    Measured by `tools/bench_models.py` on one CPU thread (LSTM, 12 utterances of 60 to 120 frames,
    512 to 256): training 302 ms packed, 92 split; inference 57, 30. Where all lengths are equal,
    one unpacked bidirectional call is exact too, but takes 84 ms to the 89 of this: not worth
    summing gradients in another order, and making a GPU wait to know that the lengths are equal.

    With `truncate`, gradients reach back through the state to the last multiple of so many frames
    only (Williams and Peng 1990); outputs are the same.

    Raises:
        ValueError: `truncate` is negative, or given to a layer of both directions.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden: int,
        bidirectional: bool = True,
        truncate: int = 0,
    ) -> None:
        super().__init__()
        if truncate < 0:
            raise ValueError(f"truncate is 0 frames or more, not {truncate}")
        if truncate and bidirectional:
            raise ValueError(
                f"truncate={truncate} goes with bidirectional=false only: the backward direction"
                " begins at the end of the utterance, which has to be there as a whole"
            )
        self.truncate = truncate
        self.forwards = cell(input_size, hidden)
        start_cell(self.forwards, hidden)
        self.backwards: nn.Module | None = None
        if bidirectional:
            self.backwards = cell(input_size, hidden)
            start_cell(self.backwards, hidden)
        self.output_size = hidden * (2 if bidirectional else 1)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, input_size], [B] -> [B, T, output_size]; undefined beyond the lengths."""
        ahead = self._ahead(frames)
        if self.backwards is None:
            return ahead
        back = self.backwards(reverse_within_lengths(frames, lengths))[0]
        return torch.cat([ahead, reverse_within_lengths(back, lengths)], dim=2)

    def _ahead(self, frames: Tensor) -> Tensor:
        """The forward direction: [B, T, input_size] -> [B, T, H]."""
        if not self.truncate or not torch.is_grad_enabled():
            whole: Tensor = self.forwards(frames)[0]
            return whole
        state, chunks = None, []
        for chunk in frames.split(self.truncate, dim=1):
            outputs, state = self.forwards(chunk, state)
            state = detached(state)
            chunks.append(outputs)
        return torch.cat(chunks, dim=1)


class RecurrentEncoder(nn.Module):
    """Strided convolutions, then single recurrent layers with normalisation between them.

    Each layer is followed by layer norm and dropout, and added to its input where the widths agree.
    Its input is a projection to `hidden` (Graves and Schmidhuber 2005; Amodei et al. 2016).

    Args:
        input_size: mel bins F.
        subsampling: frames of features for one frame that comes out: 2, 3, 4 or 6.
        channels: of the two convolutions.
        hidden: units of one direction.
        layers: recurrent layers.
        bidirectional: both directions, or the forward one alone.
        dropout: on each layer's output.
        truncate: frames that come out, after which gradients no longer reach back through the
            state; 0: the whole utterance. For one direction only.
    """

    cell: Cell  # what tells the members of the family apart

    def __init__(
        self,
        input_size: int,
        subsampling: int = 4,
        channels: int = 32,
        hidden: int = 256,
        layers: int = 3,
        bidirectional: bool = True,
        dropout: float = 0.3,
        truncate: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(dropout, layers=layers, hidden=hidden, channels=channels)
        self.frontend = ConvSubsampling(input_size, channels, hidden, subsampling)
        self.subsampling = subsampling
        sizes = [hidden] + [hidden * (2 if bidirectional else 1)] * layers
        self.layers = nn.ModuleList(
            RecurrentLayer(self.cell, size, hidden, bidirectional, truncate)
            for size in sizes[:layers]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(sizes[-1]) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.output_size = sizes[-1]

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every layer's output, for those that look inside: a list of [B, T', H], lengths [B]."""
        frames, lengths = self.frontend(features, lengths)
        frames = self.dropout(frames)
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            above = self.dropout(norm(layer(frames, lengths)))
            frames = above + frames if above.shape == frames.shape else above
            outputs.append(frames)
        return outputs, lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F], lengths [B] -> frames [B, T', H], lengths [B]."""
        outputs, lengths = self.layer_outputs(features, lengths)
        return outputs[-1], lengths
