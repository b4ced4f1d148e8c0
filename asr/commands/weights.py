"""The weights of a language model and of a text's length, found on the validation split."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console
from rich.progress import track

from asr.commands.decoders import WEIGHTS, settings_of
from asr.commands.references import references
from asr.commands.runs import run_folder
from asr.config import Config
from asr.decoding.settings import digested
from asr.errors import UserError
from asr.files import replace_folder
from asr.scoring.rates import Scored, score
from asr.text import normalise

if TYPE_CHECKING:
    import torch

    from asr.bundle import Bundle
    from asr.corpus import Corpus
    from asr.decoding.decoder import Weighted

SPLIT = "validation"
ALPHAS = tuple(round(0.25 * step, 2) for step in range(11))  # 0 to 2.5
BETAS = tuple(round(0.5 * step, 2) for step in range(-4, 9))  # -2 to 4
MOST_S = 7200.0  # of audio: so many emissions are held in memory at once
FOUND = "weights.json"


@dataclass(frozen=True)
class Weights:
    """What was found, the validation WER with it, and what it was found for."""

    alpha: float
    beta: float
    wer: float
    utterances: int
    stamp: dict[str, Any]


def tuned(
    config: Config, bundle: Bundle, digest: str, corpus: Corpus, trained_on: bool, notes: Console
) -> dict[str, Any]:
    """The decoder's settings with alpha and beta as they serve validation best.

    A model that was trained on validation gets those of the run `base`. What was found for the same
    model, corpus and settings is not looked for again.

    Raises:
        UserError: there is nothing to tune on; or the weights that are to be taken over are not
            there.
    """
    settings = settings_of(config)
    if settings.get("lm") is None:
        raise UserError("decoder.tune=true needs a language model to weigh: give decoder.lm=FILE.")
    files = {key: value for key, value in digested(settings).items() if key not in WEIGHTS}
    stamp = {"model": digest, "corpus": corpus.fingerprint, "decoder": files}
    folder = run_folder(config, "base" if trained_on else None) / f"weights-{settings['name']}"
    found = _read(folder / FOUND)
    keys = ("corpus", "decoder") if trained_on else ("model", "corpus", "decoder")
    if found is None or any(found.stamp.get(key) != stamp[key] for key in keys):
        if trained_on:
            raise UserError(
                f"This model was trained on validation: its weights are those of the run base, and"
                f" {folder} has none for these settings. Run first: asr evaluate"
                f" recipe={config.recipe.name} name=base with the same decoder."
            )
        found = _search(bundle, settings, corpus, stamp, folder, notes)
    source = f"found on {SPLIT}" + (" for the run base" if trained_on else "")
    notes.print(
        f"alpha {found.alpha:g}, beta {found.beta:g}: {source}, WER {100 * found.wer:.2f} %"
        f" ({folder / 'surface.png'})",
        soft_wrap=True,
    )
    return {**settings, "alpha": found.alpha, "beta": found.beta}


def _read(path: Path) -> Weights | None:
    try:
        return Weights(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _search(
    bundle: Bundle,
    settings: Mapping[str, Any],
    corpus: Corpus,
    stamp: dict[str, Any],
    folder: Path,
    notes: Console,
) -> Weights:
    """Try every pair of the grid, and keep what came out."""
    said, emissions = _heard(bundle, corpus)
    errors = np.zeros((len(ALPHAS), len(BETAS)), np.int64)
    decoder = cast("Weighted", bundle.build_decoder(settings))
    pairs = list(np.ndindex(errors.shape))
    hidden = not notes.is_terminal
    for row, column in track(
        pairs, "alpha and beta", console=notes, transient=True, disable=hidden
    ):
        weighted = decoder.weighted(ALPHAS[row], BETAS[column])
        heard = [nbest[0].text for batch in emissions for nbest in weighted.decode(*batch)]
        errors[row, column] = score(
            Scored("", "", reference, normalise(corpus.normaliser, text))
            for reference, text in zip(said, heard, strict=True)
        ).errors
    words = sum(len(reference.split()) for reference in said)
    row, column = best_of(errors)
    found = Weights(
        ALPHAS[row],
        BETAS[column],
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
                table.writerow([ALPHAS[i], BETAS[j], wrong, round(wrong / max(words, 1), 6)])
        _draw(100 * errors / max(words, 1), (row, column), new / "surface.png")
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


def _heard(
    bundle: Bundle, corpus: Corpus
) -> tuple[list[str], list[tuple[torch.Tensor, torch.Tensor]]]:
    """References and emissions of the split, in the same order; of a long split, evenly fewer."""
    from asr.waveforms import BATCH_S, batches_by_length, waveform_of

    split = corpus.split(SPLIT)
    said, _ = references(lambda text: text, split, [], corpus.normaliser)
    every = max(1, int(np.ceil(split.durations_s.sum() / MOST_S)))
    chosen = said[::every]
    durations = [float(split.durations_s[one.position]) for one in chosen]
    spoken: list[str] = []
    emissions = []
    for batch in batches_by_length(durations, BATCH_S):
        ones = [chosen[position] for position in batch]
        waveforms = [waveform_of(split.waveform(one.position or 0), one.id) for one in ones]
        spoken += [one.reference for one in ones]
        emitted, lengths = bundle.emissions(waveforms)
        emissions.append((emitted.cpu(), lengths.cpu()))
    return spoken, emissions


def _draw(rates: np.ndarray, best: tuple[int, int], path: Path) -> None:
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
    axes.set_yticks(range(len(BETAS)), _ticks(BETAS))
    axes.set_xlabel("alpha: weight of the language model")
    axes.set_ylabel("beta: added for each word")
    axes.plot(*best, marker="o", markersize=10, markerfacecolor="none", color="white")
    axes.set_title(f"validation WER: {rates[best]:.2f} % at the circle")
    figure.colorbar(image, label="WER, %", extend="max")
    figure.savefig(path, dpi=120)


def _ticks(values: Sequence[float]) -> list[str]:
    return [f"{value:g}" for value in values]
