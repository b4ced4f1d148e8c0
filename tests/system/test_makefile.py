"""What `make` says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def make(folder: Path, *words: str) -> str:
    command = ["make", "-f", str(MAKEFILE), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_first_installation_says_that_it_takes_minutes(tmp_path: Path) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "uv"):  # which succeed at anything, importing what lies here as well
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copyfile(MAKEFILE.parent / name, tmp_path / name)
    assert "some minutes the first time" in make(tmp_path)
    (programs / "asr").touch(mode=0o755)
    (tmp_path / ".venv" / ".ready").unlink()
    assert "some minutes" not in make(tmp_path)


def test_help_names_every_target(tmp_path: Path) -> None:
    targets = re.findall(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), re.MULTILINE)[0].split()
    told = make(tmp_path, "help")
    assert [name for name in targets if f"make {name}" not in told] == ["setup", "help"]
