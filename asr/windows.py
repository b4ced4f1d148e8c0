"""Emissions of a recording of any length, in windows that overlap, at constant memory.

A window is computed as if it were a recording. Near its edges it lacks what comes before or after,
so neighbours overlap, and in the middle of what both have seen the later one takes over: at the
frame where they agree best. A recording of one window has the emissions of the whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.features import SAMPLE_RATE_HZ, stretches
from asr.files import explain_write_errors

WINDOW_S = 40.0
OVERLAP_S = 10.0  # of two neighbours
BLANK = 0

Floats = npt.NDArray[np.float32]


class Features(Protocol):
    """What makes features of waveforms [B, S] and lengths [B], as `asr.features.LogMel` does.

    Those whose `normalisation` is `utterance` are asked for others that are `fitted` to a whole.
    """

    hop_samples: int
    normalisation: str

    def __call__(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features and their lengths [B]."""
        ...

    def fitted(self, blocks: Iterable[Floats]) -> Features:
        """Features that normalise each part of a recording as the whole would be."""
        ...


class Network(Protocol):
    """What makes emissions of features, as `asr.models.ctc.CtcModel` does."""

    @property
    def subsampling(self) -> int:
        """Frames of features for one frame of emissions."""
        ...

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B, T', V] and their lengths [B]."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """The weights, on one device."""
        ...

    def eval(self) -> Any:
        """Evaluation mode."""
        ...


def emissions(
    network: Network, features: Features, blocks: Callable[[], Iterable[Floats]]
) -> Iterator[Floats]:
    """Log-probabilities [n, V] of a recording, in order, as many frames in all as of the whole.

    Puts the network into evaluation mode. Features that are normalised by the utterance are by the
    whole recording, which is read twice for it.

    Args:
        network: of a bundle, on any device.
        features: likewise.
        blocks: gives the recording from its beginning, each time it is called: floats [S] in
            [-1, 1] at 16 kHz, mono, in pieces of any size (`asr.audio.blocks`).
    """
    network.eval()
    if features.normalisation == "utterance":
        features = features.fitted(blocks())
    frame_samples = features.hop_samples * network.subsampling
    windows = _windows(blocks(), frame_samples)
    yield from _joined((first, _computed(network, features, window)) for first, window in windows)


class EmissionsFile:
    """Emissions on the disk, read in slices [n, V]; gone when it is closed.

    Raises:
        UserError: the folder of temporary files cannot be written.
    """

    def __init__(self, size: int) -> None:
        self.shape = (0, size)
        self._folder = tempfile.gettempdir()
        with explain_write_errors(self._folder):
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  see __exit__

    def append(self, frames: Floats) -> None:
        """Add frames [n, V] at the end."""
        with explain_write_errors(self._folder):
            self._file.seek(0, os.SEEK_END)
            self._file.write(np.ascontiguousarray(frames, dtype=np.float32).tobytes())
            self._file.flush()
        self.shape = (self.shape[0] + len(frames), self.shape[1])

    def __getitem__(self, frames: slice) -> Floats:
        start, stop, _ = frames.indices(self.shape[0])
        size = self.shape[1]
        self._file.seek(start * size * np.dtype(np.float32).itemsize)
        values = np.fromfile(self._file, np.float32, max(0, stop - start) * size)
        return values.reshape(-1, size)

    def __enter__(self) -> EmissionsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _windows(blocks: Iterable[Floats], frame_samples: int) -> Iterator[tuple[int, Floats]]:
    """First frame of emissions and samples of each window; the frames of all lie on one grid."""
    size = round(WINDOW_S * SAMPLE_RATE_HZ / frame_samples) * frame_samples
    overlap = round(OVERLAP_S * SAMPLE_RATE_HZ / frame_samples) * frame_samples
    for start, samples in stretches(blocks, size, size - overlap):
        yield start // frame_samples, samples


def _computed(network: Network, features: Features, samples: Floats) -> Floats:
    """Emissions [n, V] of samples [S] alone."""
    device = next(iter(network.parameters())).device
    waveform = torch.from_numpy(samples)[None].to(device)  # [1, S]
    lengths = torch.tensor([len(samples)], device=device)
    # TF32 would round what a window gives differently from what the whole does.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        frames, lengths = network(*features(waveform, lengths))
    return frames[0, : int(lengths)].float().cpu().numpy()  # [1, T', V] -> [n, V]


def _joined(windows: Iterable[tuple[int, Floats]]) -> Iterator[Floats]:
    """Each frame once, of windows given by their first frame and emissions."""
    kept, begin = np.zeros((0, 0), np.float32), 0
    for first, frames in windows:
        if first == 0:
            kept = frames
            continue
        cut = _seam(kept[first - begin :], frames)
        yield kept[: first - begin + cut]
        kept, begin = frames[cut:], first + cut
    yield kept


def _seam(earlier: Floats, later: Floats) -> int:
    """How many frames of an overlap the earlier window gives.

    Where both are surest of a blank and the posteriors of the two differ least, before the cut and
    behind it; looked for in the middle half, since nearer to an edge one of them lacks context.
    """
    overlap = min(len(earlier), len(later))
    low, high = overlap // 4, max(overlap // 4 + 2, 3 * overlap // 4)
    first, second = np.exp(earlier[low:high]), np.exp(later[low:high])  # [n, V]
    apart = np.abs(first - second).max(axis=1)  # [n]
    heard = 1 - np.minimum(first[:, BLANK], second[:, BLANK])
    cost = apart + heard
    return low + 1 + int(np.argmin(cost[:-1] + cost[1:]))
