"""`asr align` on the command line, with a model that was trained on tones in seconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from asr import windows
from asr.bundle import Bundle
from asr.commands.main import main
from asr.features import LogMel
from asr.models.ctc import CtcModel
from asr.models.lstm import LstmEncoder
from asr.units.characters import CharacterUnits
from asr.units.phones import PhoneUnits

RATE_HZ = 16_000
SETTINGS = {"subsampling": 4, "channels": 4, "hidden": 32, "layers": 1, "dropout": 0.0}
LETTERS = {"a": 400.0, "b": 900.0, "c": 1600.0, "d": 2600.0}
TONE_S, REST_S, SPACE_S = 0.12, 0.04, 0.15
NEAR_S = 0.1


def tones(text: str, seed: int = 0) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A tone for each letter, and where the words are in seconds."""
    generator = np.random.default_rng(seed)
    pieces, times = [np.zeros(800)], []
    for word in text.split():
        start_s = sum(map(len, pieces)) / RATE_HZ
        for letter in word:
            pitch_hz = LETTERS[letter] * generator.uniform(0.97, 1.03)
            tone = 0.4 * np.sin(2 * np.pi * pitch_hz * np.arange(round(TONE_S * RATE_HZ)) / RATE_HZ)
            pieces += [tone, np.zeros(round(REST_S * RATE_HZ))]
        times.append((start_s, sum(map(len, pieces)) / RATE_HZ - REST_S))
        pieces.append(np.zeros(round(SPACE_S * RATE_HZ)))
    waveform = np.concatenate(pieces)
    noise = 0.003 * generator.standard_normal(len(waveform))
    return (waveform + noise).astype(np.float32), times


def words(count: int, seed: int) -> str:
    generator = np.random.default_rng(seed)
    letters = [generator.choice(list(LETTERS), generator.integers(1, 4)) for _ in range(count)]
    return " ".join("".join(word) for word in letters)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows tones by heart."""
    texts = [words(1 + number % 4, number) for number in range(24)]
    waveforms = [tones(text, number)[0] for number, text in enumerate(texts)]
    units = CharacterUnits(("<blank>", "|", *LETTERS))
    features = LogMel(mel_bins=20)
    features.fit(map(torch.from_numpy, waveforms))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CtcModel(LstmEncoder(20, **SETTINGS), len(units.symbols))
    bundle = Bundle(
        *(network, {"name": "lstm", **SETTINGS}, features, units, "english"),
        decoder={"name": "greedy"},
        trained={"recipe": "tones", "run": "base", "seed": 1},
    )
    inputs, lengths = features(*bundle.padded(waveforms))
    labels = [units.encode(text) for text in texts]
    targets, sizes = torch.tensor(list(chain(*labels))), torch.tensor([len(own) for own in labels])
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        emissions, frames = network(inputs, lengths)
        loss = nn.functional.ctc_loss(emissions.transpose(0, 1), targets, frames, sizes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1
    folder = tmp_path_factory.mktemp("tones") / "model"
    bundle.save(folder)
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(text: str, name: str = "a.wav", rate_hz: int = RATE_HZ) -> list[tuple[float, float]]:
    """Write tones, and give the words' times."""
    waveform, times = tones(text, seed=7)
    soundfile.write(name, waveform, rate_hz)
    return times


