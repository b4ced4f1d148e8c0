"""What is to be transcribed: files, folders, patterns, lists and manifests to named recordings.

A folder is read with all below it: what has the ending of an audio file and is not hidden. A link
is followed where it stays inside the folder. `docs/transcribing.md` has the names as a table.
"""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from asr.audio import EXTENSIONS
from asr.errors import UserError
from asr.files import InputError, resolve_inside
from asr.utterance import Rejection, read_manifest

STANDARD_INPUT = "-"
MANIFEST_ENDING = ".jsonl"


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, and the name of its output below the output folder, to which the ending is added.

    A manifest's line may mean a stretch of the file, from `start_s` to `end_s` (None: its end).
    """

    path: str
    name: str
    start_s: float = 0.0
    end_s: float | None = None


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
        UserError: two recordings cannot be given different names, or a manifest has no such lines.
    """
    found: dict[tuple[str, float, float | None], _Found] = {}
    failures: list[Failure] = []
    named = list(_expanded(arguments, failures))
    folders = list(dict.fromkeys(os.path.abspath(path) for path in named if os.path.isdir(path)))
    prefixes = dict(zip(folders, _distinct(folders), strict=True))
    for path in named:
        whole = os.path.abspath(path)
        if os.path.isdir(path):
            for relative in _walk(path, failures):
                inner = f"{prefixes[whole]}/{relative}" if len(folders) > 1 else relative
                file = _Found(os.path.join(path, relative), inner)
                found.setdefault((os.path.join(whole, relative), 0.0, None), file)
        elif (reason := _why_no_file(path)) is not None:
            failures.append(Failure(path, "find", *reason))
        elif path.lower().endswith(MANIFEST_ENDING):
            for file in _lines(path, failures):
                found.setdefault((os.path.abspath(file.path), file.start_s, file.end_s), file)
        else:
            file = _Found(path, os.path.basename(path), alone=True)
            found.setdefault((whole, 0.0, None), file)
    return list(_named(list(found.values()))), failures


@dataclass(frozen=True, slots=True)
class _Found:
    """A file and its place in the output, ending and all; `alone` where it was given by itself.

    The place of a manifest's line is a `name` already: nothing is taken off.
    """

    path: str
    place: str
    alone: bool = False
    named: bool = False
    start_s: float = 0.0
    end_s: float | None = None


def _expanded(arguments: Sequence[str], failures: list[Failure]) -> Iterator[str]:
    """Paths as they are; patterns as what they match; `-` as the paths on standard input."""
    for argument in arguments:
        if not argument:  # where a shell's variable was not set; a path of '' is the working folder
            failures.append(Failure(argument, "find", "missing", "an input is an empty name"))
            continue
        if argument == STANDARD_INPUT:
            yield from _listed()
            continue
        if os.path.lexists(argument) or not glob.has_magic(argument):
            yield _plain(argument)
            continue
        matches = sorted(glob.glob(argument, recursive=True))
        yield from map(_plain, matches)
        if not matches:
            failures.append(
                Failure(argument, "find", "missing", f"nothing matches the pattern {argument}")
            )


def _listed() -> Iterator[str]:
    """The paths on standard input: one a line, or ended by NUL as `find -print0` does."""
    data = sys.stdin.buffer.read()
    for line in data.split(b"\0" if b"\0" in data else b"\n"):
        if line:
            yield _plain(os.fsdecode(line.removesuffix(b"\r")))


def _plain(path: str) -> str:
    """Without what says nothing: a slash at its end, a dot at its beginning."""
    return str(PurePath(path))


def _lines(manifest: str, failures: list[Failure]) -> Iterator[_Found]:
    """The recordings of a manifest: what its lines call them is their outputs' name."""
    seen: set[str] = set()
    for line in read_manifest(manifest, text_needed=False):
        if isinstance(line, Rejection):
            failures.append(Failure(line.audio or line.id, "find", line.reason, line.detail))
            continue
        name = line.id.lstrip("/")
        if name in seen:
            detail = f"{manifest}: two of its lines are called {line.id}"
            failures.append(Failure(line.audio, "find", "duplicate-id", detail))
        elif not name or any(part in ("", ".", "..") for part in name.split("/")):
            detail = f"{manifest}: {line.id!r} is no name for an output below the output folder"
            failures.append(Failure(line.audio, "find", "outside-root", detail))
        else:
            seen.add(name)
            yield _Found(line.audio, name, named=True, start_s=line.start_s, end_s=line.end_s)


