"""What every decoder is, and what one with a language model is besides."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from asr.decoding.hypothesis import Hypothesis


class Decoder(Protocol):
    """Emissions to hypotheses. `rate_name` says what of: "wer" of words, "per" of phones."""

    @property
    def rate_name(self) -> str:
        """Of what the hypotheses are made."""
        ...

    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Log-probabilities `[B, T', V]` and lengths `[B]` to N-best lists, the best first."""
        ...


class Weighted(Decoder, Protocol):
    """A decoder that weighs a language model.

    `rewarding` where there is something that `beta` rewards; else it can only be 0.
    """

    @property
    def rewarding(self) -> bool:
        """Whether `beta` may be anything but 0."""
        ...

    def weighted(self, alpha: float, beta: float) -> Weighted:
        """The same with other weights."""
        ...
