from __future__ import annotations

import json
import os
import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.bundle import Bundle
from asr.cluster import transcription as module
from asr.cluster.journal import FOLDER, Journal
from asr.cluster.plan import File, Part
from asr.cluster.reading import Reader
from asr.cluster.transcription import Settings, Transcriber, Trial
from asr.cluster.writing import Done
from asr.errors import UserError
from asr.files import digest_file
from asr.inputs import Failure, Recording

pytestmark = pytest.mark.usefixtures("compiled_search")

RATE_HZ = 16_000


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """Five recordings of different length in a folder."""
    files = []
    for number, duration_s in enumerate([1.3, 0.4, 0.8, 0.5, 1.0]):
        path = tmp_path / f"{number}.wav"
        samples = np.random.default_rng(number).normal(0, 0.1, round(duration_s * RATE_HZ))
        soundfile.write(path, samples, RATE_HZ)
        files.append(file_of(path))
    return Part(tuple(files))


def file_of(path: Path, **times: float) -> File:
    status = path.stat()
    recording = Recording(str(path), path.stem, **times)
    return File(recording, status.st_size, status.st_mtime_ns)


def settings_of(output: Path, journal: Journal, **changes: object) -> Settings:
    given = {"model": "none", "formats": ("txt", "json"), "folder": str(output)}
    return Settings(**given | changes, token=journal.token)  # type: ignore[arg-type]


def texts(transcriber: Transcriber, part: Part) -> list[str]:
    """Each wanted file's text, or why it has none."""
    found = []
    for outcome in transcriber.recognise(part):
        if isinstance(outcome, Failure):
            found.append(outcome.reason)
        elif outcome is not None:
            found.append(" / ".join(transcript.text for transcript in outcome))
    return found


def test_a_part_gives_what_the_model_gives_each_file(tiny_bundle: Bundle, part: Part) -> None:
    paths = [file.recording.path for file in part.files]
    expected = [transcript.text for transcript in tiny_bundle.transcribe(paths)]
    assert texts(Transcriber(Settings("none"), tiny_bundle), part) == expected
    assert len(set(expected)) == len(expected)


