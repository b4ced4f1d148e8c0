"""The command `asr`: which command was asked for, and how it ended.

Each command's own module is imported when it is called, so that help and mistakes answer at once.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from asr import __version__
from asr.commands import manual
from asr.errors import UserError, nearest

GOOD, SOME_FAILED, WRONG_USE, INTERRUPTED, ASKED_TO_STOP = 0, 1, 2, 130, 143
IMPORT_S = 0.05  # after which a signal that came in the middle of an import comes again


class AskedToStop(BaseException):
    """A signal came, its number is the argument.

    Not an `Exception`, so that nothing takes it for an item's failure; not a `KeyboardInterrupt`,
    which Typer would take, and say nothing.
    """


class Manual(TyperGroup):
    """The top-level command, whose help is a page of a manual."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(manual.page())


app = typer.Typer(
    cls=Manual, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"asr {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Train speech recognisers and turn audio into text."""


Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False, help="Settings.")
]
Cfg = Annotated[
    Literal["job"] | None,
    typer.Option("--cfg", help="Print the settings that would be used, as YAML, and leave."),
]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", show_default=False, help="A trained model's folder, or torchaudio:NAME."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


Multirun = Annotated[
    bool,
    typer.Option(
        "-m", "--multirun", help="One run for each combination of values, and a table of them all."
    ),
]


def _configured(command: str, settings: list[str] | None, cfg: str | None) -> int:
    """Run a command that takes its settings as KEY=VALUE words, or print them."""
    from asr.commands import compose

    config = compose.compose(settings or [])
    if cfg:
        print(compose.to_yaml(config), end="")
        return GOOD
    entry: Callable[..., int] = getattr(importlib.import_module(f"asr.commands.{command}"), command)
    return entry(config)


@app.command("prepare", help=manual.configured("prepare"))
def prepare(settings: Settings = None, cfg: Cfg = None) -> int:
    return _configured("prepare", settings, cfg)


def _add_training(command: str) -> None:
    """Add a command that gives each run a folder, so that -m has several to compare."""

    @app.command(command, help=manual.configured(command))
    def configured(settings: Settings = None, cfg: Cfg = None, multirun: Multirun = False) -> int:
        if not multirun:
            return _configured(command, settings, cfg)
        if cfg:
            from asr.commands import compose, jobs

            for job in jobs.plan(settings or [])[0]:
                print(f"--- # {job}\n{compose.to_yaml(job.config)}", end="")
            return GOOD
        from asr.commands.sweep import sweep

        return sweep(command, settings or [])


for _command in ("train", "evaluate", "run"):
    _add_training(_command)


@app.command("tune", help=manual.configured("tune"))
def tune(settings: Settings = None, cfg: Cfg = None) -> int:
    if cfg:
        return _configured("tune", settings, cfg)
    from asr.commands import tune as command

    return command.tune(settings or [])