def aligned(model: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The columns of what is printed for a text and a.wav."""
    Path("a.txt").write_text(text)
    assert main(["align", str(model), "a.wav", "a.txt"]) == 0
    return [line.split(" ") for line in capsys.readouterr().out.splitlines()]


def check_times(rows: list[list[str]], times: list[tuple[float, float]]) -> None:
    assert len(rows) == len(times)
    for row, (start_s, end_s) in zip(rows, times, strict=True):
        found_s = float(row[2])
        assert abs(found_s - start_s) < NEAR_S
        assert abs(found_s + float(row[3]) - end_s) < NEAR_S


def test_words_are_found_where_they_sound(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = record("ab c dab b")
    rows = aligned(model, "Ab, c\ndab b!\n", capsys)
    assert [row[4] for row in rows] == ["ab", "c", "dab", "b"]
    assert {(row[0], row[1]) for row in rows} == {("a", "1")}
    assert all(float(row[5]) > 0.5 for row in rows)
    check_times(rows, times)


def test_a_long_recording_is_aligned_in_windows(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOW_S", 4.0)
    monkeypatch.setattr(windows, "OVERLAP_S", 2.0)
    text = words(150, seed=3)
    times = record(text)
    assert times[-1][1] > 60
    check_times(aligned(model, text, capsys), times)


def test_a_star_stands_for_words_that_are_not_in_the_text(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = record("dd ca ab c bd b a dd ac")
    rows = aligned(model, "* ab c * dd *", capsys)
    assert [row[4] for row in rows] == ["ab", "c", "dd"]
    check_times(rows, [times[2], times[3], times[7]])


def test_a_star_stands_for_nothing_where_nothing_is_missing(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("ab c dab b")
    assert aligned(model, "* ab * c * dab * b *", capsys) == aligned(model, "ab c dab b", capsys)


def test_the_file_is_what_would_be_printed(
    model: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    record("ab c")
    printed = aligned(model, "ab c", capsys)
    assert main(["align", str(model), "a.wav", "a.txt", "-o", "out/b.ctm"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(
        r"2 words in 0\.0 minutes aligned in [\d.]+ s; written to out/b\.ctm\.\n", said.err
    )
    lines = (folder / "out/b.ctm").read_text().splitlines()
    assert [line.split(" ") for line in lines] == printed


def test_times_stay_in_the_recording_in_order(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waveform, _ = tones("ab dc bd")
    waveform = waveform[: -int(0.27 * RATE_HZ)]
    soundfile.write("a.wav", waveform, RATE_HZ)
    rows = aligned(model, "ab dc bd", capsys)
    bounds = [bound for row in rows for bound in (float(row[2]), float(row[2]) + float(row[3]))]
    assert all(one <= other + 1e-9 for one, other in pairwise(bounds))
    assert bounds[-1] <= len(waveform) / RATE_HZ + 1e-3


def test_a_text_that_is_not_said_is_doubted(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("aaa aaa aaa aaa")
    Path("a.txt").write_text("dcd cbc bdb")
    assert main(["align", str(model), "a.wav", "a.txt", "-o", "a.ctm"]) == 0
    assert "3 of 3 words do not sound as they are written" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What an error says, in one line."""
    assert main(["align", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a.txt holds no words"),
        (b"* *\n", "a.txt holds no words"),
        (b"ab\nab xyz\n", "a.txt:2: this model cannot spell 'xyz': 'x' is none of the units"),
        (b"ab\n\xff\n", "a.txt:2: the text is not UTF-8"),
        (b"ab " * 200, "a.txt does not fit into a.wav, which lasts 0.83 s: 599 labels need 599"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    record("ab c")
    Path("a.txt").write_bytes(content)
    assert says in refused(capsys, str(model), "a.wav", "a.txt", "-o", "a.ctm")
    assert not Path("a.ctm").exists()


def test_a_word_that_is_not_in_the_lexicon_is_named_with_its_line(
    make_bundle: Callable[..., Bundle], capsys: pytest.CaptureFixture[str]
) -> None:
    units = PhoneUnits.from_pronunciations({"go": ("G", "OW"), "six": ("S", "IH", "K", "S")})
    bundle = make_bundle(symbols=units.symbols[1:])
    bundle.units = units
    bundle.save("phones")
    record("ab c dab b")
    Path("a.txt").write_text("go six\nsix seven\n")
    says = refused(capsys, "phones", "a.wav", "a.txt")
    assert "a.txt:2: this model cannot spell 'seven': it is not in the lexicon" in says
    Path("a.txt").write_text("go six\nsix\n")
    assert main(["align", "phones", "a.wav", "a.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[4] for line in lines] == ["go", "six", "six"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "a.wav", "a.txt"), "There is no model nowhere"),
        (("MODEL", "b.wav", "a.txt"), "b.wav does not exist"),
        (("MODEL", "a.wav", "b.txt"), "The text b.txt cannot be read: No such file"),
        (("MODEL", "a.txt", "a.txt"), "a.txt is not audio"),
        (("MODEL", "cut.wav", "a.txt"), "cut.wav breaks off"),
        (("MODEL", "a.wav", "a.txt", "-o", "a.wav"), "a.wav is an input"),
        (("MODEL", "a.wav", "a.txt", "-o", "a.txt"), "a.txt is an input"),
        (("MODEL", "a.wav", "a.txt", "-o", "."), "no ordinary file"),
        (("MODEL", "a.wav", "a.txt", "-o", "a.wav/b.ctm"), "Cannot write a.wav"),
        (("MODEL", "b.wav", "a.txt", "-o", "a.wav/b.ctm"), "Cannot write a.wav"),  # said first
        (("MODEL", "a.wav", "a.txt", "-o", "MODEL/b.ctm"), "lies in the model's folder"),
    ],
)
def test_what_cannot_be_used_is_refused(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    record("ab c")
    Path("cut.wav").write_bytes(Path("a.wav").read_bytes()[:9000])
    Path("a.txt").write_text("ab c")
    before = Path("a.wav").read_bytes()
    assert says in refused(capsys, *(word.replace("MODEL", str(model)) for word in arguments))
    assert Path("a.wav").read_bytes() == before
