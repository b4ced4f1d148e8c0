"""Every command, Python block, link and default of the documents holds.

Commands run as they are written, in a working folder that has what they name: tiny corpora in the
publishers' layouts, recordings, manifests. What trains is made small by further settings.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.commands.compose import compose

pytestmark = pytest.mark.usefixtures("compiled_search")

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "recipes").glob("*/README.md")),
]
PROGRAMS = (
    *(".", "asr", "for", "git", "make", "pip", "python", "ray", "sbatch", "tensorboard"),
    "torchrun",
)

# Settings that make any training a matter of seconds.
SMALL = [
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.threads=1",
    "model.hidden=16", "model.layers=1", "inner_ctc.layer=1",
]  # fmt: skip

TEACHING = ("tools/clipping.py", "tools/gradient_flow.py", "tools/long_memory.py")


@dataclass(frozen=True)
class Block:
    """A fenced block; `language` and `path` stand behind the fence."""

    page: Path
    line: int
    language: str
    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command as it is written on a page, and the words that are run."""

    page: str
    line: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*) *(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, path, content = match.groups()
        yield Block(page, text[: match.start()].count("\n") + 1, language, path, content)


def command_lines(block: Block) -> Iterator[str]:
    """The lines of a block of commands, continued ones joined, a loop as its first round."""
    text = block.text.replace("\\\n", " ")
    for loop in re.finditer(r"^for (\w+) in (.*?); do\n(.*?)^done$", text, re.M | re.S):
        name, values, body = loop.groups()
        text = text.replace(loop[0], body.replace(f"${name}", values.split()[0]))
    yield from filter(str.strip, text.splitlines())


def inline_commands(page: Path) -> Iterator[str]:
    """Whole commands in the text, and all in the last column of a table that is called so."""
    inside = False
    for line in without_blocks(page).splitlines():
        inside = line.startswith("|") and (inside or line.rstrip(" |").endswith("| command"))
        if inside:
            yield from re.findall(r"`(.+?)`", line.rstrip("| ").rpartition(" | ")[2])
        else:
            yield from re.findall(r"`(asr \w+ recipe=[a-z_]+ [^`]+)`", line)


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def documented() -> list[Command]:
    """All commands, those that come to the same once, and first what others need."""
    found: dict[frozenset[str], Command] = {}
    for page in PAGES:
        lines = [
            line
            for block in blocks(page)
            if block.language == "sh"
            or (not block.language and block.text.partition(" ")[0] in PROGRAMS)
            for line in command_lines(block)
        ]
        for line in [*lines, *inline_commands(page)]:
            written = shlex.split(line, comments=True)
            words = as_run(written)
            name = str(page.relative_to(REPOSITORY))
            found.setdefault(come_to(words), Command(name, shlex.join(written), tuple(words)))
    return sorted(found.values(), key=stage)


def come_to(words: list[str]) -> frozenset[str]:
    """What words come to: of two values of a setting the last one counts."""
    values = {word.partition("=")[0]: word for word in words}
    return frozenset({" ".join(words)} if words[0] != "asr" else values.values())


def as_run(words: list[str]) -> list[str]:
    """The words as they are run: all that is written, and settings that make training small."""
    words = [word.removeprefix(".venv/bin/") for word in words if not re.match(r"[A-Z_]+=", word)]
    words = [word.replace("/data/speech", "speech") for word in words]
    if words == ["asr", "doctor"]:  # tries every library and precision: test_doctor.py
        return [*words, "--help"]
    if words[0] == "python" and words[1] in TEACHING:
        return [*words, "--quick"]
    if words[:2] == ["asr", "transcribe"] and "--ray" in words:  # needs a cluster: test_actors.py
        cut = words.index("--ray")
        return [*words[:cut], *words[cut + 2 :]]
    if words[:1] != ["asr"] or words[1] not in ("prepare", "train", "evaluate", "run", "tune"):
        return words
    if "-m" in words:  # of many values two
        words = [re.sub(r"^([\w.]+=\w+,\w+),[\w,]+$", r"\1", word) for word in words]
    if words[1] == "tune":
        words += ["tune.trials=1", "tune.max_epochs=1"]
    if words[1] in ("train", "run", "tune"):
        words += [*SMALL, *([] if "model=forward_gru" in words else ["model.channels=4"])]
        words += ["units.size=7"] if "units.kind=sentencepiece" in words else []
    if "cluster=ray" in words:  # starting Ray takes long: test_executor.py, test_ray_training.py
        words += ["cluster.name=local", "cluster.workers=1"]
    if words[1] in ("prepare", "run"):
        if "recipe=synth" in words:
            words.append("recipe.options.sentences=30")
        if "recipe=an4" in words and not any(word.startswith("recipe.root=") for word in words):
            words.append("recipe.root=PATH/an4")
    return words


def stage(command: Command) -> int:
    """Preparing, then the runs named base and others, the run all, and what needs a model."""
    words = command.words
    if words[0] in ("pip", "make"):
        return 0
    if words[0] != "asr" or words[1] in ("transcribe", "align", "describe", "gates"):
        return 5
    order = {"doctor": 0, "prepare": 1, "run": 2, "train": 3, "tune": 3, "lm": 3, "evaluate": 4}
    return 3 if "data=all" in words else order.get(words[1], 0)


Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with what the documents name, and the files they give."""
    folder = tmp_path_factory.mktemp("documents")
    write_an4(folder / "PATH/an4")
    for digit, word in enumerate(("zero", "one", "two")):
        for speaker in ("george", "jackson", "lucas"):
            for take in (0, 5, 8):
                for root in ("fsdd", "PATH/fsdd"):
                    write_noise(folder / f"{root}/recordings/{digit}_{speaker}_{take}.wav", word)
    for speaker in ("19", "118", "669"):
        chapter = folder / f"PATH/LibriSpeech/train-clean-5/{speaker}/7"
        write_noise(chapter / f"{speaker}-7-0000.flac", "some words")
        (chapter / f"{speaker}-7.trans.txt").write_text(f"{speaker}-7-0000 SOME WORDS\n")
    for speaker in ("anna", "ben", "cleo", "dora"):
        write_noise(folder / f"PATH/colours/{speaker}/red-1.wav", "red")
        write_noise(folder / f"PATH/colours/{speaker}/blue-1.wav", "blue")
    for manifest in ("train.jsonl", "b.jsonl", "lists/train.jsonl"):
        write_manifest(folder / manifest, audio=folder / "speech")
    (folder / "words.txt").write_text("GO\nSIX\n")
    (folder / "names.txt").write_text("six\nsix six\t3.0\n")
    (folder / "test.txt").write_text("the dog sat on the mat\n")
    (folder / "books.txt").write_text("the cat sat on the mat\nthe dog sat on the cat\n")
    for name in (
        "meeting.wav",
        "a.wav",
        "calls/monday.wav",
        "more/b.flac",
        "noises/a.wav",
        "rooms/b.wav",
    ):
        write_noise(folder / name, "words of a meeting")
    (folder / "meeting.txt").write_text("go six\n* go\n")
    for page in PAGES:
        for block in blocks(page):
            if block.path:
                (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.path).write_text(block.text, encoding="utf-8")
    return folder


def write_noise(path: Path, text: str) -> None:
    """Noise that is long enough for a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(text)).normal(0, 0.1, 8_000 + 2_400 * len(text))
    soundfile.write(path, samples, 16_000)


