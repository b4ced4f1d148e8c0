"""An archive to transcribe: recordings over and over, and some that are broken."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

BROKEN = 0.03  # of the files, unless told otherwise
FILES_A_FOLDER = 100


def make_archive(
    sources: Sequence[Path], folder: Path, files: int, broken: float = BROKEN
) -> list[str]:
    """Fill a folder with recordings in their order, over and over; the names of the broken ones.

    A recording is copied once and linked from then on, so an archive needs little room. Those that
    are broken are spread evenly: one is empty, the next one text, the next one cut off.
    """
    copies: dict[Path, Path] = {}
    breaks = itertools.cycle((empty, text, cut))
    wrong: list[str] = []
    for number, source in zip(range(files), itertools.cycle(sources), strict=False):
        target = folder / f"{number // FILES_A_FOLDER:04d}" / f"{number:07d}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if int((number + 1) * broken) > int(number * broken):
            next(breaks)(source, target)
            wrong.append(str(target.relative_to(folder)))
        elif source in copies:
            os.link(copies[source], target)
        else:
            copies[source] = Path(shutil.copyfile(source, target))
    return wrong


def empty(source: Path, target: Path) -> None:
    """A file without a byte."""
    target.touch()


def text(source: Path, target: Path) -> None:
    """Something else under the name of a recording."""
    target.write_text(f"{source.name} is not here\n" * 20, encoding="utf-8")


def cut(source: Path, target: Path) -> None:
    """Half of a recording."""
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])
