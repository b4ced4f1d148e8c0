"""What runs on a node, with what a node may lack. test_actors.py asks real ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from asr.cluster import nodes
from asr.cluster.nodes import Sight, look, source_digest
from asr.files import digest_file


@pytest.fixture
def sight(tmp_path: Path) -> Sight:
    """All of it is there."""
    (tmp_path / "audio").mkdir()
    paths = [tmp_path / "audio" / f"{number}.wav" for number in range(100)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(number))
    model = tmp_path / "model"
    model.mkdir()
    (model / "bundle.yaml").write_text("schema: 1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".asr-token-12ab").write_text("12ab")
    return Sight(
        source=source_digest(),
        inputs=nodes._sizes([str(path) for path in paths]),
        model=(str(model), nodes._digest_of(str(model)) or ""),
        out=str(tmp_path / "out"),
        token="12ab",
    )


def test_a_node_that_sees_everything_lacks_nothing_and_says_so_in_the_output_folder(
    sight: Sight,
) -> None:
    assert look(sight, "n1") == ""
    assert (Path(sight.out) / ".asr-token-12ab-n1").read_text() == "12ab"


def test_some_of_the_inputs_are_looked_for_from_the_first_to_the_last(sight: Sight) -> None:
    assert [size for _, size in sight.inputs] == list(range(0, 100, 5))


def test_a_missing_recording_is_named(sight: Sight) -> None:
    path, _ = sight.inputs[3]
    os.unlink(path)
    assert look(sight, "n1") == f"it does not see the recording {path}"


def test_a_recording_that_is_another_one_is_named(sight: Sight) -> None:
    path, _ = sight.inputs[3]
    Path(path).write_bytes(b"another")
    assert look(sight, "n1") == f"it sees 7 bytes, not 15, in the recording {path}"


def test_a_missing_model_and_another_one_are_told_apart(sight: Sight) -> None:
    assert sight.model is not None
    folder = sight.model[0]
    (Path(folder) / "bundle.yaml").write_text("schema: 2\n")
    assert look(sight, "n1") == f"it has another model under {folder}"
    (Path(folder) / "bundle.yaml").unlink()
    assert look(sight, "n1") == f"it does not see the model {folder}"
    assert look(replace(sight, model=None), "n1") == ""  # where none is used


def test_a_decoders_file_that_is_missing_or_another_one_is_named(
    sight: Sight, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("nine")
    sight = replace(sight, files=((str(words), digest_file(words)),))
    assert look(sight, "n1") == ""
    words.write_text("five")
    assert look(sight, "n1") == f"it has another file under {words}"
    words.unlink()
    assert look(sight, "n1") == f"it does not see {words}"


def test_an_output_folder_that_is_not_the_same_one_is_named(sight: Sight, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = str(tmp_path / "other")
    assert look(replace(sight, out=elsewhere), "n1") == (
        f"it does not see what is written here into {elsewhere}"
    )


def test_an_output_folder_that_cannot_be_written_is_named(
    sight: Sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_text(path: Path, text: str) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", write_text)  # as root one may write anywhere
    assert look(sight, "n1") == f"it cannot write into {sight.out}: Permission denied"


def test_the_same_version_with_other_source_files_is_another_one(
    sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asr").mkdir()
    (tmp_path / "asr" / "__init__.py").write_text("__version__ = '0.1.0'\n")
    monkeypatch.setattr(nodes.asr, "__file__", str(tmp_path / "asr" / "__init__.py"))
    assert look(sight, "n1") == f"its asr {nodes.asr.__version__} is of other source files"
