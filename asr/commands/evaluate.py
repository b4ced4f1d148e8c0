"""`asr evaluate`: decode a split with a model, score it, write and show what came out."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from asr.commands import calibration, decoder_options, decoders, weights
from asr.commands.devices import choose_device
from asr.commands.hypotheses import Decoded, decode
from asr.commands.references import references, results
from asr.commands.runs import run_folder
from asr.commands.validation import Validation, trained_on_split
from asr.config import Config
from asr.decoding.settings import digested
from asr.description import check_model, pipeline_name
from asr.errors import UserError
from asr.files import digest_bytes
from asr.scoring import record
from asr.scoring.rates import MEASURES, WER
from asr.scoring.record import Hardware, Metrics, Result, Stamp
from asr.scoring.report import Report, build, percent, show
from asr.text import normalise, unchanged
from asr.utterance import Rejection

if TYPE_CHECKING:
    from asr.bundle import Bundle
    from asr.corpus import Corpus, Split

NAMED = 10  # missing utterances named on the screen; all are in hypotheses.jsonl
# What a bundle keeps of the metrics, beside the decoder's name.
KEPT = (
    *("recipe", "split", "wer", "wer_ci95", "per", "per_ci95", "cer", "ser"),
    *("words", "phones", "utterances", "missing"),
    *("trained_on_this_split", "normaliser", "rtfx", "date"),
)


def evaluate(config: Config) -> int:
    """Score a model on a split, or say that it has been done.

    Returns 0, or 1 where an utterance could not be decoded.

    Raises:
        UserError: there is no such model, corpus or split, or the folder cannot be written.
    """
    console, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    run = run_folder(config)
    folder = _model_folder(config, run)
    own = folder.resolve() == (run / "model").resolve()
    corpus, split = _open(config)
    bundle = _load(folder, config)
    digest = bundle.digest
    settings = decoders.settings_of(config)
    label = decoders.label(settings)
    if settings["name"] == decoders.OWN:
        settings = bundle.own_decoder
    validation = Validation(config, bundle, corpus, notes)
    if decoders.asked_to(config, "tune"):
        settings = weights.tuned(validation, settings)
    if decoders.asked_to(config, "calibrate"):
        settings = calibration.calibrated(validation, settings)
    stamp = Stamp(
        bundle=digest,
        corpus=corpus.fingerprint,
        left_out=_digest_of(_rejected(corpus, config)),
        decoder=digested(settings),
        normaliser=corpus.normaliser,
    )
    name = f"{config.split}-{label}" + ("" if own else f"-{digest[:8]}")
    target = run / "eval" / name
    earlier = record.read_earlier(target)
    why = record.why_again(earlier, stamp) if earlier else ""
    if earlier and not why:
        console.print(
            f"Evaluated already: {earlier.rate_name.upper()} {percent(earlier.rate)}, see {target}",
            soft_wrap=True,
        )
        _keep(config, folder, settings, notes)
        return 0
    bundle.search = bundle.build_decoder(settings)
    if why:
        notes.print(f"Evaluating again: {why}.", soft_wrap=True)
    _say_left_out(settings, bundle, notes)
    decoded = decode(bundle, split, notes)
    title = f"{config.recipe.name} · {config.split} · {label}"
    metrics, found, report = _scored(title, config, folder, bundle, corpus, decoded, stamp)
    record.write(target, metrics, found, report)
    if own and not decoded.failures:
        _add_score(folder, metrics, label)
    _keep(config, folder, settings, notes)
    _show(report, target, decoded, console)
    return 1 if decoded.failures else 0


def _scored(
    title: str,
    config: Config,
    folder: Path,
    bundle: Bundle,
    corpus: Corpus,
    decoded: Decoded,
    stamp: Stamp,
) -> tuple[Metrics, list[Result], Report]:
    """What was decoded against what was said, and all that is known besides."""
    split, left_out = corpus.split(config.split), _rejected(corpus, config)
    measure = MEASURES[bundle.search.rate_name]
    spell = bundle.units.reference if measure is not WER else unchanged
    said, unknown = references(spell, split, left_out, corpus.normaliser)
    # Phones stay as the lexicon writes them.
    written = partial(normalise, corpus.normaliser) if measure is WER else unchanged
    found = results(said, decoded.transcripts, decoded.failures, written)
    trained_on = trained_on_split(bundle.trained, corpus, config.split)
    audio_s = float(split.durations_s.sum())
    rtfx = audio_s / decoded.seconds
    command = shlex.join(["asr", *sys.argv[1:]])
    hardware = _hardware(bundle)
    report = build(
        title,
        [result.scored for result in found],
        facts=[
            ("audio", f"{audio_s / 60:.1f} minutes"),
            ("speed", f"{rtfx:.0f} s of audio a second ({hardware})"),
            ("model", f"{folder} ({stamp.bundle[:8]})"),
            ("normaliser", corpus.normaliser),
            ("command", command),
        ],
        warnings=_warnings(trained_on, found, left_out, unknown, measure.nouns),
        rate_name=measure.name,
    )
    metrics = _metrics(
        report,
        failed=len(decoded.failures),
        audio_seconds=round(audio_s, 3),
        rtfx=round(rtfx, 2),
        normaliser=corpus.normaliser,
        trained_on_this_split=trained_on,
        command=command,
        recipe=config.recipe.name,
        split=config.split,
        model=str(folder),
        hardware=hardware,
        stamp=stamp,
        reliability=report.reliability,
    )
    return metrics, found, report


def _model_folder(config: Config, run: Path) -> Path:
    """The model that is to be scored: `bundle`, or the run's own."""
    if config.bundle:
        check_model(config.bundle)
        if pipeline_name(config.bundle) is not None and decoders.asked_to(config, "keep"):
            raise UserError(f"decoder.keep=true: {config.bundle} has no folder to keep it in.")
        return Path(config.bundle)
    folder = run / "model"
    if not folder.is_dir():
        name = "" if config.name == "base" else f" name={config.name}"
        raise UserError(
            f"There is no model in {folder}. Train one (asr train recipe={config.recipe.name}"
            f"{name}) or give bundle=MODEL."
        )
    return folder


