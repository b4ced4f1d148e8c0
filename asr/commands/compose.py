"""From KEY=VALUE words to checked settings: Hydra puts `conf/` together, `asr.config` types it.

A file is looked for in `./conf` of the working folder first, then in the package's own `conf/`, so
that a user adds a model or a recipe by adding a file. Everything is checked before anything heavy
is imported, and a word that is not known is answered with the nearest one that is.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shlex
import types
import typing
from typing import Any

from asr import config as settings
from asr.decoding.settings import FILES
from asr.errors import UserError, nearest
from asr.recipes import package_folder, searched_folders

if typing.TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

SEVERAL = (
    "{!r} gives several values; a run has one. Lists stand in [ ]; with -m, train, evaluate and run"
    " take one after another."
)
PRIMARY = "config"  # conf/config.yaml names the groups and holds what belongs to none


def groups() -> dict[str, list[str]]:
    """Each group of settings and the names it can be given: `model` to `["lstm"]` and so on."""
    found: dict[str, set[str]] = {}
    for folder in searched_folders("conf"):
        for file in folder.glob("*/*.yaml"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def compose(arguments: list[str]) -> settings.Config:
    """The settings that KEY=VALUE words ask for.

    Raises:
        UserError: a word, key or name that is not known, or a value of another type or range.
    """
    available = groups()
    for argument in arguments:
        _check_word(argument, available)
    chosen = [word for word in arguments if _key(word) in available]
    values = [word for word in arguments if _key(word) not in available]
    _check_choices(chosen, available)

    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        offered = OmegaConf.to_container(_hydra(chosen))
        assert isinstance(offered, dict)
        leaves = _leaves(offered)
        in_order = dict.fromkeys(key for key in _types() if key in leaves)  # as asr.config has them
        known = {**in_order, **leaves, **dict.fromkeys(available)}
        overrides = [_quoted(word) for word in values]
        for word, override in zip(values, _parsed(overrides), strict=True):
            _check_override(word, override, known, chosen)
        tree = OmegaConf.to_container(_hydra(chosen + overrides), resolve=True)
    except YAMLError as error:
        raise UserError(f"A settings file is not YAML: {' '.join(str(error).split())}") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error).strip().splitlines()[0]) from error
    assert isinstance(tree, dict)
    for free in ("model", "decoder"):
        tree[free] = _arguments(free, offered[free], tree[free])
    for key in FILES.keys() & tree["decoder"].keys():
        if tree["decoder"][key] is not None:  # no shell reads a ~ behind the =
            tree["decoder"][key] = os.path.expanduser(tree["decoder"][key])
    recipe = tree["recipe"]
    if isinstance(recipe, dict) and isinstance(recipe.get("options"), dict):
        defaults = offered["recipe"]["options"]
        recipe["options"] = _arguments("recipe.options", defaults, recipe["options"])
    config = typed(tree)
    _check_values(config)
    return config


def typed(tree: Any) -> settings.Config:
    """All settings, from what `dataclasses.asdict` gives of them.

    Raises:
        UserError: one is missing, not known, or of another type.
    """
    config = _typed(settings.Config, tree, "")
    assert isinstance(config, settings.Config)
    return config


def to_yaml(config: settings.Config) -> str:
    """All settings as YAML, in the order of `asr.config`, with every reference filled in."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _key(word: str) -> str:
    return word.partition("=")[0]


def _check_word(word: str, available: dict[str, list[str]]) -> None:
    """Refuse what is not KEY=VALUE at all."""
    key, equals, _ = word.partition("=")
    if not equals:
        fits = [f"{group}={word}" for group, names in available.items() if word in names]
        offer = f" Did you mean {fits[0]!r}?" if fits else ""
        raise UserError(f"{word!r} is not a setting: settings are written KEY=VALUE.{offer}")
    if not key.replace(".", "").replace("_", "").isalnum():
        raise UserError(
            f"{word!r}: {key!r} is no setting's name. Settings are changed by KEY=VALUE;"
            " none is added or taken away."
        )


def _check_choices(chosen: list[str], available: dict[str, list[str]]) -> None:
    """Each group's name must be one of its files; a recipe must be named."""
    for word in chosen:
        group, _, name = word.partition("=")
        names = available[group]
        if "," in name:
            raise UserError(SEVERAL.format(word))
        if name not in names:
            raise UserError(f"No {group} is called {name!r}.{nearest(name, names)} {_known(names)}")
    if "recipe" not in map(_key, chosen):
        raise UserError(f"Which recipe? Say recipe=NAME. {_known(available['recipe'])}")


def _known(names: list[str]) -> str:
    return f"Known: {', '.join(names)}."


def _hydra(overrides: list[str]) -> Any:
    """Put the files together, with the overrides last."""
    import hydra

    _let_users_folder_come_first()
    own = str(package_folder("conf"))
    with hydra.initialize_config_dir(own, version_base="1.3", job_name="asr"):
        return hydra.compose(PRIMARY, overrides=overrides)


@functools.cache
def _let_users_folder_come_first() -> None:
    """Tell Hydra, once a process: its own setting for this only lets folders come last."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class UsersFolder(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            for folder in searched_folders("conf")[:-1]:
                search_path.prepend("user", f"file://{folder}")

    Plugins.instance().register(UsersFolder)


def _leaves(tree: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Every key that a value can be given to, sections included, in dotted form."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found[f"{prefix}{name}"] = value
        if isinstance(value, dict):
            found.update(_leaves(value, f"{prefix}{name}."))
    return found


def _types(kind: Any = settings.Config, prefix: str = "") -> dict[str, Any]:
    """Each setting's declared type, by its dotted name."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        found[prefix + name] = hint
        if dataclasses.is_dataclass(hint):
            found.update(_types(hint, f"{prefix}{name}."))
    return found


