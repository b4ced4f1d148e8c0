"""The page of `asr gates` in a browser: what is seen, pointed at, switched, heard and typed."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from asr.bundle import Bundle
from asr.decoding.words import TimedUnit
from asr.gates.colours import DARK, LIGHT
from asr.gates.excerpt import Excerpt
from asr.gates.figures import by_likeness, by_memory, by_strength, strongest
from asr.gates.page import page
from asr.gates.trace import CellTrace, Trace, trace
from asr.models.ctc import CtcModel
from asr.models.lstm import LstmEncoder

HEATS = ("forget", "input", "output", "cell")
DURATION_S, START_S = 2.0, 10.0
UNITS = 40

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def traced(make_bundle: Callable[..., Bundle]) -> Trace:
    """Two seconds of a minute of noise, heard by two layers in both directions."""
    torch.manual_seed(0)
    encoder = LstmEncoder(20, subsampling=4, channels=4, hidden=UNITS, layers=2)
    with torch.no_grad():
        for parameter in encoder.layers.parameters():
            parameter *= 3.0  # so that gates open and shut
    bundle = replace(make_bundle(), network=CtcModel(encoder, 6))
    noise = np.random.default_rng(0).normal(0, 0.2, round(DURATION_S * 16_000))
    found = trace(bundle, Excerpt("noise.wav", noise.astype(np.float32), START_S, 60.0))
    emitted = (
        TimedUnit("a", 0.2, 0.36, 0.91),
        TimedUnit("|", 0.48, 0.6, 0.52),
        TimedUnit("nine", 0.6, 0.64, 0.83),
        TimedUnit("c", 1.8, 1.9, 0.74),
    )
    return replace(found, emitted=emitted, text="a nine c")


@pytest.fixture(scope="module")
def file(traced: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gates") / "gates.html"
    path.write_text(page(traced, "model (lstm)", 2, "forward"), encoding="utf-8")
    return path


@pytest.fixture
def look(browser: Any, file: Path) -> Iterator[Open]:
    """A function that opens the page; what the browser complained of fails the test."""

    def opened(width: int = 1280, height: int = 1000, scheme: str = "light") -> Any:
        browser.open(file.as_uri(), width, height, scheme)
        return browser

    yield opened
    assert browser.complaints() == []


def cell_of(traced: Trace, layer: int, direction: str) -> CellTrace:
    (cell,) = (one for one in traced.cells if (one.layer, one.direction) == (layer, direction))
    return cell


def middle(traced: Trace, frame: int) -> float:
    """The time of a frame's middle, in seconds of the excerpt."""
    return traced.first_s + (frame + 0.5) * traced.step_s


def box(tab: Any, panel: str) -> dict[str, float]:
    return tab.run(
        f"document.querySelector('[data-panel={panel}]').getBoundingClientRect().toJSON()"
    )


def place(tab: Any, panel: str, time_s: float, row: int = 0, rows: int = 1) -> tuple[float, float]:
    """Where a time and a row of a panel are in the window, with the whole excerpt in view."""
    where = box(tab, panel)
    x = where["x"] + where["width"] * time_s / DURATION_S
    return x, where["y"] + where["height"] * (row + 0.5) / rows


def told(tab: Any) -> dict[str, str]:
    """What stands beside the place that is pointed at."""
    return tab.run("""(() => {
      const readout = document.getElementById("readout");
      if (readout.hidden) return {};
      const rows = [...readout.querySelectorAll("tr")];
      return Object.fromEntries([["time", readout.firstChild.textContent],
        ...rows.map(row => [...row.children].map(cell => cell.textContent))]);
    })()""")


def number(text: str) -> float:
    return float(text.replace("−", "-").split()[0])


def picture(tab: Any, panel: str) -> np.ndarray:
    """A panel's pixels: [height, width, red green blue alpha], each 0 to 255."""
    address = tab.run(f"document.querySelector('[data-panel={panel}]').toDataURL()")
    return np.round(255 * imread(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def colour(palette: tuple[str, ...], share: float) -> np.ndarray:
    """The colour of a value between the least (0) and the greatest (1)."""
    stops = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in palette])
    return np.array([np.interp(share * 4, range(5), stops[:, channel]) for channel in range(3)])


def switch(tab: Any, name: str, value: str) -> None:
    tab.run(f"""document.querySelector('input[name={name}][value="{value}"]').click()""")