def _metrics(report: Report, **others: Any) -> Metrics:
    """What metrics.json holds: the report's scores, and what is known besides them."""
    scores, interval = report.scores, report.interval
    return Metrics(
        rate_name=report.measure.name,
        rate=scores.rate,
        cer=scores.cer if report.measure is WER else None,
        ser=scores.ser,
        count=scores.words,
        substitutions=scores.substitutions,
        deletions=scores.deletions,
        insertions=scores.insertions,
        rate_ci95=(interval.low, interval.high),
        rate_ci95_drawn=f"{interval.count} {interval.drawn}",
        missing=scores.missing,
        utterances=scores.utterances,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **others,
    )


def _open(config: Config) -> tuple[Corpus, Split]:
    """The corpus and its split that is to be scored, which must hold something."""
    from asr.corpus import Corpus

    corpus = Corpus.open(Path(config.prepare.folder))
    return corpus, corpus.split(config.split)


def _rejected(corpus: Corpus, config: Config) -> list[Rejection]:
    """What preparing left out of the split: said, and not heard."""
    return [one for one in corpus.rejected if one.split == config.split]


def _digest_of(left_out: list[Rejection]) -> str:
    return digest_bytes(repr([(one.id, one.speaker, one.text) for one in left_out]).encode())


def _load(folder: Path, config: Config) -> Bundle:
    import torch

    from asr.pipelines import open_model

    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    return open_model(folder, choose_device(config.trainer.accelerator))


def _warnings(
    trained_on: bool,
    found: list[Result],
    left_out: list[Rejection],
    unknown: list[str],
    nouns: str,
) -> list[str]:
    warnings = []
    if trained_on:
        warnings.append(
            "This model was trained on this split: the figures say how well it remembers."
        )
    missing = [f"{one.scored.id} ({one.missing})" for one in found if one.missing]
    if missing:
        warnings.append(f"Missing, all {nouns} counted as deletions: {_some(missing)}")
    wordless = [f"{one.id} ({one.reason})" for one in left_out if not one.text]
    if wordless:
        warnings.append(f"Not scored, since there is no transcript: {_some(wordless)}")
    if unknown:
        warnings.append(
            f"Not scored, {len(unknown)}, since a word is not in the model's lexicon: "
            f"{_some(unknown)}"
        )
    return warnings


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _add_score(folder: Path, metrics: Metrics, label: str) -> None:
    from asr.bundle import add_score

    content = metrics.to_dict()
    score = {key: content[key] for key in KEPT if key in content}
    add_score(folder, {**score, "decoder": label})


def _say_left_out(settings: dict[str, Any], bundle: Bundle, notes: Console) -> None:
    """Say which words of a lexicon cannot be heard."""
    if isinstance(settings.get("lexicon"), str):
        line = decoder_options.left_out(settings["lexicon"], bundle.normaliser)
        if line:
            notes.print(line, soft_wrap=True, markup=False)


def _keep(config: Config, folder: Path, settings: dict[str, Any], notes: Console) -> None:
    """Let the model use the decoder from now on, where that was asked for."""
    if not decoders.asked_to(config, "keep"):
        return
    from asr.bundle import set_decoder

    set_decoder(folder, settings)
    notes.print(f"{folder} uses this decoder from now on.", soft_wrap=True)


def _show(report: Report, target: Path, decoded: Decoded, console: Console) -> None:
    show(report, console)
    files = ["metrics.json", "hypotheses.jsonl", "report.html"]
    if decoded.failures:
        files.append("failures.jsonl")
    console.print(f"\nWritten to {target}: {', '.join(files)}", soft_wrap=True)


def _hardware(bundle: Bundle) -> Hardware:
    import torch

    gpu = bundle.device.type == "cuda"
    device = torch.cuda.get_device_name(bundle.device) if gpu else platform.machine()
    return Hardware(device, torch.get_num_threads(), os.cpu_count() or 1)
