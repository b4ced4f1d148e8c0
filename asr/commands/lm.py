"""`asr lm`: from texts to an n-gram language model, and from one of its formats to another."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import UserError
from asr.files import explain_write_errors

if TYPE_CHECKING:
    from asr.language.counting import Counts
    from asr.language.kneser_ney import Discounts
    from asr.language.ngram import Kind, NgramModel

ARPA = (".arpa", ".arpa.gz")
MODELS = (*ARPA, ".bin", ".lm", ".lm.gz")
PROGRESS_SENTENCES = 10_000


@dataclass(frozen=True)
class LmOptions:
    """How a model is estimated; `prune` has a threshold an order, the last one for all further."""

    order: int
    characters: bool
    vocabulary: str | None
    prune: tuple[int, ...]
    normaliser: str
    split: str


def thresholds(text: str, order: int) -> tuple[int, ...]:
    """The numbers of `--prune`: how often what is left out occurs at most, for 1-grams first.

    Raises:
        UserError: they are no counts that never fall, more than orders, or not 0 for single words.
    """
    try:
        numbers = tuple(int(number) for number in text.replace(",", " ").split())
    except ValueError:
        numbers = ()
    if not numbers or list(numbers) != sorted(numbers) or numbers[0] != 0 or len(numbers) > order:
        raise UserError(
            f"--prune {text}: give counts that never fall, the first 0 (single words all stay) and"
            f" at most {order} of them, such as 0,0,1."
        )
    return numbers


def lm(
    sources: Sequence[str], output: str, options: LmOptions, test: str | None, given: Sequence[str]
) -> int:
    """Write the model `output` of the texts, or another format of a model; returns 0.

    `given` names the options of estimation that stand on the command line.

    Raises:
        UserError: a text or model cannot be used, or the output cannot be written.
    """
    began = time.perf_counter()
    target = Path(output)
    _check(sources, target, given)
    for file in (test, options.vocabulary):
        if file is not None and not Path(file).is_file():
            raise UserError(f"{file} does not exist, or is no file.")
    if options.characters and options.vocabulary is not None:
        raise UserError("--vocabulary is of words: leave it out with --characters.")
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if sources[0].endswith(MODELS):
        from asr.language.ngram import NgramModel

        model = NgramModel.load(sources[0])
        print(f"{sources[0]}: {_summary(model)}")
    else:
        model = _estimated(sources, target, options)
    if test is not None:
        print(_tested(model, test, options.normaliser))
    _write(model, target)
    size = target.stat().st_size
    print(f"Written to {target}: {_bytes(size)}, in {time.perf_counter() - began:.1f} s")
    return 0


def _check(sources: Sequence[str], target: Path, given: Sequence[str]) -> None:
    """Find what cannot be before any work is done."""
    if not target.name.endswith((*ARPA, ".bin")):
        raise UserError(f"-o {target}: its name must end in .arpa, .arpa.gz or .bin.")
    if target.is_dir():
        raise UserError(f"-o {target} is a folder: give a file to write.")
    for source in sources:
        if not Path(source).exists():
            raise UserError(
                f"{source} does not exist: give a text, a manifest, a corpus or a model."
            )
        if target.exists() and target.samefile(source):
            raise UserError(f"-o {target} is what is read, and would be overwritten.")
    models = [source for source in sources if source.endswith(MODELS)]
    if models and len(sources) > 1:
        raise UserError(f"{models[0]} is a model: give it alone, or texts only.")
    if models and given:
        raise UserError(f"{models[0]} is a model already: {given[0]} is for texts.")


def _estimated(sources: Sequence[str], target: Path, options: LmOptions) -> NgramModel:
    """The model of texts; says what was counted."""
    from asr.language.counting import Scratch, count_ngrams
    from asr.language.kneser_ney import estimate
    from asr.language.ngram import SPACE, tokens
    from asr.language.sentences import read_vocabulary

    kind: Kind = "characters" if options.characters else "words"
    vocabulary = None
    if options.vocabulary is not None:
        vocabulary = read_vocabulary(options.vocabulary, options.normaliser)
    sentences = _counted(_sentences(sources, options.normaliser, options.split))
    scratch = Scratch(target.parent)
    with explain_write_errors(target):
        counts = count_ngrams(
            (tokens(sentence, kind) for sentence in sentences),
            options.order,
            scratch,
            vocabulary,
            always=(SPACE,) if kind == "characters" else (),  # what an ARPA file is known by
        )
        estimated = estimate(counts, scratch, options.prune, kind)
    print(_counts(counts, kind, vocabulary is not None))
    print(_summary(estimated.model))
    if len(estimated.discounts) < options.order:
        print(
            f"No sentence is so long that it has n-grams of order {len(estimated.discounts) + 1}."
        )
    for order, discounts in enumerate(estimated.discounts, start=1):
        print(_discounts(order, discounts))
    return estimated.model


def _sentences(sources: Sequence[str], normaliser: str, split: str) -> Iterator[str]:
    """All sentences of files, and of a split of prepared corpora."""
    from asr.language.sentences import normalised, read_sentences

    for source in sources:
        if not Path(source).is_dir():
            yield from read_sentences(source, normaliser)
            continue
        from asr.corpus import Corpus

        utterances = Corpus.open(source).split(split)
        places = (f"{source}, {id}" for id in utterances.ids)
        yield from normalised(zip(places, utterances.texts, strict=True), normaliser)


def _counted(sentences: Iterable[str]) -> Iterator[str]:
    """The same sentences; on a terminal it shows how many have been read."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from sentences
        return
    with console.status("reading") as status:
        for number, sentence in enumerate(sentences, start=1):
            if number % PROGRESS_SENTENCES == 0:
                status.update(f"{number:,} sentences")
            yield sentence
        status.update("counting")