def select(tab: Any, name: str, value: str) -> None:
    tab.run(
        f"(() => {{ const list = document.getElementById('{name}'); list.value = '{value}';"
        " list.dispatchEvent(new Event('change')); })()"
    )


def test_it_opens_from_a_disk_and_asks_for_nothing(look: Open, file: Path) -> None:
    tab = look()
    asked = tab.requests()
    assert asked[0] == file.as_uri()
    # The browser's own buttons of the player are pictures inside it.
    assert all(address.startswith("data:") for address in asked[1:])
    assert tab.run("document.title") == "LSTM gates · noise.wav"


def test_a_request_would_be_refused_and_noticed(browser: Any, file: Path) -> None:
    """So that the silence of the other tests says something."""
    browser.open(file.as_uri(), 800, 600, "light")
    browser.run("fetch('http://127.0.0.1:9/').catch(() => null)")
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_panel_is_blank(look: Open, scheme: str) -> None:
    tab = look(scheme=scheme)
    for panel in ("axis", "sound", "mel", "emitted", *HEATS):
        colours = len(np.unique(picture(tab, panel).reshape(-1, 4), axis=0))
        assert colours > (1 if panel in ("axis", "sound", "emitted") else 50), panel


def test_pointing_tells_the_values_that_were_traced(look: Open, traced: Trace) -> None:
    tab = look()
    cell = cell_of(traced, 2, "forward")
    units = strongest(cell, UNITS, by_memory(cell))
    for panel in HEATS:
        for frame, row in ((0, 0), (17, 3), (30, 39), (48, 20)):
            tab.point(*place(tab, panel, middle(traced, frame), row, UNITS))
            found = told(tab)
            assert found["unit"] == str(units[row])
            for name in HEATS:
                value = getattr(cell, name)[frame, units[row]]
                assert number(found[name]) == pytest.approx(value, abs=0.0026), name
            assert found["time"] == f"{START_S + middle(traced, frame):.2f} s"


def test_pointing_beside_the_panels_tells_nothing(look: Open, traced: Trace) -> None:
    tab = look()
    tab.point(*place(tab, "forget", 1.0))
    assert told(tab)
    tab.point(5, 5)
    assert told(tab) == {}


def test_pointing_at_sound_log_mel_and_units_tells_theirs(look: Open, traced: Trace) -> None:
    tab = look()
    tab.point(*place(tab, "sound", 0.5))
    near = traced.excerpt.waveform[7_960:8_040]
    assert near.min() - 1e-3 <= number(told(tab)["amplitude"]) <= near.max() + 1e-3

    frame, bins = 90, traced.log_mel.shape[1]
    time_s = traced.mel_first_s + (frame + 0.5) * traced.mel_step_s
    tab.point(*place(tab, "mel", time_s, row=2, rows=bins))  # the third from above
    found = told(tab)
    assert int(found["bin"]) == bins - 3
    assert number(found["around"]) == round(float(traced.mel_hz[bins - 3]))
    assert number(found["log energy"]) == pytest.approx(traced.log_mel[frame, bins - 3], abs=0.1)

    unit = max(traced.emitted, key=lambda one: one.end_s - one.start_s)
    tab.point(*place(tab, "emitted", (unit.start_s + unit.end_s) / 2))
    found = told(tab)
    assert found["emitted"] == unit.symbol.replace("|", "␣")
    assert number(found["posterior"]) == pytest.approx(unit.confidence, abs=0.001)


@pytest.mark.parametrize(("scheme", "palettes"), [("light", LIGHT), ("dark", DARK)])
def test_a_value_has_its_colour_where_it_stands(
    look: Open, traced: Trace, scheme: str, palettes: dict[str, tuple[str, ...]]
) -> None:
    tab = look(scheme=scheme)
    cell = cell_of(traced, 2, "forward")
    units = strongest(cell, 16, by_memory(cell))
    select(tab, "count", "16")
    for panel in HEATS:
        found = picture(tab, panel)
        height, width, _ = found.shape
        for frame in range(1, 49):
            x = int(middle(traced, frame) / DURATION_S * width)
            for row, unit in enumerate(units):
                value = getattr(cell, panel)[frame, unit]
                share = (np.tanh(value) + 1) / 2 if panel == "cell" else value
                here = found[int((row + 0.5) / 16 * height), x, :3]
                np.testing.assert_allclose(here, colour(palettes[panel], share), atol=4)


