"""Words of several values come to the combinations of Hydra's own sweeper, each with a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from asr.commands.compose import compose, groups
from asr.commands.jobs import LONGEST, Job, plan
from asr.errors import UserError


@pytest.mark.parametrize(
    "words",
    [
        ["model=lstm,gru", "recipe=an4", "seed=1,2,3"],
        ["recipe=an4", "seed=range(1,4)", "data.batch_s=range(10,20,2.5)"],
        ["recipe=an4", "model.hidden=choice(128,64)", "seed=5"],
        ["recipe=an4", "augment.speed.factors=[1.0],[0.9,1.1]"],
        ["recipe=an4", "optim.learning_rate=1e-3,2e-5", "trainer.threads=null,1"],
        ["recipe=an4", "model.bidirectional=true,false", "seed=sort(3,1,2)"],
        ["recipe=an4,synth", "features.normalisation=corpus,utterance"],
        ["recipe=an4", "seed=1,2", "trainer.patience=3", "seed=4,5", "trainer.patience=6"],
        ["recipe=an4", "recipe.root='/a, b',c", "split=test"],
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_combinations_are_those_of_hydras_own_sweeper_in_its_order(words: list[str]) -> None:
    (expected,) = BasicSweeper.split_arguments(parse(words), max_batch_size=None)

    jobs, _ = plan(words)

    combinations = [[word for word in job.words if not word.startswith("name=")] for job in jobs]
    assert list(map(values, combinations)) == list(map(values, expected))


def parse(words: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(words))


def values(words: Sequence[str]) -> list[tuple[str, object]]:
    return [(override.key_or_group, override.value()) for override in parse(words)]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing takes a tenth of a second, and many a combination need not be."""
    config = compose(["recipe=an4"])
    monkeypatch.setattr("asr.commands.jobs.compose", lambda words: config)


def name(job: Job) -> str:
    """The one it is given; a name is taken as it is typed."""
    (word,) = [word for word in job.words if word.startswith("name=")]
    return word.removeprefix("name=")


@pytest.mark.usefixtures("unchecked")
def test_a_pattern_stands_for_the_files_of_its_group() -> None:
    jobs, _ = plan(["recipe=an4", "model=glob(lstm*,exclude=*_*)", "augment=glob(*)"])
    assert [str(job) for job in jobs] == [
        f"model=lstm augment={name}" for name in groups()["augment"]
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["model=lstm,gru"], ["model=lstm", "model=gru"]),
        (
            ["model=gru,rnn", "seed=1,2", "model.layers=2"],
            [f"model={model},seed={seed}" for model in ("gru", "rnn") for seed in (1, 2)],
        ),
        (["name=small", "seed=1,2"], ["small,seed=1", "small,seed=2"]),
        (["name='007'", "seed=1,2"], ["007,seed=1", "007,seed=2"]),
        (["name=a,b", "seed=1,2"], ["a,seed=1", "a,seed=2", "b,seed=1", "b,seed=2"]),
        (["optim.learning_rate=1e-3,3e-4"], [f"optim.learning_rate=0.00{n}" for n in ("1", "03")]),
        (["trainer.threads=null,2"], ["trainer.threads=null", "trainer.threads=2"]),
        (
            ["model.bidirectional=true,false"],
            [f"model.bidirectional={b}" for b in ("true", "false")],
        ),
        # How a run is scored is none of its training, and a recipe has a folder of its own.
        (["name=x", "split=validation,test"], ["x", "x"]),
        (["name=x", "bundle=a,b"], ["x", "x"]),
        (["recipe=an4,synth", "seed=1,2"], ["seed=1", "seed=2", "seed=1", "seed=2"]),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_name_is_made_of_what_varies_in_training(words: list[str], names: list[str]) -> None:
    jobs, _ = plan(["recipe=an4", *words])
    assert [name(job) for job in jobs] == names


