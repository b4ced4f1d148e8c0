"""A stream gives what the whole recording gives, from a state and at a cost that do not grow."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr import registry
from asr.bundle import Bundle
from asr.errors import UserError
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.models.frontend import TIME_STRIDES
from asr.models.recurrent import RecurrentEncoder
from asr.streaming import Stream
from asr.units.characters import CharacterUnits
from asr.units.symbols import BLANK

RATE_HZ = 16_000
WINDOW, HOP = 400, 160
STREAMING = (
    *("lstm_unidirectional", "lstm", "gru", "rnn"),
    *("lstm_reference", "lstm_peephole", "lstm_layernorm"),
)


def bundle_of(
    name: str = "lstm_unidirectional",
    *,
    dtype: torch.dtype = torch.double,
    features: LogMel | None = None,
    **changed: Any,
) -> Bundle:
    """A tiny untrained model whose likeliest unit changes from frame to frame."""
    sizes = {"subsampling": 4, "channels": 3, "hidden": 8, "layers": 2, **changed}
    if name == "lstm_unidirectional":
        sizes = {"lookahead": 2, **sizes}
    elif "bidirectional" not in changed and name in STREAMING:
        sizes = {"bidirectional": False, **sizes}
    torch.manual_seed(0)
    features = features or LogMel(mel_bins=12)
    features.mean -= 5.0
    features.deviation += 1.0
    network = CtcModel(registry.find("models", name)(features.mel_bins, **sizes), 5)
    nn.init.normal_(network.head.weight, std=3.0)
    with torch.no_grad():  # so that each unit, the blank too, is often the likeliest
        speech = torch.from_numpy(syllables(2))[None]
        frames, _ = network.eval().encoder(*features(speech, torch.tensor([2 * RATE_HZ])))
        network.head.bias -= network.head(frames)[0].mean(0)
    return Bundle(
        network=network.to(dtype),
        model={"name": name, **sizes},
        features=features.to(dtype),
        units=CharacterUnits((BLANK, "|", "a", "b", "c")),
        normaliser="english",
        decoder={"name": "greedy"},
        trained={},
    )


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def syllables(seconds: int) -> np.ndarray:
    """Noise that is loud and soft by turns."""
    time = np.arange(seconds * RATE_HZ) / RATE_HZ
    loudness = 10 ** (2 * np.sin(2 * np.pi * 3 * time))
    return (noise(seconds * RATE_HZ) * loudness / 100).astype(np.float32)


def whole(bundle: Bundle, waveform: np.ndarray) -> Tensor:
    emissions, lengths = bundle.emissions([waveform])
    return emissions[0, : int(lengths[0])]


def streamed(stream: Stream, chunks: Sequence[np.ndarray]) -> Tensor:
    return torch.cat([*(stream.push(chunk) for chunk in chunks), stream.finish()])


# What it gives is what the whole gives

BUNDLES: dict[tuple[Any, ...], Bundle] = {}


@given(
    subsampling=st.sampled_from(sorted(TIME_STRIDES)),
    lookahead=st.sampled_from([0, 1, 4]),
    precision=st.sampled_from([(torch.double, 1e-9), (torch.float, 1e-4)]),
    # Both short ones, where the edges of windows and hops matter, and longer ones.
    size=st.one_of(st.integers(0, 1500), st.integers(0, 8_000)),
    cuts=st.lists(st.floats(0, 1), max_size=12),
)
@settings(max_examples=80, deadline=None)
def test_any_split_into_chunks_gives_the_emissions_of_the_whole(
    subsampling: int,
    lookahead: int,
    precision: tuple[torch.dtype, float],
    size: int,
    cuts: list[float],
) -> None:
    dtype, tolerance = precision
    key = (subsampling, lookahead, dtype)
    if key not in BUNDLES:
        BUNDLES[key] = bundle_of(subsampling=subsampling, lookahead=lookahead, dtype=dtype)
    bundle, waveform = BUNDLES[key], noise(size)
    chunks = np.split(waveform, sorted(round(cut * size) for cut in cuts))
    expected = whole(bundle, waveform)
    given_out = streamed(bundle.stream(), chunks)
    assert given_out.shape == expected.shape
    torch.testing.assert_close(given_out, expected, atol=tolerance, rtol=0)


FRAME = 4 * HOP  # from one frame of emissions to the next


@pytest.mark.parametrize(
    "size",
    [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + HOP - 1, WINDOW + HOP]
    + [WINDOW + 4 * FRAME + step for step in (-1, 0, 1)],
)
@pytest.mark.parametrize("chunk", [1, HOP, WINDOW, FRAME])
def test_lengths_around_the_edges_come_out_whole(size: int, chunk: int) -> None:
    bundle, waveform = bundle_of(), noise(size)
    chunks = [waveform[begin : begin + chunk] for begin in range(0, size, chunk)]
    torch.testing.assert_close(
        streamed(bundle.stream(), chunks), whole(bundle, waveform), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-9), (torch.float, 1e-4)])
def test_every_network_of_one_direction_streams(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    bundle, waveform = bundle_of(name, dtype=dtype), noise(30_000)
    chunks = np.split(waveform, [5, 7_000, 7_001, 21_000])
    torch.testing.assert_close(
        streamed(bundle.stream(), chunks), whole(bundle, waveform), atol=tolerance, rtol=0
    )


def test_a_minute_in_one_chunk_is_computed_in_pieces_and_gives_the_same() -> None:
    bundle, waveform = bundle_of(), noise(60 * RATE_HZ)
    expected = whole(bundle, waveform)
    with counted(bundle) as frames:
        given_out = streamed(bundle.stream(), [waveform])
    torch.testing.assert_close(given_out, expected, atol=1e-9, rtol=0)
    assert max(frames["project"]) <= 10 * 25 + 1


def test_hops_longer_than_windows_stream_too() -> None:
    features = LogMel(mel_bins=12, window_s=0.010, hop_s=0.020)
    bundle = bundle_of(features=features)
    for size in (159, 160, 161, 479, 480, 8_000):
        waveform = noise(size)
        chunks = np.split(waveform, [100, 150, 170, 300])
        torch.testing.assert_close(
            streamed(bundle.stream(), chunks), whole(bundle, waveform), atol=1e-9, rtol=0
        )


def test_chunks_may_be_whole_numbers_or_floats_of_any_width() -> None:
    bundle = bundle_of()
    samples = (noise(8_000) * 32_768).astype(np.int16)
    expected = whole(bundle, samples.astype(np.float32) / 32_768)
    for given_samples in (
        samples,
        samples.astype(np.float64) / 32_768,
        np.frombuffer((samples.astype(np.float32) / 32_768).tobytes(), np.float32),
        np.repeat(samples, 2)[::2],
    ):
        stream = bundle.stream()
        chunks = np.split(given_samples, [3_000, 3_000, 5_000])
        torch.testing.assert_close(streamed(stream, chunks), expected, atol=1e-9, rtol=0)


def test_a_recording_overwritten_after_each_push_leaves_the_stream_as_it_was() -> None:
    bundle, waveform = bundle_of(), noise(8_000)
    stream, buffer, outputs = bundle.stream(), np.empty(100, np.float32), []
    for begin in range(0, 8_000, 100):
        buffer[:] = waveform[begin : begin + 100]
        outputs.append(stream.push(buffer))
        buffer[:] = 1.0
    torch.testing.assert_close(
        torch.cat([*outputs, stream.finish()]), whole(bundle, waveform), atol=1e-9, rtol=0
    )


def test_streams_of_one_model_do_not_disturb_each_other() -> None:
    bundle = bundle_of()
    waveforms = [noise(9_000, seed=1), noise(9_000, seed=2)]
    streams = [bundle.stream() for _ in waveforms]
    outputs: list[list[Tensor]] = [[], []]
    for begin in range(0, 9_000, 700):
        for stream, waveform, own in zip(streams, waveforms, outputs, strict=True):
            own.append(stream.push(waveform[begin : begin + 700]))
        bundle.emissions([noise(5_000, seed=3)])
    for stream, waveform, own in zip(streams, waveforms, outputs, strict=True):
        own.append(stream.finish())
        torch.testing.assert_close(torch.cat(own), whole(bundle, waveform), atol=1e-9, rtol=0)


def test_no_gradients_are_kept() -> None:
    stream = bundle_of().stream()
    outputs = streamed(stream, [noise(8_000)])
    assert not outputs.requires_grad
    assert not any(tensor.requires_grad for tensor in tensors_in(stream))


class NoisyLstm(nn.LSTM):
    """An LSTM that is more than PyTorch's, and another in training."""

    def forward(self, frames: Tensor, state: Any = None) -> Any:
        outputs, state = super().forward(frames, state)
        return nn.functional.dropout(2 * outputs, 0.5, self.training), state


