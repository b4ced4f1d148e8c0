"""`asr prepare`: from the publisher's folder to a prepared corpus."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import Config

if TYPE_CHECKING:
    from asr.cluster.preprocess import PrepareResult


def prepare(config: Config) -> int:
    """Prepares the corpus, unless it is up to date; prints what it holds.

    Returns the exit status: 1 where more was left out than `prepare.max_rejected` allows.

    Raises:
        UserError: the root, the recipe or the folder is not what it should be.
    """
    from asr.cluster.executor import LocalExecutor, ProcessExecutor, choose_executor
    from asr.cluster.filters import Filters
    from asr.cluster.inputs import gather_inputs, what_changed
    from asr.cluster.preprocess import prepare_corpus, summarise
    from asr.cluster.unfinished import remove_unfinished
    from asr.errors import UserError
    from asr.recipes import load_recipe, read_listing

    recipe, cluster = config.recipe, config.cluster
    folder = Path(config.prepare.folder)
    executor = choose_executor(cluster.name, cluster.workers, cluster.address)
    if isinstance(executor, LocalExecutor):
        executor = ProcessExecutor()  # a decoder that crashes must not take this process along
    listing = read_listing(load_recipe(recipe.name), recipe.root, recipe.options)
    if not listing.utterances and not listing.rejected:
        raise UserError(f"The recipe {recipe.name} found no utterance in {recipe.root}.")
    filters = Filters(
        config.prepare.min_duration_s,
        config.prepare.max_duration_s,
        config.prepare.max_chars_per_s,
        config.prepare.min_snr_db,
    )
    inputs = gather_inputs(recipe.name, listing, recipe.normaliser, filters)
    reason = what_changed(folder, inputs)
    if reason is None:
        result = summarise(folder)
        remove_unfinished(folder)
        print(
            f"corpus {folder} is up to date ({result.utterances:,} utterances, "
            f"{result.hours:.2f} hours{_left_out(result.rejected)})"
        )
    else:
        if reason:
            print(f"corpus {folder} is prepared again: {reason}")
        for note in listing.notes:
            print(f"note: {note}")
        command = shlex.join(["asr", *sys.argv[1:]])
        result = prepare_corpus(inputs, folder, executor, command)
        print(describe(result))
    if result.rejected_share > config.prepare.max_rejected:
        print(
            f"asr: {result.rejected_share:.1%} were left out, more than prepare.max_rejected="
            f"{config.prepare.max_rejected:g}: see {folder / 'rejected.jsonl'}. Mend them, or go "
            f"on without them: prepare.max_rejected={_allowance(result.rejected_share):g}",
            file=sys.stderr,
        )
        return 1
    return 0


def _allowance(share: float) -> float:
    """The next whole hundredth above a share."""
    return math.ceil(100 * share) / 100


def describe(result: PrepareResult) -> str:
    """A corpus on a few lines: counts and durations of the splits, what was left out and why."""
    lines = [
        f"corpus {result.folder}: {result.utterances:,} utterances, {result.hours:.2f} hours, "
        f"prepared in {result.seconds:.1f} s"
        + (f" ({result.found:,} were there from before)" if result.found else "")
    ]
    if result.splits:
        heads = f"{'utterances':>10}{'hours':>9}{'speakers':>10}   shortest, median, longest"
        lines.append(f"  {'':<12}{heads}")
    for name, split in result.splits.items():
        lines.append(
            f"  {name:<12}{split.utterances:>10,}{split.hours:>9.2f}{split.speakers or '?':>10}   "
            f"{split.shortest_s:.1f}, {split.median_s:.1f}, {split.longest_s:.1f} s"
        )
    if result.rejected:
        lines.append(
            f"  left out: {result.left_out:,} "
            f"({result.left_out / (result.left_out + result.utterances):.2%}), "
            f"listed in {result.folder / 'rejected.jsonl'}"
        )
        lines += [f"    {reason:<14}{count:>8,}" for reason, count in result.rejected.items()]
    return "\n".join(lines)


def _left_out(rejected: dict[str, int]) -> str:
    return f", {sum(rejected.values()):,} left out" if rejected else ""
