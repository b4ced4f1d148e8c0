"""What `asr --help` and each command's `--help` say."""

from __future__ import annotations

from asr.commands.compose import groups

COMMANDS: dict[str, dict[str, str]] = {
    "From a corpus to a model": {
        "prepare": "check a corpus and pack it for training",
        "train": "train a model on the prepared corpus",
        "evaluate": "score a model on a split: word error rate with its interval",
        "run": "prepare, train and evaluate; what is done already is skipped",
        "tune": "find better settings by many trainings, the poor ones stopped early",
    },
    "From audio to text": {
        "transcribe": "turn recordings into text, with times and confidence",
        "align": "where the words of a known text are in a recording",
        "describe": "what a model is, was trained on and scored",
        "gates": "what the gates of an LSTM did while it heard a recording",
    },
    "From texts to a language model": {
        "lm": "estimate an n-gram model of words or characters, or convert one",
    },
    "This machine": {
        "doctor": "what works here, and what to do about what does not",
    },
}

_PAGE = """\
asr - train speech recognisers, and turn audio into text

Usage
  asr COMMAND [ARGUMENT...]
  asr COMMAND --help

{commands}
Examples
  asr run recipe=synth                             a first model, from made-up speech
  asr run recipe=an4 recipe.root=PATH/an4          real speech, from raw files to word error rate
  asr run recipe=custom recipe.root=train.jsonl    your own recordings, listed in a manifest
  asr run -m recipe=an4 model=lstm,gru seed=1,2    each combination, and a table that compares them
  asr tune recipe=an4 tune.trials=20               settings drawn at random, and the best of them
  asr transcribe runs/an4/base/model calls/ -o out/
  asr evaluate recipe=an4 bundle=runs/synth/base/model
  asr lm corpora/an4 -o an4.arpa                   a trigram model of the training texts

Settings
  prepare, train, evaluate, run and tune take settings as KEY=VALUE. They start from the files of
  conf/, in the working folder first and then the package's own. --cfg job prints them all.
  With -m a setting of train, evaluate and run may have several values, as KEY=A,B.

Where things lie, below the working folder
  corpora/RECIPE/           the prepared corpus, and rejected.jsonl: what was left out, and why
  runs/RECIPE/NAME/         a run: checkpoints, curves, log; name=NAME chooses it (base)
  runs/RECIPE/NAME/model/   the trained model, which works wherever it is copied
  runs/RECIPE/NAME/eval/    scores, hypotheses and reports
  runs/RECIPE/comparisons/  tables of what was run with -m
  runs/RECIPE/tune-NAME/    what a search found; its trials are runs, tune-NAME-001 and so on

Exit status
  0    all good
  1    some items failed, and are listed
  2    wrong use or settings
  130  interrupted
  143  asked to stop

Options
  --version  print the version and leave
  --help     print this page and leave
"""