def test_a_cell_of_ones_own_runs_as_in_recognition() -> None:
    bundle, waveform = bundle_of(dropout=0.5), noise(8_000)
    for layer in bundle.network.encoder.layers:
        layer.forwards = NoisyLstm(8, 8, batch_first=True).double()
    expected = whole(bundle, waveform)
    bundle.network.train()
    outputs = streamed(bundle.stream(), np.split(waveform, [3_000]))
    torch.testing.assert_close(outputs, expected, atol=1e-9, rtol=0)


# The text so far


def test_the_text_grows_to_that_of_the_whole() -> None:
    bundle, waveform = bundle_of(dtype=torch.float), syllables(3)
    stream, texts, outputs = bundle.stream(), [], []
    for chunk in np.array_split(waveform, 30):
        outputs.append(stream.push(chunk))
        texts.append(stream.text)
        so_far = torch.cat(outputs)
        [[best]] = bundle.search.decode(so_far[None], torch.tensor([len(so_far)]))
        assert stream.text == best.text
    assert texts[0] == ""
    assert len(set(texts)) > 10
    stream.finish()
    assert stream.text == bundle.transcribe([waveform])[0].text


# What it keeps, and what it computes


def held_by(stream: Stream) -> list[Any]:
    """All objects that a stream keeps alive, but for the model's and the text."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [stream]
    while waiting:
        item = waiting.pop()
        foreign = isinstance(item, (nn.Module, CharacterUnits, type, ModuleType, int))
        if id(item) in found or foreign or item is stream.labels:
            continue
        found[id(item)] = item
        # A function leads to all of its module.
        is_function = isinstance(item, FunctionType)
        waiting += (item.__closure__ or ()) if is_function else gc.get_referents(item)
    return list(found.values())


def tensors_in(stream: Stream) -> list[Tensor]:
    return [item for item in held_by(stream) if isinstance(item, Tensor)]


def bytes_in(stream: Stream) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors_in(stream))


@contextmanager
def counted(bundle: Bundle) -> Iterator[dict[str, list[int]]]:
    """How many frames each part of the network computed, call by call."""
    encoder = bundle.network.encoder
    assert isinstance(encoder, RecurrentEncoder)
    parts = {"project": encoder.frontend.project, "head": bundle.network.head}
    parts |= {f"layer {number}": norm for number, norm in enumerate(encoder.norms)}
    calls: dict[str, list[int]] = {name: [] for name in parts}

    def hook(name: str) -> Any:
        return lambda _, inputs, __: calls[name].append(inputs[0].shape[-2])

    handles = [part.register_forward_hook(hook(name)) for name, part in parts.items()]
    yield calls
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", STREAMING)
def test_after_100_seconds_it_keeps_what_it_kept_after_one(name: str) -> None:
    bundle = bundle_of(name, dtype=torch.float)
    stream, second = bundle.stream(), noise(RATE_HZ)
    stream.push(second)
    objects, size = len(held_by(stream)), bytes_in(stream)
    assert len(tensors_in(stream)) >= 5
    assert 1_000 < size < 10_000
    for _ in range(9):
        stream.push(second)
    for _ in range(9):
        stream.push(np.tile(second, 10))
    assert len(held_by(stream)) == objects
    assert bytes_in(stream) == size


def test_a_cell_whose_state_is_a_view_of_its_outputs_keeps_no_outputs() -> None:
    class Latest(nn.Module):
        def forward(self, frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return frames, frames[:, -1:]

    bundle = bundle_of(dtype=torch.float)
    for layer in bundle.network.encoder.layers:
        layer.forwards = Latest()
    sizes = []
    for seconds in (1, 5):
        stream = bundle.stream()
        stream.push(noise(seconds * RATE_HZ))
        sizes.append(bytes_in(stream))
    assert sizes[0] == sizes[1]


def test_each_chunk_computes_its_own_frames_alone() -> None:
    bundle, chunk = bundle_of(dtype=torch.float), noise(RATE_HZ // 10)  # 2.5 frames of emissions
    stream = bundle.stream()
    for _ in range(10):
        stream.push(chunk)
    with counted(bundle) as calls:
        for _ in range(600):
            stream.push(chunk)
    for name, frames in calls.items():
        assert set(frames) == {2, 3}, name
        assert sum(frames) == 1500, name


# Latency


@pytest.mark.parametrize("subsampling", sorted(TIME_STRIDES))
@pytest.mark.parametrize("lookahead", [0, 1, 3])
def test_the_latency_ends_at_the_last_sample_that_changes_a_frame(
    subsampling: int, lookahead: int
) -> None:
    bundle = bundle_of(subsampling=subsampling, lookahead=lookahead)
    waveform, frame = noise(8_000), 2
    latency = round(bundle.stream().latency_s * RATE_HZ)
    last = frame * subsampling * HOP + latency - 1
    expected = whole(bundle, waveform)[frame]

    def changed_from(sample: int, to: int | None = None) -> bool:
        other = waveform.copy()
        other[sample:to] = 10.0
        return bool((whole(bundle, other)[frame] - expected).abs().max() > 1e-12)

    assert changed_from(last, last + 1)
    assert not changed_from(last + 1)

    stream = bundle.stream()
    assert len(stream.push(waveform[: latency - 1])) == 0
    assert len(stream.push(waveform[latency - 1 : latency])) == 1


def test_the_default_model_waits_for_375_ms_and_keeps_35_kb() -> None:
    sizes = {"channels": 32, "hidden": 416, "layers": 3, "lookahead": 8}
    bundle = bundle_of(features=LogMel(), dtype=torch.float, **sizes)
    stream = bundle.stream()
    assert stream.latency_s == pytest.approx(0.025 + 0.030 + 8 * 0.040)
    stream.push(noise(RATE_HZ))
    assert bytes_in(stream) == pytest.approx(35_000, rel=0.1)


# What is refused


@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        (
            lambda: bundle_of(features=LogMel(12, normalisation="utterance")),
            "cannot stream: features.normalisation=utterance needs the whole utterance",
        ),
        (
            lambda: bundle_of("gru", bidirectional=True),
            "cannot stream: its backward direction .* model=lstm_unidirectional",
        ),
    ],
)
def test_a_model_that_needs_the_whole_utterance_is_refused(
    bundle: Callable[[], Bundle], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        bundle().stream()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("lstm_attention", {"bidirectional": False}),
        ("lstm_transformer", {"bidirectional": False}),
        ("transformer", {}),
    ],
)
def test_a_model_that_attends_to_the_whole_utterance_is_refused(
    name: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"cannot stream: .* needs the whole utterance"):
        bundle_of(name, **changed).stream()


def test_after_finish_neither_push_nor_finish() -> None:
    stream = bundle_of().stream()
    stream.push(noise(2_000))
    stream.finish()
    with pytest.raises(UserError, match="finished: begin another"):
        stream.push(noise(10))
    with pytest.raises(UserError, match="finished: begin another"):
        stream.finish()


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (np.zeros((2, 100), np.float32), "mono"),
        (np.zeros(100, np.int32), "int16"),
        (np.full(100, np.nan, np.float32), "not a number"),
        (np.full(100, 3000.0), "divide by the full scale"),
        ([0.0, 0.1], "not list"),
    ],
)
def test_a_chunk_that_is_none_is_refused_and_changes_nothing(chunk: Any, said: str) -> None:
    bundle, waveform = bundle_of(), noise(4_000)
    stream = bundle.stream()
    before = stream.push(waveform[:3_000])
    with pytest.raises(UserError, match=said):
        stream.push(chunk)
    outputs = torch.cat([before, stream.push(waveform[3_000:]), stream.finish()])
    torch.testing.assert_close(outputs, whole(bundle, waveform), atol=1e-9, rtol=0)
