"""Installed into a folder of its own, `asr` works without the checkout."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

# Runs the command and names each file of the checkout that is opened or listed meanwhile.
WATCH = """
import os, sys
checkout, environment = sys.argv[1] + os.sep, sys.argv[2] + os.sep
def watch(event, details):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(details[0], str):
        path = os.path.abspath(details[0])
        if path.startswith(checkout) and not path.startswith(environment):
            print("READS", path, file=sys.stderr)
sys.addaudithook(watch)
from asr.commands.main import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `pip install --target` filled."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    for name in ("asr", "conf", "recipes"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    offline = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", target, source],
        check=True,
        timeout=240,
    )
    return target


def asr(installed: Path, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed package alone: -S leaves out the checkout that `make setup` links."""
    packages = [str(installed), *site.getsitepackages()]
    return subprocess.run(
        [sys.executable, "-S", "-c", WATCH, str(REPOSITORY), sys.prefix, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(packages)},
    )


def test_the_installed_command_finds_its_own_settings(installed: Path, tmp_path: Path) -> None:
    done = asr(installed, "train", "recipe=an4", "--cfg", "job", folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    printed = yaml.safe_load(done.stdout)
    assert printed["recipe"]["name"] == "an4"
    assert printed["model"] == yaml.safe_load(
        (REPOSITORY / "conf" / "model" / "lstm.yaml").read_text(encoding="utf-8")
    )


def test_the_installed_command_runs_its_own_recipes(installed: Path, tmp_path: Path) -> None:
    done = asr(installed, "prepare", "recipe=an4", "recipe.root=nowhere", folder=tmp_path)

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("asr: ")
    assert "nowhere" in done.stderr
    assert "READS" not in done.stderr


def test_all_settings_and_recipes_are_in_the_wheel(installed: Path) -> None:
    for kind in ("conf", "recipes"):
        checkout = {
            path.relative_to(REPOSITORY / kind)
            for ending in ("*.yaml", "*.py")
            for path in (REPOSITORY / kind).rglob(ending)
        }
        there = {
            path.relative_to(installed / "asr" / kind)
            for path in (installed / "asr" / kind).rglob("*")
        }
        assert checkout
        assert checkout <= there


def test_pages_with_their_styles_and_scripts_are_in_the_wheel(installed: Path) -> None:
    package = REPOSITORY / "asr"
    parts = [path for ending in ("j2", "css", "js") for path in package.rglob(f"*.{ending}")]
    assert parts
    for path in parts:
        assert (installed / "asr" / path.relative_to(package)).is_file(), path


def test_the_wheel_carries_its_licence_and_its_command(installed: Path) -> None:
    (metadata,) = installed.glob("asr-*.dist-info")

    assert "Apache License" in (metadata / "licenses" / "LICENSE").read_text(encoding="utf-8")
    assert (metadata / "entry_points.txt").read_text().split() == [
        "[console_scripts]", "asr", "=", "asr.commands.main:main",
    ]  # fmt: skip
