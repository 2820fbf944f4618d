/* What the explorer's page holds, and the network that it makes of it. */
"use strict";

const meta = JSON.parse(document.getElementById("meta").textContent);
const LAYERS = { conv1: ["conv1", "relu1", "pool1"], conv2: ["conv2", "relu2", "pool2"] };
const SIDE = meta.shapes.pixels[2]; // of the images
const { stride, padding, dilation, pool, pooling } = meta.geometry;
let arrays; // what the page holds, unpacked
let K; // the kernels' side

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

/** The largest value of every pooling window of the maps, `count` of them; with average pooling, the mean. */
function pooled(values, count) {
  const side = Math.round(Math.sqrt(values.length / count));
  const less = Math.floor(side / pool);
  const made = new Float32Array(count * less * less);
  for (let i = 0; i < made.length; i++) {
    const [map, y, x] = [Math.floor(i / (less * less)), Math.floor(i / less) % less, i % less];
    let [most, sum] = [-Infinity, 0];
    for (let dy = 0; dy < pool; dy++) {
      for (let dx = 0; dx < pool; dx++) {
        const value = values[(map * side + y * pool + dy) * side + x * pool + dx];
        most = Math.max(most, value);
        sum += value;
      }
    }
    made[i] = pooling === "average" ? sum / (pool * pool) : most;
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

const filterCount = (layer) => arrays[`${layer}.bias`].shape[1];
