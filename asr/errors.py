"""Errors that are the user's to mend, and the nearest right name to offer with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong use, wrong settings or bad input: one line that says what, where and what to do.

    Commands print it without a traceback and leave with status 2.
    """


class DamagedError(UserError):
    """A file that belongs to a model is missing, or another one: the message has its path."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """' Did you mean X?' for the closest of `choices`, or '' where none is close."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
