"""What many tests share: speech and tones, a tiny model, and commands that start at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from asr.bundle import Bundle

REPOSITORY = Path(__file__).resolve().parents[1]

# Test files run side by side: threads of each would wait for those of the others. Before torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A function from a corpus's name to its folder; skips the test where that is missing."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("ASR_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"needs the corpus {name}: set ASR_TEST_DATA to the folder that holds it")
        return root / name

    return folder


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """A function that makes a tiny untrained model, the same each time; it babbles words."""
    import torch

    from asr.bundle import Bundle
    from asr.features import LogMel
    from asr.models.ctc import CtcModel
    from asr.models.lstm import LstmEncoder
    from asr.units.characters import CharacterUnits
    from asr.units.symbols import BLANK

    def bundle(
        symbols: Sequence[str] = ("|", "a", "b", "c", "nine"), normalisation: str = "corpus"
    ) -> Bundle:
        settings = {"subsampling": 4, "channels": 4, "hidden": 16, "layers": 2}
        features = LogMel(mel_bins=20, normalisation=normalisation)
        features.mean -= 5.0
        features.deviation += 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = CtcModel(LstmEncoder(20, **settings), 1 + len(symbols))
            torch.nn.init.normal_(network.head.weight, std=3.0)
            noise = 0.1 * torch.randn(1, 32_000)
        with torch.no_grad():  # so that on noise each unit, the blank too, is often the likeliest
            frames, _ = network.eval().encoder(*features(noise, torch.tensor([32_000])))
            network.head.bias -= network.head(frames)[0].mean(0)
        return Bundle(
            network=network,
            model={"name": "lstm", **settings},
            features=features,
            units=CharacterUnits((BLANK, *symbols)),
            normaliser="english",
            decoder={"name": "greedy"},
            trained={"recipe": "tiny", "run": "base", "seed": 1},
        )

    return bundle


@pytest.fixture
def tiny_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """The tiny untrained model."""
    return make_bundle()


LETTERS = {"a": 400.0, "b": 900.0, "c": 1600.0, "d": 2600.0}


def tones(text: str, seed: int) -> np.ndarray:
    """A language learnt in seconds: each letter a tone of 0.12 s, words apart by silence."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(0.12 * 16_000)) / 16_000
    pieces = [np.zeros(800)]
    for letter in text:
        if letter == " ":
            pieces.append(np.zeros(2400))
        else:
            pitch = LETTERS[letter] * generator.uniform(0.97, 1.03)
            pieces += [0.4 * np.sin(2 * np.pi * pitch * time), np.zeros(640)]
    waveform = np.concatenate([*pieces, np.zeros(800)])
    return (waveform + 0.003 * generator.standard_normal(len(waveform))).astype(np.float32)


@pytest.fixture(scope="session")
def tone_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 64 recordings of tones by four 'speakers', in three splits."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(1)
    lines = []
    for number in range(64):
        words = ["".join(generator.choice(list("abcd"), generator.integers(1, 4))) for _ in "xx"]
        text = " ".join(words)
        name = f"tones-{number:02d}"
        soundfile.write(folder / f"{name}.wav", tones(text, number), 16_000)
        split = "train" if number < 48 else "validation" if number < 56 else "test"
        line = {"audio": f"{name}.wav", "text": text, "speaker": f"s{number % 4}", "split": split}
        lines.append(json.dumps(line))
    manifest = folder / "tones.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


# One process loads torch and Lightning, which takes seconds, and each job runs in a fork of it, as
# `python -m` would.
FORKING = """
import json, os, runpy, sys, traceback
import lightning.pytorch, matplotlib.figure, pyarrow, torch, torchaudio
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.chdir(job["folder"])
        sys.path += job["path"]
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        program, *words = job["words"]
        sys.argv, status = [program, *words], 0
        try:
            if program == "asr":
                runpy.run_module("asr", run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, os.path.dirname(program))
                runpy.run_path(program, run_name="__main__")
        except SystemExit as leaving:
            status = leaving.code or 0
        except BaseException:
            traceback.print_exc()
            status = 99
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 98)
    print(child, flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    stdout: str
    stderr: str


class Forked:
    """A command under way."""

    def __init__(self, pid: int, ask: Callable[..., int], stdout: Path, stderr: Path) -> None:
        self.pid = pid
        self._ask = ask
        self._stdout = stdout
        self._stderr = stderr

    def running(self) -> bool:
        """Whether it has not ended yet."""
        stat = Path(f"/proc/{self.pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"

    def end(self) -> Ended:
        """Wait for it."""
        status = self._ask(wait=self.pid)
        said = [path.read_text(encoding="utf-8") for path in (self._stdout, self._stderr)]
        return Ended(status, *said)


class Forks:
    """Starts `asr` or a script in a fork of a process that has loaded torch and Lightning."""

    def __init__(self, outputs: Path) -> None:
        self._outputs = outputs
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKING],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, **job: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job, default=str) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, folder: Path, *words: str, path: Sequence[Path] = ()) -> Forked:
        """Start a command in a folder; Python also looks for modules in `path`."""
        self._count += 1
        stdout, stderr = (self._outputs / f"{self._count}.{name}" for name in ("out", "err"))
        pid = self._ask(words=words, folder=folder, path=path, stdout=stdout, stderr=stderr)
        return Forked(pid, self._ask, stdout, stderr)

    def run(self, folder: Path, *words: str, path: Sequence[Path] = ()) -> Ended:
        """Start a command and wait for it."""
        return self.start(folder, *words, path=path).end()

    def close(self) -> None:
        """Kill the process: unloading takes seconds, and nothing is left to say."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts commands without loading anew what takes seconds to load."""
    forks = Forks(tmp_path_factory.mktemp("outputs"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def asr(forks: Forks) -> Callable[..., Ended]:
    """A function that runs `asr` in a folder to its end, which must come to a status."""

    def run(folder: Path, *words: str, status: int = 0) -> Ended:
        done = forks.run(folder, "asr", *words)
        assert done.status == status, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def compiled_search(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The search is compiled, by one of the test processes for all: it takes a while."""
    import filelock

    from asr.decoding.beam import BeamDecoder
    from asr.units.characters import CharacterUnits

    beside = tmp_path_factory.getbasetemp().parent  # of all test processes
    with filelock.FileLock(beside / "compiled_search.lock"):
        BeamDecoder(CharacterUnits(("<blank>", "a")), 0.04).decode_one(np.zeros((1, 2), np.float32))
