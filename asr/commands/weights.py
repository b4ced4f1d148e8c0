"""The weights of a language model and of a text's length, found on the validation split."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.progress import track

from asr.commands.decoders import CALIBRATION, WEIGHTS, label
from asr.commands.validation import Validation
from asr.errors import UserError
from asr.files import replace_folder
from asr.scoring.rates import Scored, score
from asr.text import normalise

if TYPE_CHECKING:
    from asr.decoding.decoder import Weighted

ALPHAS = tuple(round(0.25 * step, 2) for step in range(11))  # 0 to 2.5
BETAS = tuple(round(0.5 * step, 2) for step in range(-4, 9))  # -2 to 4
FOUND = "weights.json"
LEFT_OPEN = (*WEIGHTS, CALIBRATION)  # what is found does not depend on them


@dataclass(frozen=True)
class Weights:
    """What was found, the validation WER with it, and what it was found for."""

    alpha: float
    beta: float
    wer: float
    utterances: int
    stamp: dict[str, Any]


def tuned(validation: Validation, settings: dict[str, Any]) -> dict[str, Any]:
    """The decoder's settings with alpha and beta as they serve validation best.

    A model that was trained on validation gets those of the run `base`. What was found for the same
    model, corpus and settings is not looked for again.

    Raises:
        UserError: there is nothing to tune on; or the weights that are to be taken over are not
            there.
    """
    if settings.get("lm") is None:
        raise UserError("decoder.tune=true needs a language model to weigh: give decoder.lm=FILE.")
    others = {key: value for key, value in settings.items() if key not in LEFT_OPEN}
    stamp = validation.stamp(others)
    folder = validation.folder / f"weights-{label(settings)}{validation.suffix}"
    kept = validation.kept(folder / FOUND, stamp, "its weights are those")
    found = Weights(**kept) if kept else _search(validation, settings, stamp, folder)
    validation.notes.print(
        f"alpha {found.alpha:g}, beta {found.beta:g}: {validation.source}, WER"
        f" {100 * found.wer:.2f} % ({folder / 'surface.png'})",
        soft_wrap=True,
    )
    return {**settings, "alpha": found.alpha, "beta": found.beta}


def _search(
    validation: Validation, settings: Mapping[str, Any], stamp: dict[str, Any], folder: Path
) -> Weights:
    """Try every pair of the grid, and keep what came out.

    Where nothing is there for beta to reward, it is 0.
    """
    said, emissions = validation.heard
    notes, normaliser = validation.notes, validation.corpus.normaliser
    # The settings' own beta may be what the decoder cannot have; it is found here.
    decoder = cast("Weighted", validation.bundle.build_decoder({**settings, "beta": 0.0}))
    betas = BETAS if decoder.rewarding else (0.0,)
    errors = np.zeros((len(ALPHAS), len(betas)), np.int64)
    pairs = list(np.ndindex(errors.shape))
    hidden = not notes.is_terminal
    for row, column in track(
        pairs, "alpha and beta", console=notes, transient=True, disable=hidden
    ):
        weighted = decoder.weighted(ALPHAS[row], betas[column])
        heard = [nbest[0].text for batch in emissions for nbest in weighted.decode(*batch)]
        errors[row, column] = score(
            Scored("", "", reference, normalise(normaliser, text))
            for reference, text in zip(said, heard, strict=True)
        ).errors
    words = sum(len(reference.split()) for reference in said)
    row, column = best_of(errors)
    found = Weights(
        ALPHAS[row],
        betas[column],
        float(errors[row, column] / max(words, 1)),
        len(said),
        stamp,
    )
    with replace_folder(folder) as new:
        (new / FOUND).write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
        with (new / "surface.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow([*WEIGHTS, "errors", "wer"])
            for i, j in pairs:
                wrong = int(errors[i, j])
                table.writerow([ALPHAS[i], betas[j], wrong, round(wrong / max(words, 1), 6)])
        _draw(100 * errors / max(words, 1), betas, (row, column), new / "surface.png")
    return found


def best_of(errors: np.ndarray) -> tuple[int, int]:
    """The cell of fewest errors; among equals, the one whose neighbours have fewest on average."""
    padded = np.pad(errors.astype(float), 1, constant_values=np.nan)
    rows, columns = errors.shape
    around = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    mean = np.nanmean(around, axis=0)
    order = np.lexsort((mean.ravel(), errors.ravel()))
    row, column = np.unravel_index(order[0], errors.shape)
    return int(row), int(column)


def _draw(rates: np.ndarray, betas: Sequence[float], best: tuple[int, int], path: Path) -> None:
    """The surface: WER in per cent over alpha and beta, the best marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    # What is far from the best is all one colour: there is nothing to see in it.
    image = axes.imshow(
        rates.T,
        origin="lower",
        aspect="auto",
        vmax=min(rates.max(), 2 * rates.min() + 1),
        cmap="viridis_r",
    )
    axes.set_xticks(range(len(ALPHAS)), _ticks(ALPHAS))
    axes.set_yticks(range(len(betas)), _ticks(betas))
    axes.set_xlabel("alpha: weight of the language model")
    axes.set_ylabel("beta: added for each word")
    axes.plot(*best, marker="o", markersize=10, markerfacecolor="none", color="white")
    axes.set_title(f"validation WER: {rates[best]:.2f} % at the circle")
    figure.colorbar(image, label="WER, %", extend="max")
    figure.savefig(path, dpi=120)


def _ticks(values: Sequence[float]) -> list[str]:
    return [f"{value:g}" for value in values]
