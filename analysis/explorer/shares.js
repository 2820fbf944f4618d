/* The circuit's shares: what each filter of conv2 adds to the margin of a class over its rival. */

const LEADING = 8; // filters that have a row of their own

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** The shares of all filters in an image's margin at an epoch. */
const sharesOf = (image, epoch) => {
  const count = filterCount("conv2");
  return at(arrays.shares, epoch).subarray(image * count, (image + 1) * count);
};

/** A row of the picture; bars grow from the middle, to the right where they speak for the class. */
function shareRow(name, value, largest, own = false) {
  const share = Math.abs(value) / largest / 2;
  return { name, share, start: value < 0 ? 0.5 - share : 0.5, kind: value < 0 ? "against" : "", text: signed(value), own };
}

/** The largest shares of the chosen image, all others in one row, and their sum. */
function drawFilterShares() {
  byId("filter-shares-figure").hidden = !meta.pairs;
  if (!meta.pairs) return;
  const { layer, filter, epoch, image } = shown;
  const shares = sharesOf(image, epoch);
  const order = [...shares.keys()].sort((a, b) => Math.abs(shares[b]) - Math.abs(shares[a]));
  const listed = order.slice(0, LEADING);
  if (layer === "conv2" && !listed.includes(filter)) listed.push(filter);
  const others = order.filter((number) => !listed.includes(number));
  // One scale for all epochs, as in the other pictures.
  const largest = Math.max(1e-9, ...meta.epochs.flatMap((_, each) => [...sharesOf(image, each).map(Math.abs)]));
  const rows = listed.map((number) => (
    shareRow(`filter ${number}`, shares[number], largest, layer === "conv2" && number === filter)
  ));
  const rest = total(others.map((number) => shares[number]));
  // Its bar would not compare with those of single filters, and may be longer than there is room.
  if (others.length) rows.push({ name: `${others.length} others`, instead: "their sum, without a bar", text: signed(rest) });
  drawShares(byId("filter-shares"), rows);
  sayMargin(total(shares), at(arrays.margins, epoch)[image], shares.length);
}

function sayMargin(sum, margin, count) {
  const { name } = meta.pictures[shown.image];
  const [chosen, rival] = meta.pairs[shown.image].map((index) => meta.quoted[index]);
  byId("filter-shares-caption").textContent =
    `The margin of ${chosen} over ${rival} in ${name} is ${signed(margin)} logits at this epoch: the mean of `
    + `${meta.background} training images is ${signed(margin - sum)}, and the ${count} filters of conv2 add `
    + `${signed(sum)}.`;
}
