"""What libraries print past Python: kept from the screen, between whose lines it would stand."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

STDERR = 2  # the descriptor


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[None]:
    """Adds to a file, which is there, what C code prints on stderr; what Python prints stays.

    What processes print that are started meanwhile goes there too. libmpg123, which libsndfile has
    within it, warns of MP3 files so, can be told no better, and names no file.
    """
    if not _is_pythons_too():
        yield
        return
    own = sys.stderr
    kept = os.dup(STDERR)
    with open(kept, "w", buffering=1, encoding=own.encoding, errors=own.errors) as screen:
        try:
            sys.stderr = screen
            # A log that cannot be written ends no job: the noise stays where it was.
            with contextlib.suppress(OSError):
                descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
                os.dup2(descriptor, STDERR)
                os.close(descriptor)
            yield
        finally:
            os.dup2(kept, STDERR)
            sys.stderr = own


def _is_pythons_too() -> bool:
    """Whether Python's stderr writes there: in a test or a notebook it does not."""
    try:
        return sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, ValueError):  # none, none of the system's, closed
        return False
