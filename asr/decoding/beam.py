"""CTC prefix beam search: words, a language model, hotwords, and the best texts of an utterance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.decoding import grammar, search, states
from asr.decoding.hotwords import HotwordList, no_hotwords
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.lexicon import Lexicon
from asr.errors import UserError
from asr.language.ngram import NgramModel
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units


class BeamDecoder:
    """Prefix beam search over a batch, its utterances in parallel threads.

    A hypothesis's score is the natural log of the probability of all its CTC paths, plus `alpha` times
    that of the language model `lm`, plus `beta` for each of its words (of its characters, with a model
    of letters), plus the weights of the hotwords in it.

    `lexicon` limits what is decoded to its words, unless `unknown_score`, the natural log added for a
    word that is not in it, is given. `beam` states are kept after each frame, of those within
    `beam_threshold` (natural log) of the best; of a frame, the `tokens` likeliest labels within
    `token_threshold` of the likeliest are tried. `nbest` hypotheses are returned at most.

    Raises:
        UserError: a setting makes no sense, or a file cannot be used; says which.
    """

    def __init__(
        self,
        units: Units,
        seconds_per_frame: float,
        offset_s: float = 0.0,
        *,
        normaliser: str = "none",
        beam: int = 100,
        alpha: float = 0.5,
        beta: float = 0.0,
        lm: str | Path | NgramModel | None = None,
        lexicon: str | Path | Lexicon | None = None,
        unknown_score: float | None = None,
        hotwords: str | Path | None = None,
        hotword_weight: float = 5.0,
        nbest: int = 1,
        tokens: int = 50,
        token_threshold: float = 9.0,
        beam_threshold: float = 16.0,
    ) -> None:
        for name, number in (("beam", beam), ("nbest", nbest), ("tokens", tokens)):
            if number < 1:
                raise UserError(f"decoder.{name}={number} must be at least 1.")
        for name, value in (("alpha", alpha), ("beta", beta), ("unknown_score", unknown_score)):
            if value is not None and not math.isfinite(value):
                raise UserError(f"decoder.{name}={value} is no number.")
        self.units = units
        self.seconds_per_frame = seconds_per_frame
        self.offset_s = offset_s
        self.nbest = nbest
        if isinstance(lexicon, str | Path):
            lexicon = Lexicon.read(lexicon, normaliser)
        phones = isinstance(units, PhoneUnits)
        if isinstance(units, PhoneUnits) and lexicon is None:
            lexicon = Lexicon.of_units(units)
        model = NgramModel.load(lm) if isinstance(lm, str | Path) else lm
        if phones and model is not None and model.kind == "characters":
            raise UserError("decoder.lm: a model of letters needs units that spell, not phones.")
        listed = None
        if hotwords is not None:
            letters = "".join(grammar.text_of(units, n) for n in range(len(units.symbols)))
            alphabet = None if phones else frozenset(letters)
            listed = HotwordList.read(hotwords, normaliser, hotword_weight, alphabet)
        heard = listed.characters if listed else {}
        vocabulary = None
        if lexicon is not None:
            vocabulary = grammar.Vocabulary.of_lexicon(lexicon, units)
        elif model is not None and model.kind == "words":
            words = [word for word in model.words if word not in ("<s>", "</s>", "<unk>")]
            vocabulary = grammar.Vocabulary.of_words(words)
        self.words = vocabulary.words if vocabulary else ()
        closed = lexicon is not None and (phones or unknown_score is None)
        self._labels = grammar.labels_of(units, model, {} if phones else heard)
        self._trie = grammar.trie_of(vocabulary, closed, model, heard if phones else {})
        self._ngrams = grammar.ngrams_of(model)
        self._hotwords = listed.automaton() if listed else no_hotwords()
        bonus = float(self._hotwords.given.max(initial=0.0)) + float(
            np.ptp(self._hotwords.lent) if listed else 0.0
        )
        longest = max(1, int(np.diff(self._labels.letter_begins).max()) + 2)
        self.options = states.Options(
            beam=beam,
            beam_threshold=beam_threshold,
            tokens=min(tokens, len(units.symbols) - 1),
            token_threshold=token_threshold,
            alpha=alpha,
            beta=beta,
            unknown_score=(unknown_score or 0.0) if vocabulary else 0.0,
            most=2 * (longest * max(beta, 0.0) + bonus + max(unknown_score or 0.0, 0.0)),
        )

    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Log-probabilities `[B, T', V]` and their lengths `[B]` to N-best lists, the best first."""
        whole = emissions.float().cpu().numpy()
        items = [item[:length] for item, length in zip(whole, lengths.tolist(), strict=True)]
        if len(items) < 2 or torch.get_num_threads() == 1:
            return [self.decode_one(item) for item in items]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return list(pool.map(self.decode_one, items))

    def decode_one(self, emissions: np.ndarray) -> list[Hypothesis]:
        """Log-probabilities `[T', V]` of one utterance to its hypotheses, the best first."""
        nodes, places, scores, whole = search.search(
            np.ascontiguousarray(emissions),
            self._labels,
            self._trie,
            self._ngrams,
            self._hotwords,
            self.options,
        )
        order = np.argsort(-scores[:, 1], kind="stable")[: self.nbest]
        found = [
            Hypothesis(
                text=self._text(nodes, int(places[k, 0]), int(places[k, 1]), bool(whole[k])),
                score=float(scores[k, 1]),
            )
            for k in order
        ]
        return found or [Hypothesis("", -math.inf)]

    def _text(self, nodes: np.ndarray, node: int, last_word: int, whole: bool) -> str:
        labels: list[int] = []
        words: list[int] = [] if last_word < 0 else [last_word]
        while node >= 0:
            node, label, word = (int(number) for number in nodes[node])
            labels.append(label)
            if word >= 0:
                words.append(word)
        if isinstance(self.units, PhoneUnits):
            return " ".join(self.words[word] for word in reversed(words))
        text = self.units.decode(labels[::-1])
        return text if whole else " ".join(text.split()[:-1])


def texts(hypotheses: Sequence[Sequence[Hypothesis]]) -> list[str]:
    """The best text of each utterance."""
    return [nbest[0].text for nbest in hypotheses]
