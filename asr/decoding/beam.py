"""CTC prefix beam search: words, a language model, hotwords, and the best texts of an utterance."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.decoding import grammar, states
from asr.decoding.alignment import Span, peaks
from asr.decoding.confidence import Calibration, calibrated, shared
from asr.decoding.hotwords import HotwordList, no_hotwords
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.lexicon import Lexicon
from asr.decoding.readings import LABEL, PEAK, SHARE, START, WORD_BEFORE, readings
from asr.decoding.settings import check_counts, check_scores, check_thresholds
from asr.decoding.words import timed_units, words_of
from asr.errors import UserError
from asr.kernels import compiling
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
            # Of a whole number Numba would compile all of it again.
            beam_threshold=float(beam_threshold),
            tokens=min(tokens, len(units.symbols) - 1),
            token_threshold=float(token_threshold),
            alpha=float(alpha),
            beta=float(beta),
            unknown_score=float(unknown),
            most=float(self._most(beta, unknown)),
        )

    def weighted(self, alpha: float, beta: float) -> BeamDecoder:
        """The same with other weights."""
        changed = copy.copy(self)
        most = float(self._most(beta, self._options.unknown_score))
        changed._options = self._options._replace(alpha=float(alpha), beta=float(beta), most=most)
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
        logs = emissions.float().cpu().contiguous().numpy()
        frames = lengths.cpu().numpy().astype(np.int64)
        workers = max(1, min(torch.get_num_threads(), len(frames)))
        order = np.argsort(-frames, kind="stable")
        # About as long each; copied, since for other strides Numba would compile all of it again.
        shares = [order[worker::workers].copy() for worker in range(workers)]
        nbests: list[list[Hypothesis]] = [[] for _ in frames]
        if not readings.signatures:
            with compiling("the search"):
                self._readings(logs[:, :0], np.zeros_like(frames), shares[0])
        if workers == 1:
            self._read(logs, frames, shares[0], nbests)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda share: self._read(logs, frames, share, nbests), shares))
        return nbests

    def decode_one(self, emissions: np.ndarray) -> list[Hypothesis]:
        """Log-probabilities `[T', V]` of one utterance to its hypotheses, the best first."""
        return self.decode(torch.from_numpy(emissions)[None], torch.tensor([len(emissions)]))[0]

    def _read(
        self,
        emissions: np.ndarray,
        lengths: np.ndarray,
        chosen: np.ndarray,
        nbests: list[list[Hypothesis]],
    ) -> None:
        """Put the hypotheses of `chosen` utterances into `nbests`."""
        steps, sure, found, scores = self._readings(emissions, lengths, chosen)
        for (utterance, first, after, last_word, whole, placed), score in zip(
            found.tolist(), scores.tolist(), strict=True
        ):
            own, own_sure = steps[first:after], sure[first:after]
            labels, spelled = self._spelled(own, last_word, bool(whole))
            words: tuple[Word, ...] = ()
            if not nbests[utterance]:
                if placed:
                    spans = list(map(Span, *own[:, START:].T.tolist(), own_sure[:, PEAK].tolist()))
                else:  # too long to be placed at once, or not at all: that says why
                    spans = peaks(emissions[utterance, : lengths[utterance]], labels)
                words = self._words(labels, spans, spelled, own_sure[:, SHARE].tolist())
            text = " ".join(word for word, _ in spelled)
            nbests[utterance].append(Hypothesis(text, score, words))
        for utterance in chosen:
            nbests[utterance] = nbests[utterance] or [Hypothesis("", -math.inf)]

    def _readings(self, emissions: np.ndarray, lengths: np.ndarray, chosen: np.ndarray) -> Any:
        return readings(
            emissions,
            lengths,
            chosen,
            self.nbest,
            self._labels,
            self._trie,
            self._ngrams,
            self._hotwords,
            self._options,
        )

    def _words(
        self,
        labels: Sequence[int],
        spans: Sequence[Span],
        spelled: Sequence[tuple[str, range]],
        shares: Sequence[float],
    ) -> tuple[Word, ...]:
        """Words in time, how sure each is being what its units' peaks and its share say."""
        timed = timed_units(self.units, labels, spans, self.seconds_per_frame, self.offset_s)
        words = words_of(self.units, timed, spelled, math.prod)
        found = [
            replace(word, confidence=shared(word.confidence, share))
            for word, share in zip(words, shares, strict=False)
        ]
        return calibrated(found, self.calibration)

    def _spelled(
        self, steps: np.ndarray, last_word: int, whole: bool
    ) -> tuple[list[int], list[tuple[str, range]]]:
        """The labels of a hypothesis, and its words with the places of their labels.

        Where the hypothesis is not `whole`, the letters after its last whole word are no word.
        """
        labels = steps[:, LABEL].tolist()
        if not isinstance(self.units, PhoneUnits):
            spelled = list(self.units.spell([self.units.symbols[label] for label in labels]))
            return labels, spelled if whole else spelled[:-1]
        spelled, start = [], 0
        for place, word in enumerate([*steps[:, WORD_BEFORE].tolist(), last_word]):
            if word >= 0:
                spelled.append((self.words[word], range(start, place)))
                start = place
        return labels, spelled
