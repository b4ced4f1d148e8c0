"""`asr --help` and every command's: complete, true, and quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asr.commands.main import app
from asr.commands.manual import COMMANDS

NAMES = [name for commands in COMMANDS.values() for name in commands]


def asr(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asr", *words], capture_output=True, text=True, timeout=120
    )


def test_the_page_names_every_command_and_every_exit_status() -> None:
    done = asr("--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(NAMES) == sorted(str(command.name) for command in app.registered_commands)
    lines = done.stdout.splitlines()
    for name in NAMES:
        assert any(line.startswith(f"  {name} ") for line in lines), name
    for status in ("0", "1", "2", "130", "143"):
        assert any(line.startswith(f"  {status} ") for line in lines), status
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_a_page_with_examples(name: str) -> None:
    done = asr(name, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: asr {name}" in done.stdout
    assert f"\n    asr {name}" in done.stdout


def test_without_a_command_the_page_goes_to_stderr_as_wrong_use() -> None:
    done = asr()

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == asr("--help").stdout


def test_the_version_is_the_package_s() -> None:
    import asr as package

    done = asr("--version")

    assert (done.returncode, done.stdout) == (0, f"asr {package.__version__}\n")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from asr.commands.main import main; status = main(['--help']);"
        "print([name for name in ('torch', 'hydra', 'omegaconf', 'ray', 'numpy', 'yaml', 'rich')"
        " if name in sys.modules], status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_the_package_itself_imports_nothing_heavy() -> None:
    program = (
        "import sys, asr; print(sorted(dir(asr)), asr.__version__, 'torch' in sys.modules,"
        " 'numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.endswith("False False\n")
    assert "'load'" in done.stdout
