from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import asr
from asr.bundle import Bundle, add_score, load
from asr.errors import UserError

MakeBundle = Callable[..., Bundle]
RATE_HZ = 16_000


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, round(duration_s * RATE_HZ)).astype(np.float32)


@pytest.fixture
def saved(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    tiny_bundle.save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "bundle.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


# Saving and loading


def test_a_loaded_bundle_gives_the_emissions_of_the_saved_one(
    tiny_bundle: Bundle, saved: Path
) -> None:
    again = load(saved)
    before, _ = tiny_bundle.emissions([noise(1.0)])
    after, _ = again.emissions([noise(1.0)])
    assert torch.equal(before, after)
    assert again.digest == tiny_bundle.digest
    assert again.trained == tiny_bundle.trained


def test_units_that_yaml_takes_for_something_else_come_back_as_they_were(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    symbols = ("|", "'", "no", "on", "y", "n", "null", "1", "~", "=", "#", "-", "é", "ß", "\u2028")
    bundle = make_bundle(symbols)
    bundle.save(tmp_path / "model")
    assert load(tmp_path / "model").units == bundle.units


def test_saving_replaces_the_whole_folder(tiny_bundle: Bundle, saved: Path) -> None:
    (saved / "stale.txt").write_text("from another run")
    tiny_bundle.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["bundle.yaml", "weights.safetensors"]


def test_a_bundle_moved_to_an_empty_folder_transcribes_in_a_fresh_process(
    saved: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "speech.wav", noise(0.6), RATE_HZ)
    expected = load(saved).transcribe([tmp_path / "speech.wav"])[0].text
    away = tmp_path / "elsewhere" / "m"
    away.parent.mkdir()
    shutil.move(saved, away)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(asr.__file__).parents[1])!r})\n"
        "import asr\n"
        "print(asr.load('m').transcribe(['../speech.wav'])[0].text)"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=away.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(away.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""
    assert process.stdout == expected + "\n"


# The digest


def change_weight(bundle: Bundle) -> None:
    with torch.no_grad():
        bundle.network.head.bias[1] += 0.5


def change_statistics(bundle: Bundle) -> None:
    bundle.features.mean[0] += 1


def change_normaliser(bundle: Bundle) -> None:
    bundle.normaliser = "none"


def change_decoder(bundle: Bundle) -> None:
    bundle.decoder = {"name": "another"}


@pytest.mark.parametrize(
    "change", [change_weight, change_statistics, change_normaliser, change_decoder]
)
def test_the_digest_changes_with_whatever_changes_the_text(
    tiny_bundle: Bundle, change: Callable[[Bundle], None]
) -> None:
    before = tiny_bundle.digest
    change(tiny_bundle)
    assert tiny_bundle.digest != before


def test_the_digest_changes_with_the_units(make_bundle: MakeBundle) -> None:
    assert make_bundle(("|", "a", "b")).digest != make_bundle(("|", "b", "a")).digest


def test_scores_and_history_leave_the_digest_alone(tiny_bundle: Bundle, saved: Path) -> None:
    add_score(saved, {"recipe": "an4", "split": "test", "decoder": "greedy", "wer": 0.08})
    edit(saved, lambda content: content["trained"].update(run="other"))
    assert load(saved).digest == tiny_bundle.digest


def test_a_new_score_takes_the_place_of_the_same_splits_earlier_one(saved: Path) -> None:
    for split, wer in (("validation", 0.2), ("test", 0.1), ("test", 0.08)):
        add_score(saved, {"recipe": "an4", "split": split, "decoder": "greedy", "wer": wer})
    assert [(score["split"], score["wer"]) for score in load(saved).scores] == [
        ("validation", 0.2),
        ("test", 0.08),
    ]


# Damaged, newer and malicious bundles


def remove(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def put(key: str, value: Any, *inner: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in inner:
            content = content[name]
        content[key] = value

    return change


DAMAGE = {
    "a key is missing": (remove("units"), "'units' is missing"),
    "a key too many": (put("normalizer", "english"), "'normalizer'. Did you mean 'normaliser'?"),
    "no schema": (remove("schema"), "no schema number"),
    "a newer schema": (put("schema", 2), "upgrade asr"),
    "another type": (put("model", "lstm"), "'model' is no dict"),
    "a score that is none": (put("scores", ["good"]), "'scores' holds"),
    "an unknown model": (put("name", "lstn", "model"), "Did you mean 'lstm'?"),
    "a model without name": (put("model", {"layers": 3}), "the name is missing"),
    "an unknown model setting": (put("laiers", 2, "model"), "Did you mean 'layers'?"),
    "settings no model can have": (put("layers", 0, "model"), "layers"),
    "settings of another type": (put("hidden", "wide", "model"), "cannot be made"),
    "an unknown decoder": (put("name", "greddy", "decoder"), "Did you mean 'greedy'?"),
    "unknown features": (put("name", "mfcc", "features"), "mfcc"),
    "statistics of another size": (put("mean", [0.0], "features"), "1 values for"),
    "statistics that are none": (put("deviation", "big", "features"), "no list of numbers"),
    "an unknown normaliser": (put("normaliser", "englich"), "Did you mean 'english'?"),
    "units that repeat": (put("symbols", ["<blank>", "a", "a"], "units"), "twice"),
    "units of an unknown kind": (put("kind", "pieces", "units"), "pieces"),
    "weights of other sizes": (put("channels", 5, "model"), "does not fit the model"),
    "more layers than weights": (put("layers", 3, "model"), "does not fit the model"),
    "other weights": (put("weights", "0" * 32), "is not the file"),
}


@pytest.mark.parametrize(("change", "says"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_bundle_is_refused_with_what_is_wrong(
    saved: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    edit(saved, change)
    with pytest.raises(UserError) as refusal:
        load(saved)
    assert says in str(refusal.value)
    assert str(saved) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_weights_that_are_cut_off_are_refused(saved: Path) -> None:
    weights = saved / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"weights\.safetensors is not the file .* cut off"):
        load(saved)


@pytest.mark.parametrize("name", ["bundle.yaml", "weights.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(UserError, match=name):
        load(saved)


def test_a_folder_above_the_model_is_answered_with_the_model(saved: Path) -> None:
    with pytest.raises(UserError, match=r"Did you mean .*model\?"):
        load(saved.parent)


@pytest.mark.parametrize("name", ["bundle.yaml", "weights.safetensors"])
def test_a_link_that_leaves_the_folder_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    (saved / name).rename(tmp_path / name)
    (saved / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match="leads out of"):
        load(saved)


@pytest.mark.parametrize(
    "text",
    [
        "schema: 1\nmodel: !!python/object/apply:os.mkdir ['TRAP']\n",
        "schema: 1\nmodel: !!python/name:os.mkdir\n",
        "schema: 1\nmodel: !!python/object/new:os.mkdir ['TRAP']\n",
    ],
)
def test_a_python_tag_executes_nothing(saved: Path, tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    (saved / "bundle.yaml").write_text(text.replace("TRAP", str(trap)), encoding="utf-8")
    with pytest.raises(UserError, match="not plain YAML"):
        load(saved)
    assert not trap.exists()


@pytest.mark.parametrize("section", ["model", "features", "decoder"])
@pytest.mark.parametrize("key", ["_target_", "name"])
def test_a_target_executes_nothing(saved: Path, tmp_path: Path, section: str, key: str) -> None:
    trap = tmp_path / "trap"

    def change(content: dict[str, Any]) -> None:
        content[section].update({key: "os.mkdir", "path": str(trap)})

    edit(saved, change)
    with pytest.raises(UserError):
        load(saved)
    assert not trap.exists()


@pytest.mark.parametrize("text", ["", "[]", "schema: one", "a: [", "\x00", "- &a [*a]"])
def test_what_is_no_description_is_refused(saved: Path, text: str) -> None:
    (saved / "bundle.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"bundle\.yaml"):
        load(saved)


# Recognising: promise 1, an utterance's result is its own


@pytest.mark.parametrize("normalisation", ["corpus", "utterance"])
def test_an_utterance_gives_the_same_alone_and_in_any_batch(
    make_bundle: MakeBundle, normalisation: str
) -> None:
    bundle = make_bundle(normalisation=normalisation)
    waveforms = [noise(s, i) for i, s in enumerate((0.3, 1.7, 0.01, 0.9, 0.025, 0.0, 1.1))]
    together, lengths = bundle.emissions(waveforms)
    backwards, backwards_lengths = bundle.emissions(waveforms[::-1])
    assert lengths.tolist() == backwards_lengths.tolist()[::-1]
    for i, waveform in enumerate(waveforms):
        alone, (length,) = bundle.emissions([waveform])
        assert length == lengths[i]
        for batch, row in ((together, i), (backwards, len(waveforms) - 1 - i)):
            difference = (batch[row, :length] - alone[0, :length]).abs()
            assert difference.numel() == 0 or difference.max() < 1e-4


def test_batches_change_nothing_and_results_come_in_order(tiny_bundle: Bundle) -> None:
    waveforms = [noise(s, i) for i, s in enumerate((1.5, 0.2, 0.9, 0.0, 1.1, 0.02))]
    alone = [tiny_bundle.transcribe([waveform])[0].text for waveform in waveforms]
    assert any(alone)
    for batch_s in (0.1, 2.0, 100.0):
        texts = [transcript.text for transcript in tiny_bundle.transcribe(waveforms, batch_s)]
        assert texts == alone


def test_less_than_a_frame_of_audio_is_an_empty_text(tiny_bundle: Bundle) -> None:
    for duration_s in (0.0, 0.02):
        (transcript,) = tiny_bundle.transcribe([noise(duration_s)])
        assert (transcript.text, transcript.words) == ("", ())
        assert transcript.duration_s == duration_s


def test_paths_and_arrays_of_either_type_give_the_same(tiny_bundle: Bundle, tmp_path: Path) -> None:
    samples = (noise(0.8) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    floats = samples / 32768
    assert floats.dtype == np.float64
    from_path, from_text_path, from_int16, from_float64, from_float32 = tiny_bundle.transcribe(
        [tmp_path / "a.wav", str(tmp_path / "a.wav"), samples, floats, floats.astype(np.float32)]
    )
    assert from_path.text
    assert from_path.source == from_text_path.source == str(tmp_path / "a.wav")
    assert from_int16.source == "array 2"
    for other in (from_text_path, from_int16, from_float64, from_float32):
        assert other.text == from_path.text
        assert other.words == from_path.words
        assert other.score == pytest.approx(from_path.score, abs=1e-4)


def test_words_lie_within_the_recording_in_order(tiny_bundle: Bundle) -> None:
    (transcript,) = tiny_bundle.transcribe([noise(2.0)])
    assert len(transcript.words) > 1
    assert transcript.text == " ".join(word.word for word in transcript.words)
    times = [time for word in transcript.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 2.0


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (np.zeros((2, 100), np.float32), r"array 0: an array \[S\] .* not ndarray\[2, 100\]"),
        (np.zeros((), np.float32), "array 0"),
        ([0.0, 0.1], "array 0: .* not list"),
        (np.array([0.0, np.nan]), "array 0: holds samples that are not a number"),
        (np.array([0.0, np.inf]), "array 0: holds samples that are not a number"),
        (np.array([0.0, 20_000.0]), r"array 0: samples reach 20000"),
        (np.zeros(100, np.int32), "array 0: samples are floats .* not int32"),
        (np.zeros(100, np.complex64), "array 0: samples are floats"),
        (np.broadcast_to(np.int16(0), 25 * 3600 * RATE_HZ), "array 0 lasts more than 24 hours"),
        ("nowhere.wav", "nowhere.wav"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(tiny_bundle: Bundle, item: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny_bundle.transcribe([item])


@pytest.mark.parametrize("item", ["a.wav", Path("a.wav"), np.zeros(100, np.float32)])
def test_one_input_outside_a_list_is_refused(tiny_bundle: Bundle, item: Any) -> None:
    with pytest.raises(UserError, match="a list"):
        tiny_bundle.transcribe(item)


def test_importing_asr_loads_nothing_heavy() -> None:
    code = "import asr, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
