"""An encoder with a CTC head."""

from __future__ import annotations

from torch import Tensor, nn


class CtcModel(nn.Module):
    """Emissions from features: encoder, linear, log-softmax (Graves et al. 2006).

    Args:
        encoder: features in, frames out, with `subsampling`, `output_size` and `layer_outputs`, as
            `RecurrentEncoder` has them.
        vocabulary_size: V, the blank included.
    """

    def __init__(self, encoder: nn.Module, vocabulary_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(int(encoder.output_size), vocabulary_size)  # type: ignore[arg-type]

    @property
    def subsampling(self) -> int:
        """Frames of features for one frame of emissions."""
        return int(self.encoder.subsampling)  # type: ignore[arg-type]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, T, F], lengths [B] -> emissions [B, T', V], lengths [B]."""
        frames, lengths = self.encoder(features, lengths)
        logits = self.head(frames).to(self.head.weight.dtype)  # in half precision under autocast
        return logits.log_softmax(dim=-1), lengths
