/**
 * The stock of an item over time: a step chart, since stock changes at once and stays. The drawing stretches to its
 * place; its labels are texts around it, so that they keep their size on a phone.
 */

/** @import { Entry } from "./api.js" */
import { h, svg } from "./dom.js";
import { date, moment, number } from "./format.js";

/** The drawing's own units. */
const WIDTH = 1_000;
const HEIGHT = 100;

/**
 * @param {Entry[]} entries The latest entries of the item, newest first.
 * @param {number | undefined} reorderLevel
 * @param {boolean} complete True if there are no older entries.
 */
export function stockChart(entries, reorderLevel, complete) {
  const steps = entries.map((entry) => ({ at: Date.parse(entry.at), quantity: entry.quantity })).reverse();
  const now = Math.max(Date.now(), steps[steps.length - 1].at);
  const start = steps[0].at;
  const peak = Math.max(...steps.map((step) => step.quantity));
  const low = Math.min(...steps.map((step) => step.quantity));
  const top = roundUp(Math.max(peak, reorderLevel ?? 0, 1));
  const x = (/** @type {number} */ at) => round(((at - start) / Math.max(now - start, 1)) * WIDTH);
  const y = (/** @type {number} */ quantity) => round(HEIGHT - (quantity / top) * HEIGHT);

  let line = `M0 ${y(steps[0].quantity)}`;
  for (const step of steps.slice(1)) {
    line += `H${x(step.at)}V${y(step.quantity)}`;
  }
  line += `H${WIDTH}`;

  const last = steps[steps.length - 1];
  const label =
    `Stock over time: from ${number(steps[0].quantity)} on ${date(entries[entries.length - 1].at)} to ` +
    `${number(last.quantity)} now, at least ${number(low)}, at most ${number(peak)}.`;
  const marker = svg("line", { class: "chart-marker", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    ...[0, 0.5, 1].map((part) =>
      svg("line", {
        class: "chart-grid",
        x1: 0,
        x2: WIDTH,
        y1: part * HEIGHT,
        y2: part * HEIGHT,
        "vector-effect": "non-scaling-stroke",
      }),
    ),
    svg("path", { class: "chart-area", d: `${line}V${HEIGHT}H0Z` }),
    reorderLevel !== undefined &&
      svg("line", {
        class: "chart-level",
        x1: 0,
        x2: WIDTH,
        y1: y(reorderLevel),
        y2: y(reorderLevel),
        "vector-effect": "non-scaling-stroke",
      }),
    svg("path", { class: "chart-line", d: line, "vector-effect": "non-scaling-stroke" }),
    marker,
  );

  const resting = reorderLevel === undefined ? "" : `Dashed: reorder at ${number(reorderLevel)}`;
  const readout = h("p", { class: "chart-readout" }, resting);
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = start + ((event.clientX - box.left) / box.width) * (now - start);
    const step = steps.findLast((candidate) => candidate.at <= at) ?? steps[0];
    marker.setAttribute("x1", String(x(at)));
    marker.setAttribute("x2", String(x(at)));
    marker.classList.add("shown");
    readout.textContent = `${number(step.quantity)} on ${moment(at)}`;
  });
  drawing.addEventListener("pointerleave", () => {
    marker.classList.remove("shown");
    readout.textContent = resting;
  });

  return h(
    "figure",
    { class: "chart" },
    h(
      "div",
      { class: "chart-plot" },
      h(
        "div",
        { class: "chart-scale", "aria-hidden": "true" },
        h("span", {}, number(top)),
        h("span", {}, top % 2 ? "" : number(top / 2)),
        h("span", {}, "0"),
      ),
      drawing,
    ),
    h(
      "figcaption",
      { class: "chart-times", "aria-hidden": "true" },
      h("span", {}, `${complete ? "" : "since "}${date(entries[entries.length - 1].at)}`),
      readout,
      h("span", {}, "now"),
    ),
  );
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * The next whole number with which a scale ends well.
 *
 * @param {number} value
 */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const ends = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((factor) => Math.round(factor * power));
  return ends.find((end) => end >= value) ?? value;
}
