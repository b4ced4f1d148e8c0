"""A batch: utterances together, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Waveforms [B, S] in [-1, 1] with their labels [B, U], both padded with zeros.

    `keys` and `epoch` are what augmentation draws from. `inner_targets` are the labels of the inner
    CTC where it has units of its own.
    """

    waveforms: Tensor
    waveform_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    inner_targets: Tensor
    inner_target_lengths: Tensor
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    speakers: tuple[str, ...]
    keys: np.ndarray
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def audio_s(self) -> float:
        """Seconds of audio, padding left out."""
        return float(self.waveform_lengths.sum()) / 16_000

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in (
                "waveforms",
                "waveform_lengths",
                "targets",
                "target_lengths",
                "inner_targets",
                "inner_target_lengths",
            )
        }
        return replace(self, **moved)


def pad_waveforms(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveforms [S] of any lengths to [B, S] and lengths [B]."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    padded = torch.zeros(len(waveforms), int(lengths.max()) if len(waveforms) else 0)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded, lengths


def pad_labels(labels: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Label sequences of any lengths to [B, U] and lengths [B]."""
    lengths = torch.tensor([len(sequence) for sequence in labels])
    padded = torch.zeros(len(labels), int(lengths.max()) if len(labels) else 0, dtype=torch.long)
    for row, sequence in zip(padded, labels, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.long)
    return padded, lengths