@app.command("transcribe", help=manual.TRANSCRIBE)
def transcribe(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Audio files, folders of them, globs, manifests; - for a list on standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write files here; else print."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME,...",
            help="What to write for each input: txt,json unless told; txt where it is printed.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    channels: Annotated[
        str, typer.Option(metavar="mix|split", help="Average channels, or transcribe each.")
    ] = "mix",
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default=False, help="greedy, beam or flashlight: docs/decoding.md."
        ),
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option("--lm", metavar="FILE", show_default=False, help="A language model: asr lm."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option("--alpha", metavar="X", show_default=False, help="Its weight."),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option("--beta", metavar="X", show_default=False, help="Added for each word."),
    ] = None,
    lexicon: Annotated[
        str | None,
        typer.Option(
            "--lexicon",
            metavar="FILE",
            show_default=False,
            help="Words, or a dictionary: only these are decoded.",
        ),
    ] = None,
    hotwords: Annotated[
        str | None,
        typer.Option(
            "--hotwords",
            metavar="FILE",
            show_default=False,
            help="Words and phrases to lean towards, one a line.",
        ),
    ] = None,
    nbest: Annotated[
        int | None,
        typer.Option(
            "--nbest",
            metavar="N",
            show_default=False,
            help="So many readings of each recording, in JSON.",
        ),
    ] = None,
    line_width: Annotated[
        int, typer.Option("--line-width", metavar="N", help="Characters in a line of srt and vtt.")
    ] = 42,
    lines: Annotated[int, typer.Option(metavar="N", help="Lines in a cue of srt and vtt.")] = 2,
    shortest_cue: Annotated[
        float, typer.Option(metavar="S", help="A cue's seconds at least, where there is room.")
    ] = 0.8,
    longest_cue: Annotated[float, typer.Option(metavar="S", help="And at most.")] = 7.0,
    cue_pause: Annotated[float, typer.Option(metavar="S", help="A pause that ends a cue.")] = 0.5,
    highlight: Annotated[
        bool, typer.Option("--highlight", help="Show a cue once a word, that word underlined.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", show_default=False, help="Processes: one for a small job, else one a core."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(metavar="N", help="Of each worker.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", show_default=False, help="A Ray cluster: HOST:PORT, auto."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|gpu", help="What computes.")] = "auto",
    max_hours: Annotated[
        float, typer.Option(metavar="H", help="A longer recording is listed as too-long.")
    ] = 24.0,
    timeout: Annotated[
        float,
        typer.Option(metavar="S", help="A file may take so long, and longer for each 16 MB of it."),
    ] = 600.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try those again that failed before.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do those again that are done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="Nothing on the screen but errors; DIR/.asr/log has it."),
    ] = False,
) -> int:
    if as_json and formats is not None:
        raise UserError("Give --format or --json, not both.")
    names = ["json"] if as_json else _format_names(formats, output)
    from asr.commands import transcribe as command
    from asr.formats.cues import CueSettings

    given = {
        "name": decoder,
        "lm": lm,
        "alpha": alpha,
        "beta": beta,
        "lexicon": lexicon,
        "hotwords": hotwords,
        "nbest": nbest,
    }
    options = command.Options(
        model=model,
        inputs=inputs,
        output=output,
        formats=names,
        decoder={key: value for key, value in given.items() if value is not None},
        cues=CueSettings(line_width, lines, shortest_cue, longest_cue, cue_pause, highlight),
        channels=channels,
        workers=workers,
        threads=threads,
        ray=ray,
        device=device,
        max_hours=max_hours,
        timeout_s=timeout,
        retry_failed=retry_failed,
        overwrite=overwrite,
        dry_run=dry_run,
        quiet=quiet,
    )
    return command.transcribe(options)


def _format_names(formats: str | None, output: str | None) -> list[str]:
    """The formats asked for, each of them known."""
    from asr import registry

    if formats is None:
        return ["txt"] if output is None else ["txt", "json"]
    known = registry.names("formats")
    names = [name.strip() for name in formats.split(",")]
    for name in names:
        if name not in known:
            offer = f"{nearest(name, known)} Known: {', '.join(known)}."
            raise UserError(f"No format is called {name!r}.{offer}")
    return list(dict.fromkeys(names))


@app.command("align", help=manual.ALIGN)
def align(
    model: Model,
    audio: Annotated[str, typer.Argument(metavar="AUDIO", show_default=False, help="A recording.")],
    text: Annotated[
        str, typer.Argument(metavar="TEXT", show_default=False, help="What is said in it: a file.")
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the CTM here; else print it."),
    ] = None,
) -> int:
    from asr.commands import align as command

    return command.align(model, audio, text, output)


@app.command("describe", help=manual.DESCRIBE)
def describe(
    model: Model,
    as_json: AsJson = False,
) -> int:
    from asr.commands import describe as command

    return command.describe(model, as_json)


