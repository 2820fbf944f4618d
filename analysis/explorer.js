"use strict";

const meta = JSON.parse(document.getElementById("meta").textContent);
const LAYERS = { conv1: ["conv1", "relu1", "pool1"], conv2: ["conv2", "relu2", "pool2"] };
const SIDE = 32;
const MILLISECONDS = 350; // an epoch's time while it plays
const { stride, padding, dilation, pool } = meta.geometry;
const byId = (id) => document.getElementById(id);

/* ---- What the page holds ---------------------------------------------------------------------------------------- */

/** The arrays by name: each was stored first bytes first, one after the other, as gzip in base64. */
async function unpack(base64, shapes) {
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer());
  const kinds = { u1: Uint8Array, u4: Uint32Array, f4: Float32Array };
  const arrays = {};
  let start = 0;
  for (const [name, [kind, ...shape]] of Object.entries(shapes)) {
    const count = shape.reduce((product, size) => product * size, 1);
    const size = kinds[kind].BYTES_PER_ELEMENT;
    const bytes = new Uint8Array(count * size);
    for (let k = 0; k < size; k++) {
      for (let i = 0; i < count; i++) bytes[i * size + k] = all[start + k * count + i];
    }
    arrays[name] = { values: new kinds[kind](bytes.buffer), shape, inner: count / shape[0] };
    start += count * size;
  }
  return arrays;
}

/** The part of an array that belongs to the first index (the epoch, as a rule). */
const at = (array, index) => array.values.subarray(index * array.inner, (index + 1) * array.inner);

/** All kernels of a layer at an epoch: filters × channels × k × k. */
function kernels(layer, epoch) {
  if (layer === "conv1") return at(arrays["conv1.weight"], epoch);
  const levels = at(arrays["conv2.levels"], epoch);
  const steps = at(arrays["conv2.steps"], epoch);
  const size = levels.length / steps.length;
  const made = new Float32Array(levels.length);
  for (let i = 0; i < made.length; i++) made[i] = ((levels[i] >>> 1) ^ -(levels[i] & 1)) * steps[Math.floor(i / size)];
  return made;
}

/* ---- The network ------------------------------------------------------------------------------------------------- */

/** A stack of `channels` square maps with its border of zeros, ready to be convolved. */
function padded(values, channels) {
  const side = Math.round(Math.sqrt(values.length / channels));
  const width = side + 2 * padding;
  // The convolution takes four places at once and may read past the last one.
  const framed = new Float32Array(channels * width * width + 4 * stride);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < side; y++) {
      const from = (c * side + y) * side;
      framed.set(values.subarray(from, from + side), (c * width + y + padding) * width + padding);
    }
  }
  return { framed, channels, width };
}

/** The feature maps of the filters in `weights`, one after the other; `k` is the kernels' side. */
function convolve({ framed, channels, width }, weights, biases, k) {
  const side = Math.floor((width - dilation * (k - 1) - 1) / stride) + 1;
  const size = channels * k * k;
  const offsets = new Int32Array(size);
  for (let i = 0; i < size; i++) {
    const [c, y, x] = [Math.floor(i / (k * k)), Math.floor(i / k) % k, i % k];
    offsets[i] = (c * width + y * dilation) * width + x * dilation;
  }
  const made = new Float32Array(biases.length * side * side);
  // Two filters at four places at once: each number that is read is used several times.
  for (let first = 0; first < biases.length; first += 2) {
    const second = Math.min(first + 1, biases.length - 1);
    const one = weights.subarray(first * size, (first + 1) * size);
    const two = weights.subarray(second * size, (second + 1) * size);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x += 4) {
        const corner = (y * width + x) * stride;
        let [a, b, c, d] = [biases[first], biases[first], biases[first], biases[first]];
        let [e, f, g, h] = [biases[second], biases[second], biases[second], biases[second]];
        for (let i = 0; i < size; i++) {
          const from = corner + offsets[i];
          const p = framed[from];
          const q = framed[from + stride];
          const r = framed[from + 2 * stride];
          const s = framed[from + 3 * stride];
          a += one[i] * p;
          b += one[i] * q;
          c += one[i] * r;
          d += one[i] * s;
          e += two[i] * p;
          f += two[i] * q;
          g += two[i] * r;
          h += two[i] * s;
        }
        made.set([a, b, c, d].slice(0, side - x), (first * side + y) * side + x);
        made.set([e, f, g, h].slice(0, side - x), (second * side + y) * side + x);
      }
    }
  }
  return made;
}

