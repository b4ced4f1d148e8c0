"""`asr lm` as a person calls it: what it reads, writes and says."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.commands.main import main
from asr.corpus import SHARD_SCHEMA, write_shard
from asr.language.ngram import NgramModel

TEXT = "The cat sat.\nthe dog sat on the cat\n\n  A dog, a cat!\n"

Asr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asr:
    """A function that runs `asr lm` in a folder with `text.txt`: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["lm", *words])
        return status, *capsys.readouterr()

    return run


def words_of(path: str) -> set[str]:
    return set(NgramModel.load(path).words) - {"<s>", "</s>", "<unk>"}


def test_it_says_what_was_counted_and_written(lm: Asr) -> None:
    status, said, errors = lm("text.txt", "-o", "models/lm.arpa")
    assert (status, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0] == "3 sentences, 13 words, 6 different"
    assert lines[1] == "3-gram model of words: 9 1-grams, 13 2-grams, 13 3-grams"
    assert lines[2].startswith("  1-grams: the counts define no discounts (none counts three")
    assert lines[2].endswith("): 0.5, 1, 1.5")
    assert re.fullmatch(r"Written to models/lm\.arpa: \d+ bytes, in \d+\.\d s", lines[5])
    assert words_of("models/lm.arpa") == {"the", "cat", "sat", "dog", "on", "a"}
    assert [path.name for path in Path("models").iterdir()] == ["lm.arpa"]


def test_discounts_that_the_counts_define_are_said(lm: Asr) -> None:
    Path("text.txt").write_text("p q r e e f f g g g h h h h\n")
    _, said, _ = lm("text.txt", "-o", "lm.arpa", "--order", "1")
    assert "  1-grams: discounts 0.5, 1.25, 1\n" in said


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz", "lm.bin"])
def test_the_same_input_gives_the_same_bytes(lm: Asr, name: str) -> None:
    lm("text.txt", "-o", name)
    before = Path(name).read_bytes()
    lm("text.txt", "-o", name)
    assert Path(name).read_bytes() == before


def test_a_converted_model_is_the_one_that_is_made_directly(lm: Asr) -> None:
    for name in ("lm.arpa", "lm.arpa.gz", "lm.bin"):
        lm("text.txt", "-o", name)
    zipped = Path("lm.arpa.gz").read_bytes()
    assert gzip.decompress(zipped) == Path("lm.arpa").read_bytes()
    assert zipped[3:8] == bytes(5)  # neither its name nor the time, which would be other bytes
    for source, target in (("lm.arpa", "lm.bin"), ("lm.arpa.gz", "lm.bin"), ("lm.bin", "lm.arpa")):
        status, said, _ = lm(source, "-o", f"again-{target}")
        assert status == 0
        assert said.startswith(f"{source}: 3-gram model of words: 9 1-grams")
        assert Path(f"again-{target}").read_bytes() == Path(target).read_bytes()


