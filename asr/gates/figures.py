"""A few figures of what gates did, and orders of units in which structure shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.gates.trace import CellTrace, Direction, Frames

# A gate below the one is shut, above the other open, and saturated in both.
SHUT, OPEN = 0.05, 0.95
LONGEST = 99_999  # frames or ms that are written out: of more, no recording could tell

Units = npt.NDArray[np.intp]


@dataclass(frozen=True)
class PerGate:
    """One figure for each gate."""

    forget: float
    input: float
    output: float


@dataclass(frozen=True)
class Figures:
    """What sums up one direction of one layer, over all its units and frames.

    `openness` is a gate's mean value, `saturated` the share of its values that are below `SHUT` or
    above `OPEN`. `memory_frames` is the median over the units of their `time_constants`,
    `long_memory_frames` the 90th percentile: infinite where so many never forget.
    """

    layer: int
    direction: Direction
    units: int
    openness: PerGate
    saturated: PerGate
    memory_frames: float
    long_memory_frames: float


def figures(cell: CellTrace) -> Figures:
    """The figures of one direction of one layer."""
    gates = (cell.forget, cell.input, cell.output)
    memories = time_constants(cell.forget)
    return Figures(
        layer=cell.layer,
        direction=cell.direction,
        units=cell.forget.shape[1],
        openness=PerGate(*(float(gate.mean(dtype=np.float64)) for gate in gates)),
        saturated=PerGate(*(float(((gate < SHUT) | (gate > OPEN)).mean()) for gate in gates)),
        memory_frames=float(np.median(memories)),
        # That of a unit: between two of which one is infinite there is no figure.
        long_memory_frames=float(np.quantile(memories, 0.9, method="lower")),
    )


def time_constants(forget: Frames) -> npt.NDArray[np.float64]:
    """Frames after which a cell to which nothing is added is down to 1/e: [T', H] -> [H].

    -1 / ln f, with f the unit's mean forget gate; 0 where that is 0, infinite where it is 1.
    """
    kept = forget.mean(axis=0, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.abs(1 / np.log(kept))  # ln 1 is 0, and ln 0 infinite


def by_memory(cell: CellTrace) -> Units:
    """All units, the one that forgets most slowly first."""
    return np.argsort(-time_constants(cell.forget), kind="stable")


def by_strength(cell: CellTrace) -> Units:
    """All units, the one first whose output varies most: by its standard deviation over time."""
    return np.argsort(-cell.hidden.std(axis=0), kind="stable")


def by_likeness(cell: CellTrace) -> Units:
    """All units, those side by side whose cells go up and down together.

    Their angle in the plane of the first two principal components of tanh c, each unit's scaled to
    a deviation of 1: a circle, cut open where it is emptiest.
    """
    shown = np.tanh(cell.cell.astype(np.float64))  # [T', H]
    shown -= shown.mean(axis=0)
    shown /= shown.std(axis=0) + 1e-6
    _, _, components = np.linalg.svd(shown, full_matrices=False)  # [min(T', H), H]
    if len(components) < 2:  # a single frame, or a single unit
        return by_strength(cell)
    angles = np.arctan2(components[1], components[0])
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    return np.roll(order, -(int(gaps.argmax()) + 1))


def measured(value: float, digits: int) -> str:
    """A time in few characters: with so many digits behind the point where it is below 100."""
    if value > LONGEST:
        return f">{LONGEST}" if math.isfinite(value) else "∞"
    return f"{value:.{digits if value < 100 else 0}f}"


def strongest(cell: CellTrace, count: int, order: Units) -> Units:
    """The `count` strongest units, in an order of all."""
    chosen = np.isin(order, by_strength(cell)[:count])
    return order[chosen]
