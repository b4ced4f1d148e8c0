"""The benchmarks of `tools/` on tiny sizes: that they run, and account for what they measure."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from asr.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(REPOSITORY / "tools"))
bench_models: Any = importlib.import_module("bench_models")
bench_streaming: Any = importlib.import_module("bench_streaming")
timings: Any = importlib.import_module("timings")


def python(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def benchmark(folder: Path, name: str, *words: str) -> dict[str, Any]:
    found = json.loads(python(folder, str(REPOSITORY / "tools" / name), *words, "--json"))
    assert isinstance(found, dict)
    return found


def test_only_the_unpacked_layer_on_mixed_lengths_gives_other_outputs(tmp_path: Path) -> None:
    found = benchmark(tmp_path, "bench_models.py", "--quick", "--threads", "1", "--device", "cpu")
    assert "load" in found["hardware"]
    timings = {(row["lengths"], row["variant"]): row for row in found["layers"]}
    assert len(timings) == 6
    for (lengths, variant), row in timings.items():
        if variant != "packed":  # which the others are compared with
            assert (row["error"] > 1e-3) == ((lengths, variant) == ("mixed", "unpacked"))
        assert 0 < row["train_min_ms"] <= row["train_ms"]
        assert 0 < row["infer_min_ms"] <= row["infer_ms"]
    cells = {row["variant"]: row for row in found["cells"]}
    assert list(cells) == [
        *("lstm", "lstm_reference", "lstm_peephole", "lstm_layernorm"),
        *("gru", "gru reference", "rnn"),
    ]
    twins = {name for name, row in cells.items() if row["error"] is not None}
    assert twins == {"lstm_reference", "lstm_peephole", "gru reference"}
    for row in cells.values():
        assert (row["error"] or 0.0) < 1e-5
        assert 0 < row["train_min_ms"] <= row["train_ms"]
        assert 0 < row["infer_min_ms"] <= row["infer_ms"]


def test_the_table_of_cells_shows_how_many_times_the_lstms_time(tmp_path: Path) -> None:
    words = ("--quick", "--threads", "1", "--device", "cpu", "--only", "cells")
    shown = python(tmp_path, str(REPOSITORY / "tools" / "bench_models.py"), *words)
    lstm = next(line for line in shown.splitlines() if " lstm " in line and "fp32" in line)
    assert lstm.count("1.00") == 2
    assert "lstm_peephole" in shown
    assert "packed" not in shown


class WithoutHalfPrecision(nn.LSTM):
    """PyTorch's LSTM on a CPU whose oneDNN has none in half precision."""

    def forward(self, frames: Tensor, state: Any = None) -> Any:  # type: ignore[override]
        if frames.dtype != torch.float32:
            raise RuntimeError("could not create a primitive descriptor for the LSTM")
        return super().forward(frames, state)


@pytest.fixture
def cells_where_lstms_do_fp32_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """A function: what `bench_models.py` prints of its cells on such a machine."""
    threads = torch.get_num_threads()

    def make(input_size: int, hidden: int) -> nn.Module:
        return WithoutHalfPrecision(input_size, hidden, batch_first=True)

    def run(*words: str) -> str:
        fixed = ("--quick", "--device", "cpu", "--threads", "1", "--only", "cells")
        monkeypatch.setattr(sys, "argv", ["bench_models", *fixed, *words])
        assert bench_models.main() == 0
        return capsys.readouterr().out

    monkeypatch.setitem(bench_models.CELLS, "lstm", make)
    yield run
    torch.set_num_threads(threads)