const relu = (values) => values.map((value) => Math.max(value, 0));

/** The largest value of every pooling window of the maps, `count` of them. */
function pooled(values, count) {
  const side = Math.round(Math.sqrt(values.length / count));
  const less = Math.floor(side / pool);
  const made = new Float32Array(count * less * less);
  for (let i = 0; i < made.length; i++) {
    const [map, y, x] = [Math.floor(i / (less * less)), Math.floor(i / less) % less, i % less];
    let most = -Infinity;
    for (let dy = 0; dy < pool; dy++) {
      for (let dx = 0; dx < pool; dx++) {
        most = Math.max(most, values[(map * side + y * pool + dy) * side + x * pool + dx]);
      }
    }
    made[i] = most;
  }
  return made;
}

const inputs = new Map(); // what each convolution sees of an image, at an epoch
const keyOf = (layer, epoch, image) => (layer === "conv1" ? `image ${image}` : `${epoch} ${image}`);

function input(layer, epoch, image) {
  const key = keyOf(layer, epoch, image);
  if (!inputs.has(key)) inputs.set(key, layer === "conv1" ? normalised(image) : padded(...firstPooled(epoch, image)));
  return inputs.get(key);
}

function normalised(image) {
  const bytes = at(arrays.pixels, image);
  const values = new Float32Array(bytes.length);
  for (let i = 0; i < values.length; i++) values[(i % 3) * SIDE * SIDE + Math.floor(i / 3)] = bytes[i] / 127.5 - 1;
  return padded(values, 3);
}

function firstPooled(epoch, image) {
  const count = filterCount("conv1");
  const maps = convolve(input("conv1", epoch, image), kernels("conv1", epoch), at(arrays["conv1.bias"], epoch), K);
  return [pooled(relu(maps), count), count];
}

/** The maps of one filter, or of all where `filter` is null, by name. */
function maps(layer, epoch, image, filter, weights) {
  const biases = at(arrays[`${layer}.bias`], epoch);
  const size = weights.length / biases.length;
  const chosen = filter === null ? [weights, biases]
    : [weights.subarray(filter * size, (filter + 1) * size), biases.subarray(filter, filter + 1)];
  const [convolved, rectified, reduced] = LAYERS[layer];
  const made = { [convolved]: convolve(input(layer, epoch, image), ...chosen, K) };
  made[rectified] = relu(made[convolved]);
  made[reduced] = pooled(made[rectified], chosen[1].length);
  return made;
}

/** Works out ahead what the second convolution is going to see at the epochs next to the shown one, image by image. */
function prepare() {
  for (const epoch of [shown.epoch + 1, shown.epoch - 1]) {
    if (shown.layer !== "conv2" || !(epoch in meta.epochs)) continue;
    const image = meta.pictures.findIndex((_, number) => !inputs.has(keyOf("conv2", epoch, number)));
    if (image < 0) continue;
    input("conv2", epoch, image);
    preparing = setTimeout(prepare);
    return;
  }
}

const filterCount = (layer) => arrays[`${layer}.bias`].shape[1];

/* ---- Drawing ----------------------------------------------------------------------------------------------------- */

/** Puts `values`, a square map, into the picture at a place, in the colours between the limits. */
function paint(picture, values, [low, high], left = 0, top = 0) {
  const table = arrays[low < 0 ? "diverging" : "sequential"].values;
  const side = Math.round(Math.sqrt(values.length));
  const bin = (place) => Math.min(Math.max(Math.floor(place), 0), 255);
  for (let i = 0; i < values.length; i++) {
    const place = ((values[i] - low) / (high - low)) * 256;
    // Every second colour is the mean of its neighbours: what is drawn where either might be meant.
    const colour = 3 * (bin(place - meta.tolerance) + bin(place + meta.tolerance));
    const pixel = 4 * ((top + Math.floor(i / side)) * picture.width + left + (i % side));
    for (let c = 0; c < 3; c++) picture.data[pixel + c] = table[colour + c];
    picture.data[pixel + 3] = 255;
  }
}