@app.command("gates", help=manual.GATES)
def gates(
    model: Model,
    audio: Annotated[str, typer.Argument(metavar="AUDIO", show_default=False, help="A recording.")],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the page here: gates.html."),
    ] = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="FILE", help="Write a picture for slides here.")
    ] = None,
    start: Annotated[
        float, typer.Option("--start", metavar="S", help="Second to begin with.")
    ] = 0.0,
    length: Annotated[
        float, typer.Option("--length", metavar="S", help="Seconds to show, at most 60.")
    ] = 20.0,
    layer: Annotated[
        int | None,
        typer.Option(
            "--layer",
            metavar="N",
            show_default=False,
            help="Layer of the picture, which the page begins with; the last unless told.",
        ),
    ] = None,
    direction: Annotated[
        Literal["forward", "backward"], typer.Option("--direction", help="Likewise its direction.")
    ] = "forward",
) -> int:
    from asr.commands import gates as command

    return command.gates(model, audio, output, png, start, length, layer, direction)


@app.command("lm", help=manual.LM)
def lm(
    context: typer.Context,
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", show_default=False, help="Texts, manifests, corpora."),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Write the model here.")
    ],
    order: Annotated[int, typer.Option("--order", min=1, max=10, help="The longest n-grams.")] = 3,
    characters: Annotated[
        bool, typer.Option("--characters", help="Of characters, the space as |, not of words.")
    ] = False,
    vocabulary: Annotated[
        str | None,
        typer.Option("--vocabulary", metavar="FILE", help="Know these words and no others."),
    ] = None,
    prune: Annotated[
        str,
        typer.Option(
            "--prune", metavar="N,...", help="Leave out n-grams that occur N times or less often."
        ),
    ] = "0",
    normaliser: Annotated[
        str, typer.Option("--normaliser", metavar="NAME", help="How texts are written.")
    ] = "english",
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Of prepared corpora.")
    ] = "train",
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="TEXT", help="Say the model's perplexity on this text."),
    ] = None,
) -> int:
    from asr.commands import lm as command

    given = [
        f"--{name}"
        for name in ("order", "characters", "vocabulary", "prune", "split")
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    thresholds = command.thresholds(prune, order)
    options = command.LmOptions(order, characters, vocabulary, thresholds, normaliser, split)
    return command.lm(texts, output, options, test, given)


@app.command("doctor", help=manual.DOCTOR)
def doctor(as_json: AsJson = False) -> int:
    from asr.commands import doctor as command

    return command.doctor(as_json)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and give its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        sys.stderr.write(manual.page())
        return WRONG_USE
    command = typer.main.get_command(app)
    return guarded(lambda: command.main(words, prog_name="asr", standalone_mode=False))


def guarded(command: Callable[[], int | None]) -> int:
    """The exit status of a command; what ends it early is told in one line."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _stop)
    try:
        status = command()
        sys.stdout.flush()
    except UserError as error:
        return _say(str(error), WRONG_USE)
    except TyperException as error:  # an option, argument or command that is not known
        return _say(_usage(error), WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except AskedToStop as stop:
        if stop.args == (signal.SIGINT,):
            return _say("interrupted", INTERRUPTED)
        return _say("asked to stop", ASKED_TO_STOP)
    except BrokenPipeError:
        _forget_stdout()
        return SOME_FAILED
    finally:
        for timer in _postponed:
            timer.cancel()
    return int(status or GOOD)


_postponed: list[threading.Timer] = []  # signals that came in the middle of an import


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise, but not into an import: compiled modules swallow it, or Python's lock stays held."""
    if not _importing(frame):
        raise AskedToStop(number)
    _postponed.append(threading.Timer(IMPORT_S, os.kill, (os.getpid(), number)))
    _postponed[-1].start()


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _say(message: str, status: int) -> int:
    print(f"asr: {message}", file=sys.stderr)
    return status


def _usage(error: TyperException) -> str:
    """A usage error in one line, with the nearest right name and where to read more."""
    message = " ".join(error.format_message().split())
    context: Any = getattr(error, "ctx", None)
    option: str | None = getattr(error, "option_name", None)
    if option is not None and context is not None and "No such option" in message:
        known = [name for parameter in context.command.params for name in parameter.opts]
        message = f"No such option: {option}.{nearest(option, [*known, '--help'])}"
    path = context.command_path if context is not None else "asr"
    return f"{message.rstrip('.')}{'' if message.endswith('?') else '.'} See: {path} --help"


def _forget_stdout() -> None:
    """The reader has gone: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