def write_an4(root: Path) -> None:
    """Two speakers to train on, the held-out one, and one of the test."""
    (root / "etc").mkdir(parents=True)
    speakers = {"train": ("fash", "fbbh", "fjam"), "test": ("fcaw",)}
    for part, names in speakers.items():
        clips = "an4_clstk" if part == "train" else "an4test_clstk"
        fileids = [
            f"{clips}/{name}/{clip}-{name}-b" for name in names for clip in ("an1", "an406", "cen3")
        ]
        for fileid in fileids:
            write_noise(root / f"wav/{fileid}.wav", "go six")
        lines = [f"<s> GO SIX </s> ({Path(fileid).name})" for fileid in fileids]
        (root / f"etc/an4_{part}.transcription").write_text("\n".join(lines) + "\n")
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(fileids) + "\n")
    (root / "etc/an4.dic").write_text("GO\tG OW\nSIX\tS IH K S\n")


def write_manifest(path: Path, audio: Path) -> None:
    """Six speakers; the audio lies beside the manifest, or in `audio` for one in a folder."""
    beside = path.parent if path.parent.name != "lists" else audio
    lines = []
    for number in range(6):
        name = f"wav/{number}.wav"
        write_noise(beside / name, "good morning")
        lines.append({"audio": name, "text": "good morning", "speaker": f"speaker {number}"})
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def run(folder: Path, forks: Any) -> Run:
    """A function that runs `asr` or a script in the working folder: exit status and output."""
    site = folder / "site"
    site.mkdir()

    def job(*words: str) -> tuple[int, str]:
        ended = forks.run(folder, *words, path=(site, REPOSITORY))
        return ended.status, ended.stdout + ended.stderr

    return job


