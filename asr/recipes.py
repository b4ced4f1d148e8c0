"""Recipes by name: `recipes/<name>/prepare.py` of the working folder, then the package's."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asr
from asr.errors import UserError, nearest
from asr.files import explain_write_errors
from asr.utterance import Listing

_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Recipe:
    """What a recipe's `prepare.py` offers. `fetch` is None where the corpus has to be at hand.

    `read(root, **options)` gives the listing; `fetch(folder, **options)`, which need not take every
    option, gives the root.
    """

    name: str
    read: Callable[..., Listing]
    fetch: Callable[..., Path] | None


def package_folder(kind: str) -> Path:
    """The package's own `conf` or `recipes`: inside it when installed, beside it in a checkout."""
    package = Path(asr.__file__).resolve().parent
    return package / kind if (package / kind).is_dir() else package.parent / kind


def searched_folders(kind: str) -> list[Path]:
    """Where `conf` or `recipes` are looked for: in the working folder, then in the package."""
    own, users = package_folder(kind), Path.cwd() / kind
    return [users, own] if users.is_dir() and users.resolve() != own.resolve() else [own]


def recipe_names() -> list[str]:
    """The names of all recipes that are found."""
    return sorted(
        {
            file.parent.name
            for folder in searched_folders("recipes")
            for file in folder.glob("*/prepare.py")
        }
    )


def load_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none, or its file cannot be loaded.
    """
    files = [folder / name / "prepare.py" for folder in searched_folders("recipes")]
    file = next((file for file in files if file.is_file()), None)
    if file is None or not _NAME.fullmatch(name):
        known = recipe_names()
        raise UserError(
            f"No recipe is called {name!r}.{nearest(name, known)} Known: {', '.join(known)}."
        )
    module = _load(f"asr_recipe_{name}", file)
    if not hasattr(module, "read"):
        raise UserError(f"The recipe {file} has no function `read(root)`.")
    return Recipe(name, module.read, getattr(module, "fetch", None))


def read_listing(recipe: Recipe, root: str | None, options: Mapping[str, Any]) -> Listing:
    """What the recipe finds at `root`; without one it fetches it into `downloads/<name>`.

    Raises:
        UserError: the root or an option is not the recipe's, or a file cannot be read.
    """
    known = list(inspect.signature(recipe.read).parameters)[1:]
    for option in options:
        if option not in known:
            offered = f"It has: {', '.join(known)}." if known else "It has none."
            raise UserError(
                f"The recipe {recipe.name} has no option {option!r}."
                f"{nearest(option, known)} {offered}"
            )
    if root is None:
        if recipe.fetch is None:
            raise UserError(
                f"Where does the corpus lie? The recipe {recipe.name} needs recipe.root=PATH."
            )
        folder = Path("downloads") / recipe.name
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        wanted = inspect.signature(recipe.fetch).parameters
        root = str(recipe.fetch(folder, **{k: v for k, v in options.items() if k in wanted}))
    try:
        return recipe.read(Path(root).expanduser(), **options)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The recipe {recipe.name} cannot read {root}: {error}. Check recipe.root."
        ) from error


def _load(module_name: str, file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A recipe may lie in several files of its folder, and dataclasses look their module up.
    sys.modules[module_name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise UserError(f"The recipe {file} cannot be loaded: {error}.") from error
    finally:
        sys.path.remove(str(file.parent))
    return module
