"""CMU AN4 (1991, the "Census" database): names, addresses, dates and commands, many spelled out.

From      Carnegie Mellon University, http://www.speech.cs.cmu.edu/databases/an4/; also
          github.com/cmusphinx/an4 (b567d13).
Licence   BSD-like, free for any use; its text lies in the corpus (LICENSE).
Counts    948 training utterances of 74 speakers, 130 test utterances of 10 other speakers,
          0.81 hours, 16 kHz.
Layout    `etc/an4_{train,test}.fileids` lists the recordings, `etc/an4_{train,test}.transcription`
          what was said, as `<s> WORDS </s> (id)`, `etc/an4.dic` the pronunciations. Nothing else
          in `etc/` is read: two older test transcriptions with other ids lie there too.
          `wav/an4_clstk/<speaker>/` and `wav/an4test_clstk/<speaker>/` hold the audio: wav, or
          sph or raw (16 bit, big-endian) in the original archives. Files that begin with `cen9`
          were excluded by the publisher.

The publisher names no validation part, so seven training speakers are held out for it.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError
from asr.files import InputError, replace_folder, resolve_inside
from asr.utterance import Listing, Rejection, Utterance

EXPECTED = {"train": 948, "test": 130}

# Every tenth training speaker in alphabetical order, from the sixth on: decided before any result
# was seen. By their first letters two are women and five men, as one expects from 21 and 53, and
# each speaker reads the same kinds of prompts.
VALIDATION_SPEAKERS = ("fjam", "fplp", "mcen", "meht", "mjhp", "mmtm", "msjr")

ENDINGS = (".wav", ".sph", ".raw")  # the first that is there is read
EXCLUDED_PREFIX = "cen9"

# CMU publishes no checksum and serves plain http. This one is of the copy on the first address, as
# others who check that copy have written it down; whichever address answers has to agree with it.
ARCHIVE_SHA256 = "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
ARCHIVE_URLS = (
    "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
    "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz",
)

_TRANSCRIPT = re.compile(r"(?:<s>\s*)?(?P<text>.*?)\s*(?:</s>\s*)?\((?P<id>[^()\s]+)\)\s*")


def read(root: Path) -> Listing:
    """The utterances of the folder that holds `etc/` and `wav/`.

    Raises:
        UserError: the folder is missing or of another layout, or a transcription cannot be read.
    """
    root = root.resolve()
    _check_layout(root)
    utterances: list[Utterance] = []
    rejected: list[Rejection] = []
    notes = [f"validation: the training speakers {', '.join(VALIDATION_SPEAKERS)}"]
    listed: set[str] = set()
    for part, expected in EXPECTED.items():
        transcription = root / "etc" / f"an4_{part}.transcription"
        texts = dict(_transcripts(transcription))
        fileids = _lines(root / "etc" / f"an4_{part}.fileids")
        for fileid in fileids:
            found = _utterance(root, fileid, part, texts, listed)
            if isinstance(found, Utterance):
                utterances.append(found)
            else:
                rejected.append(found)
            listed.add(Path(fileid).name)
        for name, text in texts.items():
            if name not in listed:
                detail = f"{transcription.name} has it, but no recording is listed for it"
                rejected.append(Rejection(name, "", part, "no-audio", detail, text))
        if len(fileids) != expected:
            notes.append(f"{part}: {len(fileids)} recordings are listed, {expected} were published")
    unlisted, excluded = _unlisted(root, listed)
    if excluded:
        notes.append(f"{excluded} recordings {EXCLUDED_PREFIX}* left out, as by the publisher")
    dictionary = root / "etc" / "an4.dic"
    lexicon = str(dictionary) if dictionary.is_file() else None
    return Listing(utterances, rejected + unlisted, notes, lexicon)


def fetch(folder: Path) -> Path:
    """Download the archive of sph files (64 MB) into `folder` and unpack it; returns the root.

    The download is checked and tried again; what is there already is not fetched again.

    Raises:
        UserError: no address gave the expected file.
    """
    root = folder / "an4"
    if not root.is_dir():
        _unpack(_download(folder), root)
    return root


def _check_layout(root: Path) -> None:
    if not root.is_dir():
        raise UserError(f"There is no folder {root}. Give recipe.root=PATH of the corpus AN4.")
    needed = ["wav"] + [
        f"etc/an4_{part}.{ending}" for part in EXPECTED for ending in ("fileids", "transcription")
    ]
    missing = [name for name in needed if not (root / name).exists()]
    if missing:
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) or "nothing"
        raise UserError(
            f"{root} is not laid out as AN4: {', '.join(missing)} is missing, found {found}. "
            "Give recipe.root= the folder that holds etc/ and wav/."
        )


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def _transcripts(path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of id and words."""
    for number, line in enumerate(_lines(path), start=1):
        match = _TRANSCRIPT.fullmatch(line)
        if match is None:
            raise UserError(f"{path}, line {number}: expected 'WORDS (id)', found {line[:60]!r}.")
        yield match["id"], match["text"]


