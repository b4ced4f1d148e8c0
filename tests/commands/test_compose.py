"""Settings put together: what is asked for is what comes out, and mistakes name the right word."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

from asr import config as settings
from asr.commands.compose import compose, groups, to_yaml
from asr.errors import UserError
from asr.recipes import package_folder

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with a recipe called plain, which changes no setting."""
    file = tmp_path / "conf" / "recipe" / "plain.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\nrecipe: {name: plain, root: null, normaliser: none, options: {}}\n"
    )
    monkeypatch.chdir(tmp_path)


def read(name: str) -> dict[str, typing.Any]:
    """One file of the package's settings, by another way than the one under test."""
    content = yaml.safe_load((REPOSITORY / "conf" / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def dotted(tree: dict[str, typing.Any], prefix: str = "") -> dict[str, typing.Any]:
    leaves: dict[str, typing.Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= dotted(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def test_without_overrides_the_values_are_those_of_the_files() -> None:
    config = compose(["recipe=plain"])

    assert config.model == read("model/lstm.yaml")
    assert config.trainer.max_epochs == read("trainer/standard.yaml")["max_epochs"]
    assert config.augment.speed.factors == read("augment/standard.yaml")["speed"]["factors"]
    assert config.prepare.folder == "corpora/plain"
    assert (config.name, config.seed, config.split) == ("base", 1, "test")


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("model.hidden=128", "model.hidden", 128),
        ("model.dropout=0", "model.dropout", 0.0),
        ("trainer.threads=3", "trainer.threads", 3),
        ("trainer.threads=null", "trainer.threads", None),
        ("optim.learning_rate=3e-4", "optim.learning_rate", 0.0003),
        ("data.short_first=false", "data.short_first", False),
        ("data.device_batch_s=20", "data.device_batch_s", 20.0),
        ("data.device_batch_s=auto", "data.device_batch_s", "auto"),
        ("data.device_batch_s=null", "data.device_batch_s", None),
        ("augment.speed.factors=[1.0,1.1]", "augment.speed.factors", [1.0, 1.1]),
        ("prepare.folder=elsewhere/${recipe.name}", "prepare.folder", "elsewhere/plain"),
        ("augment=none", "augment.spec.time_masks", 0),
        ("name=007", "name", "007"),
        ("name=1e3", "name", "1e3"),
    ],
)
def test_an_override_changes_its_value_and_no_other_group(
    word: str, key: str, value: object
) -> None:
    before = dotted(dataclasses.asdict(compose(["recipe=plain"])))

    after = dotted(dataclasses.asdict(compose(["recipe=plain", word])))

    assert after[key] == value
    assert type(after[key]) is type(value)
    section = word.partition("=")[0].partition(".")[0]
    assert {name for name in after if after[name] != before[name]} <= {
        name for name in after if name.partition(".")[0] == section
    }


def test_training_on_everything_is_a_run_of_its_own_name() -> None:
    everything = compose(["recipe=plain", "data=all"])

    assert (everything.name, everything.data.train_splits) == ("all", ["train", "validation"])
    assert everything.data.batch_s == compose(["recipe=plain"]).data.batch_s
    assert compose(["recipe=plain", "data=all", "name=mine"]).name == "mine"


@pytest.mark.parametrize(
    "path",
    [
        "/a b/c",
        "/a, (b)/{c}",
        "../it's",
        'say "x"',
        "a=b",
        "C:\\corpus\\",
        "back\\'slash",
        "~/x",
        "ünï",
        "100%",
        "a#b",
    ],
)
def test_a_path_comes_out_as_it_was_typed(path: str) -> None:
    assert compose(["recipe=an4", f"recipe.root={path}"]).recipe.root == path
    decoder = compose(["recipe=an4", "decoder=beam", f"decoder.lexicon={path}"]).decoder
    assert decoder["lexicon"] == str(Path(path).expanduser())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which recipe? Say recipe=NAME."),
        (["recipe=an5"], "Did you mean 'an4'?"),
        (["recipe="], "No recipe is called ''."),
        (["an4"], "Did you mean 'recipe=an4'?"),
        (["recipe=an4", "model=lstmm"], "Did you mean 'lstm'?"),
        (["recipe=an4", "data=alll"], "Did you mean 'all'?"),
        (["recipe=an4", "modle=lstm"], "Did you mean 'model'?"),
        (["recipe=an4", "seeed=1"], "Did you mean 'seed'?"),
        (["recipe=an4", "trainer.max_epoch=1"], "Did you mean 'trainer.max_epochs'?"),
        (["recipe=an4", "max_epochs=1"], "Did you mean 'trainer.max_epochs'?"),
        (["recipe=an4", "model.hiden=8"], "Did you mean 'model.hidden'?"),
        (["recipe=an4", "augment.speed={factorss: [1]}"], "Did you mean 'augment.speed.factors'?"),
        (["recipe=an4", "hydra.run.dir=x"], "No setting is called 'hydra.run.dir'."),
        (["recipe=an4", "seed=one"], "seed=one must be a whole number."),
        (["recipe=an4", "seed=1.5"], "seed=1.5 must be a whole number."),
        (["recipe=an4", "seed=true"], "seed=True must be a whole number."),
        (["recipe=an4", "seed=null"], "seed=null must be a whole number."),
        (["recipe=an4", "seed=-1"], "seed=-1 must be between 0 and 4294967295."),
        (["recipe=an4", "seed=1,2"], "'seed=1,2' gives several values"),
        (["recipe=an4", "model.hidden=wide"], "model.hidden=wide must be a whole number."),
        (["recipe=an4", "model.bidirectional=1"], "model.bidirectional=1 must be true or false."),
        (["recipe=an4", "augment.speed.factors=[1,x]"], "augment.speed.factors[1]=x must be a num"),
        (["recipe=an4", "augment.speed.factors=[1,0]"], "factors=0.0 must be between 0.1 and 10"),
        (["recipe=an4", "augment.speed.factors=[]"], "must hold at least one value"),
        (["recipe=an4", "trainer.devices=0"], "trainer.devices=0 must be 1 or more."),
        (["recipe=an4", "optim.name=adam"], "Did you mean 'adamw'?"),
        (["recipe=synth", "recipe.options.sentences=few"], "sentences=few must be a whole number."),
        (["recipe=an4", "data.batch_s=nan"], "data.batch_s=nan must be 0.1 or more."),
        (["recipe=an4", "data.device_batch_s=atuo"], "Did you mean 'auto'?"),
        (["recipe=an4", "data.device_batch_s=0"], "device_batch_s=0.0 must be 0.1 or more."),
        (["recipe=an4", "data.device_batch_s=true"], "device_batch_s=True must be a number."),
        (["recipe=an4", "trainer=3"], "No trainer is called '3'."),
        (["recipe=an4", "split=tset"], "Did you mean 'test'?"),
        (["recipe=an4", "preflight=onyl"], "Did you mean 'only'?"),
        (["recipe=an4", "trainer.precision=16"], "trainer.precision=16 is not known."),
        (["recipe=an4", "name=../x"], "name=../x must be a plain folder's name"),
        (["recipe=an4", "name=.."], "must be a plain folder's name"),
        (["recipe=an4", "+new=1"], "'+new' is no setting's name."),
        (["recipe=an4", "~model"], "'~model' is not a setting"),
        (["recipe=an4", "model.hidden=(("], "'model.hidden=((' cannot be read"),
        (["recipe=an4", "model.hidden=~/x"], "in quotes of its own, \"model.hidden='~/x'\"."),
        (
            ["recipe=an4", "decoder.lm=x"],
            "decoder=greedy has no setting 'lm': give decoder=beam or",
        ),
        (
            ["recipe=an4", "decoder=flashlight", "decoder.hotwords=x"],
            "'hotwords': give decoder=bea",
        ),
        (
            ["recipe=an4", "model=gru", "model.heads=2"],
            "model=gru has no setting 'heads': give mod",
        ),
        (["recipe=an4", "decoder.lmm=x"], "No setting is called 'decoder.lmm'."),
        (["recipe=an4", "recipe.root=${nothing}"], "nothing"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_right(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_printed_settings_are_the_ones_used() -> None:
    config = compose(["recipe=an4", "seed=3", "model.hidden=64"])

    assert yaml.safe_load(to_yaml(config)) == dataclasses.asdict(config)


def test_files_of_the_working_folder_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with, (odd) 'signs'"
    (folder / "conf" / "recipe").mkdir(parents=True)
    (folder / "conf" / "augment").mkdir()
    (folder / "conf" / "recipe" / "mine.yaml").write_text(
        "# @package _global_\n"
        "recipe: {name: mine, root: null, normaliser: none, options: {speakers: 3}}\n"
        "model: {hidden: 96}\n"
        "units: {whole_word_count: 5}\n"
    )
    (folder / "conf" / "augment" / "none.yaml").write_text(
        (REPOSITORY / "conf" / "augment" / "none.yaml")
        .read_text(encoding="utf-8")
        .replace("low: 1.0", "low: 0.9")
    )
    monkeypatch.chdir(folder)

    config = compose(["recipe=mine", "augment=none", "recipe.options.speakers=4"])

    assert config.augment.warp.low == 0.9
    assert config.model["hidden"] == 96
    assert config.units.whole_word_count == 5
    assert config.recipe.options == {"speakers": 4}
    assert config.trainer.max_epochs == read("trainer/standard.yaml")["max_epochs"]
    assert {"an4", "mine"} <= set(groups()["recipe"])


def test_a_settings_file_with_an_unknown_key_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "conf" / "trainer").mkdir()
    content = (REPOSITORY / "conf" / "trainer" / "standard.yaml").read_text(encoding="utf-8")
    (tmp_path / "conf" / "trainer" / "mine.yaml").write_text(f"{content}\npatiense: 3\n")

    with pytest.raises(UserError, match=r"'trainer.patiense'. Did you mean 'patience'"):
        compose(["recipe=an4", "trainer=mine"])


def test_a_settings_file_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir()
    (tmp_path / "conf" / "model" / "torn.yaml").write_text("name: [lstm\n")

    with pytest.raises(UserError, match=r"torn\.yaml"):
        compose(["recipe=an4", "model=torn"])


@pytest.mark.parametrize("recipe", groups()["recipe"])
def test_every_recipe_of_the_package_has_settings_that_fit(recipe: str) -> None:
    assert compose([f"recipe={recipe}"]).recipe.name == recipe
    assert (package_folder("recipes") / recipe / "prepare.py").is_file()


def test_words_and_limits_are_of_settings_that_are_there() -> None:
    there = dotted(dataclasses.asdict(compose(["recipe=an4"])))

    assert set(settings.WORDS) | set(settings.LIMITS) <= set(there)


def test_composing_imports_nothing_heavy() -> None:
    program = (
        "import sys; from asr.commands.compose import compose; compose(['recipe=an4']);"
        "print([name for name in ('torch', 'ray', 'lightning', 'pyarrow', 'numpy')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
