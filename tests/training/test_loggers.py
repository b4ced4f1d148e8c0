"""Loggers by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.training.loggers import make_loggers


def test_figures_go_to_every_logger_that_is_named(tmp_path: Path) -> None:
    both = make_loggers(["tensorboard", "csv"], tmp_path)
    for logger in both:
        logger.log_metrics({"train/loss": 1.5}, step=10)
        logger.save()
        logger.finalize("success")
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents*"))) == 1
    lines = (tmp_path / "csv/metrics.csv").read_text().splitlines()
    assert lines == ["step,train/loss", "10,1.5"]


def test_a_logger_that_is_not_installed_is_told_in_a_line(tmp_path: Path) -> None:
    missing = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name) is None]
    if not missing:
        pytest.skip("every optional logger is installed")
    with pytest.raises(UserError, match=f"pip install {missing[0]}"):
        make_loggers([missing[0]], tmp_path)


def test_an_unknown_logger_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tensorboard"):
        make_loggers(["tensorbord"], tmp_path)
