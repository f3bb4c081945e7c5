/** The watch panel: the summary, low stock, and the latest changes as they happen. */

/** @import { Entry } from "./api.js" */
import { getSummary, listItems, listLedger } from "./api.js";
import { card, fill, h } from "./dom.js";
import { follow } from "./feed.js";
import { number, plural, price, quantity, relative, remarks, words } from "./format.js";
import { nameOf, remember } from "./names.js";
import { paced } from "./pace.js";

/** Entries shown. */
const CHANGES = 12;

/** Milliseconds between two readings of the sums, however many changes there are. */
const REST = 2_000;

export function createWatch() {
  const figures = h("dl", { class: "figures" });
  const low = h("ul", { class: "short" });
  const changes = h("ol", { class: "short" });
  const state = h("span", { class: "live" }, "Connecting");
  const none = h("p", { class: "muted" }, "Nothing has happened yet.");
  /** @type {Entry[]} Newest first. */
  let latest = [];

  const element = h(
    "aside",
    { class: "watch", "aria-label": "Watch" },
    h("section", { class: "card", "aria-label": "Summary" }, figures),
    card("low", "Low stock", low),
    card("changes", ["Latest changes", state], changes, none),
  );

  const readSums = paced(async () => {
    const [summary, items] = await Promise.all([
      getSummary().catch(() => null),
      listItems({ low_stock: true, sort: "quantity", limit: 8 }).catch(() => null),
    ]);
    if (summary) {
      fill(
        figures,
        figure("Items", number(summary.items)),
        figure("Low", number(summary.low_stock)),
        ...summary.stock_value.map((value) => figure("Stock value", price(value))),
      );
    }
    if (items) {
      items.items.forEach(remember);
      const rows = items.items.map((item) =>
        h(
          "li",
          {},
          h("a", { href: `#/items/${encodeURIComponent(item.id)}` }, item.name),
          h("b", {}, quantity(item.available, item.unit)),
          h(
            "span",
            { class: "muted wide" },
            [`Reorder at ${number(item.reorder_level ?? 0)}`, item.location].filter(Boolean).join(" · "),
          ),
        ),
      );
      const rest = items.next_cursor && summary ? summary.low_stock - rows.length : 0;
      fill(
        low,
        ...rows,
        rest > 0 && h("li", {}, h("a", { href: "#/?low=1" }, `And ${plural(rest, "more item")}`)),
        rows.length === 0 && h("li", { class: "muted" }, "Nothing is low."),
      );
    }
  }, REST);

  /**
   * @param {string} label
   * @param {string} value
   */
  function figure(label, value) {
    return h("div", {}, h("dt", {}, label), h("dd", {}, value));
  }

  /** Shows the latest entries, and looks up the names of these items alone, however many entries came. */
  const draw = paced(() => {
    none.hidden = latest.length > 0;
    fill(changes, ...latest.map(line));
  }, REST / 10);

  /** @param {Entry} entry */
  function line(entry) {
    const link = h("a", { href: `#/items/${encodeURIComponent(entry.item_id)}` }, entry.item_id);
    nameOf(entry.item_id).then((name) => {
      link.textContent = name;
    });
    const about = [words(entry), remarks(entry)].filter(Boolean).join(" · ");
    const time = h("time", { datetime: entry.at, class: "muted" }, relative(entry.at));
    return h("li", {}, link, h("span", { class: "muted wide" }, about), time);
  }

  follow({
    onEntry: (entry) => {
      latest = [entry, ...latest].slice(0, CHANGES);
      draw();
      readSums();
    },
    onState: (now) => {
      state.textContent = { live: "Live", paused: "Paused", offline: "Not live" }[now];
      state.dataset.state = now;
    },
    onHead: async (position) => {
      const page = await listLedger({ after: Math.max(position - CHANGES, 0), limit: CHANGES }).catch(() => null);
      const before = page?.entries.filter((entry) => entry.position <= position).reverse() ?? [];
      latest = [...latest, ...before].slice(0, CHANGES);
      draw();
    },
  });

  return { element, start: readSums };
}
