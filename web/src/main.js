/**
 * The page for the people at the shelf: its addresses, its keys and its search box.
 *
 * Addresses are fragments (`#/items/widget-1`), so that one file from the server is all there is. The list of items is
 * made once and kept, so that "back" finds it where it was; every other view is made for its address and ends with it.
 */

import { askNewItem, ID } from "./actions.js";
import { findCaller, getItem, listItems, Refused } from "./api.js";
import { explain, notify } from "./dialog.js";
import { byId, fill, h } from "./dom.js";
import { startFeed } from "./feed.js";
import { createFilesView } from "./files.js";
import { createList } from "./find.js";
import { relative } from "./format.js";
import { createItemView } from "./item.js";
import { lettersAct, showKeys } from "./keys.js";
import { may } from "./session.js";
import { createWatch } from "./watch.js";

const main = byId("main");
const box = /** @type {HTMLInputElement} */ (byId("find"));
const list = createList((filters) => go(listAddress(filters)));
const watch = createWatch();
const home = h("div", { class: "home" }, list.element, watch.element);

/** Ends once it is known what the person may do. */
const known = findCaller().catch(() => undefined);

/** @type {Map<string, () => void>} */
let shortcuts = new Map();
let view = new AbortController();
/** Scroll position of the list when it was left. */
let scrolled = 0;

/** @param {string} address */
function go(address) {
  location.hash = address;
}

/** @param {import("./find.js").Filters} filters */
function listAddress({ q, category, location, low }) {
  const given = Object.entries({ q, category, location, low: low ? "1" : "" }).filter(([, value]) => value);
  return given.length > 0 ? `#/?${new URLSearchParams(given)}` : "#/";
}

/** @param {URLSearchParams} query */
function filtersIn(query) {
  const get = (/** @type {string} */ name) => query.get(name) ?? "";
  return { q: get("q"), category: get("category"), location: get("location"), low: query.has("low") };
}

/** @param {boolean} first True when the page opens: then the focus stays where the browser has it. */
async function route(first) {
  const [path, query = ""] = (location.hash || "#/").slice(1).split("?");
  const [, section, id] = path.split("/");
  if (home.isConnected) {
    scrolled = scrollY;
  }
  view.abort();
  view = new AbortController();
  const { signal } = view;
  shortcuts = new Map();
  const current = section === "watch" || section === "files" ? section : "items";
  for (const link of document.querySelectorAll("[data-route]")) {
    if (link.getAttribute("data-route") === current) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }

  // The views offer what the person may do.
  await known;
  if (signal.aborted) {
    return;
  }
  if (section === "items" && id) {
    const made = await createItemView(decodeURIComponent(id), signal).catch(() => null);
    if (made && !signal.aborted) {
      show(made, first);
    }
  } else if (section === "files") {
    show(createFilesView(signal, list.reload), first);
  } else {
    const filters = filtersIn(new URLSearchParams(query));
    if (box !== document.activeElement) {
      box.value = filters.q;
    }
    home.dataset.tab = current;
    document.title = "Stockroom";
    const listed = list.show(filters);
    if (!home.isConnected) {
      fill(main, home);
      scrollTo(0, scrolled);
      if (!first && box !== document.activeElement) {
        main.focus({ preventScroll: true });
      }
    }
    if (first && matchMedia("(pointer: fine)").matches) {
      box.focus();
    }
    await listed;
  }
}

/**
 * @param {{ element: HTMLElement, shortcuts: Map<string, () => void>, title: string }} made
 * @param {boolean} first
 */
function show(made, first) {
  shortcuts = made.shortcuts;
  document.title = `${made.title} · Stockroom`;
  fill(main, made.element);
  scrollTo(0, 0);
  if (!first) {
    made.element.querySelector("h1")?.focus();
  }
}

/** Opens the item that was scanned, or else the only one that is found. */
async function open() {
  const text = box.value.trim();
  if (text === "") {
    return;
  }
  const found = await lookUp(text);
  if (found !== null) {
    box.value = "";
    go(`#/items/${encodeURIComponent(found)}`);
  } else {
    list.focusFirst();
  }
}

/**
 * Returns the id of the item that this text names, by its id or by a barcode.
 *
 * @param {string} text
 */
async function lookUp(text) {
  try {
    if (ID.test(text)) {
      const item = await getItem(text).catch((error) => {
        if (error instanceof Refused && error.status === 404) {
          return null;
        }
        throw error;
      });
      if (item) {
        return item.id;
      }
    }
    const { items } = await listItems({ barcode: text });
    if (items.length > 0) {
      return items[0].id;
    }
  } catch (error) {
    notify(explain(error));
  }
  return list.only();
}

async function create() {
  if (!may("write")) {
    return;
  }
  const created = await askNewItem(box.value.trim());
  if (created) {
    list.reload();
    go(`#/items/${encodeURIComponent(created.id)}`);
  }
}

/** Keys that follow each other in fewer milliseconds come from a scanner and not from fingers. */
const SCANNER = 50;

/** Keys typed outside of a field within the last moment. */
let typed = "";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/**
 * Outside of fields, a letter begins an action. A scanner may type there too: its letters must begin none, and its code
 * belongs into the search box, so that a letter waits for a moment to see whether another one follows.
 *
 * @param {KeyboardEvent} event
 */
function onKey(event) {
  const busy = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (busy || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key === "Enter" && typed.length > 1) {
    event.preventDefault();
    typed = "";
    open();
  } else if (event.key === "Enter") {
    endTyping();
  } else if (event.key === "Escape" && !home.isConnected) {
    go("#/");
  } else if (event.key === "/" && typed === "") {
    event.preventDefault();
    box.select();
  } else if (event.key.length === 1 && event.key !== " ") {
    event.preventDefault();
    typed += event.key;
    if (typed.length > 1) {
      box.value = typed;
      box.focus();
    }
    clearTimeout(typing);
    typing = setTimeout(endTyping, SCANNER);
  }
}

function endTyping() {
  clearTimeout(typing);
  const key = typed;
  typed = "";
  const run = key === "n" ? create : shortcuts.get(key);
  if (key === "?") {
    showKeys();
  } else if (run && lettersAct()) {
    run();
  } else if (/^[0-9]$/.test(key)) {
    box.value = key;
    box.focus();
  }
}

box.addEventListener("input", () => {
  const q = box.value.trim();
  const query = new URLSearchParams(location.hash.split("?")[1]);
  const address = listAddress({ ...filtersIn(query), q });
  if (home.isConnected) {
    // Typing makes no history.
    history.replaceState(null, "", address);
    route(false);
  } else {
    go(address);
  }
});
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") {
    event.preventDefault();
    list.focusFirst();
  } else if (event.key === "Escape" && box.value === "") {
    box.blur();
  }
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  open();
});
byId("new").addEventListener("click", create);
byId("keys").addEventListener("click", showKeys);
byId("skip").addEventListener("click", (event) => {
  // A fragment is an address here.
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", onKey);
addEventListener("hashchange", () => route(false));
setInterval(() => {
  for (const time of document.querySelectorAll("time")) {
    time.textContent = relative(time.dateTime);
  }
}, 30_000);

// Sums and feed wait until the view itself is on the screen.
route(true).finally(() =>
  requestAnimationFrame(() =>
    setTimeout(() => {
      watch.start();
      startFeed();
    }),
  ),
);
