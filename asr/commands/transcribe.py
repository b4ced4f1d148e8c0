"""`asr transcribe`: recordings into text, each exactly once, a bad one stopping no other."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from asr.cluster.executor import Executor, LocalExecutor, Lost, ProcessExecutor, RayExecutor
from asr.cluster.job import Job
from asr.cluster.journal import FOLDER, Journal, partial_folder
from asr.cluster.nodes import check_nodes
from asr.cluster.plan import Choice, File, Plan, parts_of, survey
from asr.cluster.ray import import_ray
from asr.cluster.transcription import Settings, Transcriber
from asr.commands import decoder_options
from asr.commands.account import (
    SPEED,
    account,
    beforehand,
    begin_log,
    by_reason,
    foretell,
)
from asr.commands.estimate import estimate
from asr.commands.noise import noise_to
from asr.commands.output import Screen
from asr.commands.tally import Tally, name_failures
from asr.decoding import settings as decoder_settings
from asr.description import check_model, digest_of, pipeline_name, read_description
from asr.errors import UserError
from asr.files import digest_bytes
from asr.formats.cues import DEFAULT, CueSettings
from asr.inputs import STANDARD_INPUT, Failure, Recording, find_recordings

SUBTITLES = ("srt", "vtt")
NAME_MAX = 255  # bytes of a file's name, where the file system does not say
# Starting Ray takes some 10 s, in which one core transcribes more than this.
RAY_BYTES = 500 * 2**20
GPUS = {"cpu": False, "gpu": True, "auto": None}  # of workers on Ray: whether they have one


@dataclass(frozen=True)
class Options:
    """What the command line asks for; `docs/transcribing.md` has the options as a table.

    `decoder` holds the settings in which the decoder differs from the model's own.
    """

    model: str
    inputs: Sequence[str]
    output: str | None = None
    formats: Sequence[str] = ("txt",)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    cues: CueSettings = DEFAULT
    channels: str = "mix"
    workers: int | None = None
    threads: int = 1
    ray: str | None = None
    device: str = "auto"
    max_hours: float = 24.0
    timeout_s: float = 600.0
    retry_failed: bool = False
    overwrite: bool = False
    dry_run: bool = False
    quiet: bool = False


def transcribe(options: Options) -> int:
    """Transcribe files, folders and patterns; write into the output folder, or print.

    Returns the exit status: 1 where an input failed.

    Raises:
        UserError: there is no such model, nothing to transcribe, or the output cannot be written.
    """
    try:
        return _transcribe(options)
    except UserError as error:
        raise UserError(decoder_options.as_options(str(error))) from error


def _transcribe(options: Options) -> int:
    _check(options)
    check_model(options.model)  # a wrong model costs no second of loading torch
    _check_decoder(options)
    recordings, failures = find_recordings(options.inputs)
    if not recordings and not failures:
        places = [
            "the list on standard input" if name == STANDARD_INPUT else name
            for name in options.inputs
        ]
        raise UserError(f"There is no audio in {', '.join(places)}: see docs/transcribing.md.")
    if not recordings and all(failure.reason == "missing" for failure in failures):
        raise UserError(f"Nothing to transcribe: {failures[0].detail}.")
    _say_what_is_decoded(options)
    if options.output is None:
        return _print(options, recordings, failures)
    return _write(options, Path(options.output), recordings, failures)


def _check(options: Options) -> None:
    """Raises where the options contradict one another or cannot be had."""
    if options.channels not in ("mix", "split"):
        raise UserError(f"--channels {options.channels}: it can be mix or split.")
    if options.device not in ("auto", "cpu", "gpu"):
        raise UserError(f"--device {options.device}: it can be auto, cpu or gpu.")
    for name, value in (("--max-hours", options.max_hours), ("--timeout", options.timeout_s)):
        if not value > 0:
            raise UserError(f"{name} {value:g}: more than 0 is needed.")
    for name, number in (("--workers", options.workers), ("--threads", options.threads)):
        if number is not None and number < 1:
            raise UserError(f"{name} {number}: at least 1 is needed.")
    if options.output is None:
        given = {
            "--retry-failed": options.retry_failed,
            "--overwrite": options.overwrite,
            "--dry-run": options.dry_run,
            "--ray": options.ray is not None,
            "--workers": (options.workers or 1) > 1,
        }
        for name in (name for name, asked in given.items() if asked):
            raise UserError(f"{name} is for outputs in a folder: give one with -o.")
    elif os.path.lexists(options.output) and not os.path.isdir(options.output):
        raise UserError(f"{options.output} is a file: -o names a folder.")


def _check_decoder(options: Options) -> None:
    """Raises where the options of the decoder make no sense."""
    named = pipeline_name(options.model)
    own = {"name": "greedy"} if named else read_description(Path(options.model))["decoder"]
    decoder_options.check(options.decoder, own, options.formats)


def _say_what_is_decoded(options: Options) -> None:
    """Say what a person may not expect: phones, or a lexicon without some of its words."""
    if options.quiet or pipeline_name(options.model):
        return
    description = read_description(Path(options.model))
    if "lexicon" in options.decoder:
        line = decoder_options.left_out(options.decoder["lexicon"], description["normaliser"])
        if line:
            print(f"asr: {line}", file=sys.stderr)
    # Searches make words of phones; other options than its name ask for one.
    other = options.decoder.get("name", "beam") if options.decoder else None
    decoder = other or description["decoder"].get("name")
    if description["units"].get("kind") == "phones" and decoder == "greedy":
        print("asr: this model emits phones: what is written are phones, no words", file=sys.stderr)


def _print(options: Options, recordings: Sequence[Recording], failures: list[Failure]) -> int:
    """Print the transcripts, in the order of the inputs."""
    several = len(recordings) + len(failures) > 1
    screen = Screen(options.formats, several, _writers(options))
    files: list[File] = []
    for found in survey(recordings, sys.maxsize):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            files.append(found)
    transcriber = Transcriber(_settings(options, None, ""))
    visible = not options.quiet and not sys.stdout.isatty()
    expected = estimate(files).audio_s if visible and sys.stderr.isatty() else 0.0
    with Tally(len(files), expected, visible) as tally:
        transcriber.heard = tally.heard
        for _, outcomes in LocalExecutor().map(transcriber.recognise, parts_of(files)):
            assert not isinstance(outcomes, Lost)
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    tally.fail(outcome)
                elif outcome is not None:
                    for transcript in outcome:
                        screen.show(transcript)
                    tally.count(sum(transcript.duration_s for transcript in outcome))
            sys.stdout.flush()
    failures += tally.failures
    name_failures(failures, len(failures))
    if failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason(failures))
        print(
            f"asr: {tally.done} transcribed; {len(failures)} failed ({reasons}).", file=sys.stderr
        )
    return 1 if failures else 0


def _write(
    options: Options,
    output: Path,
    recordings: Sequence[Recording],
    failures: list[Failure],
) -> int:
    """Write the transcripts into a folder, but for those that are there."""
    _keep_inputs(output, recordings, options.formats)
    with contextlib.ExitStack() as stack:
        where = output
        if options.dry_run and not (output / FOLDER).exists():  # nothing is made there
            where = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        journal = stack.enter_context(Journal(where))
        settings = _settings(options, output, journal.token)
        plan = Plan(
            recordings,
            journal,
            _identity(options),
            Choice(everything=options.overwrite, failed=options.retry_failed),
            _longest_name(output, options),
        )
        totals = plan.totals
        failures += plan.failures
        if options.dry_run:
            workers, noted = options.workers or 1, _speed_of(options, plan.settings)
            foretell(plan, journal, failures, Transcriber(settings), noted, workers)
            return 0
        if not options.quiet and (totals.done or totals.failed or totals.outdated):
            print(f"asr: {beforehand(totals)}.", file=sys.stderr)
        visible = bool(totals.wanted) and not options.quiet and sys.stderr.isatty()
        expected_s = estimate(totals.sample, totals.wanted_bytes).audio_s if visible else 0.0
        tally = Tally(totals.wanted, expected_s, visible, journal.folder / "log")
        begin_log(options, tally, totals, failures)
        given = options.formats, options.quiet, journal, tally, failures, totals
        executor = _executor(options, totals.wanted_bytes)
        here = isinstance(executor, LocalExecutor)
        try:
            # Around the line that moves, which a thread of its own draws.
            with noise_to(journal.folder / "log") if here else contextlib.nullcontext(), tally:
                if totals.wanted:
                    _work(options, settings, plan, journal, tally, executor)
        except BaseException as error:
            # Where no file has ended, what is wrong is all there is to say; but a stop is told.
            if tally.done or tally.reasons or not isinstance(error, UserError):
                with contextlib.suppress(UserError):  # what came first is told
                    account(*given)
            if isinstance(error, UserError):
                tally.say(str(error))
            raise
        else:
            account(*given)
        finally:
            tally.close()
    return 1 if failures or totals.failed or tally.reasons else 0


def _work(
    options: Options,
    settings: Settings,
    plan: Plan,
    journal: Journal,
    tally: Tally,
    executor: Executor,
) -> None:
    transcriber = Transcriber(settings)
    in_process = isinstance(executor, LocalExecutor)
    if in_process:
        transcriber.heard = tally.heard
        transcriber.stoppable = True
    with executor:
        if isinstance(executor, RayExecutor):
            inputs = [file.recording.path for file in plan.totals.sample]
            model = None if pipeline_name(options.model) else settings.model
            partial = partial_folder(journal.output.resolve(), journal.token)
            files = [v for k, v in settings.decoder.items() if k in decoder_settings.FILES]
            check_nodes(import_ray(), inputs, model, str(partial), files)
        trials = ProcessExecutor() if in_process else executor
        job = Job(plan, journal, transcriber, executor, trials, tally, in_process)
        job.run()
    if tally.done:
        speed = tally.audio_s / tally.seconds / executor.workers
        journal.note(SPEED, {_speed_of(options, plan.settings): speed})


def _speed_of(options: Options, identity: str) -> str:
    """What a speed is noted under: another model, decoder or device has another one."""
    return f"{identity} {options.device} {options.threads}"


def _executor(options: Options, left_bytes: int) -> Executor:
    """One worker does it in this process; several, or a cluster's, on Ray."""
    workers = options.workers
    if options.ray is None and workers is None:
        workers = 1 if left_bytes < RAY_BYTES else max(1, (os.cpu_count() or 1) // options.threads)
    if options.ray is None and workers == 1:
        return LocalExecutor()
    return RayExecutor(workers, options.ray, options.threads, gpus=GPUS[options.device])


def _settings(options: Options, output: Path | None, token: str) -> Settings:
    return Settings(
        model=options.model if pipeline_name(options.model) else os.path.abspath(options.model),
        formats=tuple(options.formats),
        folder=None if output is None else os.path.abspath(output),
        decoder={
            key: os.path.abspath(value) if key in decoder_settings.FILES else value
            for key, value in options.decoder.items()
        },
        device=options.device,
        threads=None if output is None else options.threads,
        split_channels=options.channels == "split",
        longest_s=options.max_hours * 3600,
        timeout_s=options.timeout_s,
        options=_writers(options),
        token=token,
        overwrite=options.overwrite,
    )


def _writers(options: Options) -> dict[str, dict[str, Any]]:
    """What the writers of the formats asked for are given."""
    return {name: {"settings": options.cues} for name in options.formats if name in SUBTITLES}


def _identity(options: Options) -> str:
    """The same for calls that write the same outputs for a file."""
    named = pipeline_name(options.model)
    content = {
        "model": _weights_of(named) if named else digest_of(read_description(Path(options.model))),
        "decoder": decoder_settings.digested(options.decoder),
        "formats": sorted(options.formats),
        "cues": [asdict(given["settings"]) for given in _writers(options).values()],
        "channels": options.channels,
    }
    return digest_bytes(json.dumps(content, sort_keys=True).encode())


def _weights_of(name: str) -> str:
    """A recogniser of torchaudio's, with the size of its weights once they are there."""
    from asr import registry
    from asr.pipelines import weights_file

    path = weights_file(registry.find("pipelines", name))
    return f"{name} {path.stat().st_size}" if path.is_file() else name


def _keep_inputs(output: Path, recordings: Sequence[Recording], formats: Sequence[str]) -> None:
    """Raises where an output would overwrite an input."""
    endings = tuple(f".{name}" for name in formats)
    inputs = {os.path.abspath(r.path) for r in recordings if r.path.endswith(endings)}
    for recording in recordings if inputs else ():
        for ending in endings:
            path = output / f"{recording.name}{ending}"
            if os.path.abspath(path) in inputs:
                raise UserError(f"{path} is an input, and would be overwritten: change -o.")


def _longest_name(output: Path, options: Options) -> int:
    """Bytes that a recording's name may have, so that its outputs' names are none too long."""
    try:
        longest = os.pathconf(output, "PC_NAME_MAX")
    except (OSError, ValueError):
        longest = NAME_MAX
    room = max(len(f".{name}") for name in options.formats)
    return longest - room - (len(".99") if options.channels == "split" else 0)
