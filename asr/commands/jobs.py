"""From words of several values to jobs of one value each: which there are, and their names.

`model=lstm,gru seed=range(1,3)` is written and multiplied out as in Hydra's own multirun, by
Hydra's own parser (https://hydra.cc/docs/advanced/override_grammar/extended/).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.compose import compose, groups, is_text
from asr.config import Config
from asr.errors import UserError
from asr.files import digest_bytes

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST = 1000  # jobs: more are a slip of the keys, and checking them takes minutes
LONGEST = 100  # bytes of a name; file systems take 255
# These say where a run lies, and which part of the work is done on what; they train nothing else.
NAMELESS = re.compile(r"name|recipe|split|bundle|preflight|decoder(\..*)?")


@dataclass(frozen=True)
class Value:
    """One value of a setting: `word` asks for it, `shown` is what people read."""

    word: str
    shown: str


Varying = Mapping[str, str]  # settings that have several values to the one of a job, as shown


@dataclass(frozen=True)
class Job:
    """One combination: the words that a command alone takes, and the settings they come to."""

    words: tuple[str, ...]
    varying: Varying
    config: Config

    def __str__(self) -> str:
        return label(self.varying)


def label(varying: Varying) -> str:
    """Which combination: 'model=gru seed=2'."""
    return " ".join(f"{key}={shown}" for key, shown in varying.items())


def plan(words: Sequence[str]) -> tuple[list[Job], Path]:
    """Every combination of the words' values, in their order, with a name of its own and checked.

    Of two words for one setting the last one counts, in the place of the first. With the jobs goes
    the path of the files that will compare them, but for its ending.

    Raises:
        UserError: no word has several values, or a combination's settings are wrong; says which.
    """
    choices: dict[str, list[Value]] = {}
    several: dict[str, bool] = {}
    for word in words:
        key = word.partition("=")[0]
        choices[key], several[key] = _values(key, word)
    if not any(several.values()):
        raise UserError(
            "-m runs every combination of values, and no setting has several: write KEY=A,B, each"
            " in quotes where it holds unusual signs."
        )
    if math.prod(map(len, choices.values())) > MOST:
        raise UserError(f"-m runs {MOST:,} combinations at most; these are more.")
    combinations = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    jobs = [_job(combination, several) for combination in combinations]
    return jobs, _comparison(jobs, choices, several)


def _values(key: str, word: str) -> tuple[list[Value], bool]:
    """The values of a word, and whether it was written as one of several."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException, OverrideParseException

    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except OverrideParseException:  # a path may be typed as it is; `compose` refuses the rest
        return [Value(word, word.partition("=")[2])], False
    if not override.is_sweep_override():
        quoted = word.partition("=")[2][:1] in ("'", '"')
        shown = str(override.value()) if quoted else word.partition("=")[2]
        return [Value(word, shown)], False
    try:
        values = [_value(key, element) for element in _elements(key, override)]
    except (HydraException, ValueError) as error:  # an interval; a step of 0
        raise UserError(f"{word!r} cannot be gone through value by value: {error}.") from None
    if not values:
        raise UserError(f"{word!r} holds no value.")
    for position, value in enumerate(values):
        if value in values[:position]:
            raise UserError(f"{word!r} has the value {value.shown} twice.")
    return values, True


def _elements(key: str, override: Override) -> Iterable[object]:
    """What stands between the commas, or what a range or a pattern comes to."""
    from hydra.core.override_parser.types import Glob

    pattern: object = override.value()
    if isinstance(pattern, Glob):
        return pattern.filter(groups().get(key, []))
    elements = itertools.islice(override.sweep_iterator(), MOST + 1)
    return _as_typed(override, elements) if is_text(key) else elements


def _as_typed(override: Override, elements: Iterable[object]) -> Iterable[object]:
    """Of a choice, what Hydra takes for a number, a truth or null as the text that was typed."""
    from hydra.core.override_parser.types import QuotedString
    from hydra.grammar.gen.OverrideLexer import (  # type: ignore[attr-defined]
        CommonTokenStream,
        InputStream,
        OverrideLexer,
    )
    from hydra.grammar.gen.OverrideParser import OverrideParser

    lexer = OverrideLexer(InputStream(override.input_line))
    value = OverrideParser(CommonTokenStream(lexer)).override().value()
    choice = value.simpleChoiceSweep() or value.element().function()
    if value.element() and choice.ID().getText() != "choice":  # what a range or a sort comes to
        return elements
    return [
        written.getText().strip()
        if written.primitive() and not isinstance(element, str | QuotedString)
        else element
        for element, written in zip(elements, choice.element(), strict=False)  # those up to MOST
    ]


def _value(key: str, element: object) -> Value:
    from hydra.core.override_parser.types import QuotedString, Transformer

    spelled = str(Transformer.str(element))  # type: ignore[arg-type]
    if isinstance(element, bool):
        spelled = spelled.lower()  # as settings are written
    if isinstance(element, QuotedString):
        return Value(f"{key}={spelled}", element.text)
    if isinstance(element, str):  # a text is taken as it is typed, anything else is unescaped
        return Value(f"{key}={element if is_text(key) else spelled}", element)
    return Value(f"{key}={spelled}", spelled)


def _job(combination: Mapping[str, Value], several: Mapping[str, bool]) -> Job:
    varying = {key: value.shown for key, value in combination.items() if several[key]}
    words = {key: value.word for key, value in combination.items()}
    parts = {key: value for key, value in varying.items() if not NAMELESS.fullmatch(key)}
    if parts:
        given = combination.get("name")
        own = _file_name([f"{key}={value}" for key, value in parts.items()])
        words["name"] = f"name={given.shown},{own}" if given else f"name={own}"
    try:
        config = compose(list(words.values()))
    except UserError as error:
        raise UserError(f"{label(varying)}: {error}") from None
    return Job(tuple(words.values()), varying, config)


def _file_name(parts: Sequence[str]) -> str:
    """The parts between commas; with a digest where that is long, or holds what a name may not."""
    text = ",".join(parts)
    if all(re.fullmatch(r"[\w+=.-]+", part) for part in parts) and len(text.encode()) <= LONGEST:
        return text
    digest = digest_bytes("\n".join(parts).encode("utf-8", "surrogateescape"))[:8]
    plain = re.sub(r"[^\w+=,.-]+", "-", text).encode()[: LONGEST - 1 - len(digest)]
    return f"{plain.decode(errors='ignore')}-{digest}"


def _comparison(
    jobs: Sequence[Job], choices: Mapping[str, list[Value]], several: Mapping[str, bool]
) -> Path:
    """Beside the runs it compares, called by what varies."""
    recipes = {job.config.recipe.name for job in jobs}
    given = [choices["name"][0].shown] if "name" in choices and not several["name"] else []
    varying = [
        f"{key}={'+'.join(value.shown for value in values)}"
        for key, values in choices.items()
        if several[key]
    ]
    folder = Path("runs", *recipes) if len(recipes) == 1 else Path("runs")
    return folder / "comparisons" / _file_name([*given, *varying])