def test_outputs_are_written_and_their_digests_told(
    tiny_bundle: Bundle, part: Part, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Journal(out) as journal:
        result = Transcriber(settings_of(out, journal), tiny_bundle)(part)
    for number, outcome in enumerate(result.outcomes):
        assert isinstance(outcome, Done)
        assert [name for name, _ in outcome.outputs] == [f"{number}.txt", f"{number}.json"]
        for name, digest in outcome.outputs:
            assert digest_file(out / name) == digest
        record = json.loads((out / f"{number}.json").read_text())
        assert record["duration_s"] == pytest.approx(outcome.audio_s)
    assert list((out / FOLDER / "partial").iterdir()) == []


def test_what_is_not_wanted_is_neither_told_nor_written_and_changes_nothing(
    tiny_bundle: Bundle, part: Part, tmp_path: Path
) -> None:
    with Journal(tmp_path / "all") as journal:
        Transcriber(settings_of(tmp_path / "all", journal), tiny_bundle)(part)
    files = tuple(replace(f, wanted=number == 2) for number, f in enumerate(part.files))
    with Journal(tmp_path / "one") as journal:
        result = Transcriber(settings_of(tmp_path / "one", journal), tiny_bundle)(Part(files))
    assert [outcome is not None for outcome in result.outcomes] == [n == 2 for n in range(5)]
    assert sorted(p.name for p in (tmp_path / "one").glob("[0-9]*")) == ["2.json", "2.txt"]
    for name in ("2.json", "2.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_a_batch_of_which_one_file_is_wanted_is_computed_whole_and_others_not_at_all(
    tiny_bundle: Bundle, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_S", 1.5)  # 0.4 0.5 | 0.8 | 1.0 | 1.3, with padding
    batches: list[list[str]] = []
    original = tiny_bundle.recognise

    def recognise(waveforms: list[np.ndarray], sources: list[str]) -> object:
        batches.append([Path(source).stem for source in sources])
        return original(waveforms, sources)

    monkeypatch.setattr(tiny_bundle, "recognise", recognise)
    transcriber = Transcriber(Settings("none"), tiny_bundle)
    transcriber.recognise(part)
    assert batches == [["1", "3"], ["2"], ["4"], ["0"]]
    batches.clear()
    files = tuple(replace(f, wanted=number == 3) for number, f in enumerate(part.files))
    transcriber.recognise(Part(files))
    assert batches == [["1", "3"]]


def test_a_signal_leaves_what_has_been_recognised_and_what_goes_on_gives_the_same(
    tiny_bundle: Bundle, part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_S", 1.5)  # 0.4 0.5 | 0.8 | 1.0 | 1.3, with padding
    with Journal(tmp_path / "quiet") as journal:
        Transcriber(settings_of(tmp_path / "quiet", journal), tiny_bundle)(part)
    original = tiny_bundle.recognise

    def recognise(waveforms: list[np.ndarray], sources: list[str]) -> object:
        if "4" in (Path(source).stem for source in sources):
            raise KeyboardInterrupt
        return original(waveforms, sources)

    monkeypatch.setattr(tiny_bundle, "recognise", recognise)
    out = tmp_path / "out"
    with Journal(out) as journal:
        transcriber = Transcriber(settings_of(out, journal), tiny_bundle)
        with pytest.raises(KeyboardInterrupt):
            transcriber(part)
        assert list(out.glob("[0-9]*")) == []
        transcriber.stoppable = True
        result = transcriber(part)
        assert isinstance(result.stopped, KeyboardInterrupt)
        ended = [isinstance(outcome, Done) for outcome in result.outcomes]
        assert ended == [False, True, True, True, False]
        assert {path.stem for path in out.glob("[0-9]*")} == {"1", "2", "3"}
        assert [path for path in (out / FOLDER / "partial").rglob("*") if path.is_file()] == []
        monkeypatch.setattr(tiny_bundle, "recognise", original)
        files = zip(part.files, ended, strict=True)
        left = Part(tuple(replace(file, wanted=not done) for file, done in files))
        assert transcriber(left).stopped is None
    for name in (f"{number}.{kind}" for number in range(5) for kind in ("txt", "json")):
        assert (out / name).read_bytes() == (tmp_path / "quiet" / name).read_bytes()


def test_a_file_that_somebody_writes_meanwhile_is_a_failure(
    tiny_bundle: Bundle, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [Path(file.recording.path) for file in part.files]
    with paths[1].open("ab") as handle:
        handle.write(b"more")
    paths[2].unlink()
    original = audio.load

    def load(path: str, *arguments: object, **named: object) -> np.ndarray:
        waveform = original(path, *arguments, **named)  # type: ignore[arg-type]
        if path == str(paths[3]):
            os.utime(path, ns=(0, 1))  # while it was read
        return waveform

    monkeypatch.setattr(audio, "load", load)
    found = texts(Transcriber(Settings("none"), tiny_bundle), part)
    assert found[1:4] == ["changed", "missing", "changed"]
    assert all(" " in text or len(text) > 7 for text in (found[0], found[4]))


def test_a_file_that_does_not_come_is_given_up_and_the_others_are_not(
    tiny_bundle: Bundle, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, release = part.files[2].recording.path, threading.Event()
    original = audio.load

    def load(path: str, *arguments: object, **named: object) -> np.ndarray:
        if path == stuck:
            release.wait()
        return original(path, *arguments, **named)  # type: ignore[arg-type]

    expected = texts(Transcriber(Settings("none"), tiny_bundle), part)
    monkeypatch.setattr(audio, "load", load)
    monkeypatch.setattr(
        Reader, "_limit_s", lambda _, file: 0.01 if file.recording.path == stuck else 60.0
    )
    found = texts(Transcriber(Settings("none"), tiny_bundle), part)
    release.set()
    assert found == [*expected[:2], "timed-out", *expected[3:]]


def test_each_channel_of_a_call_is_transcribed_by_itself(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    left, right = (np.random.default_rng(seed).normal(0, 0.1, RATE_HZ) for seed in (1, 2))
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), RATE_HZ)
    for name, channel in (("left", left), ("right", right)):
        soundfile.write(tmp_path / f"{name}.wav", channel, RATE_HZ)
    alone = tiny_bundle.transcribe([tmp_path / "left.wav", tmp_path / "right.wav"])
    out = tmp_path / "out"
    part = Part((file_of(tmp_path / "call.wav"),))
    with Journal(out) as journal:
        settings = settings_of(out, journal, split_channels=True, formats=("txt", "ctm"))
        (done,) = Transcriber(settings, tiny_bundle)(part).outcomes
    assert isinstance(done, Done)
    assert [name for name, _ in done.outputs] == [
        f"call.{number}.{kind}" for number in (1, 2) for kind in ("txt", "ctm")
    ]
    for number, transcript in enumerate(alone, start=1):
        assert (out / f"call.{number}.txt").read_text() == transcript.text + "\n"
        lines = (out / f"call.{number}.ctm").read_text().splitlines()
        assert {line.split()[1] for line in lines} == {str(number)}


def test_a_stretch_of_a_file_has_the_times_of_the_file(tiny_bundle: Bundle, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ)
    soundfile.write(tmp_path / "long.wav", samples, RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "cut.wav", samples[RATE_HZ : 2 * RATE_HZ], RATE_HZ, subtype="FLOAT")
    (alone,) = tiny_bundle.transcribe([tmp_path / "cut.wav"])
    part = Part((file_of(tmp_path / "long.wav", start_s=1.0, end_s=2.0),))
    ((transcript,),) = Transcriber(Settings("none"), tiny_bundle).recognise(part)  # type: ignore[misc]
    assert transcript.text == alone.text
    assert [word.start_s for word in transcript.words] == pytest.approx(
        [word.start_s + 1.0 for word in alone.words]
    )
    assert alone.words


def test_a_stretch_behind_its_own_length_has_the_times_of_the_file_in_every_format(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 6 * RATE_HZ)
    soundfile.write(tmp_path / "long.wav", samples, RATE_HZ)
    out = tmp_path / "out"
    part = Part((file_of(tmp_path / "long.wav", start_s=4.0, end_s=5.5),))
    with Journal(out) as journal:
        settings = settings_of(out, journal, formats=("json", "ctm", "stm", "vtt", "textgrid"))
        Transcriber(settings, tiny_bundle)(part)
    words = json.loads((out / "long.json").read_text())["words"]
    lines = [line.split() for line in (out / "long.ctm").read_text().splitlines()]
    assert words
    assert [float(line[2]) for line in lines] == [word["start_s"] for word in words]
    stretches = [line.split() for line in (out / "long.stm").read_text().splitlines()[1:]]
    assert (float(stretches[0][3]), float(stretches[-1][4])) == (4.0, 5.5)
    cue, *_ = re.findall(r"^00:00:(\S+) -->", (out / "long.vtt").read_text(), re.MULTILINE)
    assert float(cue) == words[0]["start_s"]
    assert "xmax = 5.5" in (out / "long.textgrid").read_text()


def test_a_stretch_far_into_a_file_without_a_length_is_that_stretch(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    samples = np.zeros(300 * RATE_HZ, np.float32)
    samples[250 * RATE_HZ :] = np.random.default_rng(0).normal(0, 0.1, 50 * RATE_HZ)
    soundfile.write(tmp_path / "known.flac", samples, RATE_HZ)
    content = bytearray((tmp_path / "known.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(content)
    times = {"start_s": 260.0, "end_s": 262.5}
    files = [file_of(tmp_path / f"{name}.flac", **times) for name in ("known", "piped")]
    found = texts(Transcriber(Settings("none"), tiny_bundle), Part(tuple(files)))
    assert found[0] == found[1] != "too-long"


def test_files_that_all_hang_take_no_longer_than_their_part_may(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    limits: list[float] = []
    limit_s = Reader._limit_s

    def kept(reader: Reader, file: File) -> float:
        limits.append(limit_s(reader, file))
        return limits[-1]

    monkeypatch.setattr(Reader, "_limit_s", kept)
    monkeypatch.setattr(audio, "probe", lambda *_: release.wait())
    settings = Settings("none", timeout_s=0.2)
    reader = Reader(3600.0, settings.timeout_s, split=False)
    found = list(reader.pieces(part.files))
    release.set()
    assert [each[1].reason for each in found] == ["timed-out"] * 5  # type: ignore[index,union-attr]
    assert sum(limits) < settings.limit_s(part)
    assert max(limits[1:]) < limits[0] / 2


def test_a_recording_beyond_the_limit_is_a_failure_that_names_the_option(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with (tmp_path / "day.wav").open("wb") as handle:
        soundfile.write(handle, np.zeros(100, np.int16), RATE_HZ, format="WAV")
        size = 25 * 3600 * RATE_HZ * 2
        handle.seek(40)
        handle.write(size.to_bytes(4, "little"))
        handle.truncate(44 + size)  # 25 hours of silence in no blocks of the disk
        handle.seek(4)
        handle.write((36 + size).to_bytes(4, "little"))
    part = Part((file_of(tmp_path / "day.wav"),))
    (failure,) = Transcriber(Settings("none"), tiny_bundle).recognise(part)
    assert isinstance(failure, Failure)
    assert failure.reason == "too-long"
    assert "day.wav lasts more than 24 hours (--max-hours)" in failure.detail


def test_a_worker_whose_run_is_over_writes_nothing(
    tiny_bundle: Bundle, part: Part, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Journal(out) as journal:
        settings = settings_of(out, journal)
    with Journal(out), pytest.raises(UserError, match="Another run holds"):
        Transcriber(settings, tiny_bundle)(part)
    assert [path.name for path in out.iterdir()] == [FOLDER]


@pytest.mark.parametrize("first", [True, False])
def test_a_name_that_is_a_folders_is_that_files_failure(
    tiny_bundle: Bundle, tmp_path: Path, first: bool
) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, RATE_HZ)
    for name in ("a.wav", "a.txt/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, samples, RATE_HZ)
    files = [
        replace(file_of(tmp_path / "a.wav"), recording=Recording(str(tmp_path / "a.wav"), "a")),
        replace(
            file_of(tmp_path / "a.txt/b.wav"),
            recording=Recording(str(tmp_path / "a.txt/b.wav"), "a.txt/b"),
        ),
    ]
    parts = [Part(tuple(files))] if first else [Part((file,)) for file in files]
    out = tmp_path / "out"
    with Journal(out) as journal:
        transcriber = Transcriber(settings_of(out, journal), tiny_bundle)
        outcomes = [outcome for part in parts for outcome in transcriber(part).outcomes]
    reasons = [o.reason if isinstance(o, Failure) else "" for o in outcomes]
    assert reasons == (["name-taken", ""] if first else ["", "name-taken"])


def test_a_trial_recognises_everything_and_keeps_nothing(
    tiny_bundle: Bundle, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    transcriber = Transcriber(Settings("none"), tiny_bundle)
    transcriber.heard = heard.append
    files = tuple(replace(file, wanted=False) for file in part.files)
    assert Trial(transcriber)(Part(files)) is None
    assert len(heard) == 5


def test_a_worker_travels_without_its_model(tiny_bundle: Bundle) -> None:
    transcriber = Transcriber(Settings("none"), tiny_bundle)
    transcriber.heard = print
    sent = pickle.dumps(transcriber)
    assert len(sent) < 1000
    assert pickle.loads(sent).settings == transcriber.settings


@pytest.fixture
def saved(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "GreedyDecoder"), ({"nbest": 2}, "BeamDecoder"), ({"name": "greedy"}, "GreedyDecoder")],
)
def test_options_of_the_decoder_change_the_models_own(
    saved: Path, given: dict[str, object], name: str
) -> None:
    transcriber = Transcriber(Settings(str(saved), decoder=given))
    assert type(transcriber.bundle.search).__name__ == name


def test_a_gpu_that_is_not_there_is_told(
    saved: Path, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device gpu: torch finds no GPU here"):
        Transcriber(Settings(str(saved), device="gpu")).recognise(part)


def test_speed_depends_on_the_threads_that_are_asked_for(saved: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert Transcriber(Settings(str(saved), threads=2)).bundle
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
