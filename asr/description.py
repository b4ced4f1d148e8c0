"""What a model is called, and bundle.yaml, the readable half of a bundle: checked, plain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from asr import registry
from asr.errors import DamagedError, UserError, nearest
from asr.files import InputError, digest_bytes, resolve_inside

PIPELINE = "torchaudio:"  # before the name of one of torchaudio's recognisers
SCHEMA = 1
DESCRIPTION = "bundle.yaml"
# The keys of bundle.yaml, all of them needed, and what each holds.
SHAPE: dict[str, type] = {
    "schema": int,
    "model": dict,
    "features": dict,
    "units": dict,
    "normaliser": str,
    "decoder": dict,
    "weights": str,
    "trained": dict,
    "scores": list,
}


def check_model(model: str) -> None:
    """Find that there is such a model, a bundle's folder or `torchaudio:NAME`, in no time.

    Raises:
        UserError: there is none, or bundle.yaml is damaged.
    """
    name = pipeline_name(model)
    if name is None:
        read_description(Path(model))
    elif name not in registry.names("pipelines"):
        registry.find("pipelines", name)  # which offers the nearest


def pipeline_name(model: str | Path) -> str | None:
    """What stands behind `torchaudio:`; None where the model is a folder."""
    text = str(model)
    return text.removeprefix(PIPELINE) if text.startswith(PIPELINE) else None


def read_description(folder: Path) -> dict[str, Any]:
    """What bundle.yaml in a folder says, its outer shape checked.

    Raises:
        UserError: there is none, it is of a newer schema, or damaged; says where.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if pipeline_name(folder) is not None:
            raise UserError(
                f"{folder} is of torchaudio's, and this needs one of asr's own: give its folder."
            )
        inner = next((f for f in (folder / "model", folder.parent / "model") if _holds(f)), None)
        hint = f" Did you mean {inner}?" if inner else ""
        if folder.is_file():
            raise UserError(f"{folder} is a file: the model's folder comes first, then recordings.")
        if not folder.exists():
            raise UserError(f"There is no model {folder}: the folder does not exist.{hint}")
        raise UserError(f"{folder} is no model: it holds no {DESCRIPTION}.{hint}")
    try:
        content = yaml.safe_load(file_inside(folder, DESCRIPTION).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not plain YAML: {problem}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise UserError(f"{path} describes no model: it has no schema number.")
    if content["schema"] > SCHEMA:
        raise UserError(
            f"{path} has schema {content['schema']}, this asr knows {SCHEMA}: upgrade asr."
        )
    for key in SHAPE:
        if key not in content:
            raise UserError(f"{path}: {key!r} is missing: the bundle is damaged.")
        if not isinstance(content[key], SHAPE[key]):
            expected = SHAPE[key].__name__
            raise UserError(f"{path}: {key!r} is no {expected}: the bundle is damaged.")
    for key in content:
        if key not in SHAPE:
            raise UserError(f"{path}: no key is called {key!r}.{nearest(str(key), SHAPE)}")
    if not all(isinstance(score, dict) for score in content["scores"]):
        raise UserError(f"{path}: 'scores' holds something that is no dict: the bundle is damaged.")
    return content


def digest_of(content: Mapping[str, Any]) -> str:
    """The same for two bundles that give the same text, whatever they were trained on or reached.

    Args:
        content: of bundle.yaml, or the part of it on which the text depends.
    """
    kept = {key: value for key, value in content.items() if key not in ("trained", "scores")}
    return digest_bytes(json.dumps(kept, sort_keys=True).encode())


def _holds(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file()


def file_inside(folder: Path, name: str) -> Path:
    """A file of the bundle, which no link may fetch from outside it.

    Raises:
        DamagedError: it is missing, or a link leads elsewhere.
    """
    try:
        return resolve_inside(folder, name)
    except InputError as error:
        raise DamagedError(f"{error}: the model is not whole. Copy its folder again.") from None


def read_checked(folder: Path, name: str, digest: str) -> bytes:
    """A file of the bundle, which is the one it was saved with.

    Raises:
        DamagedError: it is missing, a link leads elsewhere, or it is another file.
    """
    data = file_inside(folder, name).read_bytes()
    if digest_bytes(data) != digest:
        raise DamagedError(
            f"{folder / name} is not the file that {DESCRIPTION} was written with: it is cut off or"
            " changed. Copy the whole folder again."
        )
    return data


def written(content: Mapping[str, Any]) -> str:
    """The text of bundle.yaml: keys in the order given, lists of numbers on few lines."""
    return yaml.safe_dump(
        dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
