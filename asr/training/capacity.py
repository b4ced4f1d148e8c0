"""What this machine can train, found by trying: in which precision, and how much audio at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from asr.audio import SAMPLE_RATE_HZ
from asr.data.batch import Batch
from asr.data.dataset import TrainingBatches
from asr.errors import UserError
from asr.training.largest import MicroBatch, longest_together
from asr.training.module import CtcTraining

FULL = "32-true"
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
# Of what a device was found to take, what it is given: others take some, and so do holes between.
MARGIN = 0.85
CLOSE = 1.1  # what does not fit is at most so many times what fits, when the search ends
# How oneDNN says that it has no code for something, or no memory for the code.
NO_CODE = "could not create a primitive"
# How torch, cuBLAS, cuDNN and C++ say that there is no memory.
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "bad_alloc", NO_CODE)


@contextlib.contextmanager
def rehearsal(module: CtcTraining, device: torch.device) -> Iterator[None]:
    """A block for passes of which nothing is left in the training that follows.

    In it the module is on its device, and beside it lies what a step under way holds: gradients and
    two moments of the optimiser. After it the module is on the CPU without gradients, and random
    numbers go on where they were.

    Raises:
        UserError: there is no memory for that.
    """
    cuda = [device] if device.type == "cuda" else []
    moments: list[torch.Tensor] = []
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with torch.random.fork_rng(cuda):
        try:
            with _explained(
                "the weights, their gradients and their moments: make the model smaller"
            ):
                module.to(device)
                for weight in weights:
                    weight.grad = torch.zeros_like(weight)
                    moments += [torch.zeros_like(weight), torch.zeros_like(weight)]
            yield
        finally:
            moments.clear()
            module.zero_grad(set_to_none=True)
            module.to("cpu")
            for each in cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(each)  # what is recorded is the training's


def forward_and_backward(module: CtcTraining, batch: Batch, precision: str) -> None:
    """What a step does with a micro-batch; its gradients are added to those that are there."""
    batch = batch.to(module.device)
    dtype = MIXED.get(precision)
    with torch.autocast(module.device.type, dtype=dtype, enabled=dtype is not None):
        outer, inner = module.losses(*module.augmented_features(batch), batch)
        total = outer.sum() if inner is None else outer.sum() + inner.sum()
        total.backward()


def usable_precision(
    module: CtcTraining, device: torch.device, precision: str
) -> tuple[str, str | None]:
    """The precision to train in; and a line that says why, where it is not what was asked for.

    It is tried on half a second of noise: on some CPUs an LSTM in bfloat16 raises from inside the
    kernel. Needs a `rehearsal`.
    """
    if precision not in MIXED:
        return precision, None
    if device.type == "cpu" and precision == "16-mixed":
        why = "Lightning has it for GPUs only"
    else:
        try:
            forward_and_backward(module, _noise(), precision)
        except (RuntimeError, NotImplementedError) as error:
            if lacks_memory(error) and NO_CODE not in str(error):
                raise
            why = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        else:
            return precision, None
    where = "CPU" if device.type == "cpu" else "GPU"
    line = f"trainer.precision={precision} does not work on this {where} ({why}): {FULL} instead"
    return FULL, line


def _noise() -> Batch:
    """Half a second, with one label."""
    one = torch.ones(1, dtype=torch.long)
    samples = SAMPLE_RATE_HZ // 2
    noise = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))
    return Batch(
        waveforms=noise,
        waveform_lengths=samples * one,
        targets=one[None],
        target_lengths=one,
        inner_targets=one[None],
        inner_target_lengths=one,
        ids=("noise",),
        texts=("",),
        speakers=("",),
        keys=np.zeros(1, dtype=np.uint64),
    )


def check_memory(
    module: CtcTraining, batches: TrainingBatches, largest: MicroBatch, precision: str
) -> None:
    """Prove by a forward and a backward pass that there is memory for a micro-batch.

    Needs a `rehearsal`.

    Raises:
        UserError: there is not; says how much audio it is, and what to lower.
    """
    with _explained(_too_much(largest)):
        forward_and_backward(module, batches.batch(largest.planned), precision)


def _too_much(largest: MicroBatch) -> str:
    count, longest_s, padded_s = len(largest.planned), largest.longest_s, largest.padded_s
    smaller = "or make the model smaller"
    if count == 1:
        return f"one utterance of {longest_s:.1f} s: lower data.max_duration_s, {smaller}"
    return (
        f"{padded_s:.0f} s of audio at once ({count} utterances, the longest of {longest_s:.1f} s):"
        f" say data.device_batch_s={math.ceil(max(longest_s, padded_s / 2))}, which leaves the"
        f" batches as they are, lower data.batch_s, {smaller}"
    )


def find_device_batch_s(
    module: CtcTraining, batches: TrainingBatches, largest: MicroBatch, precision: str
) -> float | None:
    """Seconds of audio that the module's device takes at once; None: all of the largest share.

    Needs a `rehearsal`.

    Raises:
        UserError: it does not even take the longest utterance.
    """
    epoch = largest.planned.epoch
    longest = longest_together(batches, 0.0, epoch)

    def fits(seconds: float) -> bool:
        try:
            planned = longest_together(batches, seconds, epoch).planned
            forward_and_backward(module, batches.batch(planned), precision)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
        else:
            return True
        # Only here the error is gone, and with it what the pass has made.
        if module.device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    found = share_that_fits(fits, longest.longest_s, max(largest.padded_s, longest.longest_s))
    if found == 0.0:
        raise UserError(_no_memory(_too_much(longest)))
    return found


def share_that_fits(fits: Callable[[float], bool], least_s: float, most_s: float) -> float | None:
    """`MARGIN` of the most seconds that fit; None: all of `most_s`; 0: not even `least_s`.

    They are doubled from the least on, until they do not fit, and then halved in between.
    """
    enough_s = most_s / MARGIN
    good, bad = 0.0, min(least_s, enough_s)
    while fits(bad):
        if bad == enough_s:
            return None
        good, bad = bad, min(2 * bad, enough_s)
    while bad > CLOSE * good > 0:
        middle = (good + bad) / 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return MARGIN * good


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of a pass says that there is no memory."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(sign in str(error) for sign in NO_MEMORY)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        raise UserError(_no_memory(what)) from None


def _no_memory(what: str) -> str:
    return f"There is no memory here for {what}."
