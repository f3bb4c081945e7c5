/**
 * The list of items: search, filters, pages without end.
 *
 * Each keystroke cancels the search before it, so that typing stays fluid however large the inventory is. The search is
 * in the page's address, so that it survives a reload and "back".
 */

/** @import { Entry, Item } from "./api.js" */
import { getItem, isTemporary, listItems, listLabels } from "./api.js";
import { explain } from "./dialog.js";
import { fill, h } from "./dom.js";
import { follow } from "./feed.js";
import { number, plural } from "./format.js";
import { remember } from "./names.js";
import { paced } from "./pace.js";

/** Milliseconds between two readings of items that others edit. */
const REST_OF_LIST = 1_000;

/** Items per request. */
const ITEM_PAGE = 50;

/** @typedef {{ q: string, category: string, location: string, low: boolean }} Filters */

/**
 * @param {(filters: Filters) => void} onChange Called when a person changes a filter here.
 */
export function createList(onChange) {
  /** @type {Filters} */
  let filters = { q: "", category: "", location: "", low: false };
  /** @type {string | undefined} */
  let cursor;
  let failed = false;
  /** Number of items created since the first page was read. */
  let created = 0;
  let loading = new AbortController();
  /** @type {Promise<void>} */
  let loaded = Promise.resolve();
  /** @type {Map<string, { item: Item, row: HTMLElement }>} */
  const shown = new Map();
  const offered = { category: false, location: false };

  const category = filterInput("category", "Any category");
  const location = filterInput("location", "Any location");
  const low = h("input", { type: "checkbox", id: "filter-low", change: changed });
  const status = h("p", { class: "muted", role: "status" });
  const rows = h("ul", { class: "rows", "aria-label": "Items" });
  const more = h("button", { type: "button", class: "more", click: () => load(false) }, "Show more");
  const none = h("div", { class: "empty" });
  const news = h("button", { type: "button", class: "news", hidden: true, click: () => load(true) });
  const element = h(
    "section",
    { class: "list", "aria-labelledby": "list-title" },
    h("h1", { id: "list-title", tabindex: -1, class: "hidden" }, "Items"),
    h(
      "div",
      { class: "filters" },
      category.label,
      location.label,
      h("label", { class: "chip" }, low, h("span", {}, "Low stock")),
      status,
    ),
    news,
    rows,
    none,
    more,
  );
  rows.addEventListener("keydown", moveFocus);

  /**
   * @param {"category" | "location"} name
   * @param {string} placeholder
   */
  function filterInput(name, placeholder) {
    const list = h("datalist", { id: `known-${name}` });
    const input = h("input", {
      type: "search",
      placeholder,
      list: list.id,
      "aria-label": name,
      autocomplete: "off",
      change: changed,
      search: changed,
      // The first time only: nobody needs them before.
      focus: () => offered[name] || offer(name),
    });
    return { label: h("span", { class: "filter" }, input, list), input, list };
  }

  function changed() {
    onChange({
      ...filters,
      category: category.input.value.trim(),
      location: location.input.value.trim(),
      low: low.checked,
    });
  }

  /** @param {KeyboardEvent} event */
  function moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = [...rows.querySelectorAll("a")];
    const next = links[links.findIndex((link) => link.matches(":focus")) + (step ?? 0)];
    if (step && next) {
      event.preventDefault();
      next.focus();
    }
  }

  /** @param {boolean} first True for the first page, false for the next. */
  async function load(first) {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    const { q, category, location, low } = filters;
    rows.setAttribute("aria-busy", "true");
    try {
      const query = /** @type {const} */ ({
        q,
        category,
        location,
        ...(low ? { low_stock: true } : {}),
        sort: "name",
        limit: ITEM_PAGE,
        cursor: first ? undefined : cursor,
      });
      const page = await listItems(query, signal);
      failed = false;
      if (first) {
        shown.clear();
        fill(rows);
        created = 0;
        news.hidden = true;
      }
      cursor = page.next_cursor;
      append(page.items);
      say();
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      failed = isTemporary(error);
      fill(none, h("p", {}, explain(error)), h("button", { type: "button", click: () => load(first) }, "Try again"));
    }
    more.hidden = !cursor;
    rows.removeAttribute("aria-busy");
    // The sentinel may still be in sight after a short page: observing it again says so.
    sight.unobserve(more);
    sight.observe(more);
  }

  /** @param {Item[]} items */
  function append(items) {
    for (const item of items) {
      remember(item);
      const row = h("li");
      shown.set(item.id, { item, row });
      draw(item);
      rows.append(row);
    }
  }

  /**
   * Offers the categories or locations in use, with the numbers of their items.
   *
   * @param {"category" | "location"} name
   */
  async function offer(name) {
    offered[name] = true;
    const labels = await listLabels(name === "category" ? "categories" : "locations").catch(() => null);
    offered[name] = labels !== null;
    const { list } = name === "category" ? category : location;
    fill(list, ...(labels?.values ?? []).map((one) => h("option", { value: one.name }, plural(one.items, "item"))));
  }

  function isFiltered() {
    return Boolean(filters.q || filters.category || filters.location || filters.low);
  }

  function say() {
    status.textContent = `${cursor ? "First " : ""}${plural(shown.size, "item")}`;
    if (shown.size > 0) {
      fill(none);
    } else if (isFiltered()) {
      fill(none, h("p", {}, "Nothing matches."), h("a", { href: "#/" }, "Show all items"));
    } else {
      fill(
        none,
        h("p", {}, "The shelves are empty."),
        h("p", { class: "muted" }, "Create the first item, or drop a CSV file under Files."),
      );
    }
  }

  /** @param {Item} item */
  function draw(item) {
    const known = shown.get(item.id);
    if (!known) {
      return;
    }
    known.item = item;
    const href = `#/items/${encodeURIComponent(item.id)}`;
    if (!known.row.firstChild) {
      known.row.append(h("a", { href }));
    }
    fill(
      /** @type {Element} */ (known.row.firstChild),
      h("span", { class: "row-name" }, ...marked(item.name, filters.q)),
      h("span", { class: "row-about" }, ...marked(item.id, filters.q), item.category && ` · ${item.category}`),
      h("span", { class: "row-place" }, item.location ?? ""),
      h(
        "span",
        { class: "row-stock" },
        item.low_stock && h("span", { class: "low" }, "Low"),
        h("b", {}, number(item.available)),
        h("small", {}, item.unit ?? ""),
        item.reserved > 0 && h("small", { class: "row-reserved" }, `${number(item.reserved)} reserved`),
      ),
    );
  }

  /** @type {Set<string>} Items on the list whose fields others changed. */
  const edited = new Set();

  /** Reads them again one after the other, so that thousands of changes are no burst of requests. */
  const readEdited = paced(async () => {
    const ids = [...edited];
    edited.clear();
    for (const id of ids) {
      const item = await getItem(id).catch(() => null);
      if (item) {
        remember(item);
        draw(item);
      }
    }
  }, REST_OF_LIST);

  /** @param {Entry} entry */
  function update(entry) {
    const known = shown.get(entry.item_id);
    if (!known) {
      if (entry.event === "created" && !isFiltered()) {
        created += 1;
        news.hidden = false;
        news.textContent = `Show ${plural(created, "new item")}`;
      }
      return;
    }
    if (entry.event === "deleted") {
      known.row.remove();
      shown.delete(entry.item_id);
      say();
    } else if (entry.event === "created" || entry.event === "updated") {
      edited.add(entry.item_id);
      readEdited();
    } else if (entry.version > known.item.version) {
      const { quantity, reserved, version } = entry;
      const { reorder_level } = known.item;
      const available = quantity - reserved;
      const low_stock = reorder_level !== undefined && available <= reorder_level;
      draw({ ...known.item, quantity, reserved, available, low_stock, version });
    }
  }

  const sight = new IntersectionObserver(
    (seen) => {
      if (seen.some((one) => one.isIntersecting) && cursor && !rows.hasAttribute("aria-busy") && !failed) {
        load(false);
      }
    },
    { rootMargin: "600px" },
  );
  follow({
    onEntry: update,
    onState: (state) => {
      if (state === "live" && failed) {
        load(true);
      }
    },
  });

  return {
    element,
    /**
     * Shows what these filters find, unless it is shown already.
     *
     * @param {Filters} wanted
     * @returns {Promise<void>} Ends with the first page.
     */
    show(wanted) {
      if (JSON.stringify(wanted) === JSON.stringify(filters) && shown.size > 0) {
        return loaded;
      }
      scrollTo(0, 0);
      filters = wanted;
      category.input.value = wanted.category;
      location.input.value = wanted.location;
      low.checked = wanted.low;
      loaded = load(true);
      return loaded;
    },
    /** Returns the id of the only item that the search under way finds, if it finds only one. */
    async only() {
      await loaded;
      return shown.size === 1 ? [...shown.keys()][0] : null;
    },
    /** Goes to the first item that the search under way finds. */
    async focusFirst() {
      await loaded;
      rows.querySelector("a")?.focus();
    },
    /** Reads the first page again, as after an import. */
    reload: () => load(true),
  };
}

/**
 * The text with what was searched for marked.
 *
 * @param {string} text
 * @param {string} wanted
 */
function marked(text, wanted) {
  const start = wanted ? text.toLowerCase().indexOf(wanted.toLowerCase()) : -1;
  const end = start + wanted.length;
  return start < 0 ? [text] : [text.slice(0, start), h("mark", {}, text.slice(start, end)), text.slice(end)];
}
