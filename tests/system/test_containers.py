"""The images and the cluster of docker/, as far as they can be held against the rest unbuilt."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"
DOCUMENT = (REPOSITORY / "docs/docker.md").read_text(encoding="utf-8")


def requirements(name: str) -> dict[str, str]:
    """Names of packages in a file of requirements, and their versions where it has them."""
    found = re.findall(
        r"^([a-z0-9][\w.-]*)(?:==([\w.+]+))?", (REPOSITORY / name).read_text(), re.MULTILINE
    )
    return dict(found)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"])


def test_the_cpu_image_leaves_out_cuda_and_nothing_else() -> None:
    locked = requirements("requirements.lock")
    cuda = {name for name in locked if re.match(r"nvidia-|cuda-|triton$|torch$|torchaudio$", name)}
    assert set(requirements("docker/left-out-cpu.txt")) == cuda
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert f" torchaudio=={locked['torchaudio']}+cpu " in dockerfile
    assert requirements("docker/torch-cpu.txt") == {"torch": f"{locked['torch']}+cpu"}


def test_what_images_leave_out_is_only_for_those_who_work_on_asr() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.findall(r'^    "([\w-]+)', project.partition("dev = [")[0], re.MULTILINE)
    left_out = requirements("docker/left-out.txt")
    assert left_out.keys() <= requirements("requirements.lock").keys()
    assert "torch" in needed
    assert not left_out.keys() & set(needed)


def test_every_service_builds_a_stage_that_there_is(services: dict[str, Any]) -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    cuda = yaml.safe_load((DOCKER / "compose.cuda.yaml").read_text())["services"]
    assert cuda.keys() == services.keys() == {"head", "worker"}
    for service in (*services.values(), *cuda.values()):
        assert service["build"]["target"] in stages
        assert service["image"] == f"asr:{service['build']['target']}"
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["1000:1000", "1000:1000"]
    assert services["worker"]["deploy"]["replicas"] == 2


def test_what_the_image_is_built_from_is_there_and_not_ignored() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    asked = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8")
    sources = re.findall(r"^COPY ((?!--from|\. ).*) \S+$", dockerfile, re.MULTILINE)
    for path in " ".join(sources).split():
        assert (REPOSITORY / path).is_file(), path
        assert f"!{path.partition('/')[0]}\n" in asked, path
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("asr", "conf", "recipes", "LICENSE", "README.md", "pyproject.toml"):
        assert f"!{name}\n" in asked
        assert name in project or name == "pyproject.toml"


def test_all_nodes_see_the_same_folders(services: dict[str, Any]) -> None:
    assert services["head"]["volumes"] == services["worker"]["volumes"]
    assert [volume.split("}:")[1] for volume in services["head"]["volumes"]] == [
        "/models:ro",
        "/audio:ro",
        "/out",
    ]


def test_ray_knows_the_options_that_nodes_start_with(services: dict[str, Any]) -> None:
    ray = Path(sys.executable).with_name("ray")
    for verb in ("start", "status"):
        shown = subprocess.run([ray, verb, "--help"], capture_output=True, text=True, check=True)
        commands = [service["command"] for service in services.values()]
        commands += [service["healthcheck"]["test"][1:] for service in services.values()]
        for program, called, *options in commands:
            assert program == "ray"
            for option in options if called == verb else []:
                assert option.partition("=")[0] in shown.stdout, option


def test_the_document_names_every_variable_and_service(services: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    for name in set(re.findall(r"\$\{(\w+):-", text)):
        assert f"`{name}`" in DOCUMENT, name
    assert f"exec {next(iter(services))}" in DOCUMENT
    assert requirements("docker/torch-cpu.txt")["torch"] in DOCUMENT
