"""flashlight-text's beam search (Kahn et al. 2022) behind the interface of the decoders."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from asr.decoding import grammar
from asr.decoding.alignment import peaks
from asr.decoding.confidence import Calibration, calibrated
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.lexicon import Lexicon
from asr.decoding.settings import check_counts, check_scores, check_thresholds
from asr.decoding.words import timed_units, words_of
from asr.errors import UserError
from asr.language.arpa import write_arpa
from asr.language.ngram import NgramModel
from asr.units.characters import SPACE, CharacterUnits
from asr.units.phones import PhoneUnits
from asr.units.symbols import Units

BLANK = 0
LN_10 = math.log(10.0)  # KenLM's logarithms are those to base 10
IMPOSSIBLE = -1e4  # natural log: nothing comes of it, and unlike -inf it can be taken back
USE_BEAM = "use decoder=beam"


class FlashlightDecoder:
    """The beam search of flashlight-text, with KenLM, over one utterance after the other.

    Settings and scores mean what they mean to `asr.decoding.beam.BeamDecoder`; probabilities of
    paths of one text are added. What flashlight lacks is not taken: hotwords, words that are in no
    list, a limit on labels by their probability.

    With a `lexicon`, or with a language model `lm` of words, whose words are then the only ones,
    flashlight walks a trie of spellings. It leaves a word in the frame in which the word's last
    unit begins: where that unit lasts on, it hears a second word, or loses the path. So each word
    is spelled with the separator behind it, which may last; and a frame that is all separator is
    appended, so that the last word of an utterance ends as the others do and keeps its last letter.
    With both, the search is exact where the beam is wide enough. No separator stands behind units
    that are whole words, pieces or phones: these are refused. Without words, any units but phones
    are decoded; there, a second separator between two words makes another reading.

    Raises:
        UserError: flashlight-text is not installed or cannot do it; a setting makes no sense; a
            file cannot be used.
    """

    rate_name: ClassVar[str] = "wer"

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
        nbest: int = 1,
        tokens: int = 50,
        beam_threshold: float = 16.0,
        calibration: Mapping[str, float] | Calibration | None = None,
    ) -> None:
        try:
            import flashlight.lib.text.decoder.kenlm  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"decoder=flashlight needs flashlight-text ({error}): "
                "pip install '.[flashlight]' in the folder of asr."
            ) from None
        check_counts(beam=beam, nbest=nbest, tokens=tokens)
        check_scores(alpha=alpha, beta=beta)
        check_thresholds(alpha=alpha, beam_threshold=beam_threshold)
        self.units = units
        self.seconds_per_frame = seconds_per_frame
        self.offset_s = offset_s
        self.nbest = nbest
        self.calibration = Calibration.of_settings(calibration)
        if isinstance(lexicon, str | Path):
            lexicon = Lexicon.read(lexicon, normaliser)
        model = NgramModel.load(lm) if isinstance(lm, str | Path) else lm
        self.rewarding = lexicon is not None or (model is not None and model.kind == "words")
        _check(units, model, lexicon)
        widths = {
            "beam_size": beam,
            "beam_size_token": min(tokens + 1, len(units.symbols)),  # the blank is one of them
            "beam_threshold": beam_threshold,
            "sil_score": 0.0,
            "log_add": True,
        }
        self.words: tuple[str, ...] = ()
        if lexicon is not None:
            self.words = lexicon.spelled(units)[0]
        elif model is not None and model.kind == "words":
            self.words = _spellable(model, units)
        self._make = (
            _lexicon_decoder(units, self.words, model, widths)
            if self.words
            else _free_decoder(units, model, widths)
        )
        self._decoder: Any = self.weighted(alpha, beta)._decoder

    def weighted(self, alpha: float, beta: float) -> FlashlightDecoder:
        """The same with other weights.

        Raises:
            UserError: there are no words that `beta` could reward.
        """
        if beta and not self.rewarding:
            raise UserError(
                f"decoder.beta={beta}: decoder=flashlight rewards words of a lexicon or of a"
                f" language model of words only: {USE_BEAM}, or decoder.beta=0."
            )
        changed = copy.copy(self)
        changed._decoder = self._make(alpha, beta)
        return changed

    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Log-probabilities `[B, T', V]` and lengths `[B]` to N-best lists, the best first."""
        whole = emissions.float().cpu().numpy()
        return [
            self.decode_one(item[:length])
            for item, length in zip(whole, lengths.tolist(), strict=True)
        ]

    def decode_one(self, emissions: np.ndarray) -> list[Hypothesis]:
        """Log-probabilities `[T', V]` of one utterance to its hypotheses, the best first."""
        frames, size = emissions.shape
        padded = np.full((frames + bool(self.words), size), IMPOSSIBLE, np.float32)
        padded[:frames] = emissions
        if self.words:  # [T', V] -> [T' + 1, V]
            padded[frames, self.units.symbols.index(SPACE)] = 0.0
        found: dict[str, Hypothesis] = {}
        for result in self._decoder.decode(padded.ctypes.data, *padded.shape):
            labels, text, score = self._read(result)
            if text in found:
                both = float(np.logaddexp(found[text].score, score))
                found[text] = replace(found[text], score=both)
            elif len(found) == self.nbest:
                break
            else:
                words = () if found else self._words(emissions, labels)
                found[text] = Hypothesis(text, score, words)
        ranked = sorted(found.values(), key=lambda one: -one.score)
        return ranked or [Hypothesis("", -math.inf)]

    def _read(self, result: Any) -> tuple[list[int], str, float]:
        """The labels of one of flashlight's results, their text, and its score."""
        tokens = result.tokens[1:-1]  # of the frames, without flashlight's own at both ends
        if not self.words:
            labels = [t for t, before in zip(tokens, [BLANK, *tokens], strict=False) if t != before]
            labels = [label for label in labels if label != BLANK]
            return labels, self.units.decode(labels), result.score
        text = " ".join(self.words[word] for word in result.words if word >= 0)
        ended = self.units.symbols[tokens[-1]] == SPACE
        score = result.score - (0.0 if ended else IMPOSSIBLE)  # else inside a word
        return self.units.encode(text), text, score

    def _words(self, emissions: np.ndarray, labels: list[int]) -> tuple[Word, ...]:
        """In time, on the likeliest path of all labels."""
        spans = peaks(emissions, labels)
        timed = timed_units(self.units, labels, spans, self.seconds_per_frame, self.offset_s)
        return calibrated(words_of(self.units, timed, joined=math.prod), self.calibration)