@pytest.mark.parametrize("command", documented(), ids=str)
def test_a_documented_command_works(command: Command, folder: Path, run: Run) -> None:
    match command.words:
        case ("asr", ("transcribe" | "align" | "evaluate") as verb, *words) if any(
            "torchaudio:" in word for word in words
        ):  # downloads weights: test_pipelines.py
            words = ["--cfg", "job", *words] if verb == "evaluate" else ["--help"]
            status, output = run("asr", verb, *words)
            assert status == 0, output
        case ("asr", *_):
            status, output = run(*command.words)
            assert status == 0, output
        case ("make", target):
            known = subprocess.run(
                ["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False
            )
            assert known.returncode == 0, known.stderr
        case ("python", "-m", "pytest", path):
            assert (REPOSITORY / path).is_file()
        case ("python", "tools/bench_transcribe.py" as script, *words) if not {
            "--archive",
            "--made-up",
        } & {*words}:
            status, output = run(str(REPOSITORY / script), *words)
            assert status == 0, output
        case ("python", script, *words) if script in TEACHING:
            status, output = run(str(REPOSITORY / script), *words)
            assert status == 0, output
        case ("python", script, *words):  # other benchmarks take minutes
            status, output = run(str(REPOSITORY / script), "--help")
            assert status == 0, output
            assert all(word in output for word in words if word.startswith("--"))
        case ("pip", "install", extra) if extra.startswith(".["):
            project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
            assert re.search(rf"^{extra[2:-1]} = \[", project, re.MULTILINE)
        case ("pip", "install", path):
            alone = ["--no-build-isolation", "--no-deps", "--no-index", "-q", "--target", "site"]
            subprocess.run(
                [sys.executable, "-m", "pip", "install", *alone, path], cwd=folder, check=True
            )
        case ("torchrun", *words) if "-m" in words:  # needs several machines: test_ranks.py
            cut = words.index("-m")
            known = subprocess.run(
                [Path(sys.executable).with_name("torchrun"), "--help"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert all(word in known.stdout for word in words[:cut] if word.startswith("--"))
            status, output = run(*words[cut + 1 :], "--cfg", "job")
            assert status == 0, output
        case ("ray", *words):  # needs several machines: test_ray_training.py
            cut = words.index("--") if "--" in words else len(words)
            verbs = itertools.takewhile(lambda word: not word.startswith("-"), words)
            known = subprocess.run(
                [Path(sys.executable).with_name("ray"), *verbs, "--help"],
                capture_output=True,
                text=True,
                check=True,
            )
            options = [word.partition("=")[0] for word in words[:cut] if word.startswith("--")]
            assert all(option in known.stdout for option in options)
            if words[cut:]:
                inner = as_run(list(words[cut + 1 :]))
                tried = "--dry-run" if inner[1] == "transcribe" else "--cfg=job"
                status, output = run(*inner, tried)
                assert status == 0, output
        case ("sbatch", script):
            *_, line = (folder / script).read_text().splitlines()
            words = shlex.split(line)
            status, output = run(*words[words.index("asr") :], "--cfg", "job")
            assert status == 0, output
        case ("tensorboard", "--logdir", logs):
            assert find_spec("tensorboard")
            assert list((folder / logs).rglob("events.out.tfevents.*"))
        case (".", path):
            assert path == "activate"
        case ("git", "clone", address, _):  # needs the network
            assert address.startswith("https://")
        case _:
            pytest.fail(f"no test runs {command}")


def python_pages() -> list[Path]:
    return [page for page in PAGES if any(is_python(block) for block in blocks(page))]


def is_python(block: Block) -> bool:
    return block.language == "python" and not block.path


@pytest.mark.parametrize("page", python_pages(), ids=lambda page: page.name)
def test_documented_python_runs(page: Path, folder: Path, run: Run) -> None:
    given = "import numpy as np\narray = np.zeros(16_000, np.float32)\n"
    script = folder / f"{page.stem}.py"
    script.write_text(given + "\n".join(block.text for block in blocks(page) if is_python(block)))
    status, output = run(str(script))
    assert status == 0, output


def links(page: Path) -> list[tuple[str, str]]:
    """Text and target of the links that lead to files of the project."""
    found = re.findall(r"\[([^\]]+)\]\(([^)#\s]+)[^)]*\)", without_blocks(page))
    return [(name, target) for name, target in found if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_what_they_name(page: Path) -> None:
    for name, target in links(page):
        file = page.parent / target
        assert file.exists(), target
        if file.suffix == ".py" and name.startswith("`"):
            pattern = rf"^(class|def) {re.escape(name.strip('`'))}\b"
            assert re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_figure_is_still_to_be_filled_in(page: Path) -> None:
    assert not re.findall(r"^[A-Z]{3,}$", without_blocks(page), re.MULTILINE)


def test_documented_defaults_are_those_of_the_settings() -> None:
    pages = [REPOSITORY / "docs" / name for name in ("training.md", "distributed.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \| .+ \|$", text, re.MULTILINE)
    assert len(rows) > 15
    settings = compose(["recipe=custom"])
    for key, default in rows:
        value: object = settings
        for name in key.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        shown = "null" if value is None else str(value)
        assert shown == default.replace("${recipe.name}", "custom"), key