def test_emitted_units_are_marked_where_they_are_and_named_above(look: Open, traced: Trace) -> None:
    tab = look()
    found = picture(tab, "emitted")
    height, width, _ = found.shape
    ink, rule = [29, 33, 41, 255], [221, 225, 231, 255]
    marked = (found[height - 3] == ink).all(axis=1)
    times = (np.arange(width) + 0.5) / width * DURATION_S
    for unit in traced.emitted:
        inside = (unit.start_s + 0.01 < times) & (times < unit.end_s - 0.01)
        assert marked[inside].all()
        near = (unit.start_s - 0.01 < times) & (times < unit.end_s + 0.01)
        assert (found[: height - 6, near, 3] > 100).any()  # its name
        times[near] = np.nan
    blank = ~np.isnan(times)
    assert blank.any()
    assert (found[height - 3, blank] == rule).all()


def test_layer_and_direction_are_switched(look: Open, traced: Trace) -> None:
    tab = look()
    seen = [picture(tab, "cell")]
    for layer, direction in ((1, "forward"), (1, "backward"), (2, "backward")):
        switch(tab, "layer", str(layer))
        switch(tab, "direction", direction)
        cell = cell_of(traced, layer, direction)
        tab.point(*place(tab, "cell", middle(traced, 20), 4, UNITS))
        unit = by_memory(cell)[4]
        assert told(tab)["unit"] == str(unit)
        assert number(told(tab)["cell"]) == pytest.approx(cell.cell[20, unit], abs=0.002)
        marked = tab.run("[...document.querySelectorAll('tr.shown')].map(r => ({...r.dataset}))")
        assert marked == [{"layer": str(layer), "direction": direction}]
        seen.append(picture(tab, "cell"))
    assert all((one != other).mean() > 0.3 for one, other in combinations(seen, 2))


def test_the_strongest_units_are_shown_in_the_order_chosen(look: Open, traced: Trace) -> None:
    tab = look()
    cell = cell_of(traced, 2, "forward")
    orders = {"memory": by_memory, "likeness": by_likeness, "strength": by_strength}
    for name, order in orders.items():
        select(tab, "count", "16")
        select(tab, "order", name)
        units = strongest(cell, 16, order(cell))
        for row in (0, 5, 10, 15):
            tab.point(*place(tab, "input", 1.0, row, 16))
            assert told(tab)["unit"] == str(units[row])


def test_light_and_dark_follow_the_system_until_told_otherwise(look: Open) -> None:
    tab = look(scheme="light")

    def seen() -> tuple[str, np.ndarray]:
        return tab.run("getComputedStyle(document.body).backgroundColor"), picture(tab, "forget")

    light, light_picture = seen()
    tab.prefer("dark")
    tab.paint()
    dark, dark_picture = seen()
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(22, 24, 29)")
    assert (light_picture != dark_picture)[:, :, :3].mean() > 0.9
    switch(tab, "theme", "light")
    paper, pixels = seen()
    assert paper == light
    assert (pixels == light_picture).all()
    tab.prefer("light")
    switch(tab, "theme", "dark")
    paper, pixels = seen()
    assert paper == dark
    assert (pixels == dark_picture).all()


def cursor(tab: Any) -> float:
    """The time at which the cursor stands, with the whole excerpt in view."""
    where, line = box(tab, "sound"), "document.getElementById('cursor').getBoundingClientRect()"
    return (tab.run(f"{line}.x + {line}.width / 2") - where["x"]) / where["width"] * DURATION_S


READY = """new Promise(done => {
  if (sound.readyState > 0) done(); else sound.addEventListener("loadedmetadata", () => done());
})"""


def test_the_sound_is_as_long_as_the_excerpt_and_a_click_goes_there(look: Open) -> None:
    tab = look()
    tab.run(READY)
    assert tab.run("sound.duration") == pytest.approx(DURATION_S)
    assert cursor(tab) == pytest.approx(0, abs=0.01)
    for panel, time_s in (("mel", 1.25), ("cell", 0.5)):
        tab.click(*place(tab, panel, time_s))
        assert tab.run("sound.currentTime") == pytest.approx(time_s, abs=0.01)
        assert cursor(tab) == pytest.approx(time_s, abs=0.01)


