// What is shown, and what a person does to it.
const byId = id => document.getElementById(id);
const [scroller, track, stage, overlay, hair, cursor, readout] =
  ["scroller", "track", "stage", "overlay", "hair", "cursor", "readout"].map(byId);
const canvases = Object.fromEntries(
  [...document.querySelectorAll("canvas")].map(canvas => [canvas.dataset.panel, canvas]));
const rows = Object.fromEntries(HEATS.map(quantity => {
  const row = document.createElement("div");
  row.className = "row";
  row.hidden = true;
  overlay.append(row);
  return [quantity, row];
}));
const chosen = name => document.querySelector(`input[name=${name}]:checked`).value;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const MOST_ZOOM = 16;

let cell, units, theme, pictures;
let zoom = 1;
let view;
let pointed = null; // {panel, time, row}: what the values are shown of

const settle = () => {
  const wanted = {layer: Number(chosen("layer")), direction: chosen("direction")};
  cell = cells.find(one => one.layer === wanted.layer && one.direction === wanted.direction);
  units = unitsOf(cell, Number(byId("count").value), byId("order").value);
  const scheme = chosen("theme");
  document.documentElement.style.colorScheme = scheme;
  theme = scheme === "dark" || (scheme !== "light" && dark.matches) ? "dark" : "light";
  const palettes = data.palettes[theme];
  pictures = {mel: melImage(colours(palettes.mel))};
  for (const quantity of HEATS) {
    pictures[quantity] = heatImage(cell, quantity, units, colours(palettes[quantity]));
    document.querySelector(`[data-ramp=${quantity}]`).style.background =
      `linear-gradient(to right, ${palettes[quantity].join(", ")})`;
  }
  for (const row of document.querySelectorAll("tbody tr")) {
    row.classList.toggle("shown",
      Number(row.dataset.layer) === wanted.layer && row.dataset.direction === wanted.direction);
  }
  if (pointed) pointed.row = Math.min(pointed.row, units.length - 1);
  draw();
};

// The stage stays where it is while the track scrolls beneath it, and draws what is in view.
const draw = () => {
  stage.style.width = `${scroller.clientWidth}px`;
  const width = canvases.axis.clientWidth;
  track.style.width = `${scroller.clientWidth + width * (zoom - 1)}px`;
  const perSecond = (width * zoom) / duration, start = scroller.scrollLeft / perSecond;
  view = {
    start, end: start + width / perSecond, perSecond,
    x: time => (time - start) * perSecond, time: x => start + x / perSecond,
  };
  overlay.style.left = `${canvases.axis.offsetLeft}px`;
  overlay.style.width = `${width}px`;
  drawAxis(canvases.axis, view, theme);
  drawSound(canvases.sound, view, theme);
  drawImage(canvases.mel, pictures.mel, mel.first_s, mel.step_s, view);
  const unnamed = drawEmitted(canvases.emitted, view, theme);
  byId("unnamed").textContent = !data.emitted.length ? "nothing" : unnamed
    ? `${unnamed} not named: zoom in` : "by the network";
  for (const quantity of HEATS) {
    drawImage(canvases[quantity], pictures[quantity], data.first_s, data.step_s, view);
  }
  byId("zoom").textContent = `×${zoom}`;
  byId("narrower").disabled = zoom === 1;
  byId("wider").disabled = zoom === MOST_ZOOM;
  follow();
  point();
};

const follow = () => {
  cursor.style.transform = `translateX(${view.x(sound.currentTime)}px)`;
};

// Scrolls so that a time is in view.
const reach = (time, place = 0.1) => {
  if (time < view.start || time > view.end) {
    scroller.scrollLeft = (time - place * (view.end - view.start)) * view.perSecond;
    draw();
  }
};

const seek = time => {
  sound.currentTime = clamp(time, 0, duration);
  follow();
};

const shown = value => value.toFixed(3).replace("-", "−");
const at = time => `${(data.start_s + time).toFixed(2)} s`;
const table = (title, entries, here) => {
  const body = document.createElement("table");
  for (const [name, value] of entries) {
    const row = body.insertRow(), head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    row.insertCell().textContent = value;
    row.className = name === here ? "here" : "";
  }
  readout.replaceChildren(title, body);
};

// What stands in the readout, by panel.
const TELL = {
  sound: time => table(at(time), [["amplitude",
    shown(samples[clamp(Math.floor(time * rateHz), 0, samples.length - 1)] / 32768)]]),
  mel: (time, row) => {
    const frame = indexAt(time, mel.first_s, mel.step_s, mel.frames), bin = mel.bins - 1 - row;
    const energy = mel.least + mel.values[frame * mel.bins + bin] * mel.step;
    table(at(time), [["bin", bin], ["around", `${mel.hz[bin]} Hz`], ["log energy", shown(energy).slice(0, -1)]]);
  },
  emitted: time => {
    const unit = data.emitted.find(([, startS, endS]) => startS <= time && time < endS);
    table(at(time), unit ? [["emitted", named(unit[0])], ["posterior", shown(unit[3])]] : [["emitted", "blank"]]);
  },
};
for (const quantity of HEATS) {
  TELL[quantity] = (time, row) => {
    const frame = frameAt(time), unit = units[row], memory = cell.memory_frames[unit];
    table(at(middleOf(frame)), [
      ["unit", unit],
      ...HEATS.map(name => [name, shown(valueAt(cell, name, frame, unit))]),
      ["memory", memory === null ? "∞" : `${memory.toFixed(1)} frames`],
    ], quantity);
  };
}

