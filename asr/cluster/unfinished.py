"""The folder in which a corpus is prepared: what a stopped preparation leaves, the next one uses.

It stands beside the corpus as `.NAME.<key>.parts`. The key is that of inputs and settings, so what
is found in it belongs to the same corpus; folders with another key are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from asr.cluster.parts import RECORD_ENDING
from asr.errors import UserError
from asr.files import LOCK_NAME, explain_write_errors

ENDING = ".parts"
KEY_DIGITS = 16


@contextlib.contextmanager
def unfinished(corpus: Path, key: str) -> Iterator[Path]:
    """The folder for the parts of a corpus; it is removed when the block ends well.

    Otherwise it stays, if a part in it is whole.

    Raises:
        UserError: it cannot be written, or another process prepares the same corpus.
    """
    work = corpus.with_name(f".{corpus.name}.{key}{ENDING}")
    with explain_write_errors(corpus):
        corpus.parent.mkdir(parents=True, exist_ok=True)
        if corpus.exists() and not corpus.is_dir():
            raise UserError(f"Cannot write the folder {corpus}: a file of that name is there.")
        remove_unfinished(corpus, but=work)
        work.mkdir(exist_ok=True)
        lock = _lock(work)
    if lock is None:
        raise UserError(f"Another asr prepare is making {corpus} at this moment: let it end.")
    try:
        with explain_write_errors(corpus):
            for partial in work.glob(".*.partial"):  # of a worker that was killed
                partial.unlink()
            yield work
        shutil.rmtree(work, ignore_errors=True)
    except BaseException:
        if not any(work.glob(f"*{RECORD_ENDING}")):
            shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def remove_unfinished(corpus: Path, but: Path | None = None) -> None:
    """What stopped preparations of a corpus left, where nobody works in it."""
    key = "[0-9a-f]" * KEY_DIGITS  # none that a longer name of another corpus ends with
    for work in corpus.parent.glob(f".{glob.escape(corpus.name)}.{key}{ENDING}"):
        if work != but and (lock := _lock(work)) is not None:
            shutil.rmtree(work, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Marks a folder as being worked in, for as long as this process lives; None: another does."""
    descriptor = os.open(folder / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