@pytest.mark.parametrize(
    "word",
    [
        "recipe.root=/a/b c,/a/b-c,/a-b-c",
        "recipe.root='x,y','x','y'",
        "augment.speed.factors=[1.0],[1,0],[10]",
        f'recipe.root={"long" * 40},{"long" * 41},"{"ü" * 90}"',
        "recipe.root=../up,..,'~/$HOME'",
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_an_unusual_value_makes_a_name_of_its_own_that_a_folder_can_have(word: str) -> None:
    names = [name(job) for job in plan(["recipe=an4", word])[0]]
    again = [name(job) for job in plan(["recipe=an4", word])[0]]

    assert names == again
    assert len(set(names)) == len(names)
    for one in names:
        assert re.fullmatch(r"[\w+=,-][\w+=,.-]*", one)
        assert len(one.encode()) <= LONGEST


@pytest.mark.usefixtures("unchecked")
def test_without_anything_that_makes_a_name_there_is_none() -> None:
    assert [job.words for job in plan(["recipe=an4", "split=validation,test"])[0]] == [
        ("recipe=an4", "split=validation"),
        ("recipe=an4", "split=test"),
    ]


@pytest.mark.usefixtures("unchecked")
def test_values_that_hold_a_comma_are_not_taken_for_two_settings() -> None:
    x, y = "recipe.root='a','a,prepare.folder=b'", "prepare.folder='c','b,prepare.folder=c'"
    names = [name(job) for job in plan(["recipe=an4", x, y])[0]]
    assert len(set(names)) == 4


def test_words_of_one_value_are_handed_on_as_they_were_typed() -> None:
    words = ["recipe=an4", "recipe.root='/a, b'", "prepare.folder=/c (d)/e", "seed=1,2"]

    jobs, _ = plan(words)

    assert [job.words for job in jobs] == [
        (*words[:3], f"seed={seed}", f"name=seed={seed}") for seed in (1, 2)
    ]
    for job in jobs:
        assert job.config.name == f"seed={job.varying['seed']}"
        assert (job.config.recipe.root, job.config.prepare.folder) == ("/a, b", "/c (d)/e")


def test_texts_of_several_values_come_out_as_they_were_typed() -> None:
    jobs, _ = plan(["recipe=an4", r"recipe.root=/a b/it\,s,back\\slash,'it\'s',$x"])
    typed = ["/a b/it,s", "back\\slash", "it's", "$x"]
    assert [job.config.recipe.root for job in jobs] == typed
    assert [job.varying["recipe.root"] for job in jobs] == typed


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("name=1.10,1.20,1.1", ["1.10", "1.20", "1.1"]),
        ("name=1e3,1_0,-1,+1.", ["1e3", "1_0", "-1", "+1."]),
        ("name=True , true,x", ["True", "true", "x"]),
        ("name=choice(1.10,'1.1',1.20)", ["1.10", "1.1", "1.20"]),
        ("name=range,2.0", ["range", "2.0"]),
        ("name=range(1,3)", ["1", "2"]),
        ("name=sort(10,9)", ["9", "10"]),
        ("name='1,2.0',3.0", ["1,2.0", "3.0"]),
        ("model.dropout=0.10,0.20", ["0.1", "0.2"]),  # a number is one
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_text_that_looks_like_a_number_keeps_its_spelling(word: str, typed: list[str]) -> None:
    jobs, _ = plan(["recipe=an4", word])
    key = word.partition("=")[0]
    assert [job.varying[key] for job in jobs] == typed


def test_null_is_none_where_a_text_may_be_and_else_a_text() -> None:
    jobs, _ = plan(["recipe=an4", "name=x", "recipe.root=null,NULL,2.50"])
    assert [job.config.recipe.root for job in jobs] == [None, "NULL", "2.50"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "-m runs every combination of values, and no setting has several"),
        (["recipe.root=/ä,/b"], "each in quotes where it holds unusual signs"),
        (["seed=1,2", "seed=3"], "no setting has several"),
        (["seed=1,-1"], "seed=-1: seed=-1 must be between 0 and 4294967295."),
        (["model=lstm,grru"], "model=grru: No model is called 'grru'. Did you mean 'gru'?"),
        (
            ["seed=1,2", "model.hidden=8,wide"],
            "seed=1 model.hidden=wide: model.hidden=wide must be",
        ),
        (["seeed=1,2"], "seeed=1: No setting is called 'seeed'. Did you mean 'seed'?"),
        (["name=../x", "seed=1,2"], "name=../x,seed=1 must be a plain folder's name"),
        (["seed=1,1"], "'seed=1,1' has the value 1 twice."),
        (["optim.learning_rate=1e-3,0.001"], "has the value 0.001 twice."),
        (["seed=range(3,1)"], "'seed=range(3,1)' holds no value."),
        (["seed=range(1,3,0)"], "'seed=range(1,3,0)' cannot be gone through value by value"),
        (["seed=interval(1,3)"], "cannot be gone through value by value"),
        (["seed=range(0,1000000000)"], "-m runs 1,000 combinations at most"),
        ([f"name={','.join(map(str, range(1002)))}"], "-m runs 1,000 combinations at most"),
        (["+new=1,2"], "'+new' is no setting's name."),
    ],
)
def test_a_mistake_in_any_combination_is_one_line_that_names_it(
    words: list[str], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        plan(["recipe=an4", *words])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_comparison_lies_beside_the_runs_and_is_called_by_what_varies() -> None:
    assert plan(["recipe=an4", "model=lstm,gru", "seed=range(1,3)"])[1] == Path(
        "runs/an4/comparisons/model=lstm+gru,seed=1+2"
    )
    assert plan(["recipe=an4", "name=small", "seed=1,2"])[1].name == "small,seed=1+2"
    assert plan(["recipe=an4,synth"])[1] == Path("runs/comparisons/recipe=an4+synth")
