"""The space that `asr tune` searches: a range for each setting, and what a trial draws of it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asr.errors import UserError

DIGITS = 4  # of a number that is drawn: what is shown is what is tried
FORMS = "{log: [LOW, HIGH]}, {uniform: [LOW, HIGH]} or {choice: [A, B]}"
# What every trial has of its own, or all have in common.
RESERVED = (
    *("name", "recipe", "prepare", "tune", "trainer.max_epochs", "preflight", "bundle", "split"),
)


@dataclass(frozen=True)
class Uniform:
    """Every value between two is as likely as another."""

    low: float
    high: float

    def draw(self, generator: random.Random) -> float:
        """One of them, rounded."""
        return _rounded(generator.uniform(self.low, self.high), self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """Every factor between two values is as likely as another: as many below 0.001 as above it."""

    low: float
    high: float

    def draw(self, generator: random.Random) -> float:
        """One of them, rounded."""
        exponent = generator.uniform(math.log(self.low), math.log(self.high))
        return _rounded(math.exp(exponent), self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely as another."""

    values: tuple[Any, ...]

    def draw(self, generator: random.Random) -> Any:
        """One of them."""
        return generator.choice(self.values)


Domain = Uniform | LogUniform | Choice
Space = Mapping[str, Domain]


def parse(given: Mapping[str, Any]) -> dict[str, Domain]:
    """The space that the settings give.

    Raises:
        UserError: it is empty, or an entry is no range; says which.
    """
    if not given:
        raise UserError(
            "tune.space is empty: a file conf/tune/NAME.yaml gives it settings to try (tune=NAME)."
        )
    entries = {str(key): entry for key, entry in given.items()}
    for key in entries:
        if any(key == word or key.startswith(f"{word}.") for word in RESERVED):
            raise UserError(f"tune.space: {key} cannot be searched.")
    return {key: _domain(key, entry) for key, entry in entries.items()}


def draw(space: Space, seed: int, trial: int) -> dict[str, Any]:
    """What a trial tries: a function of seed, number and each setting's own range alone.

    More trials, or another setting, change nothing of the values that were drawn without them.
    """
    return {
        key: domain.draw(random.Random(f"{seed} {trial} {key}")) for key, domain in space.items()
    }


def shown(value: Any) -> str:
    """A value as it is written in a setting."""
    return value if isinstance(value, str) else json.dumps(value)


def _domain(key: str, entry: Any) -> Domain:
    where = f"tune.space: {key}={shown(entry)}"
    if not isinstance(entry, dict) or len(entry) != 1:
        raise UserError(f"{where} is no range: write {FORMS}.")
    ((form, values),) = entry.items()
    if form not in ("log", "uniform", "choice") or not isinstance(values, list):
        raise UserError(f"{where} is no range: write {FORMS}.")
    if form == "choice":
        if not values:
            raise UserError(f"{where} has nothing to choose from.")
        return Choice(tuple(values))
    if len(values) != 2 or any(type(value) not in (int, float) for value in values):
        raise UserError(f"{where} must have two numbers, the lowest and the highest.")
    low, high = map(float, values)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{where}: the first number must be lower than the second.")
    if form == "uniform":
        return Uniform(low, high)
    if low <= 0:
        raise UserError(f"{where}: a logarithmic range lies above 0.")
    return LogUniform(low, high)


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
