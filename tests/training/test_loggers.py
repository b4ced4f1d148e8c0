"""Loggers by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from asr.commands.compose import compose
from asr.errors import UserError
from asr.training.loggers import make_loggers


def test_figures_go_to_every_logger_that_is_named(tmp_path: Path) -> None:
    both = make_loggers(["tensorboard", "csv"], tmp_path)
    for logger in both:
        logger.log_metrics({"train/loss": 1.5}, step=10)
        logger.save()
        logger.finalize("success")
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents*"))) == 1
    lines = (tmp_path / "csv/version_0/metrics.csv").read_text().splitlines()
    assert lines == ["step,train/loss", "10,1.5"]


def test_what_was_logged_before_a_stop_is_still_there_after_it(tmp_path: Path) -> None:
    for step in (1, 2):
        (logger,) = make_loggers(["csv"], tmp_path)
        logger.log_metrics({"train/loss": 1.5}, step=step)
        logger.finalize("success")
    kept = [path.read_text().splitlines()[1] for path in sorted(tmp_path.glob("csv/*/metrics.csv"))]
    assert kept == ["1,1.5", "2,1.5"]


@pytest.mark.parametrize(
    ("name", "package"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("comet", "comet_ml")]
)
def test_a_logger_that_is_not_installed_is_told_in_a_line(
    tmp_path: Path, name: str, package: str
) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(UserError, match=f"trainer.loggers: {name} needs a package"):
        make_loggers([name], tmp_path)


def test_an_unknown_logger_is_answered_with_the_nearest_before_anything_is_read() -> None:
    with pytest.raises(UserError, match=r"trainer\.loggers=tensorbord .*tensorboard"):
        compose(["recipe=custom", "trainer.loggers=[csv,tensorbord]"])