def test_a_dtype_that_the_machine_cannot_compute_is_told_in_its_row(
    cells_where_lstms_do_fp32_alone: Callable[..., str],
) -> None:
    words = ("--dtype", "fp32", "bf16")
    rows = json.loads(cells_where_lstms_do_fp32_alone(*words, "--json"))["cells"]
    assert [row["dtype"] for row in rows] == ["fp32"] * 7 + ["bf16"] * 7
    unable = [row for row in rows if "reason" in row]
    assert [(row["dtype"], row["variant"]) for row in unable] == [("bf16", "lstm")]
    assert unable[0]["reason"] == "could not create a primitive descriptor for the LSTM"
    compared = {row["variant"]: row["error"] for row in rows[8:]}
    assert compared["lstm_reference"] is compared["lstm_peephole"] is None  # there is no LSTM
    assert 0 < compared["gru reference"] < 0.1

    lines = cells_where_lstms_do_fp32_alone(*words).splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    figures = {tuple(row[:3]): row[3:] for row in cells if len(row) == 7}
    assert figures["bf16", "16", "lstm"] == ["unable", "", "unable", ""]
    train_ms, train_times, infer_ms, infer_times = figures["bf16", "16", "lstm_reference"]
    assert min(float(train_ms), float(infer_ms)) > 0
    assert (train_times, infer_times) == ("", "")  # there is no LSTM to compare with
    assert float(figures["fp32", "16", "lstm_reference"][1]) > 0


def test_a_layer_that_the_machine_cannot_compute_is_told_in_its_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = timings.Unable("packed", "mixed", "bf16", 128, "could not create a primitive descriptor")
    bench_models.print_layers([row], "layers")
    (shown,) = (line for line in capsys.readouterr().out.splitlines() if "packed" in line)
    assert shown.count(" unable ") == 2


def fails(frames: Tensor, lengths: Tensor) -> Tensor:
    raise RuntimeError("a fault")


