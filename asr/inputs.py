"""What is to be transcribed: files, folders and patterns to recordings, and their outputs' names.

A folder is read with all below it: what has the ending of an audio file and is not hidden. A link
is followed where it stays inside the folder. `docs/transcribing.md` has the names as a table.
"""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from asr.audio import EXTENSIONS
from asr.errors import UserError
from asr.files import InputError, resolve_inside


@dataclass(frozen=True)
class Recording:
    """A file, and the name of its output below the output folder, to which the ending is added."""

    path: Path
    name: PurePath


@dataclass(frozen=True)
class Failure:
    """An input without transcript: at which stage, why (a code of docs/bad-input.md), in words."""

    path: str
    stage: str
    reason: str
    detail: str


def find_recordings(arguments: Sequence[str]) -> tuple[list[Recording], list[Failure]]:
    """Recordings in the order of the arguments, folders sorted, none twice; and what is none.

    Raises:
        UserError: two recordings cannot be given different names.
    """
    found: dict[str, _Found] = {}
    failures: list[Failure] = []
    named = list(_expanded(arguments, failures))
    folders = list(dict.fromkeys(os.path.abspath(path) for path in named if path.is_dir()))
    prefixes = dict(zip(folders, _distinct(folders), strict=True))
    for path in named:
        whole = os.path.abspath(path)
        if path.is_dir():
            for relative in _walk(path, failures):
                inner = prefixes[whole] / relative if len(folders) > 1 else relative
                found.setdefault(os.path.join(whole, relative), _Found(path / relative, inner))
        elif (reason := _why_no_file(path)) is not None:
            failures.append(Failure(str(path), "find", *reason))
        else:
            found.setdefault(whole, _Found(path, PurePath(path.name), alone=True))
    return list(_named(list(found.values()))), failures


@dataclass(frozen=True)
class _Found:
    """A file and its place in the output, ending and all; `alone` where it was given by itself."""

    path: Path
    place: PurePath
    alone: bool = False


def _expanded(arguments: Sequence[str], failures: list[Failure]) -> Iterator[Path]:
    """Paths as they are; patterns as what they match."""
    for argument in arguments:
        if not argument:  # where a shell's variable was not set; Path("") is the working folder
            failures.append(Failure(argument, "find", "missing", "an input is an empty name"))
            continue
        if os.path.lexists(argument) or not glob.has_magic(argument):
            yield Path(argument)
            continue
        matches = sorted(glob.glob(argument, recursive=True))
        yield from map(Path, matches)
        if not matches:
            failures.append(
                Failure(argument, "find", "missing", f"nothing matches the pattern {argument}")
            )


def _why_no_file(path: Path) -> tuple[str, str] | None:
    """Code and words where a path that was given is no file."""
    try:
        path.resolve(strict=True)
    except FileNotFoundError:
        if path.is_symlink():
            return "bad-link", f"{path} is a link to nowhere"
        return "missing", f"{path} does not exist"
    except RuntimeError:  # before Python 3.13, a link that leads to itself
        return "bad-link", f"{path} is a link that leads to itself"
    except OSError as error:
        reason = "bad-link" if path.is_symlink() else "unreadable"
        return reason, f"{path} cannot be read: {error.strerror}"
    return None


def _walk(root: Path, failures: list[Failure]) -> list[PurePath]:
    """The recordings below a folder, sorted, relative to it.

    A linked folder inside is entered only where nothing else has led there, so that a loop ends and
    nothing is read twice.
    """
    entered: set[Path] = set()
    recordings: list[PurePath] = []
    folders, links = deque([PurePath()]), deque[PurePath]()
    while folders or links:
        relative = folders.popleft() if folders else links.popleft()
        real = (root / relative).resolve()
        if real in entered:
            continue
        entered.add(real)
        for entry in _entries(root / relative, failures):
            kind = _kind(entry, root, failures)
            if kind == "folder":
                folders.append(relative / entry.name)
            elif kind == "link":
                links.append(relative / entry.name)
            elif kind == "recording":
                recordings.append(relative / entry.name)
    return sorted(recordings)


def _entries(folder: Path, failures: list[Failure]) -> list[os.DirEntry[str]]:
    """What lies in a folder and is not hidden, sorted."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        detail = f"{folder} cannot be read: {error.strerror}"
        failures.append(Failure(str(folder), "find", "unreadable", detail))
        return []
    return sorted(shown, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str], root: Path, failures: list[Failure]) -> str:
    """`recording`, `folder`, `link` (to a folder), or `other`, which is left alone."""
    suffix = PurePath(entry.name).suffix.lower()
    if not entry.is_symlink():
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "recording" if suffix in EXTENSIONS else "other"
    dangling_folder = not suffix and not os.path.exists(entry.path)  # as far as its name tells
    if not (suffix in EXTENSIONS or os.path.isdir(entry.path) or dangling_folder):
        return "other"
    try:
        target = resolve_inside(root, os.path.abspath(entry.path))
    except InputError as error:
        failures.append(Failure(entry.path, "find", error.reason, str(error)))
        return "other"
    except OSError as error:
        detail = f"{entry.path} cannot be read: {error.strerror}"
        failures.append(Failure(entry.path, "find", "unreadable", detail))
        return "other"
    if target.is_dir():
        return "link"
    return "recording" if suffix in EXTENSIONS else "other"


def _distinct(paths: Iterable[str], taken: Iterable[PurePath] = ()) -> list[PurePath]:
    """Each path's last part, with as many before it as tell it from the others and those taken.

    Raises:
        UserError: even the whole path is taken.
    """
    parts = [PurePath(path).parts[1:] or ("root",) for path in paths]
    sizes = [1] * len(parts)
    while True:
        names = [PurePath(*own[-size:]) for own, size in zip(parts, sizes, strict=True)]
        seen = Counter([*names, *taken])
        if all(seen[name] == 1 for name in names):
            return names
        for position, name in enumerate(names):
            if seen[name] > 1:
                sizes[position] += 1
                if sizes[position] > len(parts[position]):
                    raise UserError(f"Two inputs would be written as {name}: give one at a time.")


def _named(found: list[_Found]) -> Iterator[Recording]:
    """Give each file its output's name: without its ending, unless another would have the same."""
    alone = [os.path.abspath(file.path) for file in found if file.alone]
    distinct = iter(_distinct(alone, taken=[file.place for file in found if not file.alone]))
    places = [next(distinct) if file.alone else file.place for file in found]
    names = [place.with_suffix("") for place in places]
    while True:
        seen = Counter(names)
        kept = [
            place if seen[name] > 1 else name for place, name in zip(places, names, strict=True)
        ]
        if kept == names:
            break
        names = kept
    for file, name in zip(found, names, strict=True):
        yield Recording(file.path, name)
