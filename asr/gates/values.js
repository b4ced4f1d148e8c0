"use strict";
// What the page holds, decoded: times in seconds of the excerpt, arrays frame by frame.
const data = JSON.parse(document.getElementById("data").textContent);
const GATES = ["forget", "input", "output"];
const HEATS = [...GATES, "cell"];

const bytes = text => Uint8Array.from(atob(text), character => character.charCodeAt(0));

const duration = data.duration_s;
const frameCount = bytes(data.cells[0].forget).length / data.cells[0].units;
const cells = data.cells.map(cell => ({
  ...cell,
  ...Object.fromEntries(GATES.map(gate => [gate, bytes(cell[gate])])),
  cell: new Int16Array(bytes(cell.cell).buffer),
}));
const mel = {...data.mel, values: bytes(data.mel.values), bins: data.mel.hz.length};
mel.frames = mel.values.length / mel.bins;
const WAV_HEADER = 44;
const sound = document.getElementById("sound");
const samples = new Int16Array(bytes(sound.src.slice(sound.src.indexOf(",") + 1)).buffer, WAV_HEADER);
const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1);
const rateHz = samples.length / duration;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const indexAt = (time, firstS, stepS, count) => clamp(Math.floor((time - firstS) / stepS), 0, count - 1);
const frameAt = time => indexAt(time, data.first_s, data.step_s, frameCount);
const middleOf = frame => clamp(data.first_s + (frame + 0.5) * data.step_s, 0, duration);

// A gate's or cell's value at a frame, as near as the page keeps it.
const valueAt = (cell, quantity, frame, unit) => {
  const kept = cell[quantity][frame * cell.units + unit];
  return quantity === "cell" ? kept * cell.cell_step : kept / 255;
};

// The strongest units, in one of the orders.
const unitsOf = (cell, count, order) => {
  const chosen = new Set(cell.orders.strength.slice(0, count));
  return cell.orders[order].filter(unit => chosen.has(unit));
};

// 256 colours between the stops of a palette.
const colours = stops => {
  const parts = stops.map(stop => [1, 3, 5].map(at => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({length: 256}, (_, step) => {
    const place = (step / 255) * (parts.length - 1), below = Math.min(Math.floor(place), parts.length - 2);
    return parts[below].map((part, channel) => part + (parts[below + 1][channel] - part) * (place - below));
  });
};
