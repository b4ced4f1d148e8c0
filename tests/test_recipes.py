from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.recipes import Recipe, load_recipe, read_listing, recipe_names
from asr.utterance import Listing

OWN = """
from asr.utterance import Listing
def read(root, split="train"):
    return Listing([], notes=[f"{root} {split}"])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a recipe of its own."""
    (tmp_path / "recipes" / "own").mkdir(parents=True)
    (tmp_path / "recipes" / "own" / "prepare.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_recipes_of_the_package_are_found_from_anywhere(project: Path) -> None:
    assert {"an4", "custom", "fsdd", "mini_librispeech", "own", "synth"} <= set(recipe_names())
    assert load_recipe("an4").fetch is not None
    assert load_recipe("custom").fetch is None


def test_a_recipe_of_the_working_folder_comes_first(project: Path) -> None:
    (project / "recipes" / "an4").mkdir()
    (project / "recipes" / "an4" / "prepare.py").write_text(OWN)
    assert read_listing(load_recipe("an4"), "/data", {}).notes == ["/data train"]


def test_options_reach_the_recipe(project: Path) -> None:
    listing = read_listing(load_recipe("own"), "/data", {"split": "test"})
    assert listing.notes == ["/data test"]


def test_a_mistyped_option_is_answered_with_the_nearest(project: Path) -> None:
    with pytest.raises(UserError, match=r"'splt'.* mean 'split'"):
        read_listing(load_recipe("own"), "/data", {"splt": "test"})


@pytest.mark.parametrize("name", ["an", "AN4", "../own", "own/../own", ""])
def test_a_name_that_is_no_recipe_is_answered_with_the_nearest(project: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"Known: .*an4"):
        load_recipe(name)
    with pytest.raises(UserError, match="mean 'mini_librispeech'"):
        load_recipe("minilibrispeech")


@pytest.mark.parametrize("content", ["import nothing_of_that_name", "def read(:", "x = 1"])
def test_a_recipe_that_cannot_be_loaded_names_its_file(project: Path, content: str) -> None:
    (project / "recipes" / "own" / "prepare.py").write_text(content)
    with pytest.raises(UserError, match=r"own/prepare\.py"):
        load_recipe("own")


def test_without_a_root_the_recipe_fetches_or_asks(project: Path) -> None:
    def read(root: Path) -> Listing:
        return Listing([], notes=[str(root)])

    fetched = Recipe("toy", read, lambda folder: folder / "unpacked")
    assert read_listing(fetched, None, {}).notes == ["downloads/toy/unpacked"]
    with pytest.raises(UserError, match=r"recipe\.root=PATH"):
        read_listing(Recipe("toy", read, None), None, {})
