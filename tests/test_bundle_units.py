"""Bundles whose units are pieces, words or phones: saved, loaded, learnt, damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import asr
from asr.bundle import Bundle, load
from asr.errors import UserError
from asr.units.kinds import units_from
from asr.units.symbols import Units

KINDS = ("characters", "sentencepiece", "words", "phones")
TEXTS = ["ab ba", "dad cab", "cab ab", "ba dad", "ab dad ba", "cab"]
FILES = {"sentencepiece": "sentencepiece.model", "phones": "lexicon.txt"}
LEXICON = "ab  A B\nba  B A\ndad  D A D\ncab  C A B\n"

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def units(tmp_path: Path) -> Callable[[str], Units]:
    (tmp_path / "lexicon").write_text(LEXICON)

    def of(kind: str) -> Units:
        return units_from(
            kind, TEXTS, whole_word_count=0, size=9, lexicon=tmp_path / "lexicon", normaliser="none"
        )

    return of


def bundle_of(make_bundle: MakeBundle, units: Units) -> Bundle:
    """The tiny model with a unit's emission for each of these."""
    symbols = [f"<{index}>" for index in range(1, len(units.symbols))]
    return replace(make_bundle(symbols), units=units)


def tones(text: str) -> np.ndarray:
    """Each letter a tone of 0.12 s, words apart by silence."""
    time_s = np.arange(int(0.12 * 16_000)) / 16_000
    pitches_hz = {"a": 400.0, "b": 900.0, "c": 1600.0, "d": 2600.0, " ": 0.0}
    pieces = [0.4 * np.sin(2 * np.pi * pitches_hz[letter] * time_s) for letter in text]
    silence = np.zeros(640)
    waveform = np.concatenate([part for piece in pieces for part in (silence, piece)] + [silence])
    noise = np.random.default_rng(len(text)).standard_normal(len(waveform))
    return (waveform + 0.003 * noise).astype(np.float32)


def noise(duration_s: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * 16_000))


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_bundle_transcribes_as_the_one_that_was_saved(
    kind: str, units: Callable[[str], Units], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = bundle_of(make_bundle, units(kind))
    bundle.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    waveforms = [noise(duration_s, seed) for seed, duration_s in enumerate((2.0, 0.7, 1.3))]
    heard = bundle.transcribe(waveforms)
    assert all(transcript.words for transcript in heard)
    assert loaded.transcribe(waveforms) == heard
    assert loaded.units == bundle.units
    assert loaded.digest == bundle.digest
    own = {FILES[kind]} if kind in FILES else set()
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *("bundle.yaml", "weights.safetensors"),
        *own,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_the_words_in_time(
    kind: str, units: Callable[[str], Units], make_bundle: MakeBundle
) -> None:
    (transcript,) = bundle_of(make_bundle, units(kind)).transcribe([noise(2.0, 0)])
    assert transcript.text == " ".join(word.word for word in transcript.words)
    times = [time for word in transcript.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 2.0


@pytest.mark.parametrize(("kind", "name"), FILES.items())
@pytest.mark.parametrize("damage", ["cut off", "missing", "led elsewhere", "of other units"])
def test_a_bundle_whose_units_are_damaged_is_refused_with_the_files_name(
    kind: str,
    name: str,
    damage: str,
    units: Callable[[str], Units],
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    bundle_of(make_bundle, units(kind)).save(tmp_path / "model")
    path = tmp_path / "model" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "cut off":
        path.write_bytes(content[:-1])
    elif damage == "led elsewhere":
        (tmp_path / "outside").write_bytes(content)
        path.symlink_to(tmp_path / "outside")
    elif damage == "of other units":
        path.write_bytes(content.replace(b"d", b"e").replace(b"D", b"E"))
    with pytest.raises(UserError, match=name) as refused:
        load(tmp_path / "model")
    assert "\n" not in str(refused.value)
    assert str(refused.value).count(str(tmp_path)) == 1


def test_another_lexicon_or_other_pieces_are_another_digest(
    units: Callable[[str], Units], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    phones, pieces = units("phones"), units("sentencepiece")
    (tmp_path / "lexicon").write_text(LEXICON.replace("B A", "A B"))
    assert units("phones").symbols == phones.symbols
    again, others = (bundle_of(make_bundle, one) for one in (phones, units("phones")))
    assert again.digest == bundle_of(make_bundle, phones).digest != others.digest
    assert bundle_of(make_bundle, pieces).digest != again.digest


@pytest.mark.parametrize("kind", ["sentencepiece", "words", "phones"])
def test_a_model_learns_these_units_by_heart(
    kind: str, units: Callable[[str], Units], make_bundle: MakeBundle, tmp_path: Path
) -> None:
    """Tones of 0.12 s a letter; after some seconds each text is heard as it was said."""
    bundle = bundle_of(make_bundle, units(kind))
    network = bundle.network.eval()  # without dropout
    texts = TEXTS[:3]
    labels = [torch.tensor(bundle.units.encode(text)) for text in texts]
    waveforms = [tones(text) for text in texts]
    bundle.features.fit(torch.from_numpy(waveform) for waveform in waveforms)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.head.reset_parameters()
        optimiser = torch.optim.Adam(network.parameters(), lr=2e-2)
        features, lengths = bundle.features(*bundle.padded(waveforms))  # [3, T, F], [3]
        for _ in range(200):
            emissions, frames = network(features, lengths)  # [3, T', V], [3]
            loss = torch.nn.functional.ctc_loss(
                emissions.transpose(0, 1),  # [T', 3, V]
                torch.cat(labels),
                frames,
                torch.tensor([len(label) for label in labels]),
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if loss.item() < 0.02:
                break
    bundle.save(tmp_path / "model")
    heard = asr.load(tmp_path / "model").transcribe(waveforms)
    references = [bundle.units.reference(text) for text in texts]
    assert [transcript.text for transcript in heard] == references
    if kind == "phones":
        assert references[0] == "A B B A"
