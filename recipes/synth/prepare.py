"""Synthetic speech: commands, numbers, dates and names, spoken by eSpeak NG in many voices.

From      Nothing is downloaded: eSpeak NG's library, as packaged by `espeakng-loader` on PyPI
          (`pip install '.[synth]'`), speaks the sentences that the small grammar below draws.
Licence   eSpeak NG is GPL-3.0 and used as it is, not shipped with this recipe; espeakng-loader
          states no licence of its own. The audio made with it is yours.
Counts    4000 training sentences (all different, over 200 words of vocabulary), 90 for validation,
          160 for test; none of a later split occurs in an earlier one.
Layout    `audio/<voice>/<id>.flac` (16 kHz), `utterances.jsonl`: one line an utterance with how it
          was made, `words.jsonl`: when each word is spoken, `settings.json`: what all was made of.

Voices differ in accent, formants, pitch range and roughness; each utterance has its own rate, pitch
and noise. The voices of validation and test are in no other split. Everything is drawn from the
seed: the same settings and the same eSpeak NG give the same samples.

This is a corpus to see the toolkit work on. What is learnt from it does not carry over to people.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.files import InputError, digest_bytes, digest_file, replace_folder, resolve_inside
from asr.utterance import Listing, Rejection, Utterance

SENTENCES = 4000
EXPECTED = {"train": SENTENCES, "validation": 90, "test": 160}

# eSpeak NG's names: accent+variant. No variant of a split occurs in another one.
VOICES = {
    "train": (
        "en-us+m1", "en-us+m3", "en-us+m7", "en-us+f1", "en-us+f3", "en-us+Andy", "en-us+linda",
        "en-us+anika", "en-us+Gene", "en-us+grandpa", "en-us+Mario", "en-us+Andrea", "en-us+john",
        "en-us+Henrique", "en-us+robert", "en-us+Nguyen", "en-us+steph2", "en-us-nyc+Lee",
        "en-us-nyc+Diogo", "en-us-nyc+Mike", "en-gb-x-rp+m5", "en-gb-x-rp+f4", "en-gb-x-rp+Annie",
        "en-gb-x-rp+m2", "en-gb-x-rp+quincy", "en-gb-x-rp+rob", "en-gb-x-rp+grandma",
        "en-gb-x-rp+pedro", "en-gb-x-rp+Denis", "en-gb-x-rp+aunty", "en-gb-x-rp+pablo",
        "en-gb-x-rp+shelby", "en-gb-x-rp+Michael", "en-gb-scotland+steph", "en-gb-scotland+m8",
        "en-gb-scotland+norbert", "en-gb-scotland+miguel", "en-gb-scotland+Alicia",
        "en-gb-scotland+victor", "en-gb-scotland+Gene2",
    ),
    "validation": ("en-us+m4", "en-us+f5", "en-gb-x-rp+paul"),
    "test": ("en-us+f2", "en-us+m6", "en-gb-x-rp+max", "en-gb-scotland+Alex"),
}  # fmt: skip
WORDS_PER_MINUTE = (150, 200)
PITCH = (35, 65)  # of eSpeak NG's 0-99
NOISE = ("none", "white", "pink")
SNR_DB = (18, 40)

# The grammar: a sentence is one of the patterns with each name in capitals drawn from its list.
PATTERNS = tuple(
    pattern.strip()
    for pattern in """
    turn SWITCH the DEVICE in the ROOM
    turn SWITCH the COLOUR DEVICE
    set the DEVICE to TENS percent
    set the alarm for HOUR TENS
    wake me at HOUR TENS on WEEKDAY
    open the COLOUR THING
    close the THING in the ROOM
    put the COLOUR THING in the ROOM
    where is the COLOUR THING
    play some GENRE in the ROOM
    call NAME SURNAME
    call NAME on WEEKDAY
    send NAME a message about the THING
    remind NAME to buy FOOD
    buy NUMBER FOOD and FOOD
    book a table in CITY for DIGIT
    meet NAME in CITY on WEEKDAY
    my name is NAME SURNAME
    NAME SURNAME lives in CITY
    NAME and NAME are from CITY
    the code is DIGIT DIGIT DIGIT DIGIT
    dial DIGIT DIGIT DIGIT DIGIT DIGIT
    add TEEN and NUMBER
    take TEEN from NUMBER
    divide NUMBER hundred by DIGIT
    WEEKDAY the ORDINAL of MONTH
    MONTH ORDINAL nineteen NUMBER
    born on the ORDINAL of MONTH
    what is the weather in CITY on WEEKDAY
    the train to CITY leaves at HOUR TENS
    """.strip().splitlines()
)
WORDS = {
    "SWITCH": "on off up down",
    "DEVICE": "light lamp heater radio television fan oven music kettle screen",
    "ROOM": "kitchen bedroom bathroom garden garage office hall cellar attic nursery",
    "COLOUR": "red green blue yellow black white brown purple orange silver",
    "THING": "door window book basket bottle ladder jacket hammer envelope umbrella suitcase "
    "bicycle",
    "GENRE": "jazz rock opera folk blues disco",
    "FOOD": "apples bread butter cheese coffee eggs honey milk onions pepper potatoes rice sugar "
    "tomatoes",
    "NAME": "alice arthur barbara charles daniel edward emma frank george hannah harold irene "
    "jacob julia kevin laura martin nancy oliver peter rachel robert sandra simon susan thomas "
    "victor",
    "SURNAME": "anderson baker carter cooper fisher graham hudson jackson kennedy lambert "
    "marshall nelson parker porter russell shepherd turner walker watson young",
    "CITY": "berlin boston chicago denver dublin geneva london madrid miami oslo oxford paris "
    "phoenix seattle tokyo vienna",
    "WEEKDAY": "monday tuesday wednesday thursday friday saturday sunday",
    "MONTH": "january february march april may june july august september october november "
    "december",
    "DIGIT": "zero one two three four five six seven eight nine",
    "HOUR": "one two three four five six seven eight nine ten eleven twelve",
    "TEEN": "thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "TENS": "ten fifteen twenty thirty forty fifty",
    "NUMBER": "twenty thirty forty fifty sixty seventy eighty ninety",
    "ORDINAL": "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth",
}


def fetch(folder: Path, sentences: int = SENTENCES, seed: int = 1) -> Path:
    """Speak the corpus into `folder` (some 25 s), which becomes its root; nothing if it is there.

    `sentences` is how many are for training.

    Raises:
        UserError: espeakng-loader is not installed, the settings ask for more sentences than the
            grammar has, or something else lies in `folder`.
    """
    settings = {"sentences": sentences, "seed": seed, "program": _program_digest()}
    if (folder / "settings.json").is_file():
        if json.loads((folder / "settings.json").read_text("utf-8")) == settings:
            return folder
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else than the corpus synth. Move it away.")
    lines = plan(sentences, seed)
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "The recipe synth speaks with eSpeak NG, which is not here: pip install '.[synth]'."
        )
    print(f"synth: eSpeak NG speaks {len(lines)} sentences", file=sys.stderr)
    with replace_folder(folder) as unfinished:
        words = _speak(lines, unfinished)
        (unfinished / "utterances.jsonl").write_text(_json_lines(lines), "utf-8")
        (unfinished / "words.jsonl").write_text(words, "utf-8")
        (unfinished / "settings.json").write_text(json.dumps(settings), "utf-8")
    return folder


def read(root: Path, sentences: int = SENTENCES, seed: int = 1) -> Listing:
    """The utterances of a folder that `fetch` has made.

    Raises:
        UserError: the folder is missing or not one of those.
    """
    root = root.resolve()
    if not (root / "settings.json").is_file() or not (root / "utterances.jsonl").is_file():
        raise UserError(
            f"{root} is not a corpus made by the recipe synth (no utterances.jsonl and "
            "settings.json). Leave recipe.root away and it is made."
        )
    utterances: list[Utterance] = []
    rejected: list[Rejection] = []
    for text in (root / "utterances.jsonl").read_text("utf-8").splitlines():
        line = json.loads(text)
        identity, split, voice = line["id"], line["split"], line["voice"]
        try:
            audio = resolve_inside(root, root / line["audio"])
        except InputError as error:
            reason = "no-audio" if error.reason == "missing" else error.reason
            rejected.append(
                Rejection(identity, line["audio"], split, reason, str(error), line["text"], voice)
            )
        else:
            utterances.append(Utterance(identity, str(audio), line["text"], split, voice))
    notes = ["validation and test: sentences and voices that training does not have"]
    made = json.loads((root / "settings.json").read_text("utf-8"))
    if (made["sentences"], made["seed"]) != (sentences, seed):
        notes.append(f"{root} was made with sentences={made['sentences']} seed={made['seed']}")
    return Listing(utterances, rejected, notes)


def plan(sentences: int = SENTENCES, seed: int = 1) -> list[dict[str, Any]]:
    """What is to be spoken, and how: the lines of `utterances.jsonl`.

    Test is drawn first, then validation, then training, each without what was drawn before: more
    training sentences never change the other splits.

    Raises:
        UserError: the grammar does not have that many sentences.
    """
    sizes = {**EXPECTED, "train": sentences}
    lines = []
    taken: set[str] = set()
    for split in ("test", "validation", "train"):
        generator = random.Random(f"{seed} {split}")
        drawn = _draw(generator, sizes[split], taken)
        for number, text in enumerate(drawn):
            voice = VOICES[split][number % len(VOICES[split])]
            identity = f"{split}-{number:04d}"
            lines.append(
                {
                    "id": identity,
                    "audio": f"audio/{voice}/{identity}.flac",
                    "text": text,
                    "split": split,
                    "voice": voice,
                    "words_per_minute": generator.randint(*WORDS_PER_MINUTE),
                    "pitch": generator.randint(*PITCH),
                    "noise": generator.choice(NOISE),
                    "snr_db": round(generator.uniform(*SNR_DB), 1),
                    "seed": generator.getrandbits(31),
                }
            )
    return lines


def _draw(generator: random.Random, count: int, taken: set[str]) -> Iterator[str]:
    """Sentences that are not yet taken."""
    drawn = failed = 0
    while drawn < count:
        pattern = generator.choice(PATTERNS)
        words = [
            generator.choice(WORDS[word].split()) if word in WORDS else word
            for word in pattern.split()
        ]
        text = " ".join(words)
        if text in taken:
            failed += 1
            if failed > 100 * count:
                raise UserError(
                    f"The grammar of synth has no {count} different sentences: "
                    "give a smaller recipe.options.sentences."
                )
            continue
        taken.add(text)
        drawn += 1
        yield text


def _speak(lines: list[dict[str, Any]], folder: Path) -> str:
    """Let the program beside this file write the audio; returns what it says about the words."""
    program = Path(__file__).with_name("espeak.py")
    spoken = subprocess.run(
        [sys.executable, program, folder], input=_json_lines(lines), capture_output=True, text=True
    )
    if spoken.returncode != 0:
        reason = (spoken.stderr.strip().splitlines() or [f"status {spoken.returncode}"])[-1]
        raise UserError(f"eSpeak NG could not speak the corpus synth: {reason}")
    return spoken.stdout


def _json_lines(lines: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def _program_digest() -> str:
    """Changes with whatever decides the samples: the grammar, the voices, the program."""
    here = Path(__file__)
    return digest_bytes((digest_file(here) + digest_file(here.with_name("espeak.py"))).encode())
