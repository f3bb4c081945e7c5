/** The view of one item: stock, actions, history, reservations and fields. */

/** @import { Entry, Item, Reservation } from "./api.js" */
import { ACTIONS, askToStep, askToUndo, reservationInWords, STEPS } from "./actions.js";
import { getItem, listHistory, listOpenReservations, Refused } from "./api.js";
import { stockChart } from "./chart.js";
import { explain } from "./dialog.js";
import { card, fill, h } from "./dom.js";
import { follow } from "./feed.js";
import { moment, number, price, relative, remarks, signed, stockInWords, words } from "./format.js";
import { remember } from "./names.js";
import { paced } from "./pace.js";
import { may } from "./session.js";

/** The most entries that the chart is made from. */
const CHARTED = 1_000;

/** The most entries that the server sends at once. */
const HISTORY_PAGE = 200;

/** Milliseconds between two readings of the item, however many changes there are. */
const REST_OF_ITEM = 300;

/** Entries shown at first. */
const SHOWN = 12;

/**
 * @param {string} id
 * @param {AbortSignal} signal Ends with the view.
 */
export async function createItemView(id, signal) {
  /** @type {Item} */
  let item;
  try {
    item = await getItem(id, signal);
  } catch (error) {
    signal.throwIfAborted();
    return { element: missing(id, error), shortcuts: new Map(), title: id };
  }
  /** @type {Entry[]} Newest first, without gaps. */
  let entries = [];
  /** @type {number | undefined} */
  let older;
  let visible = SHOWN;
  /** @type {Reservation[]} */
  let reservations = [];

  const title = h("h1", { tabindex: -1 });
  const about = h("p", { class: "muted" });
  const available = h("p", { class: "available" });
  const stock = h("p", { class: "muted" });
  const chart = h("div");
  const held = h("ul", { class: "short" });
  const ledger = h("ol", { class: "ledger" });
  const more = h("button", { type: "button", class: "more", click: showOlder }, "Show older");
  const fields = h("dl", { class: "details" });

  const actions = (may("write") ? ACTIONS : []).map(({ key, label, run }) =>
    h(
      "button",
      { type: "button", "aria-keyshortcuts": key, click: () => act(run) },
      h("span", {}, label),
      h("kbd", { "aria-hidden": "true" }, key.toUpperCase()),
    ),
  );
  const element = h(
    "article",
    { class: "item" },
    h("header", { class: "item-head" }, title, about),
    h(
      "div",
      { class: "item-main" },
      h(
        "section",
        { class: "card stock", "aria-label": "Stock" },
        h("div", { class: "stock-figures", "aria-live": "polite", "aria-atomic": "true" }, available, stock),
        actions.length > 0 && h("div", { class: "actions" }, ...actions),
      ),
      card("chart", "Stock over time", chart),
      card("ledger", "Ledger", ledger, more),
    ),
    h("div", { class: "item-side" }, card("held", "Open reservations", held), card("fields", "Fields", fields)),
  );

  /** @param {(item: Item) => Promise<unknown>} run */
  async function act(run) {
    if (await run(item)) {
      refresh();
    }
  }

  /** @param {keyof typeof STEPS} step @param {Reservation[]} [choice] */
  function take(step, choice = reservations) {
    return act((current) => askToStep(current, step, choice));
  }

  /** @param {Entry} entry */
  function undo(entry) {
    return act((current) => askToUndo(current, entry));
  }

  /** Returns the movements that can be undone: those of this item that no entry undoes already. */
  function undoable() {
    const undone = new Set(entries.map((entry) => entry.reverses));
    // Before its deletion the id was another item's.
    const deletion = entries.findIndex(({ event }) => event === "deleted");
    const own = deletion < 0 ? entries : entries.slice(0, deletion);
    return may("write") ? own.filter(({ event, position }) => event === "moved" && !undone.has(position)) : [];
  }

  function drawItem() {
    remember(item);
    title.textContent = item.name;
    fill(
      about,
      item.id,
      ...(item.category ? [" · ", filterLink("category", item.category)] : []),
      ...(item.location ? [" · ", filterLink("location", item.location)] : []),
    );
    fill(
      available,
      h("b", {}, number(item.available)),
      " ",
      h("span", {}, item.unit ? `${item.unit} available` : "available"),
      item.low_stock && h("span", { class: "low" }, "Low"),
    );
    stock.textContent = `${stockInWords(item)}${item.reorder_level === undefined ? "" : `, reorder at ${number(item.reorder_level)}`}`;
    const attributes = Object.entries(item.attributes).map(
      ([name, value]) => /** @type {const} */ ([name, typeof value === "string" ? value : JSON.stringify(value)]),
    );
    const details = /** @type {[string, string | undefined][]} */ ([
      ["Price of one", item.unit_price && price(item.unit_price)],
      ["Barcodes", item.barcodes?.join(", ")],
      ["Unit", item.unit],
      ["Category", item.category],
      ["Location", item.location],
      ["Description", item.description],
      ...attributes,
      ["Created", moment(item.created_at)],
      ["Last changed", moment(item.updated_at)],
    ]);
    fill(
      fields,
      ...details
        .filter(([, value]) => value)
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    );
  }

  function drawHistory() {
    if (entries.length > 0) {
      fill(
        chart,
        stockChart(entries.slice(0, CHARTED), item.reorder_level, older === undefined && entries.length <= CHARTED),
      );
    }
    const canUndo = new Set(undoable());
    fill(
      ledger,
      ...entries
        .slice(0, visible)
        .map((entry, index) => ledgerLine(entry, entries[index + 1], canUndo.has(entry) ? undo : null)),
    );
    more.hidden = visible >= entries.length && older === undefined;
  }

  function drawReservations() {
    fill(
      held,
      ...reservations.map((one) =>
        h(
          "li",
          {},
          h("b", {}, reservationInWords(one, item.unit)),
          h("span", { class: "muted" }, `until ${moment(one.expires_at)}`),
          may("write") &&
            h(
              "span",
              { class: "buttons" },
              ...Object.entries(STEPS).map(([step, { label }]) =>
                h(
                  "button",
                  {
                    type: "button",
                    "aria-label": `${label} ${reservationInWords(one, item.unit)}`,
                    click: () => take(/** @type {keyof typeof STEPS} */ (step), [one]),
                  },
                  label,
                ),
              ),
            ),
        ),
      ),
      reservations.length === 0 && h("li", { class: "muted" }, "Nothing is reserved."),
    );
  }

  async function readHistory() {
    do {
      const page = await listHistory(id, { limit: HISTORY_PAGE, before: older }, signal);
      const last = entries[entries.length - 1]?.position ?? Number.POSITIVE_INFINITY;
      // A change may have brought the newest page already.
      entries.push(...page.entries.filter((entry) => entry.position < last));
      older = page.next_before;
      drawHistory();
    } while (older !== undefined && entries.length < CHARTED);
  }

  async function showOlder() {
    visible += SHOWN * 4;
    if (visible > entries.length && older !== undefined) {
      const page = await listHistory(id, { limit: HISTORY_PAGE, before: older }, signal);
      entries.push(...page.entries);
      older = page.next_before;
    }
    drawHistory();
  }

  /** Reads what changed: the item, its newest entries and its reservations. */
  const refresh = paced(async () => {
    try {
      const [now, history, open] = await Promise.all([
        getItem(id, signal),
        listHistory(id, { limit: HISTORY_PAGE }, signal),
        listOpenReservations(id, signal),
      ]);
      const newest = entries[0]?.position ?? 0;
      const added = history.entries.filter((entry) => entry.position > newest);
      if (added.length === history.entries.length && history.next_before !== undefined) {
        [entries, older] = [history.entries, history.next_before];
      } else {
        entries = [...added, ...entries];
      }
      item = now;
      reservations = open.reservations;
      drawItem();
      drawHistory();
      drawReservations();
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        fill(element, missing(id, error));
      }
    }
  }, REST_OF_ITEM);

  drawItem();
  drawReservations();
  readHistory().catch(() => undefined);
  listOpenReservations(id, signal)
    .then((page) => {
      reservations = page.reservations;
      drawReservations();
    })
    .catch(() => undefined);
  let offline = false;
  follow(
    {
      onEntry: (entry) => {
        if (entry.item_id === id && entry.version !== item.version) {
          refresh();
        }
      },
      onState: (state) => {
        if (state === "live" && offline) {
          refresh();
        }
        offline = state === "offline";
      },
    },
    signal,
  );

  /** @type {Map<string, () => void>} */
  const shortcuts = new Map();
  if (may("write")) {
    for (const { key, run } of ACTIONS) {
      shortcuts.set(key, () => act(run));
    }
    for (const [step, { key }] of Object.entries(STEPS)) {
      shortcuts.set(key, () => take(/** @type {keyof typeof STEPS} */ (step)));
    }
    shortcuts.set("u", () => {
      const [last] = undoable();
      last && undo(last);
    });
  }
  return { element, shortcuts, title: item.name };
}