_CONFIGURED = {
    "prepare": (
        "Check a corpus and pack it for training.",
        "Reads the publisher's folder as the recipe says, decodes and checks every recording,"
        " resamples it to 16 kHz and packs it into corpora/RECIPE/. What cannot be used is listed"
        " in rejected.jsonl with the reason. Nothing is done where nothing has changed.",
        (
            "asr prepare recipe=an4 recipe.root=PATH/an4",
            "asr prepare recipe=mini_librispeech recipe.root=PATH cluster=ray",
        ),
    ),
    "train": (
        "Train a model on the prepared corpus.",
        "Writes runs/RECIPE/NAME/. An interrupted run goes on from its last finished epoch; a run"
        " of other settings under a used name is refused, and nothing trained is overwritten.",
        (
            "asr train recipe=an4",
            "asr train recipe=an4 name=small model.hidden=128 trainer.max_epochs=30",
            "asr train recipe=an4 preflight=only",
            "asr train recipe=an4 data=all",
            "asr train -m recipe=an4 optim.learning_rate=1e-3,2e-3",
        ),
    ),
    "evaluate": (
        "Score a model on a split: word error rate with its interval.",
        "Decodes the split with the run's model, or with bundle=MODEL, and writes metrics.json,"
        " hypotheses.jsonl and a report to runs/RECIPE/NAME/eval/SPLIT-DECODER/. decoder=own"
        " decodes as asr transcribe does with the model.",
        (
            "asr evaluate recipe=an4",
            "asr evaluate recipe=an4 split=validation",
            "asr evaluate recipe=an4 decoder=own",
            "asr evaluate -m recipe=an4 name=base,small",
            "asr evaluate recipe=fsdd bundle=runs/an4/base/model",
        ),
    ),
    "run": (
        "Prepare, train and evaluate; what is done already is skipped.",
        "The same as asr prepare, asr train and asr evaluate one after the other with the same"
        " settings. It stops at the first that does not end well.",
        (
            "asr run recipe=synth",
            "asr run recipe=an4 recipe.root=PATH/an4",
            "asr run recipe=custom recipe.root=train.jsonl name=first seed=7",
            "asr run -m recipe=an4 model=lstm,gru,rnn          a run of each, and a table of all",
        ),
    ),
    "tune": (
        "Find better settings by many trainings, the poor ones stopped early.",
        "Draws settings from tune.space (a file of conf/tune/), trains with each, and stops those"
        " early that are behind (ASHA). Ends in a table, a picture (runs/RECIPE/tune-NAME/) and the"
        " command that trains the best again. The same command goes on with an interrupted search;"
        " with more tune.trials it goes further.",
        (
            "asr tune recipe=an4 tune.trials=20",
            "asr tune recipe=an4 name=wide model.hidden=512 tune.max_epochs=40",
            "asr tune recipe=an4 name=rates tune=rates     what conf/tune/rates.yaml says",
        ),
    ),
}

_COMMON = """\
Settings
  recipe=NAME             which corpus
  recipe.root=PATH        the publisher's folder, or a manifest
  name=RUN                the run: runs/RECIPE/RUN/ (base)
  seed=N                  of everything that is drawn (1)
  split=SPLIT             which split evaluate scores: train, validation or test (test)
  bundle=MODEL            what evaluate scores instead of the run's own model
  preflight=only          train checks data and settings, and trains nothing
  trainer.max_epochs=N    how long to train
  cluster.workers=N       processes that prepare the corpus (1)"""


def page() -> str:
    """The whole of `asr --help`."""
    blocks = []
    for title, commands in COMMANDS.items():
        lines = [f"  {name:<12}{what}" for name, what in commands.items()]
        blocks.append("\n".join([title, *lines, ""]))
    return _PAGE.format(commands="\n".join(blocks))


def configured(command: str) -> str:
    """The help of a command that takes settings, with the names its groups can be given now."""
    what, more, examples = _CONFIGURED[command]
    choices = [f"  {f'{name}=':<24}{', '.join(names)}" for name, names in groups().items()]
    return "\n\n".join(
        [
            what,
            more,
            _as_it_stands("Examples", *(f"  {example}" for example in examples)),
            _as_it_stands(*_COMMON.splitlines()),
            _as_it_stands("Whole groups of settings, each a file of conf/", *choices),
            _as_it_stands(
                "Settings are written KEY=VALUE, in any order; lists as [1,2]. --cfg job prints",
                "all of them. A mistyped one is answered with the nearest right name.",
            ),
        ]
    )


def _as_it_stands(*lines: str) -> str:
    """Lines that the help must not wrap."""
    return "\n".join(["\b", *lines])


