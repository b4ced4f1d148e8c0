"""`asr run`: prepare, train and evaluate, each of which skips what is done already."""

from __future__ import annotations

from pathlib import Path

from asr.commands.evaluate import evaluate
from asr.commands.prepare import prepare
from asr.commands.runs import read_finished, run_folder
from asr.commands.train import check_settings, train
from asr.config import Config
from asr.corpus import Corpus


def run(config: Config) -> int:
    """The status of the first stage that did not end well, else 0.

    What cannot be prepared is not trained on: a corpus that lost more than
    `prepare.max_rejected` of its utterances stops here, and `prepare` has said what to do.
    """
    whole = (check_training, prepare, check_split, train, evaluate)
    for stage in (check_training, prepare, train) if config.preflight else whole:
        status = stage(config)
        if status != 0:
            return status
    return 0


def check_training(config: Config) -> int:
    """Find what would refuse a training before a corpus is prepared for it; 0.

    Raises:
        UserError: see `asr.commands.train.check_settings`.
    """
    if read_finished(run_folder(config)) is None:  # importing torch is for those that train
        check_settings(config)
    return 0


def check_split(config: Config) -> int:
    """Find that there is nothing to score before hours of training, not after; 0.

    Raises:
        UserError: the corpus has nothing in the split that is to be scored.
    """
    Corpus.open(Path(config.prepare.folder)).split(config.split)
    return 0