def _why_no_file(path: str) -> tuple[str, str] | None:
    """Code and words where a path that was given is no file."""
    try:
        os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            return "bad-link", f"{path} is a link to nowhere"
        return "missing", f"{path} does not exist"
    except OSError as error:
        if os.path.islink(path):
            return "bad-link", f"{path} is a link that cannot be followed: {error.strerror}"
        return "unreadable", f"{path} cannot be read: {error.strerror}"
    except ValueError:  # a NUL in it
        return "missing", f"{path!r} is no name of a file"
    return None


def _walk(root: str, failures: list[Failure]) -> list[str]:
    """The recordings below a folder, sorted, relative to it.

    A linked folder inside is entered only where nothing else has led there, so that a loop ends and
    nothing is read twice.
    """
    entered: set[str] = set()
    recordings: list[str] = []
    folders, links = deque([""]), deque[str]()
    while folders or links:
        relative = folders.popleft() if folders else links.popleft()
        folder = os.path.join(root, relative)
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        for entry in _entries(folder, failures):
            kind = _kind(entry, root, failures)
            inner = os.path.join(relative, entry.name)
            if kind == "folder":
                folders.append(inner)
            elif kind == "link":
                links.append(inner)
            elif kind == "recording":
                recordings.append(inner)
    return sorted(recordings, key=lambda relative: relative.split("/"))


def _entries(folder: str, failures: list[Failure]) -> list[os.DirEntry[str]]:
    """What lies in a folder and is not hidden, sorted."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        detail = f"{folder} cannot be read: {error.strerror}"
        failures.append(Failure(folder, "find", "unreadable", detail))
        return []
    return sorted(shown, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str], root: str, failures: list[Failure]) -> str:
    """`recording`, `folder`, `link` (to a folder), or `other`, which is left alone."""
    suffix = _ending(entry.name).lower()
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
        # What it says begins with the whole path; all others are told as they were given.
        what = str(error).removeprefix(os.path.abspath(entry.path))
        failures.append(Failure(entry.path, "find", error.reason, f"{entry.path}{what}"))
        return "other"
    except OSError as error:
        detail = f"{entry.path} cannot be read: {error.strerror}"
        failures.append(Failure(entry.path, "find", "unreadable", detail))
        return "other"
    if target.is_dir():
        return "link"
    return "recording" if suffix in EXTENSIONS else "other"


def _ending(name: str) -> str:
    """`.wav` of `a.wav`; '' of `.wav` and `a`."""
    return PurePath(name).suffix


def _distinct(paths: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Each path's last part, with as many before it as tell it from the others and those taken.

    Raises:
        UserError: even the whole path is taken.
    """
    parts = [path.strip("/").split("/") if path != "/" else ["root"] for path in paths]
    sizes = [1] * len(parts)
    others = Counter(taken)
    while True:
        names = ["/".join(own[-size:]) for own, size in zip(parts, sizes, strict=True)]
        seen = Counter(names)
        clashes = [i for i, name in enumerate(names) if seen[name] + others[name] > 1]
        if not clashes:
            return names
        for position in clashes:
            sizes[position] += 1
            if sizes[position] > len(parts[position]):
                name = names[position]
                raise UserError(f"Two inputs would be written as {name}: give one at a time.")


def _named(found: list[_Found]) -> Iterator[Recording]:
    """Give each file its output's name: without its ending, unless another would have the same."""
    alone = [os.path.abspath(file.path) for file in found if file.alone]
    distinct = iter(_distinct(alone, taken=[file.place for file in found if not file.alone]))
    places = [next(distinct) if file.alone else file.place for file in found]
    names = [
        place if file.named else place.removesuffix(_ending(place))
        for file, place in zip(found, places, strict=True)
    ]
    while True:
        seen = Counter(names)
        kept = [
            place if seen[name] > 1 else name for place, name in zip(places, names, strict=True)
        ]
        if kept == names:
            break
        names = kept
    if len(seen) < len(names):
        name = next(name for name, count in seen.items() if count > 1)
        raise UserError(f"Two inputs would be written as {name}: give one at a time.")
    for file, name in zip(found, names, strict=True):
        yield Recording(file.path, name, file.start_s, file.end_s)
