"""What is found for a decoder on the validation split, kept in the run's folder for the next time.

A model that was trained on validation takes over what the run `base` was given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from asr.commands.references import references
from asr.commands.runs import run_folder
from asr.config import Config
from asr.decoding.settings import digested
from asr.errors import UserError

if TYPE_CHECKING:
    import torch

    from asr.bundle import Bundle
    from asr.corpus import Corpus

SPLIT = "validation"
MOST_S = 7200.0  # of audio: so many emissions are held in memory at once


def trained_on_split(trained: Mapping[str, Any], corpus: Corpus, split: str) -> bool:
    """Whether a model's weights were fitted on this very split of this very corpus.

    So they were where those were that its training began with (`init`), or any before.
    """
    if trained.get("corpus") == corpus.fingerprint and split in trained.get("splits", []):
        return True
    before = trained.get("init")
    return isinstance(before, Mapping) and trained_on_split(before, corpus, split)


@dataclass(frozen=True)
class Validation:
    """A model, and the corpus on whose validation split something is to be found."""

    config: Config
    bundle: Bundle
    corpus: Corpus
    notes: Console

    @cached_property
    def digest(self) -> str:
        """Of the model, whatever decoder it has kept: what is found is for another."""
        return self.bundle.digest_of_emissions

    @property
    def seen(self) -> bool:
        """Whether the model was trained on the split, which then says nothing."""
        return trained_on_split(self.bundle.trained, self.corpus, SPLIT)

    @property
    def folder(self) -> Path:
        """The run whose findings are used."""
        return run_folder(self.config, "base" if self.seen else None)

    @property
    def suffix(self) -> str:
        """What the names of findings end in: '' of the run's own model, else the model's digest."""
        run = run_folder(self.config)
        own = not self.config.bundle or Path(self.config.bundle).resolve() == (
            (run / "model").resolve()
        )
        return "" if own or self.seen else f"-{self.digest[:8]}"

    @property
    def source(self) -> str:
        """Where it was found, in words."""
        return f"found on {SPLIT}" + (" for the run base" if self.seen else "")

    def stamp(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """For what something is found: the model, the corpus, the decoder's other settings."""
        return {
            "model": self.digest,
            "corpus": self.corpus.fingerprint,
            "decoder": digested(settings),
        }

    def kept(self, file: Path, stamp: Mapping[str, Any], what: str) -> dict[str, Any] | None:
        """What was found earlier for the same, `what` in words; None where it is yet to be found.

        Raises:
            UserError: the run `base` has none to take over.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            earlier = dict(found["stamp"])
        except (OSError, ValueError, TypeError, KeyError):
            found, earlier = None, {}
        keys = ("corpus", "decoder") if self.seen else ("model", "corpus", "decoder")
        if found is not None and all(earlier.get(key) == stamp[key] for key in keys):
            return dict(found)
        if self.seen:
            raise UserError(
                f"This model was trained on validation: {what} of the run base, and {file} has none"
                f" for these settings. Run first: asr evaluate recipe={self.config.recipe.name}"
                " name=base with the same decoder."
            )
        return None

    @cached_property
    def heard(self) -> tuple[list[str], list[tuple[torch.Tensor, torch.Tensor]]]:
        """References and emissions of the split, in one order; of a long split, evenly fewer."""
        from asr.waveforms import BATCH_S, batches_by_length, waveform_of

        split = self.corpus.split(SPLIT)
        said, _ = references(lambda text: text, split, [], self.corpus.normaliser)
        every = max(1, int(np.ceil(split.durations_s.sum() / MOST_S)))
        chosen = said[::every]
        durations = [float(split.durations_s[one.position]) for one in chosen]
        spoken: list[str] = []
        emissions = []
        for batch in batches_by_length(durations, BATCH_S):
            ones = [chosen[position] for position in batch]
            waveforms = [waveform_of(split.waveform(one.position or 0), one.id) for one in ones]
            spoken += [one.reference for one in ones]
            emitted, lengths = self.bundle.emissions(waveforms)
            emissions.append((emitted.cpu(), lengths.cpu()))
        return spoken, emissions
