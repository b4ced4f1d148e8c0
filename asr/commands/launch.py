"""A run in several processes of this machine: who starts them and watches them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from asr.commands.ranks import Layout, Ranks, free_port, order
from asr.config import Config
from asr.training.signals import STOPPING


def launch(config: Config) -> int:
    """Train in a process for each of `trainer.devices`; the exit status of the run.

    The first one has this terminal. Where one of them ends badly the others are ended too.
    """
    layout = Layout(config.trainer.devices, ("127.0.0.1", free_port()))
    with Ranks(layout, os.environ) as ranks, _passing_on(ranks):
        ranks.start(order(config))
        ended = ranks.wait()
    if ended.killed_by:
        words = f" ({ended.words})" if ended.words else ""
        print(
            f"asr: {ended.who} was killed by {ended.killed_by}{words}; the others were stopped."
            " The same command goes on from the last checkpoint.",
            file=sys.stderr,
        )
    elif ended.words:
        print(f"asr: {ended.who} failed: {ended.words}", file=sys.stderr)
    return ended.status


@contextlib.contextmanager
def _passing_on(ranks: Ranks) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        ranks.pass_on(number)

    before = {
        number: signal.signal(number, pass_on)
        for number in STOPPING
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