def _utterance(
    root: Path, fileid: str, part: str, texts: dict[str, str], listed: set[str]
) -> Utterance | Rejection:
    stem = root / "wav" / fileid
    name, speaker = stem.name, stem.parent.name
    held_out = part == "train" and speaker in VALIDATION_SPEAKERS
    split = "validation" if held_out else part
    candidates = [stem.with_name(name + ending) for ending in ENDINGS]
    # A dangling link is there, too, and has a reason of its own.
    audio = next((path for path in candidates if os.path.lexists(path)), None)
    text = texts.get(name, "")

    def rejection(reason: str, detail: str) -> Rejection:
        return Rejection(name, str(audio or stem), split, reason, detail, text, speaker)

    if name in listed:
        return rejection("duplicate-id", f"an4_{part}.fileids lists {name} a second time")
    if name not in texts:
        return rejection("no-transcript", f"an4_{part}.transcription has no line for it")
    if audio is None:
        return rejection("no-audio", f"no file {fileid} with one of the endings {ENDINGS}")
    try:
        inside = resolve_inside(root, audio)
    except InputError as error:
        return rejection(error.reason, str(error))
    return Utterance(name, str(inside), text, split, speaker)


def _unlisted(root: Path, listed: set[str]) -> tuple[list[Rejection], int]:
    """Recordings that no list names, and how many of the publisher's exclusions lie there."""
    rejected, excluded = [], 0
    for path in sorted((root / "wav").rglob("*")):
        if path.suffix not in ENDINGS or path.stem in listed:
            continue
        if path.name.startswith(EXCLUDED_PREFIX):
            excluded += 1
            continue
        split = "test" if path.is_relative_to(root / "wav" / "an4test_clstk") else "train"
        detail = "neither list of recordings names it"
        rejected.append(Rejection(path.stem, str(path), split, "no-transcript", detail))
    return rejected, excluded


def _download(folder: Path) -> Path:
    import pooch
    import requests

    name, reasons = "an4_sphere.tar.gz", []
    for url in ARCHIVE_URLS:
        source = pooch.create(
            path=folder,
            base_url="",
            registry={name: f"sha256:{ARCHIVE_SHA256}"},
            urls={name: url},
            retry_if_failed=2,
        )
        try:
            return Path(source.fetch(name, downloader=pooch.HTTPDownloader(timeout=60)))
        except (requests.RequestException, OSError, ValueError) as error:
            # ValueError is how pooch says that the checksum differs.
            reasons.append(f"{url}: {type(error).__name__}")
    raise UserError(
        f"AN4 could not be downloaded ({'; '.join(reasons)}). "
        "Download and unpack it yourself and give recipe.root=PATH/an4."
    )


def _unpack(archive: Path, root: Path) -> None:
    """The archive's folder `an4/` becomes `root`, in whole or not at all."""
    try:
        with replace_folder(root) as unpacked, tarfile.open(archive) as tar:
            # "data" refuses what would land outside, links that lead out, and devices.
            tar.extractall(unpacked, filter="data")
            for entry in list((unpacked / "an4").iterdir()):
                entry.rename(unpacked / entry.name)
            (unpacked / "an4").rmdir()
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"{archive} could not be unpacked: {error}. Delete it and try again."
        ) from error
