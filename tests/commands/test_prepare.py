from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.commands.compose import compose
from asr.commands.prepare import prepare
from asr.corpus import Corpus
from asr.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def make_manifest(folder: Path, count: int = 12, seconds: float = 0.2) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        soundfile.write(
            folder / f"{number}.flac", random.normal(0, 0.1, round(seconds * 16_000)), 16_000
        )
        split = "test" if number % 4 == 0 else "validation" if number % 4 == 1 else "train"
        line = {"audio": f"{number}.flac", "text": f"Number {number}", "split": split}
        lines.append(json.dumps(line | {"speaker": f"s{number % 4}"}))
    (folder / "all.jsonl").write_text("\n".join(lines))
    return folder / "all.jsonl"


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_manifest(tmp_path / "audio")


def run(manifest: Path, *settings: str) -> int:
    return prepare(compose(["recipe=custom", f"recipe.root={manifest}", *settings]))


def test_the_corpus_is_prepared_once(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(manifest) == 0
    said = capsys.readouterr().out
    assert "corpus corpora/custom: 12 utterances" in said
    assert "note: splits: as given in the manifest" in said
    assert run(manifest) == 0
    said = capsys.readouterr().out
    assert said == "corpus corpora/custom is up to date (12 utterances, 0.00 hours)\n"
    assert len(Corpus.open("corpora/custom").splits["train"]) == 6


def test_it_is_prepared_again_with_a_line_that_says_why(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(manifest)
    capsys.readouterr()
    run(manifest, "recipe.normaliser=none")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "corpus corpora/custom is prepared again: the normaliser changed from english to none"
    )
    soundfile.write(manifest.parent / "3.flac", np.zeros(8_000), 16_000)
    run(manifest, "recipe.normaliser=none")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "corpus corpora/custom is prepared again: 1 files changed, first: "
        f"{manifest.parent / '3.flac'}"
    )


def test_too_many_left_out_is_status_1_every_time(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (manifest.parent / "3.flac").write_bytes(b"")
    for _ in range(2):
        assert run(manifest) == 1
        printed = capsys.readouterr()
        assert "8.3% were left out, more than prepare.max_rejected=0.01" in printed.err
        assert "corpora/custom/rejected.jsonl" in printed.err
    assert run(manifest, "prepare.max_rejected=0.1") == 0
    assert "11 utterances, 0.00 hours, 1 left out" in capsys.readouterr().out


def test_what_filters_leave_out_is_said_and_no_failure(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(manifest, "prepare.max_chars_per_s=40", "prepare.min_snr_db=-100") == 0
    said = capsys.readouterr().out  # "number 10" in 0.2 s is 45 characters a second
    assert "  left out: 2 (16.67%), listed in corpora/custom/rejected.jsonl\n" in said
    assert "    filtered-fast        2\n" in said
    assert run(manifest) == 0
    assert capsys.readouterr().out.startswith(
        "corpus corpora/custom is prepared again: filters changed from"
        " prepare.max_chars_per_s=40 prepare.min_snr_db=-100 to none\n"
    )


def test_an_output_folder_that_cannot_be_written_is_named(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "corpus"):
        with pytest.raises(UserError, match=str(folder)):
            run(manifest, f"prepare.folder={folder}")
    assert (tmp_path / "file").read_text() == ""


def test_a_tiny_disk_that_fills_up_is_named_and_nothing_looks_whole(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "audio", count=20, seconds=3.0)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of one megabyte can only be mounted as root")
    try:
        with pytest.raises(UserError, match="No space left on device"):
            run(manifest, f"prepare.folder={disk / 'corpus'}")
        assert list(disk.rglob("*.partial")) == []
        assert not (disk / "corpus").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def command(manifest: Path, folder: Path, *settings: str) -> list[str]:
    return [
        *(sys.executable, "-m", "asr", "prepare", "recipe=custom"),
        *(f"recipe.root={manifest}", f"prepare.folder={folder}", *settings),
    ]


def skip_if_too_busy(said: str) -> None:
    """Ray gives its processes thirty seconds to start, which a machine under heavy load exceeds."""
    load = os.getloadavg()[0]
    if "Ray could not be started" in said and load > 2 * (os.cpu_count() or 1):
        pytest.skip(f"Ray does not start on a machine this busy (load {load:.0f})")


def test_two_processes_on_ray_make_the_same_corpus_as_one(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "audio", count=160)
    done = [
        subprocess.run(
            command(manifest, tmp_path / name, f"cluster.workers={name}"),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=280,
        )
        for name in ("1", "2")
    ]
    skip_if_too_busy(done[1].stderr)
    assert [(run.returncode, run.stderr) for run in done] == [(0, ""), (0, "")]
    for path in (tmp_path / "1").iterdir():
        if path.name != "corpus.json":  # names the command
            assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()
    one, two = Corpus.open(tmp_path / "1"), Corpus.open(tmp_path / "2")
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("stop", "workers"),
    [(signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 2)],
)
def test_a_stopped_preparation_leaves_no_corpus_and_the_next_goes_on_with_its_parts(
    tmp_path: Path, stop: signal.Signals, workers: int
) -> None:
    manifest = make_manifest(tmp_path / "audio", count=100, seconds=8.0)
    folder = tmp_path / "corpora" / "custom"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command(manifest, folder, f"cluster.workers={workers}"),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not list(folder.parent.glob(".custom.*/*-part-*.json")):
        if process.poll() is not None:
            said = process.communicate()[1].decode()
            skip_if_too_busy(said)
            pytest.fail(said)
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(stop)
    said = process.communicate(timeout=60)[1].decode()
    assert "Traceback" not in said
    assert "***" not in said  # as Ray answers signals
    expected = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
    assert process.returncode == expected[stop]
    assert not folder.exists()
    [work] = folder.parent.iterdir()
    assert work.name.endswith(".parts")
    again = subprocess.run(
        command(manifest, folder),
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(r"prepared in \S+ s \(\d+ were there from before\)", again.stdout)
    assert list(folder.parent.iterdir()) == [folder]
    assert sum(len(split) for split in Corpus.open(folder).splits.values()) == 100


# In place of the library through which all audio is read.
CLOSED = """
import os, sys
path = sys.path[:]
sys.path.remove(os.path.dirname(__file__))
del sys.modules["soundfile"]
import soundfile
soundfile.SoundFile = None
sys.path[:] = path
"""


def test_the_second_time_opens_no_audio_and_loads_no_torch(tmp_path: Path, real_data) -> None:  # type: ignore[no-untyped-def]
    root = real_data("an4")
    prepare = (
        "import sys\n"
        "from asr.commands.compose import compose\n"
        "from asr.commands.prepare import prepare\n"
        f"status = prepare(compose(['recipe=an4', 'recipe.root={root}', *sys.argv[1:]]))\n"
        "assert not {'torch', 'ray', 'lightning'} & set(sys.modules)\n"
        "sys.exit(status)\n"
    )
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "soundfile.py").write_text(CLOSED)

    def run(*words: str, path: Path | None = None) -> int:
        paths = [str(path), str(REPOSITORY)] if path else [str(REPOSITORY)]
        return subprocess.run(
            [sys.executable, "-c", prepare, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            timeout=200,
            check=False,
        ).returncode

    closed = tmp_path / "closed"
    assert run() == 0
    assert run(path=closed) == 0
    assert run("prepare.folder=another", path=closed) == 1  # where all of it has to be read