def test_texts_may_be_gzipped_or_manifests_and_several(lm: Asr) -> None:
    Path("more.txt.gz").write_bytes(gzip.compress(b"one two\n"))
    lines = [{"audio": "gone.wav", "text": text} for text in ("Three", "")]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    Path("a.jsonl").write_text(text + "\n")
    Path("b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "four"}\n'))
    status, said, _ = lm("text.txt", "more.txt.gz", "a.jsonl", "b.jsonl.gz", "-o", "lm.bin")
    assert status == 0
    assert said.startswith("6 sentences, 17 words")
    assert {"one", "two", "three", "four", "cat"} <= words_of("lm.bin")


def test_a_prepared_corpus_gives_the_texts_of_a_split(lm: Asr) -> None:
    folder = Path("corpora/tiny")
    folder.mkdir(parents=True)
    splits = {}
    for split, text in (("train", "go six"), ("test", "stop")):
        name = f"{split}-00000.arrow"
        with write_shard(folder / name) as shard:
            shard.add("a", "ann", text, np.zeros(1600, np.int16))
        size = (folder / name).stat().st_size
        splits[split] = {"shards": [{"file": name, "bytes": size}]}
    index = {
        "schema": 1, "recipe": "custom", "normaliser": "english", "fingerprint": "x",
        "splits": splits,
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(index))
    (folder / "rejected.jsonl").touch()
    assert "text" in SHARD_SCHEMA.names
    assert lm(str(folder), "-o", "lm.bin")[0] == 0
    assert words_of("lm.bin") == {"go", "six"}
    assert lm(str(folder), "-o", "lm.bin", "--split", "test")[0] == 0
    assert words_of("lm.bin") == {"stop"}


def test_a_vocabulary_is_a_list_or_a_dictionary_and_all_its_words_are_known(lm: Asr) -> None:
    dictionary = ";;;comment\nCAT  K AE T\nCAT(2)  K A T\nThirteen  TH\n<sil>  SIL\nE-MAIL  IY\n"
    Path("words.dic").write_text(dictionary)
    status, said, _ = lm("text.txt", "-o", "lm.bin", "--vocabulary", "words.dic")
    assert status == 0
    assert said.startswith(
        "3 sentences, 13 words, of which 10 are outside the vocabulary of 4 and count as <unk>"
    )
    assert words_of("lm.bin") == {"cat", "thirteen", "e", "mail"}


def test_the_dictionary_of_an4_has_words_that_its_training_texts_lack(
    lm: Asr, real_data: Callable[[str], Path]
) -> None:
    etc = real_data("an4") / "etc"
    lines = (etc / "an4_train.transcription").read_text().splitlines()
    texts = [line.partition("</s>")[0].removeprefix("<s>") for line in lines]
    Path("an4.txt").write_text("\n".join(texts))
    vocabulary = str(etc / "an4.dic")
    status, said, _ = lm("an4.txt", "-o", "lm.bin", "--vocabulary", vocabulary, "--test", "an4.txt")
    assert status == 0
    assert "words, of which 0 are outside the vocabulary of 101 and count as <unk>" in said
    model = NgramModel.load("lm.bin")
    rare = [model.log_prob[1 + model.word_id(word)] for word in ("thirteen", "november")]
    assert rare == [model.log_prob[1 + model.unknown_id]] * 2
    # Kneser-Ney with its counts: this is what the tests of the estimates make sure of.
    perplexity = float(re.search(r"perplexity ([\d.]+)", said)[1])  # type: ignore[index]
    assert perplexity < 15


def test_letters_of_texts_of_one_word_are_letters_when_they_are_read_again(lm: Asr) -> None:
    Path("words.txt").write_text("nine\none\ntwo\n")
    assert lm("words.txt", "-o", "one.arpa", "--characters")[0] == 0
    model = NgramModel.load("one.arpa")
    assert model.kind == "characters"
    shares = np.exp(model.log_prob[1 : 1 + len(model.words)])
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)
    assert 0 < shares[model.word_id("|")] == shares[model.unknown_id]


def test_characters_have_a_bar_for_the_space(lm: Asr) -> None:
    status, said, _ = lm("text.txt", "-o", "letters.arpa", "--characters", "--order", "4")
    assert status == 0
    assert said.startswith("3 sentences, 44 characters, 11 different\n4-gram model of characters:")
    assert words_of("letters.arpa") == set("thecasdogn|")
    lm("letters.arpa", "-o", "letters.bin")
    assert NgramModel.load("letters.bin").kind == "characters"


def test_pruning_is_as_the_thresholds_say(lm: Asr) -> None:
    _, said, _ = lm("text.txt", "-o", "lm.arpa", "--prune", "0 1")
    # Twice occur: <s> the, the cat, cat </s>; no trigram does but ... the threshold is 1 there too.
    ngrams = [tuple(text.split()) for text in ("<s> the", "the cat", "cat </s>")]
    model = NgramModel.load("lm.arpa")
    assert model.counts[1] == len(ngrams)
    assert "9 1-grams, 3 2-grams" in said


def test_texts_are_left_as_they_are_where_no_normaliser_is_wanted(lm: Asr) -> None:
    lm("text.txt", "-o", "lm.bin", "--normaliser", "none")
    assert words_of("lm.bin") >= {"The", "sat.", "A", "dog,"}


def test_the_mark_of_the_byte_order_is_no_part_of_the_first_word(lm: Asr) -> None:
    Path("text.txt").write_bytes(b"\xef\xbb\xbfone two\n")
    lm("text.txt", "-o", "lm.bin", "--normaliser", "none")
    assert words_of("lm.bin") == {"one", "two"}


def test_a_test_text_gets_its_perplexity_with_and_without_unknown_words(lm: Asr) -> None:
    Path("test.txt").write_text("the cat\nThe zebra\n")
    _, said, _ = lm("text.txt", "-o", "lm.bin", "--test", "test.txt")
    model = NgramModel.load("lm.bin")
    both = model.perplexity([["the", "cat"], ["the", "zebra"]])
    steps = [*model.log_probs(["the", "cat"]), *model.log_probs(["the", "zebra"])[[0, 2]]]
    known = np.exp(-np.mean(steps))
    assert (
        f"test.txt: 2 sentences, 4 words, 1 of them unknown: perplexity {both:.2f}, {known:.2f}"
        " without these\n"
    ) in said