function drawMap(canvas, values, limits) {
  canvas.width = canvas.height = Math.round(Math.sqrt(values.length));
  const picture = new ImageData(canvas.width, canvas.height);
  paint(picture, values, limits);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** The kernel's slices, side by side in rows, with a gap of one pixel. */
function drawKernel(canvas, kernel, limits) {
  const count = kernel.length / (K * K);
  const columns = count <= 4 ? count : Math.ceil(Math.sqrt(2 * count));
  canvas.width = columns * (K + 1) - 1;
  canvas.height = Math.ceil(count / columns) * (K + 1) - 1;
  const picture = new ImageData(canvas.width, canvas.height);
  for (let c = 0; c < count; c++) {
    const slice = kernel.subarray(c * K * K, (c + 1) * K * K);
    paint(picture, slice, limits, (c % columns) * (K + 1), Math.floor(c / columns) * (K + 1));
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
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

/* ---- The page ---------------------------------------------------------------------------------------------------- */

let arrays;
let K; // the kernels' side
let weights; // those that are shown: of all filters of the layer, at the epoch
const shown = { layer: meta.start[0], filter: meta.start[1], epoch: meta.epochs.length - 1, image: 0 };
let player = null;
let due = false;
let preparing = null;

function change(changes) {
  Object.assign(shown, changes);
  shown.filter = Math.min(shown.filter, filterCount(shown.layer) - 1);
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
  });
}

function draw() {
  const { layer, filter, epoch, image } = shown;
  const started = performance.now();
  weights = kernels(layer, epoch);
  drawControls();
  drawState();
  drawKernelPart(weights.subarray(filter * (weights.length / filterCount(layer)))
    .subarray(0, weights.length / filterCount(layer)));
  drawMaps();
  drawAll();
  remember();
  clearTimeout(preparing);
  preparing = setTimeout(prepare);
  document.documentElement.dataset.drawn = `${layer} ${filter} ${meta.epochs[epoch]} ${image}`;
  document.documentElement.dataset.milliseconds = (performance.now() - started).toFixed(1);
}

function drawControls() {
  const { layer, filter, epoch } = shown;
  for (const name of Object.keys(LAYERS)) byId(name).setAttribute("aria-pressed", name === layer);
  byId("filter").max = filterCount(layer) - 1;
  byId("filter").value = filter;
  byId("filter-value").textContent = `${filter} of ${filterCount(layer) - 1}`;
  byId("epoch").value = epoch;
  byId("epoch").setAttribute("aria-valuetext", `epoch ${meta.epochs[epoch]}`);
  byId("epoch-value").textContent = `${meta.epochs[epoch]} of ${meta.epochs.at(-1)}`;
}

function drawState() {
  const { layer, filter, epoch } = shown;
  const accuracy = meta.accuracy[epoch];
  const measured = accuracy === null ? "test accuracy not recorded" : `test accuracy ${percent(accuracy)}`;
  byId("state").textContent = `Epoch ${meta.epochs[epoch]}: ${measured} · ${layer}, filter ${filter}`;
  const active = at(arrays[`${LAYERS[layer][1]}.largest`], epoch);
  const weight = at(arrays[`${layer}.largest`], epoch)[filter];
  const silent = active.filter((value) => value <= 0).length;
  const here = active[filter] > 0 ? `Its largest activation on these images is ${short(active[filter], 3)}`
    : "It is silent on these images: its ReLU is zero everywhere";
  const size = weight < 1e-3 ? `its weights have collapsed (none is larger than ${short(weight)})`
    : `its largest weight is ${short(weight, 3)}`;
  byId("health").textContent =
    `${here}; ${size}. ${silent} of ${active.length} filters of ${layer} are silent at this epoch.`;
  const dot = byId("dot");
  dot.setAttribute("cx", across(epoch));
  dot.setAttribute("cy", accuracy === null ? 110 : above(accuracy));
}

function drawKernelPart(kernel) {
  const { layer, filter, epoch } = shown;
  const limits = meta.limits[`${layer}.weight`][filter];
  const count = kernel.length / (K * K);
  drawKernel(byId("kernel"), kernel, limits);
  setNote(byId("kernel-tile"), noteOn(kernel, limits, at(arrays[`${layer}.largest`], epoch)[filter] > 0));
  drawBar(byId("kernel-bar"), limits);
  const colours = ["red", "green", "blue"].map((name) => make("span", { textContent: name }));
  byId("kernel-names").replaceChildren(...(layer === "conv1" ? colours : []));
  byId("kernel-caption").textContent = layer === "conv1" ? `Kernel, ${K} × ${K} for each colour`
    : `Kernel, ${K} × ${K} for each of the ${count} filters of conv1, row by row`;
  byId("kernel").setAttribute("aria-label", `Kernel of filter ${filter} of ${layer}`);
}

function drawMaps() {
  const { layer, filter, epoch } = shown;
  byId("maps-title").textContent = `What filter ${filter} of ${layer} makes of the images`;
  const tiles = [...byId("maps").querySelectorAll(".tile[data-row]")];
  meta.pictures.forEach((picture, image) => {
    const made = maps(layer, epoch, image, filter, weights);
    LAYERS[layer].forEach((name, row) => {
      const tile = tiles[3 * image + row];
      const limits = meta.limits[name][filter];
      const canvas = tile.querySelector("canvas");
      drawMap(canvas, made[name], limits);
      canvas.setAttribute("aria-label", `${ROWS[row]} of ${picture.name}`);
      canvas.dataset.map = name;
      setNote(tile, noteOn(made[name], limits));
    });
    drawGuess(image, epoch);
  });
  byId("maps").querySelectorAll(".head[data-row]").forEach((head, row) => {
    const canvas = tiles[row].querySelector("canvas");
    head.querySelector("span").textContent = `${canvas.width} × ${canvas.height}`;
    drawBar(head.querySelector(".bar"), meta.limits[LAYERS[layer][row]][filter]);
  });
}

function drawGuess(image, epoch) {
  const count = meta.classes.length;
  const chances = at(arrays.probabilities, epoch).subarray(image * count, (image + 1) * count);
  const best = chances.indexOf(Math.max(...chances));
  const { label } = meta.pictures[image];
  const mark = label === null ? "" : best === label ? "✓ " : "✗ ";
  const guess = byId(`guess-${image}`);
  guess.textContent = guess.title = `${mark}${(100 * chances[best]).toFixed(0)} % ${meta.classes[best]}`;
  guess.className = `guess ${label === null ? "" : best === label ? "right" : "wrong"}`;
  byId(`pick-${image}`).setAttribute("aria-pressed", image === shown.image);
}

function drawAll() {
  const { layer, filter, epoch, image } = shown;
  const name = LAYERS[layer][1];
  const count = filterCount(layer);
  byId("all-title").textContent = `All ${count} filters of ${layer} on ${meta.pictures[image].name}, after ReLU`;
  if (byId("all").childElementCount !== count) byId("all").replaceChildren(...[...Array(count).keys()].map(filterPick));
  const all = maps(layer, epoch, image, null, weights)[name];
  const size = all.length / count;
  [...byId("all").children].forEach((pick, number) => {
    const values = all.subarray(number * size, (number + 1) * size);
    drawMap(pick.querySelector("canvas"), values, meta.limits[name][number]);
    setNote(pick, values.some((value) => value > 0) ? "" : "0");
    pick.setAttribute("aria-pressed", number === filter);
  });
}

/* The sliders reach every filter: the maps are a short cut for the mouse, not stops for the tabulator. */
function filterPick(number) {
  const tile = make("div", { className: "tile" }, make("canvas"), make("div", { className: "note" }));
  const pick = make("button", { type: "button", className: "pick", tabIndex: -1, ariaLabel: `Filter ${number}` });
  pick.append(tile, String(number));
  pick.addEventListener("click", () => change({ filter: number }));
  return pick;
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

const ROWS = ["Feature map", "ReLU", "Max pooling"];

/** The headings, then each image with its maps: the grid lays them out as columns, or on a phone as rows. */
function layOutMaps() {
  const heads = ROWS.map((name, row) => {
    const head = make("div", { className: "head" }, make("b", { textContent: name }), make("span"));
    head.append(make("div", { className: "bar" }));
    head.dataset.row = row;
    return head;
  });
  const first = make("div", { className: "head" }, make("b", { textContent: "Image" }), "the network's guess, and how sure it is");
  byId("maps").append(first, ...heads);
  meta.pictures.forEach((picture, image) => {
    byId("maps").append(imagePick(picture, image));
    ROWS.forEach((_, row) => {
      const tile = make("div", { className: "tile" }, make("canvas", { role: "img" }), make("div", { className: "note" }));
      tile.dataset.row = row;
      tile.firstChild.dataset.image = image;
      byId("maps").append(tile);
    });
  });
  // Where there are more than fit, they can be scrolled with the keyboard too.
  if (byId("maps").scrollWidth > byId("maps").clientWidth) byId("maps").tabIndex = 0;
}

function imagePick(picture, image) {
  const canvas = make("canvas", { width: SIDE, height: SIDE });
  canvas.dataset.picture = image;
  const pixels = new ImageData(SIDE, SIDE);
  const bytes = at(arrays.pixels, image);
  for (let i = 0; i < SIDE * SIDE; i++) pixels.data.set([...bytes.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const label = `Show all filters on ${picture.name}`;
  const pick = make("button", { type: "button", id: `pick-${image}`, className: "pick", ariaLabel: label }, canvas);
  pick.addEventListener("click", () => change({ image }));
  const name = make("span", { className: "name", textContent: picture.name, title: picture.name });
  return make("div", {}, pick, name, make("span", { id: `guess-${image}` }));
}

function layOutControls() {
  for (const layer of Object.keys(LAYERS)) {
    const button = make("button", { type: "button", id: layer, textContent: layer });
    button.addEventListener("click", () => change({ layer }));
    byId("layers").append(button);
  }
  byId("epoch").max = meta.epochs.length - 1;
  byId("filter").addEventListener("input", () => change({ filter: Number(byId("filter").value) }));
  byId("epoch").addEventListener("input", () => change({ epoch: Number(byId("epoch").value) }));
  byId("play").addEventListener("click", play);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", onKey);
}

function stop() {
  clearInterval(player);
  player = null;
  byId("play").textContent = "Play";
  byId("play").setAttribute("aria-pressed", "false");
  byId("state").setAttribute("role", "status");
}

/** From the epoch that is shown, or from the first where that is the last, to the last; pressed again it stops. */
function play() {
  if (player !== null) return stop();
  byId("play").textContent = "Pause";
  byId("play").setAttribute("aria-pressed", "true");
  byId("state").setAttribute("role", "none"); // not to be read aloud at every step
  const last = meta.epochs.length - 1;
  if (shown.epoch === last) change({ epoch: 0 });
  player = setInterval(() => {
    if (shown.epoch < last) change({ epoch: shown.epoch + 1 });
    if (shown.epoch === last) stop();
  }, MILLISECONDS);
}

function onKey(event) {
  // A slider has arrow keys of its own, a button the space bar.
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, #maps")) return;
  if (event.key === " " && event.target.matches("button")) return;
  const last = { epoch: meta.epochs.length - 1, filter: filterCount(shown.layer) - 1 };
  const moves = {
    ArrowLeft: () => change({ epoch: Math.max(shown.epoch - 1, 0) }),
    ArrowRight: () => change({ epoch: Math.min(shown.epoch + 1, last.epoch) }),
    ArrowDown: () => change({ filter: Math.max(shown.filter - 1, 0) }),
    ArrowUp: () => change({ filter: Math.min(shown.filter + 1, last.filter) }),
    " ": play,
    l: () => change({ layer: shown.layer === "conv1" ? "conv2" : "conv1" }),
  };
  const move = moves[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!move) return;
  event.preventDefault();
  move();
}

/** Keeps what is shown in the address, where the page is allowed to change it. */
function remember() {
  const { layer, filter, epoch, image } = shown;
  try {
    history.replaceState(null, "", `#layer=${layer}&filter=${filter}&epoch=${meta.epochs[epoch]}&image=${image}`);
  } catch {
    // A sandboxed frame has no address of its own.
  }
}

/** Shows what the address says; what it leaves out, or names wrongly, stays as it is. */
function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (/^\d+$/.test(said.get(name)) ? Number(said.get(name)) : -1);
  const layer = said.get("layer") in LAYERS ? said.get("layer") : shown.layer;
  const epoch = meta.epochs.indexOf(number("epoch"));
  change({
    layer,
    filter: number("filter") >= 0 ? number("filter") : shown.filter,
    epoch: epoch >= 0 ? epoch : shown.epoch,
    image: number("image") >= 0 && number("image") < meta.pictures.length ? number("image") : shown.image,
  });
}

async function open() {
  arrays = await unpack(byId("arrays").textContent, meta.shapes);
  K = arrays["conv1.weight"].shape.at(-1);
  layOutControls();
  layOutMaps();
  drawCurve();
  addEventListener("hashchange", recall);
  recall();
}

open().catch((error) => {
  byId("state").textContent = `The page cannot be shown in this browser: ${error.message}`;
});
