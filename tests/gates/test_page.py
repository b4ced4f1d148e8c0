"""The page: it holds what was traced, reaches for nothing, and no text can become markup."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import wave
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import torch

from asr.audio import to_int16
from asr.bundle import Bundle
from asr.decoding.words import TimedUnit
from asr.gates.excerpt import Excerpt
from asr.gates.figures import by_memory, by_strength, figures, measured, time_constants
from asr.gates.page import page
from asr.gates.trace import Trace, trace

VOID = {"meta", "input", "br"}
EVIL = "</script></td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


class Reader(HTMLParser):
    """Checks that tags nest; keeps tags, addresses, cells of tables and the inside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.inside:
            self.inside[self.open[-1]][-1] += data
            return
        self.text += data
        if "td" in self.open:
            self.rows[-1][-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def data(html: str) -> dict[str, Any]:
    return json.loads(read(html).inside["script"][0])


def array(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture
def traced(tiny_bundle: Bundle) -> Trace:
    noise = np.random.default_rng(0).normal(0, 0.3, 24_000).astype(np.float32)
    with torch.no_grad():  # cells that count up, as trained ones do
        for layer in tiny_bundle.network.encoder.layers:  # type: ignore[union-attr]
            layer.forwards.bias_ih_l0 += 2.0
    return trace(tiny_bundle, Excerpt("some/noise.wav", noise, 0.0, 1.5))


def made(traced: Trace) -> str:
    return page(traced, "model (lstm)", 2, "forward")


def stated(html: str) -> list[float]:
    """How near the page says that its values are: gates, cells, log-mel energies."""
    text = " ".join(read(html).text.split())
    found = re.search(r"within (\S+) of those \(gates\), (\S+) \(cells\) and (\S+) \(log", text)
    assert found
    return [float(value) for value in found.groups()]


def test_values_are_those_of_the_trace_as_near_as_the_page_says(traced: Trace) -> None:
    html = made(traced)
    kept = data(html)
    of_gates, of_cells, of_mel = stated(html)
    assert of_gates <= 0.002
    assert of_cells <= 0.001
    assert len(kept["cells"]) == len(traced.cells) == 4
    for mine, cell in zip(kept["cells"], traced.cells, strict=True):
        assert (mine["layer"], mine["direction"]) == (cell.layer, cell.direction)
        shape = (-1, mine["units"])
        for name in ("forget", "input", "output"):
            values = array(mine[name], "u1").reshape(shape) / 255
            np.testing.assert_allclose(values, getattr(cell, name), atol=of_gates, rtol=0)
        values = array(mine["cell"], "<i2").reshape(shape) * mine["cell_step"]
        np.testing.assert_allclose(values, cell.cell, atol=of_cells, rtol=0)
        assert mine["orders"]["memory"] == by_memory(cell).tolist()
        assert mine["orders"]["strength"] == by_strength(cell).tolist()
        np.testing.assert_allclose(mine["memory_frames"], time_constants(cell.forget), atol=1e-3)
    mel = kept["mel"]
    values = mel["least"] + array(mel["values"], "u1").reshape(traced.log_mel.shape) * mel["step"]
    np.testing.assert_allclose(values, traced.log_mel, atol=of_mel, rtol=0)
    assert kept["emitted"][0][:3] == [
        traced.emitted[0].symbol, traced.emitted[0].start_s, traced.emitted[0].end_s
    ]  # fmt: skip


def test_the_sound_is_the_excerpt_in_16_bits(traced: Trace) -> None:
    (player,) = (attributes for tag, attributes in read(made(traced)).tags if tag == "audio")
    kind, _, content = str(player["src"]).partition(",")
    assert kind == "data:audio/wav;base64"
    file = base64.b64decode(content)
    with wave.open(io.BytesIO(file)) as sound:
        assert sound.getparams()[:4] == (1, 2, 16_000, 24_000)
        samples = np.frombuffer(sound.readframes(24_000), "<i2")
    np.testing.assert_array_equal(samples, to_int16(traced.excerpt.waveform))
    assert file[44:] == samples.tobytes()  # where the script looks for them


def test_nothing_can_be_fetched_and_no_other_script_run(traced: Trace) -> None:
    html = made(traced)
    reader = read(html)
    addresses = [a[key] for _, a in reader.tags for key in ("src", "href", "action") if key in a]
    assert [str(address).split(",")[0] for address in addresses] == ["data:audio/wav;base64"]
    assert not re.search(r"https?://|@import|url\(|<link|fetch\(|XMLHttp|import\(", html)
    (policy,) = (a["content"] for tag, a in reader.tags if tag == "meta" and "http-equiv" in a)
    (style,), (_, script) = reader.inside["style"], reader.inside["script"]
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}';"
        " media-src data:; base-uri 'none'; form-action 'none'"
    )


