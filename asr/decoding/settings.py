"""A decoder's settings: those that name files, and how a bundle carries such files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.errors import DamagedError, UserError
from asr.files import InputError, digest_file, resolve_inside, write_atomically

# The settings that name a file, and how that is called in a bundle.
FILES = {"lm": "lm-{}.bin", "lexicon": "words-{}.txt", "hotwords": "hotwords-{}.txt"}


def check_counts(**counts: int) -> None:
    """Settings that must be 1 or more.

    Raises:
        UserError: one is not; names it.
    """
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"decoder.{name}={count} must be at least 1.")


def check_scores(**scores: float | None) -> None:
    """Settings that must be finite where they are given.

    Raises:
        UserError: one is not; names it.
    """
    for name, value in scores.items():
        if value is not None and not math.isfinite(value):
            raise UserError(f"decoder.{name}={value} is no number.")


def check_thresholds(**thresholds: float) -> None:
    """Settings that must be 0 or more.

    Raises:
        UserError: one is not; names it.
    """
    for name, value in thresholds.items():
        if not value >= 0:
            raise UserError(f"decoder.{name}={value} must be 0 or more.")


def combined(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own settings, changed by those that are given.

    A decoder of another name has nothing of the model's own. Where settings are given to a model
    that decodes greedily, and no name, they are of beam search.
    """
    name = given.get("name")
    if name is not None and name != own["name"]:
        return dict(given)
    if name is None and own["name"] == "greedy":
        return {"name": "beam", **given}
    return {**own, **given}


def digested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the content of files in the place of their paths.

    Raises:
        UserError: a file cannot be read.
    """
    return {
        key: _digest(key, value) if key in FILES and isinstance(value, str) else value
        for key, value in settings.items()
    }


def _digest(key: str, path: str) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise UserError(f"decoder.{key}={path} cannot be read: {error.strerror}.") from None


def carried(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings for a bundle in a folder, which gets copies of the files they name.

    A name has the content's digest in it, so that files of earlier settings stay as they are.
    Language models are compiled.

    Raises:
        UserError: a file cannot be read or written.
    """
    found = dict(settings)
    for key, name in FILES.items():
        if not isinstance(settings.get(key), str):
            continue
        digest = _digest(key, settings[key])
        target = folder / name.format(digest[:8])
        if key == "lm":
            from asr.language.ngram import NgramModel

            NgramModel.load(settings[key]).save(target)
        elif Path(settings[key]).resolve() != target.resolve():
            with write_atomically(target, "wb") as stream, Path(settings[key]).open("rb") as source:
                shutil.copyfileobj(source, stream)
        found[key] = {"file": target.name, "digest": digest_file(target)}
    return found


def resolved(settings: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Settings of a bundle with the paths of its files, once they are known to be its own.

    Raises:
        UserError: a file is missing, leads outside, or is another one.
    """
    found = dict(settings)
    for key, value in settings.items():
        if not isinstance(value, Mapping) or key not in FILES:
            continue
        if folder is None or not {"file", "digest"} <= value.keys():
            raise UserError(f"the decoder's {key} names no file of the bundle")
        try:
            path = resolve_inside(folder, str(value["file"]))
        except InputError as error:
            raise DamagedError(
                f"{error}, and the model's decoder needs it: copy the model's folder again."
            ) from None
        if digest_file(path) != value["digest"]:
            raise DamagedError(
                f"{path} is not the file that the bundle was written with: copy the folder again."
            )
        found[key] = str(path)
    return found


def names(settings: Mapping[str, Any]) -> list[str]:
    """The files of a bundle that its decoder's settings name."""
    return [
        str(value["file"])
        for key, value in settings.items()
        if key in FILES and isinstance(value, Mapping)
    ]
