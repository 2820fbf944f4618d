/* The explorer's page: its controls, and what they show. */

const MILLISECONDS = 350; // an epoch's time while it plays
const MOST_CLASSES = 12; // of which the probabilities are shown
let weights; // those that are shown: of all filters of the layer, at the epoch
const shown = { layer: meta.start[0], filter: meta.start[1], epoch: meta.epochs.length - 1, image: 0 };
let player = null;
let due = false;
let preparing = null;

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
  drawLive();
  drawProbabilities();
  drawFilterShares();
  const size = weights.length / filterCount(layer);
  drawKernelPart(weights.subarray(filter * size, (filter + 1) * size));
  drawMaps();
  drawAll();
  remember();
  clearTimeout(preparing);
  preparing = setTimeout(prepare);
  // For who drives the page by a program: what is drawn, and how long it took.
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
    `${here}; ${size}. ${silent} of ${active.length} filters of ${layer} ${silent === 1 ? "is" : "are"} silent on them at this epoch.`;
  const dot = byId("dot");
  dot.setAttribute("cx", across(epoch));
  dot.setAttribute("cy", accuracy === null ? 110 : above(accuracy));
}

/** The share of each layer's filters that are active on any of the images. */
function drawLive() {
  drawShares(byId("live"), Object.entries(LAYERS).map(([layer, [, rectified]]) => {
    const largest = at(arrays[`${rectified}.largest`], shown.epoch);
    const live = largest.filter((value) => value > 0).length;
    const share = live / largest.length;
    return { name: layer, share, text: `${live} of ${largest.length} (${percent(share)})` };
  }));
}

/** The class probabilities of an image at an epoch. */
const probabilities = (image, epoch) => {
  const count = meta.classes.length;
  return at(arrays.probabilities, epoch).subarray(image * count, (image + 1) * count);
};

/** The probabilities of all classes in their order, or of the most probable ones where there are many classes. */
function drawProbabilities() {
  const { name, label } = meta.pictures[shown.image];
  const values = probabilities(shown.image, shown.epoch);
  const classes = [...meta.classes.keys()];
  const few = classes.length <= MOST_CLASSES;
  const drawn = few ? classes : classes.sort((a, b) => values[b] - values[a]).slice(0, MOST_CLASSES);
  drawShares(byId("probabilities"), drawn.map((index) => (
    { name: meta.classes[index], share: values[index], text: percent(values[index]), own: index === label }
  )));
  const which = few ? "Class probabilities" : `The ${MOST_CLASSES} largest class probabilities`;
  byId("probabilities-caption").textContent =
    `${which} of ${name} at this epoch${drawn.includes(label) ? "; its class is in bold" : ""}`;
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
  saySideways();
}

function saySideways() {
  const { scrollWidth, clientWidth } = byId("maps");
  byId("sideways").textContent = `${meta.pictures.length} images: scroll sideways`;
  byId("sideways").hidden = scrollWidth <= clientWidth;
}

function drawGuess(image, epoch) {
  const chances = probabilities(image, epoch);
  const best = chances.indexOf(Math.max(...chances));
  const { label } = meta.pictures[image];
  const mark = label === null ? "" : best === label ? "✓ " : "✗ ";
  const guess = byId(`guess-${image}`);
  guess.textContent = guess.title = `${mark}${(100 * chances[best]).toFixed(0)} % ${meta.quoted[best]}`;
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

const ROWS = ["Feature map", "ReLU", pooling === "average" ? "Average pooling" : "Max pooling"];

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
  // Its class on a line of its own, which a bracket would not fit on; its number with the word before it.
  const words = picture.name.replace(/ \(([^()]+)\)$/, "\n$1").replace(/ (\d+)$/m, "\u00a0$1");
  const name = make("span", { className: "name", textContent: words, title: picture.name });
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
  addEventListener("resize", saySideways);
  recall();
}

open().catch((error) => {
  byId("state").textContent = `The page cannot be shown in this browser: ${error.message}`;
});
