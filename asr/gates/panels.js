// The panels: each draws the stretch of time that is in view.
const INK = {light: "#1d2129", dark: "#e4e7ec"}, FAINT = {light: "#596272", dark: "#9aa4b5"};
const RULE = {light: "#dde1e7", dark: "#363c48"};
const ROW_HEIGHT = 13; // of a line of units' names

// A canvas of one pixel a value: columns are frames, rows from the top.
const image = (columns, rows, palette, stepAt) => {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at += 4) {
      const [red, green, blue] = palette[stepAt(column, row)];
      pixels.data[at] = red;
      pixels.data[at + 1] = green;
      pixels.data[at + 2] = blue;
      pixels.data[at + 3] = 255;
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
};

const melImage = palette =>
  image(mel.frames, mel.bins, palette, (frame, row) => mel.values[(frame + 1) * mel.bins - 1 - row]);

const heatImage = (cell, quantity, units, palette) =>
  image(frameCount, units.length, palette, quantity === "cell"
    ? (frame, row) => Math.round((Math.tanh(valueAt(cell, "cell", frame, units[row])) + 1) * 127.5)
    : (frame, row) => cell[quantity][frame * cell.units + units[row]]);

// Fits a canvas to its place on the screen and gives what draws in CSS pixels.
const fresh = canvas => {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return {context, width, height};
};

// An image of at most so many columns and rows: those that are too many are averaged, so that none is
// left out, and the others stay as sharp as they are.
const shrunk = (picture, columns, rows) => {
  if (picture.width <= columns && picture.height <= rows) return picture;
  const canvas = document.createElement("canvas");
  canvas.width = Math.min(picture.width, columns);
  canvas.height = Math.min(picture.height, rows);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
};

// `view` is {start, end, x}: the stretch in seconds, and a function from a time to a place in pixels.
const drawImage = (canvas, picture, firstS, stepS, view) => {
  const {context, height} = fresh(canvas);
  const left = view.x(firstS), right = view.x(firstS + stepS * picture.width);
  const ratio = canvas.height / height;
  const small = shrunk(picture, Math.ceil((right - left) * ratio), canvas.height);
  context.imageSmoothingEnabled = false;
  context.beginPath();
  context.rect(view.x(0), 0, view.x(duration) - view.x(0), height);
  context.clip();
  context.drawImage(small, left, 0, right - left, height);
};

const drawSound = (canvas, view, theme) => {
  const {context, width, height} = fresh(canvas);
  const middle = height / 2, scale = (middle - 1) / loudest;
  context.fillStyle = INK[theme];
  for (let column = 0; column < width; column++) {
    const from = Math.floor(view.time(column) * rateHz);
    const to = Math.min(Math.max(Math.floor(view.time(column + 1) * rateHz), from + 1), samples.length);
    if (from >= samples.length) break;
    let low = samples[from], high = low;
    for (let at = from; at < to; at++) {
      low = Math.min(low, samples[at]);
      high = Math.max(high, samples[at]);
    }
    context.fillRect(column, middle - high * scale, 1, Math.max((high - low) * scale, 1));
  }
};

const drawAxis = (canvas, view, theme) => {
  const {context, width, height} = fresh(canvas);
  const perSecond = width / (view.end - view.start);
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find(one => one * perSecond >= 60) ?? 60;
  const digits = step < 1 ? 1 : 0;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  const first = Math.ceil((data.start_s + view.start) / step - 1e-6);
  for (let tick = first; tick * step <= data.start_s + view.end + 1e-6; tick++) {
    const x = view.x(tick * step - data.start_s);
    const name = `${(tick * step).toFixed(digits)} s`, half = context.measureText(name).width / 2;
    context.fillStyle = FAINT[theme];
    context.textAlign = "left";
    context.fillText(name, clamp(x - half, 0, width - 2 * half), 1);
    context.fillRect(clamp(x - 0.5, 0, width - 1), height - 5, 1, 5);
  }
};

const named = symbol => (symbol === "|" ? "␣" : symbol);

// The emitted units: a mark where each is on the best path, its name above where there is room.
// Gives the number of those in view that go without a name.
const drawEmitted = (canvas, view, theme) => {
  const {context, width, height} = fresh(canvas);
  const base = height - 5, lines = Math.floor((base - 2) / ROW_HEIGHT);
  const ends = Array(lines).fill(-Infinity);
  let unnamed = 0;
  context.font = "600 12px system-ui, sans-serif";
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillStyle = RULE[theme];
  context.fillRect(view.x(0), base, view.x(duration) - view.x(0), 5);
  for (const [symbol, startS, endS] of data.emitted) {
    if (endS < view.start || startS > view.end) continue;
    const left = view.x(Math.max(startS, 0)), right = Math.max(view.x(Math.min(endS, duration)), left + 2);
    context.fillStyle = INK[theme];
    context.fillRect(left, base, Math.max(right - left - 1, 1), 5); // neighbours do not run together
    const name = named(symbol), size = context.measureText(name).width, middle = (left + right) / 2;
    const place = clamp(middle - size / 2, 0, width - size);
    const line = ends.findIndex(end => end + 3 <= place);
    if (line < 0) {
      unnamed++;
      continue;
    }
    ends[line] = place + size;
    const bottom = base - 4 - line * ROW_HEIGHT;
    context.fillText(name, place, bottom);
    if (line > 0) {
      context.fillStyle = FAINT[theme];
      context.fillRect(middle - 0.5, bottom + 3, 1, base - bottom - 3);
    }
  }
  return unnamed;
};
