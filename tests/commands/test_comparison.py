"""The table of a sweep says what the runs' own files say, and nothing that is not theirs."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.commands.comparison import Row, as_csv, as_markdown, draw, show, write
from asr.commands.compose import compose
from asr.commands.results import Figures, add_evaluation, read_training
from asr.config import Config

TRAINED = Figures(
    parameters=4_400_000,
    best_epoch=8,
    epochs=10,
    epoch_s=21.25,
    peak_resident_bytes=913_000_000,
    validation_wer=0.084,
)
SCORED = replace(TRAINED, wer=0.0699, wer_low=0.0491, wer_high=0.0911, cer=0.048)


def row(seed: int, figures: Figures = SCORED, ended: str = "done", why: str = "") -> Row:
    return Row({"seed": str(seed)}, Path(f"runs/an4/seed={seed}"), "test", ended, why, figures)


WORSE = replace(SCORED, validation_wer=0.1, wer=0.08, peak_cuda_bytes=2_000_000_000)
ROWS = [
    row(1),
    row(2, WORSE),
    row(3, Figures(), "failed", "no | memory"),
    row(4, Figures(), "not begun"),
]


def test_the_table_has_a_row_a_job_with_the_best_rates_in_bold() -> None:
    assert as_markdown(ROWS).splitlines() == [
        "| seed | parameters | best epoch | s an epoch | memory | GPU memory | validation WER"
        " | test WER | 95 % | CER | ended |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | 4.40 M | 8 of 10 | 21.2 | 0.91 GB | – | **8.4 %** | **7.0 %** | 4.9 – 9.1 %"
        " | **4.8 %** | done |",
        "| 2 | 4.40 M | 8 of 10 | 21.2 | 0.91 GB | 2.00 GB | 10.0 % | 8.0 % | 4.9 – 9.1 %"
        " | **4.8 %** | done |",
        r"| 3 | – | – | – | – | – | – | – | – | – | failed: no \| memory |",
        "| 4 | – | – | – | – | – | – | – | – | – | not begun |",
    ]


def test_columns_that_would_say_nothing_are_left_out() -> None:
    titles = as_markdown([row(1, TRAINED), row(2, TRAINED)]).splitlines()[0]
    assert titles == "| seed | parameters | best epoch | s an epoch | memory | validation WER |"


def test_one_rate_alone_is_not_the_best() -> None:
    assert "**" not in as_markdown([row(1), row(2, Figures(), "stopped")])


def test_where_splits_differ_no_column_names_one() -> None:
    rows = [row(1), replace(row(2), split="validation")]
    assert " | WER | " in as_markdown(rows)


def test_the_screen_shows_the_same_without_wrapping_for_a_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = "a long story " * 30
    show([row(1), row(2, Figures(), "failed", reason)])
    shown = capsys.readouterr().out.splitlines()
    (first,) = [line for line in shown if line.split()[:1] == ["1"]]
    figures = "1 4.40 M 8 of 10 21.2 0.91 GB 8.4 % 7.0 % 4.9 – 9.1 % 4.8 % done"
    assert " ".join(first.split()) == figures
    assert any(reason.strip() in line for line in shown)


def test_the_csv_has_every_figure_as_it_is() -> None:
    first, _, third, _ = csv.DictReader(as_csv(ROWS).splitlines())
    assert float(first["epoch_s"]) == TRAINED.epoch_s
    assert int(first["peak_resident_bytes"]) == TRAINED.peak_resident_bytes
    assert (float(first["wer_low"]), float(first["cer"])) == (SCORED.wer_low, SCORED.cer)
    assert (first["seed"], first["run"], first["split"]) == ("1", "runs/an4/seed=1", "test")
    assert (third["wer"], third["ended"], third["why"]) == ("", "failed", "no | memory")


def test_three_files_are_written_whatever_their_name(tmp_path: Path) -> None:
    files = write(tmp_path / "new" / "dropout=0.1+0.3", ROWS)
    assert [file.name for file in files] == [
        f"dropout=0.1+0.3.{ending}" for ending in ("csv", "md", "png")
    ]
    assert files[0].read_text() == as_csv(ROWS)
    assert files[1].read_text() == as_markdown(ROWS)
    assert files[2].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "figures",
    [
        TRAINED,
        replace(SCORED, wer_high=math.inf),
        replace(SCORED, wer=0.2),  # outside of its interval
        replace(SCORED, wer=0.0, wer_low=0.0, wer_high=0.0),
    ],
)
def test_any_rate_can_be_drawn(tmp_path: Path, figures: Figures) -> None:
    odd = Row({"a": "$x$ [b]"}, Path("runs/r"), "test", "done", "", figures)
    assert write(tmp_path / "all", [odd])[2].read_bytes().startswith(b"\x89PNG")


def test_without_a_rate_there_is_no_picture(tmp_path: Path) -> None:
    endless = replace(SCORED, wer=math.inf)
    assert len(write(tmp_path / "all", [row(1, endless), row(2, Figures())])) == 2


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a run that is trained, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    config = replace(compose(["recipe=an4"]), name="try")
    folder = Path("runs/an4/try")
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,train_s\n1,90.0\n2,20.0\n3,10.5\n4,20.5\n")
    (folder / "finished.json").write_text(
        '{"epochs": 4, "max_epochs": 9, "best_epoch": 2, "best_wer": 0.25, "parameters": 1234,'
        ' "peak_resident_bytes": 5678, "peak_cuda_bytes": null}'
    )
    return config


def evaluation(folder: str, **changes: Any) -> None:
    metrics = {
        "split": "test",
        "wer": 0.5,
        "wer_ci95": [0.25, None],
        "cer": 0.125,
        "model": "runs/an4/try/model",
        "date": "2026-11-21T12:00:00+00:00",
        "stamp": {"decoder": {"name": "greedy"}},
    }
    path = Path("runs/an4/try/eval") / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.json").write_text(json.dumps(metrics | changes))


NOON_S = 1795262400.0  # of that day


def test_what_training_took_is_read_from_what_it_recorded(config: Config) -> None:
    assert read_training(config) == Figures(1234, 2, 4, 20.25, 5678, None, 0.25)


def test_of_a_run_that_is_not_finished_nothing_is_known(config: Config) -> None:
    assert read_training(replace(config, name="other")) == Figures()


def test_another_model_that_is_scored_has_not_been_trained_here(config: Config) -> None:
    assert read_training(replace(config, bundle="elsewhere/model")) == Figures()


def test_what_was_found_on_the_split_is_added(config: Config) -> None:
    assert add_evaluation(TRAINED, config) is None
    evaluation("test-greedy")
    found = add_evaluation(TRAINED, config)
    assert found == replace(TRAINED, wer=0.5, wer_low=0.25, wer_high=math.inf, cer=0.125)


def test_an_evaluation_from_before_is_not_taken_for_one_of_now(config: Config) -> None:
    evaluation("test-greedy")
    assert add_evaluation(TRAINED, config, NOON_S + 0.9)  # a date has no fractions of a second
    assert add_evaluation(TRAINED, config, NOON_S + 1.0) is None


@pytest.mark.parametrize(
    ("folder", "changes"),
    [
        ("validation-greedy", {"split": "validation"}),
        ("test-greedy", {"stamp": {"decoder": {"name": "greedy", "temperature": 2}}}),
        ("test-greedy-01234567", {}),
    ],
)
def test_an_evaluation_of_something_else_is_passed_over(
    folder: str, changes: dict[str, Any], config: Config
) -> None:
    evaluation(folder, **changes)
    assert add_evaluation(TRAINED, config) is None


@pytest.mark.parametrize("bundle", [None, "runs/an4/try/model"])
@pytest.mark.parametrize(
    "key", ["split", "wer", "wer_ci95", "cer", "model", "date", "stamp", "decoder"]
)
def test_an_evaluation_by_a_version_that_wrote_less_costs_no_row(
    key: str, bundle: str | None, config: Config
) -> None:
    folder = "test-greedy-01234567" if bundle else "test-greedy"
    evaluation(folder, **({"stamp": {}} if key == "decoder" else {}))
    file = Path("runs/an4/try/eval") / folder / "metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps({name: metrics[name] for name in metrics if name != key}))
    assert add_evaluation(TRAINED, replace(config, bundle=bundle)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"wer_ci95": 0.5},
        {"wer_ci95": [0.5]},
        {"wer": "half"},
        {"model": None},
        {"date": "noon"},
        {"stamp": []},
    ],
)
def test_an_evaluation_that_says_something_else_costs_no_row(
    changes: dict[str, Any], config: Config
) -> None:
    evaluation("test-greedy", **changes)
    assert add_evaluation(TRAINED, config) is None


@pytest.mark.parametrize(
    "text", ["epoch,seconds\n1,90.0\n", "epoch,train_s\n1\n", "epoch,train_s\n1,"]
)
def test_without_the_times_of_epochs_the_other_figures_stand(text: str, config: Config) -> None:
    Path("runs/an4/try/metrics.csv").write_text(text)
    assert read_training(config) == Figures(1234, 2, 4, None, 5678, None, 0.25)


@pytest.mark.parametrize("newest", [1, 2])
def test_of_another_model_the_newest_evaluation_counts(newest: int, config: Config) -> None:
    other = replace(config, bundle="shelf/../shelf/model")
    evaluation("test-greedy", wer=0.1)
    for number, model in ((1, "shelf/model"), (2, str(Path("shelf/model").absolute()))):
        date = f"2026-11-21T12:0{int(number == newest)}:00+00:00"
        evaluation(f"test-greedy-0000000{number}", wer=number, model=model, date=date)
    evaluation("test-greedy-00000003", wer=0.4, model="shelf/other")
    (torn := Path("runs/an4/try/eval/test-greedy-00000004")).mkdir()
    (torn / "metrics.json").write_text('{"wer": ')
    found = add_evaluation(Figures(), other)
    assert found is not None
    assert found.wer == newest


def test_a_run_that_decodes_phones_has_their_rates_and_no_others(config: Config) -> None:
    finished = json.loads(Path("runs/an4/try/finished.json").read_text())
    Path("runs/an4/try/finished.json").write_text(json.dumps({**finished, "rate_name": "per"}))
    evaluation("test-greedy")
    metrics = Path("runs/an4/try/eval/test-greedy/metrics.json")
    content = json.loads(metrics.read_text())
    for name in ("wer", "wer_ci95", "cer"):
        del content[name]
    metrics.write_text(json.dumps({**content, "per": 0.2, "per_ci95": [0.1, 0.3]}))
    found = add_evaluation(read_training(config), config)
    assert found is not None
    assert (found.validation_per, found.per, found.per_low, found.per_high) == (0.25, 0.2, 0.1, 0.3)
    assert (found.validation_wer, found.wer, found.cer) == (None, None, None)
    titles, _, line = as_markdown([row(1, found)]).splitlines()
    assert titles.endswith("| validation PER | test PER | 95 % |")
    assert line.endswith("| 25.0 % | 20.0 % | 10.0 – 30.0 % |")
    assert "WER" not in titles
    draw(Path("phones.png"), [row(1, found)])
    assert Path("phones.png").read_bytes().startswith(b"\x89PNG")