def _escaped(text: str) -> str:
    """Text as it stands between single quotes in Hydra's grammar."""
    body = text.rstrip("\\")
    tail = text[len(body) :]
    parts = body.split("'")
    inner = [part + "\\" * (len(part) - len(part.rstrip("\\"))) for part in parts[:-1]]
    return "\\'".join([*inner, parts[-1]]) + tail * 2


_FILES = {f"decoder.{key}" for key in FILES}  # whose types are their files' in conf/decoder/


def is_text(key: str) -> bool:
    """Whether a setting's value is a text, which is taken as it was typed."""
    return _types().get(key) in (str, str | None) or key in _FILES


def _quoted(word: str) -> str:
    """Keep a text's value as it was typed: a path may hold any sign, and a run be called `007`."""
    key, _, value = word.partition("=")
    if not is_text(key) or value == "null" or value[:1] in ("'", '"'):
        return word
    return f"{key}='{_escaped(value)}'"


def _parsed(words: list[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser = OverridesParser.create()
    parsed = []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except OverrideParseException as error:
            key, _, value = word.partition("=")
            quoted = f"{key}='{_escaped(value)}'"
            shown = shlex.quote(quoted) if re.search(r'[$`"\\!]', quoted) else f'"{quoted}"'
            raise UserError(
                f"{word!r} cannot be read: a text stands in quotes of its own, {shown}."
            ) from error
    return parsed


def _check_override(
    word: str, override: Override, known: dict[str, Any], chosen: list[str]
) -> None:
    """The key must be there, and get one value."""
    if override.is_sweep_override():
        raise UserError(SEVERAL.format(word))
    key, value = _key(word), override.value()
    names = [key]
    if isinstance(value, dict) and known.get(key, value) is not None:
        names += _leaves(value, f"{key}.")
    for name in names:
        if name not in known:
            _check_elsewhere(name, known, chosen)
            last = name.rpartition(".")[2]
            same = [one for one in known if one.rpartition(".")[2] == last]
            offer = f" Did you mean {same[0]!r}?" if same else nearest(name, known)
            raise UserError(f"No setting is called {name!r}.{offer} --cfg job prints all settings.")


def _check_elsewhere(key: str, known: dict[str, Any], chosen: list[str]) -> None:
    """Refuse what the decoder, or the model, does not have, and another one has."""
    group, _, name = key.partition(".")
    if group not in ("decoder", "model"):
        return
    others = [word for word in chosen if _key(word) != group]
    having = [
        f"{group}={choice}"
        for choice in groups()[group]
        if name in _hydra([*others, f"{group}={choice}"])[group]
    ]
    if having:
        raise UserError(
            f"{group}={known.get(f'{group}.name')} has no setting {name!r}: give"
            f" {' or '.join(having)} with it."
        )


def _typed(hint: Any, value: Any, key: str) -> Any:
    """A value as the type that `asr.config` declares for it."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _section(hint, value, key)
    if isinstance(hint, types.UnionType):  # X | None, or X | str | None where X may be a word too
        kinds = typing.get_args(hint)
        as_it_is = value is None or (isinstance(value, str) and str in kinds)
        return value if as_it_is else _typed(kinds[0], value, key)
    if typing.get_origin(hint) is list and isinstance(value, list):
        (item,) = typing.get_args(hint)
        return [_typed(item, one, f"{key}[{index}]") for index, one in enumerate(value)]
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        return value
    if hint is float and type(value) is int:
        return float(value)
    if hint is str and type(value) in (int, float):
        return str(value)
    if type(value) is hint:
        return value
    raise UserError(f"{key}={_shown(value)} must be {_NOUNS.get(hint, 'a list or a section')}.")


_NOUNS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}


def _section(kind: Any, value: Any, key: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict):
        raise UserError(f"{key}={_shown(value)} must be a section with {', '.join(hints)}.")
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            raise UserError(f"No setting is called {prefix + name!r}.{nearest(name, hints)}")
    for name in hints:
        if name not in value:
            raise UserError(f"{prefix + name!r} has no value: give {prefix}{name}=VALUE.")
    return kind(**{name: _typed(hints[name], value[name], prefix + name) for name in hints})


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _arguments(section: str, offered: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A component's arguments, each of the type that it has in the component's file in `conf/`."""
    checked = {}
    for name, value in given.items():
        hint = type(offered[name])
        free = offered[name] is None or hint in (list, dict)
        checked[name] = value if free else _typed(hint, value, f"{section}.{name}")
    return checked


def _check_values(config: settings.Config) -> None:
    """Words and limits that a type cannot say."""
    values = _leaves(dataclasses.asdict(config))
    for key in ("name", "recipe.name"):
        if not re.fullmatch(r"[\w+=,-][\w+=,.-]*", values[key]):
            raise UserError(f"{key}={values[key]} must be a plain folder's name: no /, no spaces.")
    for key, words in settings.WORDS.items():
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if isinstance(value, str) and value not in words:
                offer = nearest(value, words) or f" {_known(list(words))}"
                raise UserError(f"{key}={value} is not known.{offer}")
    for key, (least, most) in settings.LIMITS.items():
        wide = f"between {least} and {most}" if most < float("inf") else f"{least} or more"
        given = values[key] if isinstance(values[key], list) else [values[key]]
        if not given:
            raise UserError(f"{key}=[] must hold at least one value, {wide}.")
        for value in given:
            if isinstance(value, int | float) and not least <= value <= most:
                raise UserError(f"{key}={value} must be {wide}.")