const rowsOf = panel => (panel === "mel" ? mel.bins : HEATS.includes(panel) ? units.length : 1);

// Lines and values where somebody points, with the pointer or the keyboard.
const point = () => {
  const visible = pointed !== null && pointed.time >= view.start && pointed.time <= view.end;
  hair.hidden = readout.hidden = !visible;
  for (const row of Object.values(rows)) row.hidden = true;
  if (!visible) return;
  const {panel, time, row} = pointed, x = view.x(time), canvas = canvases[panel];
  hair.style.transform = `translateX(${x}px)`;
  if (HEATS.includes(panel)) {
    for (const quantity of HEATS) {
      const height = canvases[quantity].clientHeight / units.length;
      rows[quantity].hidden = false;
      rows[quantity].style.top = `${canvases[quantity].offsetTop + row * height - 1}px`;
      rows[quantity].style.height = `${height + 2}px`;
    }
  }
  TELL[panel](time, row);
  const left = canvas.offsetLeft + x, top = canvas.offsetTop + ((row + 0.5) / rowsOf(panel)) * canvas.clientHeight;
  const fits = left + 14 + readout.offsetWidth < stage.clientWidth;
  readout.style.left = `${Math.max(fits ? left + 14 : left - 14 - readout.offsetWidth, 0)}px`;
  readout.style.top = `${clamp(top - readout.offsetHeight / 2, 0, stage.clientHeight - readout.offsetHeight)}px`;
};

const pointTo = event => {
  const panel = event.target.dataset?.panel;
  if (!panel || !(panel in TELL)) {
    pointed = null;
    return;
  }
  const box = event.target.getBoundingClientRect(), count = rowsOf(panel);
  pointed = {
    panel,
    time: clamp(view.time(event.clientX - box.left), 0, duration),
    row: clamp(Math.floor(((event.clientY - box.top) / box.height) * count), 0, count - 1),
  };
};

stage.addEventListener("pointermove", event => {
  pointTo(event);
  point();
});
stage.addEventListener("pointerleave", () => {
  pointed = null;
  point();
});
stage.addEventListener("click", event => {
  if (event.target.dataset?.panel) {
    seek(view.time(event.clientX - event.target.getBoundingClientRect().left));
  }
});
stage.addEventListener("blur", () => {
  pointed = null;
  point();
});

// A pause that comes before the sound has begun ends the promise to play: that is no fault.
const listen = () => sound.play().catch(error => {
  if (error.name !== "AbortError") throw error;
});

const KEYS = {
  ArrowLeft: event => ({frames: event.shiftKey ? -10 : -1}),
  ArrowRight: event => ({frames: event.shiftKey ? 10 : 1}),
  ArrowUp: () => ({row: -1}),
  ArrowDown: () => ({row: 1}),
  Home: () => ({frames: -Infinity}),
  End: () => ({frames: Infinity}),
  Enter: () => {
    seek(pointed ? pointed.time : sound.currentTime);
    return {};
  },
  " ": () => {
    if (sound.paused) listen();
    else sound.pause();
    return null;
  },
};
stage.addEventListener("keydown", event => {
  if (!(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const step = KEYS[event.key](event);
  if (step === null) return;
  if (!pointed || !HEATS.includes(pointed.panel)) {
    pointed = {panel: "forget", time: pointed?.time ?? clamp(sound.currentTime, view.start, view.end), row: 0};
  }
  pointed.time = middleOf(clamp(frameAt(pointed.time) + (step.frames ?? 0), 0, frameCount - 1));
  pointed.row = clamp(pointed.row + (step.row ?? 0), 0, units.length - 1);
  reach(pointed.time, (step.frames ?? 0) < 0 ? 0.9 : 0.1);
  point();
});

const zoomTo = factor => {
  const inView = sound.currentTime >= view.start && sound.currentTime <= view.end;
  const anchor = inView ? sound.currentTime : (view.start + view.end) / 2, x = view.x(anchor);
  zoom = clamp(factor, 1, MOST_ZOOM);
  draw(); // the track has its new width, so that it can be scrolled
  scroller.scrollLeft = anchor * view.perSecond - x;
  draw();
};
byId("narrower").addEventListener("click", () => zoomTo(zoom / 2));
byId("wider").addEventListener("click", () => zoomTo(zoom * 2));

const play = () => {
  reach(sound.currentTime);
  follow();
  if (!sound.paused) requestAnimationFrame(play);
};
sound.addEventListener("play", play);
for (const event of ["seeked", "timeupdate", "ended"]) sound.addEventListener(event, follow);
for (const choice of document.querySelectorAll(".bar input, .bar select")) choice.addEventListener("change", settle);
scroller.addEventListener("scroll", draw);
dark.addEventListener("change", settle);
new ResizeObserver(draw).observe(scroller);
settle();
