"""Normalisers: how texts are written before they are trained on, decoded or compared."""

from __future__ import annotations

import re
import unicodedata

from asr.errors import UserError, nearest

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_NOT_SPOKEN = re.compile(r"[^\w\s']|_")


def english(text: str) -> str:
    """NFKC, lower case; apostrophes within words stay, other punctuation becomes a space."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
    text = _NOT_SPOKEN.sub(" ", text)
    return " ".join(_LONE_APOSTROPHE.sub(" ", text).split())


def unchanged(text: str) -> str:
    """White space collapsed, nothing else."""
    return " ".join(text.split())


NORMALISERS = {"english": english, "none": unchanged}


def normalise(name: str, text: str) -> str:
    """Text as the normaliser of that name writes it.

    Raises:
        UserError: no normaliser has that name.
    """
    if name not in NORMALISERS:
        known = ", ".join(sorted(NORMALISERS))
        raise UserError(
            f"No normaliser is called {name!r}.{nearest(name, NORMALISERS)} Known: {known}."
        )
    return NORMALISERS[name](text)
