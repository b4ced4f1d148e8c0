"""Estimates: small corpora by hand, and the formulas of Chen and Goodman over dictionaries."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asr.language import counting
from asr.language.counting import Scratch, count_ngrams
from asr.language.kneser_ney import Estimate, estimate
from asr.language.ngram import NgramModel, advance

Words = tuple[str, ...]
FALLBACK = (0.0, 0.5, 1.0, 1.5)


def made(
    folder: Path,
    sentences: Sequence[Sequence[str]],
    order: int,
    prune: Sequence[int] = (0,),
    vocabulary: Sequence[str] | None = None,
) -> Estimate:
    scratch = Scratch(folder)
    return estimate(count_ngrams(sentences, order, scratch, vocabulary), scratch, prune)


def probability(model: NgramModel, context: Sequence[str], word: str) -> float:
    state = np.int32(0)
    for one in context:
        _, state = advance(*model.arrays, state, model.word_id(one))
    return math.exp(advance(*model.arrays, state, model.word_id(word))[0])


def test_two_sentences_are_estimated_as_by_hand(tmp_path: Path) -> None:
    estimated = made(tmp_path, [["a", "b"], ["a"]], 2)
    # Bigrams: `<s> a` twice, `a b`, `b </s>` and `a </s>` once; none three times: fallback.
    # Single words count after how many words they stand: a 1 (<s>), b 1 (a), </s> 2 (b, a); none 3.
    assert [discounts.values for discounts in estimated.discounts] == [(0.5, 1.0, 1.5)] * 2
    # Their sum is 4; left are (0.5 + 0.5 + 1) / 4 = 1/2, for a, b, </s> and <unk> an eighth each.
    one = {word: probability(estimated.model, [], word) for word in ("a", "b", "</s>", "<unk>")}
    assert one == pytest.approx(
        {"a": 0.5 / 4 + 1 / 8, "b": 0.5 / 4 + 1 / 8, "</s>": 1 / 4 + 1 / 8, "<unk>": 1 / 8}
    )
    # After <s>: left is 1/2; (2 - 1) / 2 + 1/2 p(a)
    assert probability(estimated.model, ["<s>"], "a") == pytest.approx(0.5 + 0.5 * 0.25)
    assert probability(estimated.model, ["<s>"], "b") == pytest.approx(0.5 * 0.25)
    # After a: left is (0.5 + 0.5) / 2
    assert probability(estimated.model, ["a"], "b") == pytest.approx(0.5 / 2 + 0.5 * 0.25)
    assert probability(estimated.model, ["a"], "</s>") == pytest.approx(0.25 + 0.5 * 0.375)
    # After b: left is 0.5 / 1
    assert probability(estimated.model, ["b"], "</s>") == pytest.approx(0.5 + 0.5 * 0.375)
    # The sentence `a b`: 0.625 * 0.375 * 0.6875
    assert estimated.model.score(["a", "b"]) == pytest.approx(math.log(0.625 * 0.375 * 0.6875))


def test_discounts_come_from_counts_of_counts_as_by_hand(tmp_path: Path) -> None:
    text = list("pqreeffggghhhh")
    estimated = made(tmp_path, [text], 1)
    # Once: p q r </s>; twice: e f; three times: g; four times: h. Y = 4 / (4 + 2 * 2) = 1/2.
    # D1 = 1 - 2 Y 2/4 = 0.5;  D2 = 2 - 3 Y 1/2 = 1.25;  D3+ = 3 - 4 Y 1/1 = 1
    assert estimated.discounts[0].values == pytest.approx((0.5, 1.25, 1.0))
    assert estimated.discounts[0].reason == ""
    # 15 in all; left are (4 * 0.5 + 2 * 1.25 + 2 * 1) / 15 = 6.5 / 15, in 9 shares with <unk>'s.
    share = 6.5 / 15 / 9
    found = [probability(estimated.model, [], word) for word in ("p", "e", "g", "h", "zzz")]
    assert found == pytest.approx(
        [0.5 / 15 + share, 0.75 / 15 + share, 2 / 15 + share, 3 / 15 + share, share]
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a a b b b", "none counts once"),  # but </s>, three times with two more sentences
        ("a b b b c c c c", "none counts twice"),
        ("a b c c", "none counts three times"),
        ("a b b c c d d e e e e f f f f f f", "none counts three times"),
    ],
)
def test_counts_that_define_no_discount_are_named(tmp_path: Path, text: str, reason: str) -> None:
    sentences = [text.split()] + [["b"]] * (2 if reason.endswith("once") else 0)
    (discounts,) = made(tmp_path, sentences, 1).discounts
    assert (discounts.values, discounts.reason) == ((0.5, 1.0, 1.5), reason)


def test_a_discount_out_of_its_range_is_named(tmp_path: Path) -> None:
    # Once: a </s>; twice: b; three times: c to h. Y = 2 / 4, D2 = 2 - 3/2 * 6 / 1 = -7
    text = ["a", "b", "b", *"cdefgh" * 3]
    (discounts,) = made(tmp_path, [text], 1).discounts
    assert discounts.values == (0.5, 1.0, 1.5)
    assert discounts.reason == "the counts give -7 of 2"


class ChenGoodman:
    """Interpolated modified Kneser-Ney as it is defined, one probability at a time."""

    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        order: int,
        words: Sequence[str],
        prune: Sequence[int],
    ) -> None:
        self.raw: Counter[Words] = Counter()
        for sentence in sentences:
            marked = ("<s>", *sentence, "</s>")
            for length in range(1, order + 1):
                for start in range(len(marked) - length + 1):
                    self.raw[marked[start : start + length]] += 1
        before: dict[Words, set[str]] = defaultdict(set)
        for ngram in self.raw:
            before[ngram[1:]].add(ngram[0])
        self.order = order
        self.prune = [*prune, *[prune[-1]] * order][:order]
        self.words = [word for word in words if word != "<s>"]
        self.counts = {
            ngram: count if len(ngram) == order or ngram[0] == "<s>" else len(before[ngram])
            for ngram, count in self.raw.items()
            if ngram != ("<s>",)
        }
        self.discounts = [self._discounts(length) for length in range(1, order + 1)]
        self.after: dict[Words, list[str]] = defaultdict(list)
        for ngram in self.counts:
            self.after[ngram[:-1]].append(ngram[-1])

    def _discounts(self, length: int) -> tuple[float, ...]:
        of_length = [count for ngram, count in self.counts.items() if len(ngram) == length]
        n = Counter(of_length)
        if not (n[1] and n[2] and n[3]):
            return FALLBACK
        y = n[1] / (n[1] + 2 * n[2])
        found = tuple(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))
        if any(not 0 < value <= i for i, value in enumerate(found, start=1)):
            return FALLBACK
        return (0.0, *found)

    def kept(self, ngram: Words) -> bool:
        return len(ngram) == 1 or self.raw[ngram] > self.prune[len(ngram) - 1]

    def probability(self, context: Words, word: str) -> float:
        shorter = self.probability(context[1:], word) if context else 1 / len(self.words)
        if len(context) >= self.order or not self.after[context]:
            return shorter
        discounts = self.discounts[len(context)]
        total = sum(self.counts[(*context, one)] for one in self.after[context])
        left = 0.0
        for one in self.after[context]:
            ngram = (*context, one)
            count = self.counts[ngram]
            left += discounts[min(count, 3)] if self.kept(ngram) else count
        own = 0.0
        ngram = (*context, word)
        if ngram in self.counts and self.kept(ngram):
            own = self.counts[ngram] - discounts[min(self.counts[ngram], 3)]
        return own / total + left / total * shorter


def markov_text(sentences: int, words: str, seed: int) -> list[list[str]]:
    """Sentences in which a word depends on the one before."""
    random = np.random.default_rng(seed)
    likely = random.dirichlet(np.full(len(words), 0.3), size=len(words) + 1)
    texts = []
    for _ in range(sentences):
        row, text = len(words), []
        for _ in range(random.integers(1, 9)):
            row = random.choice(len(words), p=likely[row])
            text.append(words[row])
        texts.append(text)
    return texts


CASES = [
    (1, (0,), None),
    (2, (0,), None),
    (3, (0,), None),
    (4, (0,), None),
    (3, (0, 0, 1), None),
    (3, (0, 1), None),
    (4, (0, 1, 2, 2), None),
    (3, (0, 50), None),
    (3, (0,), "abcdefxyz"),
    (3, (0, 1), "abcdefxyz"),
]


@pytest.mark.parametrize(("order", "prune", "vocabulary"), CASES)
def test_probabilities_are_those_of_chen_and_goodman_and_sum_to_one(
    tmp_path: Path, order: int, prune: tuple[int, ...], vocabulary: str | None
) -> None:
    letters = "abcdefghij"
    sentences = markov_text(60, letters, seed=order)
    model = made(tmp_path, sentences, order, prune, vocabulary).model
    known = vocabulary or letters
    heard = [[w if w in known else "<unk>" for w in sentence] for sentence in sentences]
    oracle = ChenGoodman(heard, order, ["<s>", "</s>", "<unk>", *known], prune)
    words = [*known, "</s>", "<unk>"]
    contexts = [()] + [
        (*start, *rest)
        for start, length in itertools.product([(), ("<s>",)], range(3))
        for rest in itertools.product([*known, "<unk>"][:8], repeat=length)
    ]
    for context in contexts:
        found = [probability(model, context, word) for word in words]
        assert sum(found) == pytest.approx(1, abs=2e-6)
        expected = [oracle.probability(context, word) for word in words]
        assert found == pytest.approx(expected, rel=2e-6)


def test_pruning_leaves_out_rare_ngrams_of_its_orders_only(tmp_path: Path) -> None:
    sentences = markov_text(60, "abcdefghij", seed=1)
    whole, pruned = (made(tmp_path, sentences, 3, prune) for prune in ((0,), (0, 1, 2)))
    raw = ChenGoodman(sentences, 3, [], (0,)).raw
    for order, threshold in ((2, 1), (3, 2)):
        kept = sum(len(ngram) == order and count > threshold for ngram, count in raw.items())
        assert pruned.model.counts[order - 1] == kept < whole.model.counts[order - 1]
    assert pruned.model.counts[0] == whole.model.counts[0]
    assert pruned.discounts == whole.discounts  # which all n-grams define


def test_words_that_never_occur_share_what_unknown_words_get(tmp_path: Path) -> None:
    model = made(tmp_path, [["one", "two"], ["two"]], 2, vocabulary=["one", "two", "three"]).model
    assert probability(model, [], "three") == pytest.approx(probability(model, [], "<unk>"))
    assert probability(model, ["one"], "three") > 0


def test_the_beginning_of_a_sentence_is_never_said(tmp_path: Path) -> None:
    model = made(tmp_path, [["a", "b"], ["a"]], 2).model
    assert model.log_prob[1 + model.start_id] == pytest.approx(-99 * math.log(10))


def test_runs_on_disk_give_the_model_that_memory_gives_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = markov_text(500, "abcdefghijklmnop", seed=0)
    made(tmp_path, sentences, 3, (0, 0, 1)).model.save(tmp_path / "memory.bin")
    monkeypatch.setattr(counting, "SMALL_BYTES", 64)
    scratch = Scratch(tmp_path)
    counts = count_ngrams(sentences, 3, scratch, run=100)
    estimate(counts, scratch, (0, 0, 1)).model.save(tmp_path / "disk.bin")
    assert (tmp_path / "disk.bin").read_bytes() == (tmp_path / "memory.bin").read_bytes()


def test_unigrams_of_characters_that_all_occur_often_get_the_fallback(tmp_path: Path) -> None:
    estimated = made(tmp_path, [list("abab")] * 9, 2)
    assert estimated.discounts[0].values == (0.5, 1.0, 1.5)
    assert estimated.discounts[0].reason.startswith("none counts")