def _write(model: NgramModel, target: Path) -> None:
    if target.name.endswith(ARPA):
        from asr.language.arpa import write_arpa

        write_arpa(model, target)
    else:
        model.save(target)


def _counts(counts: Counts, kind: str, closed: bool) -> str:
    different = len(counts.words) - 3  # without <s>, </s> and <unk>
    line = f"{counts.sentences:,} sentences, {counts.tokens:,} {kind}"
    if not closed:
        return f"{line}, {different:,} different"
    return (
        f"{line}, of which {counts.unknown:,} are outside the vocabulary of {different:,} and count"
        " as <unk>"
    )


def _summary(model: NgramModel) -> str:
    counts = [f"{count:,} {order}-grams" for order, count in enumerate(model.counts, start=1)]
    return f"{model.order}-gram model of {model.kind}: {', '.join(counts)}"


def _discounts(order: int, discounts: Discounts) -> str:
    values = ", ".join(f"{value:.4g}" for value in discounts.values)
    if not discounts.reason:
        return f"  {order}-grams: discounts {values}"
    return f"  {order}-grams: the counts define no discounts ({discounts.reason}): {values}"


def _tested(model: NgramModel, test: str, normaliser: str) -> str:
    """The perplexity of a text, with and without its unknown words."""
    from asr.language.sentences import read_sentences

    log_prob = known_log_prob = 0.0
    sentences = count = unknown = 0
    for sentence in read_sentences(test, normaliser):
        found = model.tokens(sentence)
        log_probs = model.log_probs(found)
        known = [model.word_id(token) != model.unknown_id for token in found] + [True]
        log_prob += log_probs.sum()
        known_log_prob += log_probs[known].sum()
        sentences += 1
        count += len(found)
        unknown += known.count(False)
    if not sentences:
        raise UserError(f"{test} has no sentence to test with.")
    events = count + sentences  # each sentence ends
    line = (
        f"{test}: {sentences:,} sentences, {count:,} {model.kind}, {unknown:,} of them unknown:"
        f" perplexity {_perplexity(log_prob, events)}"
    )
    if not unknown:
        return line
    return f"{line}, {_perplexity(known_log_prob, events - unknown)} without these"


def _perplexity(log_prob: float, events: int) -> str:
    exponent = -log_prob / events
    return f"{math.exp(exponent):,.2f}" if exponent < 500 else "beyond all measure"


def _bytes(size: float) -> str:
    """A size as a person reads it."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