# How far the cursor is from the sound at most, in any frame that is painted until one second.
APART = """new Promise(done => {
  let most = 0;
  const watch = () => {
    const x = new DOMMatrix(getComputedStyle(document.getElementById("cursor")).transform).m41;
    const width = document.getElementById("overlay").clientWidth;
    most = Math.max(most, Math.abs(x / width * sound.duration - sound.currentTime));
    if (sound.currentTime < 1) requestAnimationFrame(watch); else done(most);
  };
  sound.play().then(() => requestAnimationFrame(watch));
})"""


def test_the_cursor_moves_with_the_sound(look: Open) -> None:
    tab = look()
    tab.run(READY)
    assert tab.run(APART) < 0.1
    tab.run("new Promise(done => sound.addEventListener('ended', done)).then(() => null)")
    tab.paint()
    assert cursor(tab) == pytest.approx(DURATION_S, abs=0.02)


def test_a_pause_before_the_sound_has_begun_is_no_error(look: Open) -> None:
    tab = look()
    assert (
        tab.run(
            "(async () => { sound.load(); const began = listen(); sound.pause(); await began; })()"
        )
        is None
    )
    assert tab.run("sound.paused")


def test_all_of_it_can_be_done_with_the_keyboard(look: Open, traced: Trace) -> None:
    tab = look()
    tab.run(READY)
    for _ in range(30):
        tab.press("Tab")
        if tab.run("document.activeElement.id") == "stage":
            break
    else:
        pytest.fail("Tab does not lead to the panels")
    cell = cell_of(traced, 2, "forward")
    tab.press("ArrowRight", 12)
    tab.press("ArrowLeft", 2)
    tab.press("ArrowDown", 3)
    tab.press("ArrowUp")
    unit = by_memory(cell)[2]
    assert told(tab)["unit"] == str(unit)
    assert number(told(tab)["forget"]) == pytest.approx(cell.forget[10, unit], abs=0.0026)
    tab.press("Enter")
    assert tab.run("sound.currentTime") == pytest.approx(middle(traced, 10), abs=0.01)
    tab.press("ArrowDown", UNITS)  # below the last there is none
    assert told(tab)["unit"] == str(by_memory(cell)[-1])
    tab.press("End")
    assert told(tab)["time"] == f"{START_S + middle(traced, len(cell.forget) - 1):.2f} s"
    tab.press(" ")
    assert not tab.run("sound.paused")
    tab.press(" ")
    assert tab.run("sound.paused")


def test_zoomed_in_the_panels_scroll_together_and_tell_the_right_values(
    look: Open, traced: Trace
) -> None:
    tab = look()
    for _ in range(2):
        tab.run("document.getElementById('wider').click()")
    assert tab.run("document.getElementById('zoom').textContent") == "×4"
    where = box(tab, "forget")
    tab.run(f"document.getElementById('scroller').scrollLeft = {2 * where['width']}")
    tab.paint()
    cell = cell_of(traced, 2, "forward")
    frame, row = 30, 7  # half a second is in view, from the first on
    x = where["x"] + (middle(traced, frame) - 1.0) / 0.5 * where["width"]
    tab.point(x, where["y"] + (row + 0.5) / UNITS * where["height"])
    unit = by_memory(cell)[row]
    assert told(tab)["unit"] == str(unit)
    assert number(told(tab)["input"]) == pytest.approx(cell.input[frame, unit], abs=0.0026)
    assert told(tab)["time"] == f"{START_S + middle(traced, frame):.2f} s"
    tab.run("document.getElementById('stage').focus()")
    tab.press("Home")  # what is out of view is fetched into it
    assert told(tab)["time"] == f"{START_S + middle(traced, 0):.2f} s"
    assert tab.run("document.getElementById('scroller').scrollLeft") == 0


def test_it_fits_into_any_window_and_follows_its_size(look: Open) -> None:
    tab = look(width=1366, height=700)
    for width in (1366, 360, 700, 2560):
        tab.size(width, 700)
        tab.paint()
        assert tab.run("document.documentElement.scrollWidth") <= width
        for panel in HEATS:
            where = box(tab, panel)
            assert where["width"] > 0.8 * min(width, 1_700) - 170
            assert where["height"] >= 70
            assert picture(tab, panel).shape[1] == round(where["width"])
