"""Pieces of words against SentencePiece itself, called as its own documents say."""

from __future__ import annotations

import copy
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.units.pieces import SentencePieceUnits
from asr.units.symbols import UnknownSymbolError

TEXTS = [
    "the cat sat on the mat",
    "the cats sit there",
    "sitting on that mat",
    "another cat is there",
    "the other mats are matted",
]
SIZE = 24


@pytest.fixture(scope="module")
def units() -> SentencePieceUnits:
    return SentencePieceUnits.from_texts(TEXTS, SIZE)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> sentencepiece.SentencePieceProcessor:
    """What SentencePiece makes of a file of the same texts, with its own unknown at 0."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "texts").write_text("\n".join(sorted(TEXTS)))
    sentencepiece.SentencePieceTrainer.train(
        f"--input={folder}/texts --model_prefix={folder}/m --vocab_size={SIZE} --num_threads=1"
        " --normalization_rule_name=identity --character_coverage=1.0 --bos_id=-1 --eos_id=-1"
        " --minloglevel=2"
    )
    return sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")


def test_pieces_and_labels_are_those_of_sentencepiece(
    units: SentencePieceUnits, theirs: sentencepiece.SentencePieceProcessor
) -> None:
    pieces = [theirs.id_to_piece(id) for id in range(theirs.get_piece_size())]
    assert len(units.symbols) == SIZE
    assert units.symbols == ("<blank>", *pieces[1:])
    for text in [*TEXTS, "a mat", "hathat", ""]:
        assert units.encode(text) == theirs.encode(text)
        assert [units.symbols[label] for label in units.encode(text)] == (
            theirs.encode(text, out_type=str)
        )


@given(labels=st.lists(st.integers(1, SIZE - 1), max_size=12))
def test_any_labels_read_as_sentencepiece_reads_them(
    labels: list[int],
    units: SentencePieceUnits,
    theirs: sentencepiece.SentencePieceProcessor,
) -> None:
    assert units.decode(labels) == " ".join(theirs.decode(labels).split())


@settings(max_examples=40, deadline=None)
@example(["<blank> <unk> <s>", "blank,<>", '"sun" ⁇'], 3)
@given(st.lists(st.text(max_size=20), max_size=6), st.integers(0, 20))
def test_decoding_undoes_encoding_of_every_text_that_holds_nothing_reserved(
    texts: list[str], more: int
) -> None:
    texts = ["one word", *(" ".join(text.split()) for text in texts)]
    usable = [text for text in texts if not set(text) & set("▁▅\0")]
    least = 2 + len(set("".join(usable)) - {" "})
    try:
        units = SentencePieceUnits.from_texts(texts, least + more)
    except UserError as error:
        units = SentencePieceUnits.from_texts(texts, at_most(error))
    for text in usable:
        assert units.decode(units.encode(text)) == text
        assert 0 not in units.encode(text)
    for text in set(texts) - set(usable):
        with pytest.raises(UnknownSymbolError):
            units.encode(text)


def at_most(error: UserError) -> int:
    """The largest size that an error says is possible."""
    found = re.search(r"at most (\d+) units", str(error))
    assert found
    return int(found[1])


def test_a_size_beyond_the_texts_is_refused_with_the_largest_that_sentencepiece_can() -> None:
    with pytest.raises(UserError, match=r"units\.size=500 is too large") as refused:
        SentencePieceUnits.from_texts(TEXTS, 500)
    largest = at_most(refused.value)
    assert len(SentencePieceUnits.from_texts(TEXTS, largest).symbols) == largest
    with pytest.raises(UserError):
        SentencePieceUnits.from_texts(TEXTS, largest + 1)
    with pytest.raises(RuntimeError, match=f"<= {largest}"):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sorted(TEXTS)), vocab_size=500, model_prefix="/nowhere/m",
            character_coverage=1.0, bos_id=-1, eos_id=-1, minloglevel=3,
        )  # fmt: skip


def test_a_size_below_the_characters_is_refused_with_the_least() -> None:
    with pytest.raises(UserError, match=r"units.size=4 .* 3 characters, .* at least 5 units"):
        SentencePieceUnits.from_texts(["ab bc", "c"], 4)
    assert len(SentencePieceUnits.from_texts(["ab bc", "c"], 5).symbols) == 5


@pytest.mark.parametrize("texts", [[], [""], ["▁"]])
def test_nothing_is_learnt_from_no_words(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no training text has a word"):
        SentencePieceUnits.from_texts(texts, 10)


def test_the_same_texts_give_the_same_units_in_any_order_and_process() -> None:
    first = SentencePieceUnits.from_texts(TEXTS, SIZE)
    shuffled = random.Random(3).sample(TEXTS, len(TEXTS))
    assert shuffled != TEXTS
    assert SentencePieceUnits.from_texts(shuffled, SIZE) == first
    assert SentencePieceUnits.from_texts(TEXTS[1:], SIZE) != first
    code = (
        "from asr.units.pieces import SentencePieceUnits as U; import sys;"
        f"sys.stdout.write(U.from_texts({shuffled!r}, {SIZE}).model.hex())"
    )
    process = [sys.executable, "-c", code]
    done = subprocess.run(process, capture_output=True, text=True, check=True)
    assert done.stdout == first.model.hex()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("the zoo", "z"), ("Zz", "Z"), ("the ▁cat", "▁"), ("cat ▅", "▅"), ("<blank>", "<")],
)
def test_an_unseen_character_is_named(units: SentencePieceUnits, text: str, symbol: str) -> None:
    with pytest.raises(UnknownSymbolError, match=re.escape(text)) as caught:
        units.encode(text)
    assert caught.value.symbol == symbol


def test_the_blanks_name_in_a_text_is_spelled_where_its_characters_are_known() -> None:
    units = SentencePieceUnits.from_texts(["<blank> on", "blank <>"], 10)
    assert 0 not in units.encode("<blank> on")
    assert units.decode(units.encode("<blank> on")) == "<blank> on"


def test_a_long_text_is_not_passed_over() -> None:
    units = SentencePieceUnits.from_texts(["z", "y", "x", "xyz " * 2_000], 6)
    assert "▁xyz" in units.symbols


def test_a_character_that_is_rare_among_very_many_is_known() -> None:
    units = SentencePieceUnits.from_texts(["a " * 5_000 + "z"], 4)
    assert units.decode(units.encode("z a")) == "z a"


def test_a_word_begins_at_the_mark_and_a_mark_alone_is_no_part_of_it(
    units: SentencePieceUnits,
) -> None:
    def spelled(*symbols: str) -> list[tuple[str, list[int]]]:
        return [(word, list(positions)) for word, positions in units.spell(symbols)]

    assert spelled("▁the", "▁", "c", "at", "s", "▁", "▁") == [("the", [0]), ("cats", [2, 3, 4])]
    assert spelled("s", "▁mat", "t", "▁a") == [("s", [0]), ("matt", [1, 2]), ("a", [3])]
    assert spelled("▁") == spelled() == []


def test_copies_and_what_was_pickled_encode_alike(units: SentencePieceUnits) -> None:
    (content,) = units.files().values()
    copies = [copy.deepcopy(units), pickle.loads(pickle.dumps(units))]
    for other in [*copies, SentencePieceUnits.from_file(content)]:
        assert other == units
        assert other.encode(TEXTS[0]) == units.encode(TEXTS[0])


def test_what_is_no_model_of_ours_is_refused(units: SentencePieceUnits, tmp_path: Path) -> None:
    for damaged in (b"", b"junk", units.model[:-20]):
        with pytest.raises(ValueError):
            SentencePieceUnits.from_file(damaged)
    foreign = [
        "--bos_id=-1 --eos_id=-1",
        "--unk_piece=<blank>",
        "--unk_id=1 --pad_id=0 --pad_piece=<blank> --bos_id=-1 --eos_id=-1",
    ]
    for other in foreign:
        (tmp_path / "texts").write_text("\n".join(TEXTS))
        sentencepiece.SentencePieceTrainer.train(
            f"--input={tmp_path}/texts --model_prefix={tmp_path}/m --vocab_size=24"
            f" --minloglevel=2 {other}"
        )
        with pytest.raises(ValueError):
            SentencePieceUnits.from_file((tmp_path / "m.model").read_bytes())
