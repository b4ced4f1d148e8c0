"""CTC prefix beam search: words, a language model, hotwords, and the best texts of an utterance."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.decoding import grammar, search, states
from asr.decoding.alignment import peaks
from asr.decoding.confidence import Calibration, calibrated, shared
from asr.decoding.hotwords import HotwordList, no_hotwords
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.lexicon import Lexicon
from asr.decoding.settings import check_counts, check_scores, check_thresholds
from asr.decoding.shares import word_shares
from asr.decoding.words import timed_units, words_of
from asr.errors import UserError
from asr.language.ngram import NgramModel
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units


class BeamDecoder:
    """Prefix beam search over a batch, its utterances in parallel threads.

    A hypothesis's score is the natural log of the probability of all its CTC paths, plus `alpha`
    times that of the language model `lm`, plus `beta` for each of its words (of its characters,
    with a model of letters), plus the weights of the hotwords in it.

    `lexicon` limits what is decoded to its words, unless `unknown_score`, the natural log added for
    a word that is not in it, is given. `beam` states are kept after each frame, of those within
    `beam_threshold` (natural log) of the best; of a frame, the `tokens` likeliest labels within
    `token_threshold` of the likeliest are tried. `nbest` hypotheses are returned at most. Words of
    the best one have a confidence (`asr.decoding.confidence`), calibrated by `calibration`.

    Raises:
        UserError: a setting makes no sense, or a file cannot be used; says which.
    """

    rate_name = "wer"
    rewarding = True

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
        calibration: Mapping[str, float] | Calibration | None = None,
    ) -> None:
        check_counts(beam=beam, nbest=nbest, tokens=tokens)
        check_scores(
            alpha=alpha, beta=beta, unknown_score=unknown_score, hotword_weight=hotword_weight
        )
        check_thresholds(
            alpha=alpha, token_threshold=token_threshold, beam_threshold=beam_threshold
        )
        self.units = units
        self.seconds_per_frame = seconds_per_frame
        self.offset_s = offset_s
        self.nbest = nbest
        self.calibration = Calibration.of_settings(calibration)
        if isinstance(lexicon, str | Path):
            lexicon = Lexicon.read(lexicon, normaliser)
        phones = isinstance(units, PhoneUnits)
        if isinstance(units, PhoneUnits) and lexicon is None:
            lexicon = Lexicon.of_units(units)
        model = NgramModel.load(lm) if isinstance(lm, str | Path) else lm
        if phones and model is not None and model.kind == "characters":
            raise UserError("decoder.lm: a model of letters needs units that spell, not phones.")
        vocabulary = None
        if lexicon is not None:
            vocabulary = grammar.Vocabulary.of_lexicon(lexicon, units)
        elif model is not None and model.kind == "words":
            vocabulary = grammar.Vocabulary.of_words(grammar.words_of(model, units))
        self.words = vocabulary.words if vocabulary else ()
        closed = lexicon is not None and (phones or unknown_score is None)
        listed = None
        if hotwords is not None:
            only = grammar.words_heard(units, self.words if closed else None)
            alphabet = grammar.alphabet_of(units)
            listed = HotwordList.read(hotwords, normaliser, hotword_weight, alphabet, only)
        heard = listed.characters if listed else {}
        self._labels = grammar.labels_of(units, model, {} if phones else heard)
        self._trie = grammar.trie_of(vocabulary, closed, model, heard if phones else {})
        self._ngrams = grammar.ngrams_of(model)
        self._hotwords = listed.automaton() if listed else no_hotwords()
        unknown = (unknown_score or 0.0) if vocabulary else 0.0
        self._options = states.Options(
            beam=beam,
            beam_threshold=beam_threshold,
            tokens=min(tokens, len(units.symbols) - 1),
            token_threshold=token_threshold,
            alpha=alpha,
            beta=beta,
            unknown_score=unknown,
            most=self._most(beta, unknown),
        )

    def weighted(self, alpha: float, beta: float) -> BeamDecoder:
        """The same with other weights."""
        changed = copy.copy(self)
        most = self._most(beta, self._options.unknown_score)
        changed._options = self._options._replace(alpha=alpha, beta=beta, most=most)
        return changed

    def _most(self, beta: float, unknown_score: float) -> float:
        """What a label may add to a score at most, but for the language model, which adds none."""
        # A label ends one word and is another at most; with a model of letters each letter counts.
        letters = 2 + int(np.diff(self._labels.letter_begins).max(initial=0))
        gain = letters * (max(beta, 0.0) + max(unknown_score, 0.0))
        if len(self._hotwords.given):
            heard = letters + int(np.diff(self._labels.hot_begins).max(initial=0))
            gain += heard * max(float(self._hotwords.given.max()), 0.0)
            gain += float(np.ptp(self._hotwords.lent))
        return gain

    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Log-probabilities `[B, T', V]` and lengths `[B]` to N-best lists, the best first."""
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
            self._options,
        )
        order = np.argsort(-scores[:, 1], kind="stable")[: self.nbest]
        found = []
        for rank, k in enumerate(order):
            labels, spelled = self._spelled(nodes, int(places[k, 0]), int(places[k, 1]), whole)
            hypothesis = Hypothesis(" ".join(word for word, _ in spelled), float(scores[k, 1]))
            if rank == 0:
                spans = peaks(emissions, labels)
                timed = timed_units(
                    self.units, labels, spans, self.seconds_per_frame, self.offset_s
                )
                words = words_of(self.units, timed, spelled, math.prod)
                shares = word_shares(nodes, places, scores, int(k), self._labels)
                words = tuple(
                    replace(word, confidence=shared(word.confidence, float(share)))
                    for word, share in zip(words, shares[: len(words)], strict=True)
                )
                hypothesis = replace(hypothesis, words=calibrated(words, self.calibration))
            found.append(hypothesis)
        return found or [Hypothesis("", -math.inf)]

    def _spelled(
        self, nodes: np.ndarray, node: int, last_word: int, whole: bool
    ) -> tuple[list[int], list[tuple[str, range]]]:
        """The labels that lead to a node, and its words with the places of their labels.

        Where the hypothesis is not `whole`, the letters after its last whole word are no word.
        """
        path = []
        while node >= 0:
            path.append(nodes[node])
            node = int(nodes[node, 0])
        path.reverse()
        labels = [int(label) for _, label, _ in path]
        if not isinstance(self.units, PhoneUnits):
            spelled = list(self.units.spell([self.units.symbols[label] for label in labels]))
            return labels, spelled if whole else spelled[:-1]
        spelled, start = [], 0
        for place, word in enumerate([*(int(word) for _, _, word in path), last_word]):
            if word >= 0:
                spelled.append((self.words[word], range(start, place)))
                start = place
        return labels, spelled