def test_orders_that_no_sentence_has_are_said(lm: Asr) -> None:
    Path("text.txt").write_text("yes\nno\n")
    _, said, _ = lm("text.txt", "-o", "lm.arpa", "--order", "5")
    assert "No sentence is so long that it has n-grams of order 4.\n" in said
    assert NgramModel.load("lm.arpa").order == 3


MISTAKES = [
    (["text.txt", "-o", "lm.txt"], "must end in .arpa, .arpa.gz or .bin"),
    (["text.txt", "-o", "folder.bin"], "folder.bin is a folder"),
    (["none.txt", "-o", "lm.bin"], "none.txt does not exist"),
    (["lm.arpa", "-o", "lm.arpa"], "would be overwritten"),
    (["lm.arpa", "text.txt", "-o", "a.bin"], "lm.arpa is a model: give it alone"),
    (["lm.arpa", "-o", "a.bin", "--order", "2"], "lm.arpa is a model already: --order"),
    (["text.txt", "-o", "a.bin", "--prune", "1"], "--prune 1: give counts"),
    (["text.txt", "-o", "a.bin", "--prune", "0,2,1"], "--prune 0,2,1: give counts"),
    (["text.txt", "-o", "a.bin", "--prune", "0,x"], "--prune 0,x: give counts"),
    (["text.txt", "-o", "a.bin", "--prune", "0,0,0,1"], "at most 3"),
    (["text.txt", "-o", "a.bin", "--order", "0"], "--order"),
    (["text.txt", "-o", "a.bin", "--normaliser", "englich"], "Did you mean 'english'?"),
    (["empty.txt", "-o", "a.bin"], "There is no sentence"),
    (["marks.txt", "-o", "a.bin", "--normaliser", "none"], "marks.txt:2: <s> and </s> mark"),
    (["latin.txt", "-o", "a.bin"], "latin.txt:1: this line is not UTF-8"),
    (["bad.jsonl", "-o", "a.bin"], "bad.jsonl:2: this is no line of a manifest: it has no `text`"),
    (["torn.jsonl", "-o", "a.bin"], "torn.jsonl:1: this is no line of a manifest: not JSON"),
    (["cut.txt.gz", "-o", "a.bin"], "cut.txt.gz cannot be unpacked"),
    (["cut.bin", "-o", "a.arpa"], "cut.bin"),
    (["text.txt", "-o", "a.bin", "--vocabulary", "none"], "none does not exist"),
    (["text.txt", "-o", "a.bin", "--vocabulary", "empty.txt"], "has no word"),
    (["text.txt", "-o", "a.bin", "--characters", "--vocabulary", "text.txt"], "--vocabulary"),
    (["text.txt", "-o", "a.bin", "--test", "empty.txt"], "empty.txt has no sentence"),
    (["text.txt", "-o", "a.bin", "--test", "none.txt"], "none.txt does not exist"),
    (["text.txt", "-o", "text.txt/a.bin"], "Cannot write"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    lm: Asr, words: list[str], message: str
) -> None:
    assert lm("text.txt", "-o", "lm.arpa")[0] == 0
    Path("folder.bin").mkdir()
    Path("empty.txt").write_text("...\n\n")
    Path("marks.txt").write_text("good\n<s> bad </s>\n")
    Path("latin.txt").write_bytes(b"caf\xe9\n")
    Path("bad.jsonl").write_text('{"text": "good"}\n{"audio": "a.wav"}\n')
    Path("torn.jsonl").write_text('{"text": "go')
    Path("cut.txt.gz").write_bytes(gzip.compress(TEXT.encode() * 99)[:-20])
    Path("cut.bin").write_bytes(b"asr-lm\r\n")
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    status, said, errors = lm(*words)
    assert status == 2
    assert errors.startswith("asr: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert "Written" not in said
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_a_full_disk_is_an_error_and_nothing_is_left(
    lm: Asr, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    status, _, errors = lm("text.txt", "-o", "lm.bin")
    assert status == 2
    assert errors == (
        "asr: Cannot write lm.bin: No space left on device. Make room or choose another folder.\n"
    )
    assert [path.name for path in Path().iterdir()] == ["text.txt"]
