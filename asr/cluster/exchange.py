"""Between the machines that work together on Ray and the one who asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class News:
    """What a machine should know: signals to pass on, and whether the work has ended elsewhere."""

    signals: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Machine:
    """One of the machines that do the work, and its line to the one who asked for it."""

    number: int
    count: int
    address: str
    exchange: Any

    def agree(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the first machine says here; each one has to ask."""
        from ray.train.collective import broadcast_from_rank_zero

        agreed: tuple[Any, ...] = broadcast_from_rank_zero(value)
        return agreed

    def news(self) -> News:
        """What has come; where the one who asked is gone, that it is over."""
        import ray

        try:
            return ray.get(self.exchange.news.remote())
        except ray.exceptions.RayError:
            return News((), ended=True)

    def say(self, data: bytes) -> None:
        """Show it to the one who asked."""
        self.exchange.say.remote(data)

    def end(self, status: int) -> None:
        """The work ends here with a status, and has to everywhere: not to be begun again."""
        import ray

        ray.get(self.exchange.end.remote(status))


class LostError(Exception):
    """A process was lost; the work has to begin again. `status` is the exit status it comes to."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what, status)
        self.what = what
        self.status = status


@dataclass(frozen=True)
class Heard:
    """What the one who asked hears: words to show, and how far the work is.

    `status` is that of the first machine that has ended it for all.
    """

    said: bytes
    begun: bool
    status: int | None


class Exchange:
    """Between the machines and the one who asked: an actor, on the asking machine."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.said = b""
        self.begun = False
        self.status: int | None = None

    def begin(self) -> None:
        """A machine has begun."""
        self.begun = True

    def begin_again(self, why: str) -> None:
        """All machines are about to."""
        self.said += f"asr: {why}\n".encode()
        self.begun = False

    def news(self) -> News:
        """For the machines."""
        return News(tuple(self.signals), self.status is not None)

    def say(self, data: bytes) -> None:
        """To be shown."""
        self.said += data

    def end(self, status: int) -> None:
        """Of several that end the first one counts."""
        self.status = status if self.status is None else self.status

    def stop(self, number: int) -> bool:
        """Pass a signal on; whether there is anybody to hear it."""
        self.signals.append(number)
        return self.begun

    def heard(self) -> Heard:
        """What has been said since the last time, and how far the work is."""
        said, self.said = self.said, b""
        return Heard(said, self.begun, self.status)
