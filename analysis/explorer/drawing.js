/* How the explorer draws maps, kernels and scales, and what it writes on them. */

const byId = (id) => document.getElementById(id);

/** Draws a square map, one pixel for each value, in the colours between the limits. */
function drawMap(canvas, values, [low, high]) {
  canvas.width = canvas.height = Math.round(Math.sqrt(values.length));
  const picture = new ImageData(canvas.width, canvas.height);
  const table = arrays[low < 0 ? "diverging" : "sequential"].values;
  const bin = (place) => Math.min(Math.max(Math.floor(place), 0), 255);
  for (let i = 0; i < values.length; i++) {
    const place = ((values[i] - low) / (high - low)) * 256;
    // Every second colour is the mean of its neighbours: what is drawn where either might be meant.
    const colour = 3 * (bin(place - meta.tolerance) + bin(place + meta.tolerance));
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = table[colour + c];
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** The kernel's slices, side by side in rows. */
function drawKernel(within, kernel, limits) {
  const count = kernel.length / (K * K);
  if (within.childElementCount !== count) within.replaceChildren(...Array.from({ length: count }, () => make("canvas")));
  within.style.gridTemplateColumns = `repeat(${count <= 4 ? count : Math.ceil(Math.sqrt(2 * count))}, 1fr)`;
  [...within.children].forEach((canvas, channel) => {
    drawMap(canvas, kernel.subarray(channel * K * K, (channel + 1) * K * K), limits);
  });
}

/** What a map without a visible picture in it is called, as in the report's figures; empty for any other. */
function noteOn(values, [low, high], collapsed = false) {
  let [least, most, sum] = [Infinity, -Infinity, 0];
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
    sum += value;
  }
  const largest = Math.max(most, -least);
  if (most - least <= 1e-6 * (high - low)) {
    if (largest === 0 && !collapsed) return "all 0";
    return largest <= 1e-6 * (high - low) ? "≈ 0" : `constant ${short(sum / values.length)}`;
  }
  if (largest >= 0.03 * high) return "";
  const power = 10 ** Math.floor(Math.log10(largest));
  return (low < 0 ? "±" : "≤ ") + short(Math.ceil(largest / power) * power, 1);
}

function setNote(tile, text) {
  const note = tile.querySelector(".note");
  note.replaceChildren(...(text ? [make("span", { textContent: text })] : []));
}

function short(value, digits = 2) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size < 1e-3 || size >= 1e4 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function drawBar(within, limits) {
  const canvas = make("canvas", { width: 256, height: 1, ariaHidden: "true" });
  const picture = new ImageData(256, 1);
  const table = arrays[limits[0] < 0 ? "diverging" : "sequential"].values;
  for (let i = 0; i < 256; i++) picture.data.set([table[6 * i], table[6 * i + 1], table[6 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const ends = limits.map((limit) => make("span", { textContent: short(limit, 3) }));
  within.replaceChildren(canvas, make("div", {}, ...ends));
}

/** A bar on its track; `start` is its left end, by default 0. */
function shareBar({ share, start = 0, kind = "" }) {
  const bar = make("div", { className: kind });
  bar.style.width = `${100 * share}%`;
  bar.style.marginLeft = `${100 * start}%`;
  return make("div", { className: "track" }, bar);
}

/** Draws bars of shares: a row of name, bar or what stands `instead` of it, and number for each. */
function drawShares(within, shares) {
  within.replaceChildren(...shares.flatMap((row) => {
    const { name, text, own, instead } = row;
    return [
      make("span", { textContent: name, title: name, className: own ? "own" : "" }),
      instead ? make("span", { textContent: instead, className: "instead" }) : shareBar(row),
      make("span", { textContent: text, className: "number" }),
    ];
  }));
}

/* The curve's place of an epoch and of an accuracy, in the picture's own units. */
const across = (epoch) => 44 + (362 * epoch) / Math.max(meta.epochs.length - 1, 1);
const above = (accuracy) => 110 - 100 * accuracy;

function drawCurve() {
  const svg = (tag, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    byId("curve").append(made);
  };
  for (const share of [0, 0.5, 1]) {
    svg("line", { x1: 44, x2: 406, y1: above(share), y2: above(share), stroke: "#e4e4e4" });
    svg("text", { x: 38, y: above(share) + 4, "text-anchor": "end", fill: "#444" }, `${100 * share} %`);
  }
  const last = meta.epochs.length - 1;
  for (const index of new Set([0, Math.round(last / 2), last])) {
    svg("text", { x: across(index), y: 128, "text-anchor": "middle", fill: "#444" }, meta.epochs[index]);
  }
  const points = meta.accuracy.flatMap((value, index) => (value === null ? [] : `${across(index)},${above(value)}`));
  svg("polyline", { points: points.join(" "), fill: "none", stroke: "#0072b2", "stroke-width": 2 });
  svg("circle", { id: "dot", r: 6, fill: "#d55e00" });
  byId("curve").addEventListener("click", (event) => {
    const { left, width } = byId("curve").getBoundingClientRect();
    const index = Math.round((((event.clientX - left) / width) * 416 - 44) / (362 / Math.max(last, 1)));
    change({ epoch: Math.min(Math.max(index, 0), last) });
  });
}