def has_no_memory(frames: Tensor, lengths: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("out of memory")


def half_as_large(frames: Tensor, lengths: Tensor) -> Tensor:
    return frames / 2


def no_number(frames: Tensor, lengths: Tensor) -> Tensor:
    return frames * torch.nan


@pytest.mark.parametrize(
    ("dtype", "variant", "message"),
    [
        ("fp32", fails, "a fault"),
        ("bf16", has_no_memory, "out of memory"),
        ("bf16", half_as_large, "other and right are .* apart"),
        ("bf16", no_number, "other and right are nan apart"),
    ],
)
def test_no_other_fault_passes_for_a_dtype_that_cannot_be_computed(
    dtype: str, variant: Any, message: str
) -> None:
    forward = {"right": lambda frames, lengths: frames, "other": variant}
    shape = timings.Shape(batch=2, frames=50, input_size=4, hidden=4)
    with pytest.raises(RuntimeError, match=message):
        timings.measure(
            forward, {"other": "right"}, shape, True, torch.device("cpu"), dtype, turns=1, steps=1
        )


@pytest.mark.parametrize(
    ("words", "dtypes", "hidden"),
    [
        ("--device cpu", ["fp32"], [128, 256, 320]),
        ("--device cuda", ["fp32", "fp16", "bf16"], [128, 320, 512, 1024]),
        ("--device cuda:1 --dtype bf16", ["bf16"], [128, 320, 512, 1024]),
        ("--device cpu --hidden 512 1024 --dtype bf16 fp16", ["bf16", "fp16"], [512, 1024]),
        ("--device cuda --quick", ["fp32", "fp16", "bf16"], [16]),
    ],
)
def test_a_gpu_is_measured_in_half_precision_and_great_widths_too(
    monkeypatch: pytest.MonkeyPatch, words: str, dtypes: list[str], hidden: list[int]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_models", *words.split()])
    options = bench_models.parse()
    assert (options.dtype, options.hidden) == (dtypes, hidden)


def test_every_size_of_chunk_is_streamed(tmp_path: Path) -> None:
    words = ("--quick", "--threads", "1", "--chunk-ms", "20", "100")
    found = benchmark(tmp_path, "bench_streaming.py", *words)
    assert "load" in found["hardware"]
    assert [cost["chunk_ms"] for cost in found["costs"]] == [20, 100]
    for cost in found["costs"]:
        assert cost["real_time_factor"] > 0
        assert cost["new_ms"] > 0
        assert cost["old_ms"] > 0


def test_a_real_time_factor_is_the_seconds_that_a_second_of_audio_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams: list[object] = []

    def seconds_of(stream: object, chunk: np.ndarray) -> float:
        assert len(chunk) == 800  # 50 ms
        if stream not in streams:
            streams.append(stream)
        return (0.005, 0.003)[streams.index(stream)]  # the old one is met first

    monkeypatch.setattr(bench_streaming, "seconds_of", seconds_of)
    monkeypatch.setattr(bench_streaming, "WARMING_UP", 0)
    monkeypatch.setattr(bench_streaming, "TURNS", 5)
    encoder = bench_streaming.UnidirectionalLstmEncoder(80, hidden=4, channels=2, layers=1)
    network = bench_streaming.CtcModel(encoder, bench_streaming.VOCABULARY_SIZE)
    cost = bench_streaming.measure(network, chunk_ms=50, duration_s=2.0)
    assert cost.real_time_factor == pytest.approx(0.1)  # 40 chunks of 5 ms in 2 s
    assert cost.new_ms == pytest.approx(3)
    assert cost.old_ms == pytest.approx(5)


def test_the_plan_of_an_epoch_is_measured_and_what_padding_wastes(tmp_path: Path) -> None:
    words = ("--utterances", "20000", "--waste", "60/16", "480/128", "60/1", "--world", "4")
    found = benchmark(tmp_path, "bench_sampling.py", *words)
    assert found["utterances"] == 20_000
    assert found["hours"] == pytest.approx(20_000 * 12.3 / 3600, rel=0.02)
    assert found["plan"]["batches"] == found["waste"][0]["batches"]
    assert found["plan"]["processor_s"] > 0
    assert found["plan"]["memory_mb"] >= 0  # where memory was free already
    assert len(found["found_us"]) == 3
    assert min(found["found_us"]) > 0
    waste = {(row["batch_s"], row["max_utterances"], row["ranks"]): row for row in found["waste"]}
    assert len(waste) == 6
    assert 0.01 < waste[60, 16, 1]["padding"] < 0.05
    assert waste[480, 128, 4]["padding"] < waste[480, 128, 1]["padding"]
    assert waste[480, 128, 1]["waiting"] == 0 < waste[480, 128, 4]["waiting"] < 0.2
    # One utterance: nothing to pad, and three of four ranks wait.
    assert waste[60, 1, 4]["padding"] == 0
    assert waste[60, 1, 4]["waiting"] == pytest.approx(0.75)


def test_a_job_without_a_model_is_measured_with_its_memory(tmp_path: Path) -> None:
    words = ["--made-up", "300", "--outputs", "150", "--plot", "memory.png"]
    found = benchmark(tmp_path, "bench_transcribe.py", *words)
    alone, written = found["runs"]
    assert (alone["files"], alone["outputs"]) == (300, False)
    assert (written["files"], written["outputs"]) == (150, True)
    for run in found["runs"]:
        assert run["files_a_second"] == pytest.approx(run["files"] / run["work_s"], rel=0.2)
        assert 10 < run["first_mib"] <= run["last_mib"] + 5
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_a_job_is_measured_against_a_plain_loop_over_the_same_files(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    tiny_bundle.save(tmp_path / "model")
    (tmp_path / "speech").mkdir()
    for seed in range(4):
        samples = np.random.default_rng(seed).normal(0, 0.1, 8000)
        soundfile.write(tmp_path / "speech" / f"{seed}.wav", samples, 16_000)
    words = ["model", "speech", "--archive", "100", "--repeats", "1", "--local"]
    found = benchmark(tmp_path, "bench_transcribe.py", *words)
    loop, job = found["ways"]
    assert (loop["way"], job["way"]) == ("plain loop", "1 worker, here")
    for way in found["ways"]:
        assert (way["files"], way["failed"]) == (97, 3)
        assert way["audio_s_per_s"] == pytest.approx(97 * 0.5 / way["seconds"], rel=0.1)
    assert sum(job["stages"].values()) < job["seconds"]


def test_the_stages_of_a_transcription_name_the_one_that_binds(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    tiny_bundle.save(tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000)
    found = benchmark(tmp_path, "bench_transcribe.py", "model", "a.wav", "--repeats", "1")
    stages = {name: seconds for name, seconds in found["seconds"].items() if name != "all"}
    assert list(stages) == ["read", "decode", "features", "network", "search", "write"]
    assert stages[found["binds"]] == max(stages.values())
    assert found["audio_s"] == 3.0
