from __future__ import annotations

import math
import tracemalloc
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, product

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding import alignment
from asr.decoding.alignment import (
    GAP_COST,
    AlignmentError,
    Span,
    align,
    frames_needed,
    peaks,
)
from asr.decoding.trellis import place

# A trellis is kept whole, or halved until nothing is left of it.
SIZES = pytest.mark.parametrize("cells", [1 << 24, 200, 0])


def random_emissions(frames: int, size: int, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    values = torch.randn(frames, size, generator=torch.Generator().manual_seed(seed))
    return (spread * values).log_softmax(dim=1).numpy()


def path_of(spans: Sequence[Span], labels: Sequence[int], frames: int) -> list[int]:
    """The label of each frame."""
    path = [0] * frames
    for span, label in zip(spans, labels, strict=True):
        for frame in range(span.start_frame, span.end_frame):
            path[frame] = label
    return path


def best_of_all_paths(emissions: np.ndarray, labels: Sequence[int]) -> list[int] | None:
    """The likeliest of the paths that collapse to the labels, all of which are tried."""
    frames, size = emissions.shape
    spelled = [
        path
        for path in product(range(size), repeat=frames)
        if [label for label, _ in groupby(path) if label] == list(labels)
    ]
    scores = [emissions[range(frames), path].sum() for path in spelled]
    return list(spelled[int(np.argmax(scores))]) if spelled else None


@SIZES
def test_the_path_is_the_best_of_all(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    generator = np.random.default_rng(1)
    impossible = 0
    for seed in range(120):
        frames = int(generator.integers(1, 7))
        emissions = random_emissions(frames, 4, seed)
        labels = generator.integers(1, 4, generator.integers(0, 4)).tolist()
        best = best_of_all_paths(emissions, labels)
        if best is None:
            impossible += 1
            with pytest.raises(AlignmentError):
                align(emissions, labels)
        else:
            assert path_of(align(emissions, labels), labels, frames) == best
    assert 5 < impossible < 60


@SIZES
def test_path_and_scores_are_torchaudios(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    monkeypatch.setattr(alignment, "CHUNK_FRAMES", 7)
    generator = np.random.default_rng(2)
    for seed in range(25):
        frames = int(generator.integers(20, 200))
        labels = generator.integers(1, 6, generator.integers(1, frames // 2)).tolist()
        emissions = random_emissions(frames, 6, seed)
        if frames_needed(labels) > frames:
            continue
        path, scores = torchaudio.functional.forced_align(
            torch.from_numpy(emissions)[None], torch.tensor([labels])
        )
        spans = align(emissions, labels)
        assert path_of(spans, labels, frames) == path[0].tolist()
        theirs = torchaudio.functional.merge_tokens(path[0], scores[0])
        assert [(span.start, span.end) for span in theirs] == [
            (span.start_frame, span.end_frame) for span in spans
        ]
        means = [scores[0, span.start : span.end].mean().exp().item() for span in theirs]
        assert [span.confidence for span in spans] == pytest.approx(means, rel=1e-5)


def test_confidence_is_the_geometric_mean_of_the_labels_posteriors() -> None:
    posteriors = np.array([[0.1, 0.9], [0.6, 0.4], [0.9, 0.1]])
    assert align(np.log(posteriors), [1]) == [Span(0, 1, pytest.approx(0.9))]
    posteriors[1] = posteriors[1, ::-1]
    assert align(np.log(posteriors), [1]) == [Span(0, 2, pytest.approx(math.sqrt(0.9 * 0.6)))]


def test_equal_labels_have_a_blank_between_them() -> None:
    emissions = np.log(np.array([[0.1, 0.9]] * 3))
    assert path_of(align(emissions, [1, 1]), [1, 1], 3) == [1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(1, 3), max_size=8),
    spare=st.integers(-2, 12),
    seed=st.integers(0, 99),
)
def test_what_is_placed_at_once_is_where_alignment_has_it(
    labels: list[int], spare: int, seed: int
) -> None:
    emissions = random_emissions(max(0, frames_needed(labels) + spare), 4, seed)
    spans, sure = np.empty((len(labels), 2), np.int32), np.empty(len(labels))
    if not place(emissions, np.array(labels, np.int32), spans, sure):
        with pytest.raises(AlignmentError):
            peaks(emissions, labels)
        return
    expected = peaks(emissions, labels)
    assert spans.tolist() == [[span.start_frame, span.end_frame] for span in expected]
    assert sure.tolist() == pytest.approx([span.confidence for span in expected], rel=1e-12)


def test_nothing_is_placed_where_an_emission_is_no_number() -> None:
    emissions = random_emissions(6, 4)
    labels, spans, sure = np.array([1, 2], np.int32), np.empty((2, 2), np.int32), np.empty(2)
    assert place(emissions, labels, spans, sure)
    emissions[5, 3] = math.nan  # of a label that is not asked for
    assert not place(emissions, labels, spans, sure)


@pytest.mark.parametrize(("labels", "frames"), [([], 0), ([1], 1), ([1, 2], 2), ([1, 1, 2, 2], 6)])
def test_labels_need_a_frame_each_and_one_between_equal_ones(
    labels: list[int], frames: int
) -> None:
    assert frames_needed(labels) == frames
    if frames:
        assert len(align(random_emissions(frames, 3), labels)) == len(labels)
        with pytest.raises(AlignmentError, match=f"need {frames} frames, there are {frames - 1}"):
            align(random_emissions(frames - 1, 3), labels)


@pytest.mark.parametrize("frames", [0, 5])
def test_no_labels_are_nowhere(frames: int) -> None:
    assert align(random_emissions(frames, 3), []) == []


@pytest.mark.parametrize("labels", [[0], [3], [-1]])
def test_labels_that_are_no_units_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 2"):
        align(random_emissions(5, 3), labels)


@pytest.mark.parametrize("gap", [-1, 3])
def test_gaps_that_are_at_no_label_are_refused(gap: int) -> None:
    with pytest.raises(ValueError, match="0 to 2"):
        align(random_emissions(5, 3), [1, 2], {gap})


def test_emissions_that_are_no_numbers_are_refused() -> None:
    emissions = random_emissions(9, 3)
    emissions[4] = math.nan
    with pytest.raises(AlignmentError):
        align(emissions, [1, 2])


@SIZES
def test_labels_that_cannot_be_are_refused(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    emissions = random_emissions(9, 3)
    emissions[:, 2] = -math.inf
    with pytest.raises(AlignmentError, match="no path"):
        align(emissions, [1, 2])


def state_paths(frames: int, labels: Sequence[int], state: int = 0) -> Iterator[list[int]]:
    """All paths from a state on: 2u is the blank before label u, 2u + 1 the label."""
    if frames == 0:
        if state >= 2 * len(labels) - 1:
            yield []
        return
    following = [state, state + 1]
    if state % 2 and state // 2 + 1 < len(labels):
        following += [state + 2] if labels[state // 2] != labels[state // 2 + 1] else []
    for one in following:
        if one <= 2 * len(labels):
            for rest in state_paths(frames - 1, labels, one):
                yield [one, *rest]


@SIZES
@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 7),
    labels=st.lists(st.integers(1, 3), max_size=3),
    gaps=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 1000),
)
def test_a_gaps_frames_score_as_the_likeliest_unit_does(
    cells: int, frames: int, labels: list[int], gaps: Collection[int], seed: int
) -> None:
    gaps = {gap for gap in gaps if gap <= len(labels)}
    emissions = random_emissions(frames, 4, seed).astype(np.float64)
    elsewhere = np.maximum(emissions[:, 0], emissions[:, 1:].max(axis=1) - GAP_COST)

    def score(path: list[int]) -> float:
        return sum(
            emissions[frame, labels[state // 2]]
            if state % 2
            else elsewhere[frame]
            if state // 2 in gaps
            else emissions[frame, 0]
            for frame, state in enumerate(path)
        )

    paths = list(state_paths(frames, labels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "CELLS", cells)
        if not paths:
            with pytest.raises(AlignmentError):
                align(emissions, labels, gaps)
            return
        found = path_of(align(emissions, labels, gaps), labels, frames)
    # Of paths with a gap several may be as likely: what counts is that none is likelier.
    spelled = [[labels[state // 2] if state % 2 else 0 for state in path] for path in paths]
    scores = [score(path) for path in paths]
    own = [value for value, path in zip(scores, spelled, strict=True) if path == found]
    assert max(own) == pytest.approx(max(scores), abs=1e-5)


def spoken(path: str, sure: float = 0.9) -> np.ndarray:
    """Emissions whose likeliest units are those of a path; `-` is the blank."""
    emissions = np.full((len(path), 5), math.log((1 - sure) / 4))
    for frame, symbol in enumerate(path):
        emissions[frame, "-abcd".index(symbol)] = math.log(sure)
    return emissions


@SIZES
@pytest.mark.parametrize(
    ("path", "labels", "gaps", "frames"),
    [
        ("a-b--cdcd--c-d-", [1, 2, 4], {2}, [0, 2, 13]),
        ("cdc-a-b-", [1, 2], {0}, [4, 6]),
        # Speech on one side of the only label.
        ("a-----acdcdcdcdcdcd", [1], {1}, [0]),
        ("cdcdcdcdcdcda------", [1], {0}, [12]),
        ("a-b-cdcdc", [1, 2], {2}, [0, 2]),
        ("--a---b--", [1, 2], {0, 1, 2}, [2, 6]),
        ("ab", [1, 2], {0, 1, 2}, [0, 1]),
    ],
)
def test_a_gap_takes_speech_that_is_not_in_the_labels(
    cells: int,
    path: str,
    labels: list[int],
    gaps: set[int],
    frames: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alignment, "CELLS", cells)
    spans = align(spoken(path), labels, gaps)
    assert [(span.start_frame, span.end_frame) for span in spans] == [
        (frame, frame + 1) for frame in frames
    ]


def test_a_gap_leaves_a_label_all_of_its_frames() -> None:
    (first, second) = align(spoken("-aaa-cdc-bb-"), [1, 2], {0, 1, 2})
    assert (first.start_frame, first.end_frame) == (1, 4)
    assert (second.start_frame, second.end_frame) == (9, 11)


def test_memory_does_not_grow_with_labels_times_frames() -> None:
    emissions = random_emissions(8_000, 8)
    labels = np.random.default_rng(0).integers(1, 8, 3_500).tolist()
    align(emissions[:100], labels[:10])  # compiled before it is measured
    tracemalloc.start()
    try:
        align(emissions, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 28e6  # all states of all frames, a byte each, are 56 MB
