"""Your own recordings: a JSONL manifest, one utterance a line.

From      You. `recipe.root=train.jsonl` names the manifest.
Licence   Yours to know.
Counts    As many as the manifest has lines; what is left out is listed, like everywhere.
Layout    `{"audio": "a.wav", "text": "what was said"}`, optionally with `id`, `speaker`, `start_s`,
          `end_s` and `split` (train, validation, test). NeMo's `audio_filepath`, `offset` and
          `duration` are understood. Audio lies in the manifest's folder or below, or in
          `recipe.options.audio_root=PATH` where that is given. See docs/data.md.

Where no line names a split, about a tenth of the speakers each becomes validation and test, chosen
by a hash of their names: a speaker stays where it is when others join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from asr.errors import UserError, nearest
from asr.files import InputError, digest_bytes, resolve_inside
from asr.utterance import Listing, Rejection, Utterance, read_manifest

SPLITS = ("train", "validation", "test")
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1

Entry = Utterance | Rejection


def read(root: Path, audio_root: str | None = None) -> Listing:
    """The utterances of the manifest `root`, each in a split.

    Raises:
        UserError: the manifest cannot be read, has an unknown split or one on some lines only, or
            has too few utterances to split.
    """
    if root.is_dir():
        raise UserError(
            f"{root} is a folder. Give recipe.root= a JSONL manifest, e.g. train.jsonl."
        )
    folder = Path(audio_root) if audio_root is not None else root.parent
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Give recipe.options.audio_root=PATH.")
    entries, notes = _unique([_inside(entry, folder) for entry in read_manifest(root, folder)])
    given = Counter(entry.split for entry in entries if not _unreadable(entry))
    if set(given) == {""}:
        entries, more = _split_all(entries)
    elif "" in given:
        raise UserError(
            f"{root}: {given['']} of {given.total()} lines have no `split`, the others have one. "
            "Give it on all lines or on none."
        )
    else:
        entries, more = _given_splits(entries, root)
    return Listing(
        [entry for entry in entries if isinstance(entry, Utterance)],
        [entry for entry in entries if isinstance(entry, Rejection)],
        notes + more,
    )


def _unreadable(entry: Entry) -> bool:
    """Whether the line is no utterance at all: it has neither speaker nor split."""
    return isinstance(entry, Rejection) and entry.reason == "bad-line"


def _inside(entry: Entry, folder: Path) -> Entry:
    """Rejects what lies elsewhere; `read_manifest` has looked at relative paths only."""
    if isinstance(entry, Rejection):
        return entry
    try:
        return replace(entry, audio=str(resolve_inside(folder, Path(entry.audio).absolute())))
    except InputError as error:
        reason = "no-audio" if error.reason == "missing" else error.reason
        detail = f"{error}; recipe.options.audio_root=PATH allows another folder"
        return entry.rejected(reason, detail if reason == "outside-root" else str(error))


def _unique(entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """One id an entry: `a.wav` and `a.flac` keep their endings, true duplicates are rejected."""
    result: list[Entry] = []
    first: dict[str, str] = {}
    renamed = 0
    for entry in entries:
        if _unreadable(entry):
            result.append(entry)
            continue
        audio = Path(entry.audio)
        made_from_path = audio.with_suffix("").as_posix().endswith(entry.id)
        if entry.id in first and made_from_path and first[entry.id] != entry.audio:
            entry = replace(entry, id=entry.id + audio.suffix)
            renamed += 1
        if isinstance(entry, Utterance) and entry.id in first:
            other = first[entry.id]
            entry = entry.rejected("duplicate-id", f"the id {entry.id} is that of {other}, too")
        else:
            first[entry.id] = entry.audio
        result.append(entry)
    notes = [f"{renamed} ids end as their files do, to differ from others"] if renamed else []
    return result, notes


def _given_splits(entries: list[Entry], root: Path) -> tuple[list[Entry], list[str]]:
    """The manifest's own splits; validation is taken from training where there is none."""
    known = {entry.split for entry in entries if not _unreadable(entry)}
    for split in sorted(known - set(SPLITS)):
        raise UserError(
            f"{root}: no split is called {split!r}.{nearest(split, SPLITS)} "
            f"Known: {', '.join(SPLITS)}."
        )
    notes = ["splits: as given in the manifest"]
    if "train" in known and "validation" not in known:
        training = [entry for entry in entries if entry.split == "train"]
        key, notes_of_key = _key(training, least=2)
        names = {key(entry) for entry in training}
        held_out = _shares(names, {"validation": VALIDATION_SHARE})
        entries = [
            replace(entry, split=held_out[key(entry)]) if entry.split == "train" else entry
            for entry in entries
        ]
        notes += [*notes_of_key, "validation: a tenth of training, since none is given"]
    if "test" not in known:
        notes.append("no test split is given: asr evaluate needs split=validation")
    return entries, notes


def _split_all(entries: list[Entry]) -> tuple[list[Entry], list[str]]:
    """Training, validation and test, by speaker where that is possible."""
    readable = [entry for entry in entries if not _unreadable(entry)]
    key, notes = _key(readable, least=3)
    shares = {"validation": VALIDATION_SHARE, "test": TEST_SHARE}
    split_of = _shares({key(entry) for entry in readable}, shares)
    split = [
        entry if _unreadable(entry) else replace(entry, split=split_of[key(entry)])
        for entry in entries
    ]
    counts = Counter(entry.split for entry in split if isinstance(entry, Utterance))
    notes.append("splits: " + ", ".join(f"{name} {counts[name]}" for name in SPLITS))
    return split, notes


def _key(entries: list[Entry], least: int) -> tuple[Callable[[Entry], str], list[str]]:
    """What a split is made by: speakers where all lines have one and there are enough of them."""
    speakers = {entry.speaker for entry in entries}
    if "" not in speakers and len(speakers) >= least:
        return (lambda entry: entry.speaker), [f"split by speaker, of {len(speakers)}"]
    if len({entry.id for entry in entries}) < least:
        raise UserError(
            f"The manifest has {len(entries)} utterances, which is too few to split. "
            "Give at least ten, better some hundreds."
        )
    if "" in speakers:
        unknown = sum(entry.speaker == "" for entry in entries)
        why = f"{unknown} of {len(entries)} lines name no speaker"
    else:
        why = f"there are only {len(speakers)} speakers"
    return (lambda entry: entry.id), [
        f"split by utterance, since {why}: the same voices are in all splits, and error rates on "
        "strangers will be higher"
    ]


def _shares(names: Iterable[str], shares: dict[str, float]) -> dict[str, str]:
    """A split for each name, by the place of its hash between 0 and 1.

    Each of `shares` gets at least one name and the rest, which is `train`, too.
    """
    place = {name: int(digest_bytes(name.encode()), 16) / 16**32 for name in names}
    remaining = sorted(place, key=lambda name: place[name])
    splits: dict[str, str] = {}
    upper = 1.0
    for number, (split, share) in enumerate(reversed(shares.items()), start=1):
        lower = upper - share
        count = sum(lower <= place[name] < upper for name in remaining)
        left_for_others = len(shares) - number + 1
        count = max(1, min(count, len(remaining) - left_for_others))
        splits |= dict.fromkeys(remaining[-count:], split)
        remaining = remaining[:-count]
        upper = lower
    return splits | dict.fromkeys(remaining, "train")