/**
 * @param {Entry} entry
 * @param {Entry | undefined} before
 * @param {((entry: Entry) => void) | null} undo
 */
function ledgerLine(entry, before, undo) {
  const said = remarks(entry);
  return h(
    "li",
    {},
    h(
      "span",
      { class: "ledger-delta", "data-sign": String(Math.sign(entry.delta)) },
      entry.delta ? signed(entry.delta) : "·",
    ),
    h(
      "span",
      { class: "ledger-words" },
      words(entry, before),
      said && h("span", { class: "ledger-said muted" }, said),
      undo && undoButton(entry, before, undo),
    ),
    h("span", { class: "ledger-left muted" }, `${number(entry.quantity)} in stock`),
    h("time", { datetime: entry.at, title: moment(entry.at), class: "muted" }, relative(entry.at)),
  );
}

/**
 * @param {Entry} entry
 * @param {Entry | undefined} before
 * @param {(entry: Entry) => void} undo
 */
function undoButton(entry, before, undo) {
  const label = `Undo: ${words(entry, before)}`;
  return h("button", { type: "button", class: "undo", "aria-label": label, click: () => undo(entry) }, "Undo");
}

/**
 * @param {"category" | "location"} name
 * @param {string} value
 */
function filterLink(name, value) {
  return h("a", { href: `#/?${new URLSearchParams({ [name]: value })}` }, value);
}

/**
 * @param {string} id
 * @param {unknown} error
 */
function missing(id, error) {
  const gone = error instanceof Refused && error.status === 404;
  return h(
    "div",
    { class: "empty" },
    h("h1", { tabindex: -1 }, gone ? "No such item" : "The item cannot be shown"),
    h("p", {}, gone ? `There is no item with the id ${id}.` : explain(error)),
    h("a", { href: "#/" }, "Show all items"),
  );
}