def _check(units: Units, model: NgramModel | None, lexicon: Lexicon | None) -> None:
    """Find out whether flashlight can do it.

    Raises:
        UserError: it cannot; says why.
    """
    if isinstance(units, PhoneUnits):
        raise UserError(f"decoder=flashlight cannot tell where words of phones end: {USE_BEAM}.")
    spelling = isinstance(units, CharacterUnits) and SPACE in units.symbols
    spelling = spelling and all(len(symbol) == 1 for symbol in units.symbols[1:])
    if (lexicon is not None or model is not None) and not spelling:
        raise UserError(
            "decoder=flashlight takes a lexicon or a language model only where all units are single"
            f" letters; others would be heard twice where they last: {USE_BEAM}."
        )
    if lexicon is not None and model is not None and model.kind == "characters":
        raise UserError(
            f"decoder=flashlight takes a lexicon or a model of letters, not both: {USE_BEAM}."
        )


def _spellable(model: NgramModel, units: Units) -> tuple[str, ...]:
    """The words of a language model that the units can spell.

    Raises:
        UserError: there are none.
    """
    letters = set(units.symbols[1:]) - {SPACE}
    words = tuple(word for word in grammar.words_of(model, units) if set(word) <= letters)
    if not words:
        raise UserError("decoder.lm: the model can spell none of the language model's words.")
    return words


def _lexicon_decoder(
    units: Units, words: Sequence[str], model: NgramModel | None, widths: dict[str, Any]
) -> Callable[[float, float], Any]:
    """Words, each with a separator behind it, and a language model of words or none.

    Gives what makes flashlight's decoder of alpha and beta.
    """
    from flashlight.lib.text import decoder as flashlight

    separator = units.symbols.index(SPACE)
    trie = flashlight.Trie(len(units.symbols), separator)
    for index, word in enumerate(words):
        unigram = model.log_prob[1 + model.word_id(word)] / LN_10 if model is not None else 0.0
        trie.insert([*units.encode(word), separator], index, float(unigram))
    trie.smear(flashlight.SmearingMode.MAX)  # what a word begun may come to
    lm = flashlight.ZeroLM() if model is None else _kenlm(model, words)

    def make(alpha: float, beta: float) -> Any:
        options = flashlight.LexiconDecoderOptions(
            **widths,
            lm_weight=alpha * LN_10,
            word_score=beta,
            unk_score=-math.inf,
            criterion_type=flashlight.CriterionType.CTC,
        )
        return flashlight.LexiconDecoder(options, trie, lm, separator, BLANK, -1, [], False)

    return make


def _free_decoder(
    units: Units, model: NgramModel | None, widths: dict[str, Any]
) -> Callable[[float, float], Any]:
    """Any units one after the other, and a language model of letters or none.

    Gives what makes flashlight's decoder of alpha.
    """
    from flashlight.lib.text import decoder as flashlight

    lm = flashlight.ZeroLM() if model is None else _kenlm(model, units.symbols)

    def make(alpha: float, _: float) -> Any:
        options = flashlight.LexiconFreeDecoderOptions(
            **widths, lm_weight=alpha * LN_10, criterion_type=flashlight.CriterionType.CTC
        )
        # Silence differs from other labels by its score alone, which is 0: any label will do.
        return flashlight.LexiconFreeDecoder(options, lm, BLANK, BLANK, [])

    return make


def _kenlm(model: NgramModel, words: Sequence[str]) -> Any:
    """The model as KenLM has it, which is asked by the positions of `words`.

    It is written anew for KenLM, which refuses what others accept: a comment before the counts, an
    n-gram without the shorter ones it consists of.

    Raises:
        UserError: KenLM takes no such model.
    """
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    dictionary = Dictionary()
    entries: set[str] = set()
    for index, word in enumerate(words):
        known = model.words[model.word_id(word)]
        entry = word if model.word_id(word) == model.unknown_id or known in entries else known
        entries.add(entry)
        dictionary.add_entry(entry, index)
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        path = Path(folder) / "lm.arpa"
        write_arpa(model, path)
        if model.order == 1:
            _add_bigram(model, path)
        try:
            with _silent():
                return KenLM(str(path), dictionary)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
            raise UserError(f"decoder.lm: KenLM refuses it ({reason}): {USE_BEAM}.") from None


def _add_bigram(model: NgramModel, path: Path) -> None:
    """Give an ARPA file of single words a bigram that changes nothing: KenLM takes no other."""
    log_10 = model.log_prob[1 + model.end_id] / LN_10
    bigram = f"{log_10:.9g}\t{model.words[model.start_id]} {model.words[model.end_id]}"
    text = path.read_text(encoding="utf-8")
    text = text.replace("\n\n\\1-grams:", "\nngram 2=1\n\n\\1-grams:", 1)
    text = text.replace("\n\\end\\", f"\n\\2-grams:\n{bigram}\n\n\\end\\")
    path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the progress that KenLM writes to stderr, terminal or not."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
