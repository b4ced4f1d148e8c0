"""Every kind of units: made for a corpus, and as a bundle keeps it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asr.errors import UserError
from asr.files import digest_bytes
from asr.units.characters import CharacterUnits
from asr.units.kinds import FILED, LISTED, units_from, units_from_dict, units_to_dict
from asr.units.symbols import Units

TEXTS = ["yes no yes", "no go", "go yes"]
KINDS = ("characters", "sentencepiece", "words", "phones")


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon"
    path.write_text("YES  Y EH S\nNO  N OW\nGO  G OW\n")
    return path


def made(kind: str, lexicon: Path | None) -> Units:
    return units_from(
        kind, TEXTS, whole_word_count=3, size=10, lexicon=lexicon, normaliser="english"
    )


def not_read(name: str, digest: str) -> bytes:
    raise AssertionError(f"{name} was read")


@pytest.mark.parametrize(
    ("kind", "symbols", "rate_name"),
    [
        ("characters", {"<blank>", "|", "e", "g", "n", "o", "s", "y", "yes"}, "wer"),
        ("words", {"<blank>", "go", "no", "yes"}, "wer"),
        ("phones", {"<blank>", "EH", "G", "N", "OW", "S", "Y"}, "per"),
    ],
)
def test_a_kind_gives_its_own_units_and_says_which_rate_chooses(
    kind: str, symbols: set[str], rate_name: str, lexicon: Path
) -> None:
    units = made(kind, lexicon)
    assert set(units.symbols) == symbols
    assert units.kind == kind
    assert units.rate_name == rate_name


def test_pieces_are_as_many_as_asked_for(lexicon: Path) -> None:
    units = made("sentencepiece", lexicon)
    assert len(units.symbols) == 10
    assert units.rate_name == "wer"


@pytest.mark.parametrize("kind", KINDS)
def test_units_survive_a_bundle_and_the_first_is_the_blank(kind: str, lexicon: Path) -> None:
    units = made(kind, lexicon)
    files = units.files()

    def read(name: str, digest: str) -> bytes:
        assert digest == digest_bytes(files[name])
        return files[name]

    again = units_from_dict(units_to_dict(units), read)
    assert again == units
    assert again.symbols == units.symbols
    assert again.symbols[0] == "<blank>"
    for text in TEXTS:
        assert again.encode(text) == units.encode(text)
        assert again.decode(units.encode(text)) == units.reference(text)


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_text_is_the_words_that_are_spelled(kind: str, lexicon: Path) -> None:
    units = made(kind, lexicon)
    labels = [*range(1, len(units.symbols)), *range(len(units.symbols) - 1, 0, -2)]
    spelled = units.spell([units.symbols[label] for label in labels])
    assert units.decode(labels) == " ".join(word for word, _ in spelled)


def test_a_bundle_keeps_characters_as_it_always_has(lexicon: Path) -> None:
    content = units_to_dict(CharacterUnits(("<blank>", "|", "a")))
    assert content == {"kind": "characters", "symbols": ["<blank>", "|", "a"]}
    assert CharacterUnits(("<blank>", "|", "a")).files() == {}


def test_who_has_no_pieces_does_not_load_sentencepiece() -> None:
    code = (
        "import sys; from asr.units.kinds import units_from;"
        "units_from('characters', ['a'], whole_word_count=0, size=9, lexicon=None,"
        " normaliser='none'); print('sentencepiece' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_phones_need_a_lexicon() -> None:
    with pytest.raises(UserError, match=r"units\.kind=phones: the corpus has no lexicon"):
        made("phones", None)


def test_the_lexicon_is_read_as_the_corpus_writes_words(lexicon: Path) -> None:
    units = units_from(
        "phones", ["YES"], whole_word_count=0, size=9, lexicon=lexicon, normaliser="none"
    )
    assert units.reference("YES") == "Y EH S"


def test_every_kind_that_is_kept_can_be_chosen() -> None:
    from asr.config import WORDS

    assert sorted(WORDS["units.kind"]) == sorted([*LISTED, *FILED]) == sorted(KINDS)
    with pytest.raises(UserError, match="Did you mean 'phones'"):
        made("phonems", None)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"kind": ["characters"]},
        {"kind": "pieces", "symbols": []},
        {"kind": "characters", "symbols": "abc"},
        {"kind": "characters", "symbols": ["a", "b"]},
        {"kind": "characters", "symbols": ["<blank>", "a", "a"]},
        {"kind": "words", "symbols": ["a", "b"]},
        {"kind": "phones", "symbols": ["<blank>", "AH"]},
        {"kind": "phones", "files": ["lexicon.txt"]},
        {"kind": "sentencepiece", "files": {"sentencepiece.model": 1}},
    ],
)
def test_damaged_units_are_refused(damaged: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        units_from_dict(damaged, not_read)