TRANSCRIBE = "\n\n".join(
    [
        "Turn recordings into text, with times and confidence: one file or an archive.",
        "Without -o the text is printed. With -o DIR, a file F/a/b.wav found under the folder F"
        " becomes DIR/a/b.txt and DIR/a/b.json; inputs that differ only in their ending keep it:"
        " b.wav.txt and b.mp3.txt. A bad file stops nothing: it is listed in DIR/failures.jsonl"
        " and the exit status is 1.",
        "Each file is done exactly once: the same command, started again, does what is missing,"
        " whatever ended it. --workers and --ray use more cores and machines"
        " (docs/transcribing.md).",
        _as_it_stands(
            "Examples",
            "  asr transcribe runs/an4/base/model meeting.wav",
            "  asr transcribe runs/an4/base/model calls/ 'more/*.flac' -o out/",
            "  asr transcribe runs/an4/base/model talk.mp3 -o out/ --format srt,vtt",
            "  find . -name '*.wav' | asr transcribe runs/an4/base/model - -o out/",
            "  asr transcribe runs/an4/base/model calls/ -o out/ --retry-failed",
            "  asr transcribe runs/an4/base/model meeting.wav --json",
        ),
    ]
)

ALIGN = "\n\n".join(
    [
        "Where the words of a known text are in a recording.",
        "Writes CTM: a line for each word, with the recording's name, channel 1, start and duration"
        " in seconds, the word and its confidence. The text is a file of any number of lines,"
        " normalised as the model's own texts. A * that stands alone is speech of any length, or"
        " none, that is not in the text. A recording of hours needs no more memory than one of"
        " minutes (docs/alignment.md).",
        _as_it_stands(
            "Examples",
            "  asr align runs/an4/base/model meeting.wav meeting.txt -o meeting.ctm",
            "  asr align runs/an4/base/model meeting.wav meeting.txt",
        ),
    ]
)

DESCRIBE = "\n\n".join(
    [
        "What a model is, was trained on and scored.",
        _as_it_stands(
            "Examples",
            "  asr describe runs/an4/base/model",
            "  asr describe runs/an4/base/model --json",
        ),
    ]
)

GATES = "\n\n".join(
    [
        "What the gates of an LSTM did while it heard a recording.",
        "Writes a page that opens without a network: sound, log-mel, forget, input and output gates"
        " and cells of every layer and direction on one time axis, and what the network emitted"
        " where. --png draws one layer and direction as a picture. Figures are printed: mean"
        " openness, memory, saturated share (docs/gates.md). Give -o, --png, or both. Of a longer"
        " recording 20 seconds are shown, which the network then hears alone.",
        _as_it_stands(
            "Examples",
            "  asr gates runs/an4/base/model meeting.wav -o gates.html",
            "  asr gates runs/an4/base/model meeting.wav -o gates.html --start 0.5 --length 2",
            "  asr gates runs/an4/base/model meeting.wav --png gates.png --layer 1",
        ),
    ]
)

LM = "\n\n".join(
    [
        "Estimate an n-gram model of words or characters, or convert one.",
        "TEXT is a text of one sentence a line, a manifest (.jsonl) or the folder of a prepared"
        " corpus; texts and manifests may be gzipped. The model is written as an ARPA file (.arpa,"
        " .arpa.gz) or compiled (.bin), which opens at once. A model in place of a text is"
        " converted (docs/language-models.md).",
        _as_it_stands(
            "Examples",
            "  asr lm books.txt more.txt.gz -o lm.arpa",
            "  asr lm corpora/an4 --order 3 --vocabulary PATH/an4/etc/an4.dic -o an4.bin",
            "  asr lm train.jsonl --characters --order 6 -o letters.arpa.gz --test test.txt",
            "  asr lm books.txt --order 4 --prune 0,0,1 -o pruned.bin",
            "  asr lm lm.arpa -o lm.bin",
        ),
    ]
)

DOCTOR = "\n\n".join(
    [
        "What works here, and what to do about what does not.",
        "Tries the libraries, devices, codecs and precisions on this machine. The exit status is 1"
        " where something is missing that training or transcription needs.",
        _as_it_stands("Examples", "  asr doctor", "  asr doctor --json"),
    ]
)
