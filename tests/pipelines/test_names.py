"""`torchaudio:NAME` is opened as a folder is, or a line says why not; no network is needed."""

from __future__ import annotations

import os
import socket
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio

import asr
from asr.bundle import Bundle, load
from asr.description import check_model
from asr.errors import UserError
from asr.pipelines import open_model, outline
from asr.registry import COMPONENTS

BASE = "WAV2VEC2_ASR_BASE_960H"
ASR_BUNDLE = torchaudio.pipelines.Wav2Vec2ASRBundle
Installed = Callable[..., Any]


def test_every_recogniser_of_torchaudio_is_known_and_described_offline(cache: Path) -> None:
    theirs = {
        name
        for name in torchaudio.pipelines.__all__
        if type(getattr(torchaudio.pipelines, name)) is ASR_BUNDLE
    }
    assert set(COMPONENTS["pipelines"]) == theirs
    for name in theirs:
        pipeline = getattr(torchaudio.pipelines, name)
        bundle = outline(f"torchaudio:{name}")
        assert len(bundle.units.symbols) == pipeline._params["aux_num_out"], name
        assert bundle.units.symbols[:2] == ("<blank>", "|"), name
        assert pipeline.sample_rate == 16_000, name
        assert bundle.seconds_per_frame == pytest.approx(0.02), name
        assert "fine-tuned for ASR on" in bundle.trained["about"], name
        assert bundle.trained["licence"] in ("MIT License", "CC BY-NC 4.0"), name
    assert not cache.exists()


@pytest.mark.parametrize("opened", [open_model, check_model, outline, asr.load])
def test_of_a_mistyped_name_the_nearest_is_offered(opened: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match="Did you mean 'WAV2VEC2_ASR_BASE_960H'"):
        opened("torchaudio:WAV2VEC2_ASR_BASE_960")
    with pytest.raises(UserError, match="No pipeline is called 'MMS_FA'"):
        opened("torchaudio:MMS_FA")


def test_a_known_name_and_a_folder_pass_the_check(tiny_bundle: Bundle, tmp_path: Path) -> None:
    check_model(f"torchaudio:{BASE}")
    tiny_bundle.save(tmp_path / "model")
    check_model(str(tmp_path / "model"))
    assert open_model(tmp_path / "model").digest == tiny_bundle.digest
    with pytest.raises(UserError, match="folder does not exist"):
        check_model(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            urllib.error.URLError(socket.gaierror(-2, "Name or service not known")),
            "Name or service",
        ),
        (urllib.error.HTTPError("https://x", 403, "Forbidden", Message(), None), "Forbidden"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
def test_without_a_network_one_line_says_which_file_belongs_where(
    error: Exception,
    said: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    patience = []

    def urlopen(_: object) -> None:
        patience.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    with pytest.raises(UserError) as refused:
        open_model(f"torchaudio:{BASE}")
    file = "wav2vec2_fairseq_base_ls960_asr_ls960.pth"
    assert str(refused.value) == (
        f"torchaudio:{BASE} needs its weights, and"
        f" https://download.pytorch.org/torchaudio/models/{file} cannot be fetched ({said}"
        f"{' not known' if said == 'Name or service' else ''}): put that file at {cache / file}."
    )
    assert patience == [15.0]
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""
    assert list(cache.iterdir()) == []


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_weights_that_are_damaged_or_hold_code_are_refused(
    installed: Installed, cache: Path, tmp_path: Path
) -> None:
    file = cache / installed(BASE)._path
    whole = file.read_bytes()
    torch.save({"aux.weight": torch.zeros(1), "more": Runs(tmp_path / "ran")}, tmp_path / "code")
    torch.save({"aux.weight": torch.zeros(32, 2)}, tmp_path / "other")
    torch.save([1, 2], tmp_path / "list")
    damaged = [(tmp_path / name).read_bytes() for name in ("code", "other", "list")]
    for content in (b"", whole[: len(whole) // 2], b"<html>sign in</html>", *damaged):
        file.write_bytes(content)
        with pytest.raises(UserError, match="does not hold the weights of torchaudio:WAV") as said:
            open_model(f"torchaudio:{BASE}")
        assert str(file) in str(said.value)
        assert "\n" not in str(said.value)
    assert not (tmp_path / "ran").exists()
    file.write_bytes(whole)
    assert open_model(f"torchaudio:{BASE}").normaliser == "english"


def test_what_needs_a_folder_says_so(installed: Installed, tmp_path: Path) -> None:
    installed(BASE)
    with pytest.raises(UserError, match="is of torchaudio's, and this needs one of asr's own"):
        load(f"torchaudio:{BASE}")
    bundle = open_model(f"torchaudio:{BASE}")
    with pytest.raises(UserError, match="cannot be saved as a bundle"):
        bundle.save(tmp_path / "model")
    with pytest.raises(UserError, match="cannot stream"):
        bundle.stream()
