"""A decoder's calibration: how often words of a confidence are right, found on validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from asr.commands.decoders import CALIBRATION, label
from asr.commands.references import confidences
from asr.commands.validation import Validation
from asr.decoding.confidence import Calibration, NotCalibratedError
from asr.files import explain_write_errors, write_atomically
from asr.scoring.alignment import align
from asr.scoring.confidence import right_words
from asr.scoring.rates import MEASURES, WER
from asr.text import normalise, unchanged


@dataclass(frozen=True)
class Found:
    """A calibration, the words it was fitted on and the right ones among them, and for what."""

    slope: float
    intercept: float
    words: int
    right: int
    stamp: dict[str, Any]


def calibrated(validation: Validation, settings: dict[str, Any]) -> dict[str, Any]:
    """The decoder's settings with the calibration that validation gives.

    A model that was trained on validation gets that of the run `base`. What was found for the same
    model, corpus and settings is not looked for again. Where none can be fitted, a line says why,
    and the settings have none.

    Raises:
        UserError: there is no validation split; or the calibration that is to be taken over is not
            there.
    """
    others = {key: value for key, value in settings.items() if key != CALIBRATION}
    stamp = validation.stamp(others)
    file = validation.folder / f"calibration-{label(settings)}{validation.suffix}.json"
    kept = validation.kept(file, stamp, "its calibration is that")
    try:
        found = Found(**kept) if kept else _fit(validation, others, stamp, file)
    except NotCalibratedError as error:
        validation.notes.print(f"Not calibrated: on validation {error}.", soft_wrap=True)
        return others
    validation.notes.print(
        f"calibration: slope {found.slope:.3g}, intercept {found.intercept:.3g}:"
        f" {validation.source}, {found.words} words ({file})",
        soft_wrap=True,
    )
    return {**others, CALIBRATION: {"slope": found.slope, "intercept": found.intercept}}


def _fit(
    validation: Validation, settings: Mapping[str, Any], stamp: dict[str, Any], file: Path
) -> Found:
    """Fit it on the words that the decoder hears in the split, and keep it."""
    spoken, emissions = validation.heard
    bundle = validation.bundle
    decoder = bundle.build_decoder(settings)
    in_words = MEASURES[decoder.rate_name] is WER
    spell = unchanged if in_words else bundle.units.reference
    written = partial(normalise, validation.corpus.normaliser) if in_words else unchanged
    hypotheses = (nbest[0] for batch in emissions for nbest in decoder.decode(*batch))
    raw: list[float] = []
    right: list[bool] = []
    for text, hypothesis in zip(spoken, hypotheses, strict=True):
        reference, heard = spell(text), written(hypothesis.text)
        own = confidences(hypothesis.words, heard, written)
        if reference is not None and own is not None:
            raw += own
            right += right_words(align(reference, heard))
    calibration = Calibration.fit(raw, right)
    found = Found(**asdict(calibration), words=len(right), right=sum(right), stamp=stamp)
    with explain_write_errors(file), write_atomically(file) as stream:
        stream.write(json.dumps(asdict(found), indent=2) + "\n")
    return found