def test_texts_and_names_cannot_become_markup(traced: Trace) -> None:
    unit = TimedUnit(EVIL, 0.0, 0.1, 0.9)
    attacked = replace(
        traced,
        text=EVIL,
        emitted=(unit,),
        excerpt=replace(traced.excerpt, source=EVIL, recording_s=9.0),
    )
    html = page(attacked, EVIL, 2, "forward")
    tags = [tag for tag, _ in read(html).tags]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert data(html)["emitted"][0][0] == EVIL
    assert read(html).text.count(EVIL) == 2  # the text and the model; of the source its name


def test_the_page_begins_with_the_layer_and_direction_it_is_told(traced: Trace) -> None:
    reader = read(page(traced, "m", 1, "backward"))
    checked = {a["name"]: a["value"] for _, a in reader.tags if "checked" in a and "name" in a}
    assert checked == {"layer": "1", "direction": "backward", "theme": "light dark"}


def test_the_figures_stand_in_the_table(traced: Trace) -> None:
    rows = [row for row in read(made(traced)).rows if row]
    assert len(rows) == len(traced.cells)
    for row, cell in zip(rows, traced.cells, strict=True):
        found = figures(cell)
        openness, saturated = found.openness, found.saturated
        median, long = found.memory_frames, found.long_memory_frames
        assert row == [
            *(str(cell.layer), cell.direction, "16"),
            *(f"{x:.2f}" for x in (openness.forget, openness.input, openness.output)),
            *(measured(median, 1), measured(40 * median, 0)),
            *(measured(long, 1), measured(40 * long, 0)),
            *(f"{x:.0%}".replace("%", " %") for x in (saturated.forget, saturated.input)),
            f"{saturated.output:.0%}".replace("%", " %"),
        ]


def test_endless_memory_is_written_as_such(traced: Trace) -> None:
    endless = replace(traced.cells[0], forget=np.ones_like(traced.cells[0].forget))
    html = made(replace(traced, cells=(endless,)))
    assert read(html).rows[2][6:10] == ["∞"] * 4
    assert data(html)["cells"][0]["memory_frames"] == [None] * 16


def test_a_part_of_a_recording_says_so_and_a_whole_one_does_not(traced: Trace) -> None:
    part = replace(traced, excerpt=replace(traced.excerpt, start_s=10.0, recording_s=600.0))
    assert "Shown: 10.00 s to 11.50 s of a recording of 600.00 s." in made(part)
    assert "Shown:" not in made(traced)


def test_where_nothing_was_emitted_the_page_says_so(traced: Trace) -> None:
    assert "<h1>Nothing was emitted</h1>" in made(replace(traced, emitted=(), text=""))
    space = TimedUnit("|", 0.0, 0.1, 0.9)
    html = made(replace(traced, emitted=(space,), text=""))
    assert "<h1>Only spaces were emitted</h1>" in html


def test_silence_and_a_single_frame_make_a_page(tiny_bundle: Bundle) -> None:
    silence = Excerpt("silence.wav", np.zeros(400, np.float32), 0.0, 0.025)
    kept = data(made(trace(tiny_bundle, silence)))
    assert len(array(kept["cells"][0]["forget"], "u1")) == 16
    assert set(array(kept["mel"]["values"], "u1")) == {0}
