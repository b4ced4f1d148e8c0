"""Files that are whole or absent, digests, and paths that stay inside their folder.

Nothing half-written looks whole: it is written under another name, flushed and renamed. A folder
that a killed process left under such a name is removed by the next one that writes it; a file stays
(`.NAME.*.partial`) until somebody removes it, and is never taken for anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import gzip
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal, cast, overload

from asr.errors import UserError

DIGEST_BYTES = 16
LOCK_NAME = ".writing"
# At once: a disk flushes for all who wait, and one after the other takes ten times as long.
WRITERS = 8
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NAME_ERRORS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


class InputError(Exception):
    """One input cannot be used, the others can. `reason` is a code of docs/bad-input.md."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


@overload
def write_atomically(
    path: str | Path, mode: Literal["w"] = "w"
) -> contextlib.AbstractContextManager[IO[str]]: ...
@overload
def write_atomically(
    path: str | Path, mode: Literal["wb"]
) -> contextlib.AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def write_atomically(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """A handle whose content appears under `path` when the block ends well, and else not at all.

    Text is UTF-8 with line feeds. The folder must exist.

    Raises:
        UserError: it cannot be written (full disk, no permission); names path and reason.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with explain_write_errors(path):
            with open(temporary, mode, **text) as handle:  # type: ignore[call-overload]
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of a file left; nobody may be writing it now."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.????????.partial"):
        with contextlib.suppress(OSError):
            partial.unlink()


class Together:
    """Several files that appear together: flushed under other names as they come, then all renamed.

    A context manager: what has not been renamed at its end is removed. Files are written and
    flushed in threads, while the caller goes on.

    Args:
        partial: a folder of the same file system, where they are while they are not whole.
    """

    def __init__(self, partial: Path) -> None:
        self._partial = partial
        self._pool = ThreadPoolExecutor(WRITERS)
        self._waiting: list[tuple[Path, Path, Future[None]]] = []

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for temporary, _, _ in self._waiting:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def add(self, path: Path, content: bytes) -> None:
        """One more."""
        temporary = self._partial / secrets.token_hex(8)
        flushed = self._pool.submit(_write_flushed, temporary, path, content)
        self._waiting.append((temporary, path, flushed))

    def finish(self) -> dict[Path, OSError]:
        """All are on the disk under their own names, their folders made and flushed.

        Returns the paths that the file system refuses for their names, and why; these are not made.

        Raises:
            UserError: one cannot be written; names path and reason. Of the others those that were
                renamed before are there, whole.
        """
        for _, _, flushed in self._waiting:
            flushed.result()
        refused: dict[Path, OSError] = {}
        changed: set[Path] = set()  # folders
        for temporary, path, _ in self._waiting:
            try:
                with _explained(path):
                    if path.parent not in changed:
                        changed.update(_make_folder(path.parent))
                    os.replace(temporary, path)
            except UserError as error:
                if not _is_name_refused(error.__cause__):
                    raise
                refused[path] = cast("OSError", error.__cause__)
                temporary.unlink(missing_ok=True)
            else:
                changed.add(path.parent)
        self._waiting.clear()
        for folder in changed:
            with _explained(folder):
                sync_folder(folder)
        return refused


def _write_flushed(temporary: Path, path: Path, content: bytes) -> None:
    """What is to be in `path`, on the disk under another name."""
    with _explained(path), open(temporary, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder with those above it; the ones whose names have to be flushed for it."""
    if os.path.isdir(folder):
        return []
    above = [parent for parent in folder.parents if not os.path.isdir(parent)]
    folder.mkdir(parents=True, exist_ok=True)
    return [*above, (above[-1] if above else folder).parent]


def _is_name_refused(error: BaseException | None) -> bool:
    """Whether a path is too long, or is one that its file system does not have."""
    return isinstance(error, OSError) and error.errno in NAME_ERRORS


@contextlib.contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `path` when the block ends well.

    The files in it are flushed to disk before the exchange. The old folder is there until then;
    where the block fails it stays.

    Raises:
        UserError: it cannot be written; names path and reason.
    """
    path = Path(path)
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise UserError(f"Cannot write the folder {path}: a file of that name is there.")
        _remove_leftovers(path)
        temporary = _temporary_name(path)
        temporary.mkdir()
        lock = _lock(temporary / LOCK_NAME)
    try:
        with explain_write_errors(path):
            yield temporary
            for item in sorted(temporary.rglob("*")):
                sync_folder(item)  # files as well: a descriptor is all it needs
            (temporary / LOCK_NAME).unlink()
            sync_folder(temporary)
            _exchange(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(lock)


@contextlib.contextmanager
def explain_write_errors(path: str | Path) -> Iterator[None]:
    """Turns a failed write below `path` into a `UserError`; other files' errors pass unchanged."""
    path = Path(path)
    try:
        yield
    except OSError as error:
        # A failed write() carries no file name; a failed open() of something else carries its own.
        if isinstance(error.filename, str) and not _belongs(Path(error.filename), path):
            raise
        raise _unwritten(path, error) from error


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """As `explain_write_errors`, where nothing but `path` is touched, under whatever name."""
    try:
        yield
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> UserError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = {
        errno.ENOSPC: "Make room or choose another folder.",
        errno.EDQUOT: "Make room or choose another folder.",
    }.get(error.errno or 0, "Choose a folder that can be written.")
    return UserError(f"Cannot write {printable(path)}: {reason}. {advice}")


def printable(path: Path | str) -> str:
    """A path as text; bytes of it that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def on_one_line(text: str) -> str:
    """A path, or a text with paths: line ends, tabs and other controls are spelled out as well."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))


def _belongs(named: Path, path: Path) -> bool:
    """Whether `named` is `path`, a folder on the way to it, or what stands in for it so far."""
    named, path = Path(os.path.abspath(named)), Path(os.path.abspath(path))
    if named == path or named in path.parents:
        return True
    if path.parent not in named.parents:
        return False
    first = named.relative_to(path.parent).parts[0]
    return first == path.name or first.startswith(f".{path.name}.")


def sync_folder(path: Path) -> None:
    """Waits until what `path` holds (a folder's names, a file's bytes) is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_bytes(data: Any) -> str:
    """BLAKE2b of bytes or of anything with a contiguous buffer: 16 bytes in hexadecimal."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def digest_file(path: str | Path) -> str:
    """BLAKE2b of a file's content, read in pieces: 16 bytes in hexadecimal."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def open_unzipped(path: str | Path) -> IO[bytes]:
    """A file for reading; where its content is gzipped, what is in it.

    Reading on may raise EOFError, gzip.BadGzipFile and zlib.error where it is damaged.
    """
    with open(path, "rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    if zipped:
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return open(path, "rb", buffering=1 << 20)


def resolve_inside(root: str | Path, path: str | Path) -> Path:
    """The real path of `path` (relative ones are below `root`), which must be inside `root`.

    Raises:
        InputError: `outside-root`, `bad-link` (a link that dangles or loops) or `missing`.
    """
    root = Path(root).resolve()
    named = root / path
    try:
        resolved = named.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        if not Path(os.path.realpath(named)).is_relative_to(root):
            raise InputError("outside-root", f"{path} leads out of {root}") from None
        if _has_link(named, root):
            raise InputError("bad-link", f"{named} is a link to nowhere") from None
        raise InputError("missing", f"{named} does not exist") from None
    except (RuntimeError, OSError) as error:  # Python 3.13 raises OSError for a loop
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise InputError("bad-link", f"{named} is a link that leads to itself") from None
    if not resolved.is_relative_to(root):
        raise InputError("outside-root", f"{path} leads out of {root}")
    return resolved


def _has_link(path: Path, root: Path) -> bool:
    """Whether a link stands on the way from `root` to `path`."""
    return any(part.is_symlink() for part in (path, *path.parents) if part != root)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _lock(path: Path) -> int:
    """Marks a folder as being written; the kernel takes the mark away when the process ends."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _exchange(new: Path, path: Path) -> None:
    """Puts `new` in the place of `path`; the next writer mends a kill between the two renames."""
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    if path.exists():
        os.rename(path, old)
    os.rename(new, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Removes what killed writers of `path` left, and brings back the old folder if need be."""
    name = glob.escape(path.name)
    for old in path.parent.glob(f".{name}.????????.old"):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
    for partial in path.parent.glob(f".{name}.????????.partial"):
        if not partial.is_dir():
            continue
        try:
            lock = os.open(partial / LOCK_NAME, os.O_RDWR)
        except FileNotFoundError:  # killed before it was marked, or after it was complete
            shutil.rmtree(partial, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)
        except BlockingIOError:
            pass  # another process is writing it now
        finally:
            os.close(lock)
