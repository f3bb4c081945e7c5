/** Import and export. An import is shown as a dry run before it is done. */

/** @import { ImportedItems, ImportQuery, Problem } from "./api.js" */
import { exportItems, importItems, newKey, Refused } from "./api.js";
import { explain, notify } from "./dialog.js";
import { card, fill, h } from "./dom.js";
import { number, plural } from "./format.js";
import { may } from "./session.js";

/** @typedef {NonNullable<ImportQuery["mode"]> | "movements"} Mode */

/** @type {[Mode, string, string][]} The ways to take a file. */
const MODES = [
  ["create", "Add new items", "A row whose id is there already is refused."],
  [
    "upsert",
    "Add new items and change others",
    "Only the columns in the file change. An empty cell clears its field, except the stock.",
  ],
  ["update", "Change items", "Only the columns in the file change. A row whose id is not there is refused."],
  ["replace", "Add new items and replace others", "Fields that are not in the file are cleared, except the stock."],
  [
    "movements",
    "Book counts and movements",
    "Rows with item_id or barcode, counted or delta (such as -2), and reason, such as counted, received or sold.",
  ],
];

/**
 * @param {AbortSignal} signal Ends with the view.
 * @param {() => void} onImported
 */
export function createFilesView(signal, onImported) {
  /** @type {File | null} */
  let file = null;
  let checking = new AbortController();
  const allowed = MODES.filter(([mode]) => may(mode === "movements" ? "write" : "admin"));

  const picker = h("input", {
    type: "file",
    id: "file",
    class: "hidden",
    accept: ".csv,.ndjson,.jsonl,text/csv,application/x-ndjson",
    change: () => choose(picker.files?.[0]),
  });
  const result = h("div", { class: "result", "aria-live": "polite" });
  const modes = h(
    "fieldset",
    { class: "modes" },
    h("legend", {}, "What to do"),
    ...allowed.map(([value, label, about], index) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: "mode", value, checked: index === 0, change: check }),
        h("span", {}, label, h("small", {}, about)),
      ),
    ),
  );
  const drop = h(
    "div",
    { class: "drop", dragover: allow, dragleave: leave, drop: take },
    h("p", {}, "Drop a CSV or NDJSON file here, or"),
    picker,
    h("label", { for: "file", class: "button primary" }, "Choose a file"),
  );
  const save = h("button", { type: "button", class: "primary", click: download }, "Download all items as CSV");
  const element = h(
    "article",
    { class: "files" },
    h("h1", { tabindex: -1 }, "Files"),
    allowed.length > 0 &&
      card(
        "import",
        "Import",
        h("p", { class: "muted" }, "Nothing changes until you have seen what the file would do."),
        drop,
        modes,
        result,
      ),
    card(
      "export",
      "Export",
      h("p", { class: "muted" }, "All items, in one consistent snapshot. The file can be imported again."),
      save,
    ),
  );
  signal.addEventListener("abort", () => checking.abort());

  /** @param {DragEvent} event */
  function allow(event) {
    event.preventDefault();
    drop.classList.add("over");
  }

  function leave() {
    drop.classList.remove("over");
  }

  /** @param {DragEvent} event */
  function take(event) {
    event.preventDefault();
    leave();
    choose(event.dataTransfer?.files[0]);
  }

  /** @param {File | undefined} chosen */
  function choose(chosen) {
    if (chosen) {
      file = chosen;
      check();
    }
    // So that the same file can be chosen again after it was edited.
    picker.value = "";
  }

  function mode() {
    const chosen = modes.querySelector("input:checked");
    return /** @type {Mode} */ (chosen instanceof HTMLInputElement ? chosen.value : allowed[0][0]);
  }

  /**
   * @param {boolean} dry_run
   * @param {string} key
   */
  function send(dry_run, key) {
    checking.abort();
    checking = new AbortController();
    const chosen = /** @type {File} */ (file);
    const type = /\.(ndjson|jsonl|json)$/i.test(chosen.name) ? "application/x-ndjson" : "text/csv";
    const onRepeat = () => fill(result, h("p", {}, "No answer. Trying again: it will be imported once."));
    const chosenMode = mode();
    /** @type {ImportQuery} */
    const query = chosenMode === "movements" ? { kind: "movements", dry_run } : { mode: chosenMode, dry_run };
    return importItems(chosen, query, type, { key, signal: checking.signal, onRepeat });
  }

  async function check() {
    if (!file) {
      return;
    }
    fill(result, h("p", { "aria-busy": "true" }, `Checking ${file.name} …`));
    try {
      offer(await send(true, newKey()), newKey());
    } catch (error) {
      if (!checking.signal.aborted) {
        refuse(error);
      }
    }
  }

  /**
   * @param {ImportedItems} counts
   * @param {string} key
   */
  function offer(counts, key) {
    const changes = counts.created + counts.updated;
    fill(
      result,
      h("h3", {}, `${file?.name} would`),
      ...counted(counts, mode(), ["create", "change", "leave unchanged", "book", "find as counted"]),
      changes > 0 || (mode() === "movements" && counts.unchanged > 0)
        ? h(
            "button",
            { type: "button", class: "primary", click: () => run(key) },
            mode() === "movements"
              ? `Book ${plural(changes + counts.unchanged, "movement")}`
              : `Import ${plural(changes, "item")}`,
          )
        : h("p", {}, "Nothing would change."),
    );
  }

  /** @param {string} key */
  async function run(key) {
    fill(result, h("p", { "aria-busy": "true" }, `Importing ${file?.name} …`));
    try {
      const counts = await send(false, key);
      fill(
        result,
        h("h3", {}, "Imported"),
        ...counted(counts, mode(), ["created", "changed", "unchanged", "booked", "found as counted"]),
      );
      onImported();
    } catch (error) {
      if (!checking.signal.aborted) {
        refuse(error, () => run(key));
      }
    }
  }

  /**
   * @param {unknown} error
   * @param {() => void} [again]
   */
  function refuse(error, again) {
    const problem = error instanceof Refused ? error.problem : null;
    const errors = problem?.errors ?? [];
    fill(
      result,
      h("h3", {}, problem ? "This file cannot be imported" : "The file was not sent"),
      errors.length === 0 && h("p", {}, explain(error)),
      errors.length > 0 && h("ol", { class: "errors" }, ...errors.map(errorLine)),
      problem &&
        (problem.error_count ?? 0) > errors.length &&
        h("p", { class: "muted" }, `The first ${errors.length} of ${number(problem.error_count ?? 0)}.`),
      !problem && again && h("button", { type: "button", click: again }, "Send it again: it will be imported once"),
    );
  }

  async function download() {
    save.setAttribute("aria-busy", "true");
    try {
      const url = URL.createObjectURL(await exportItems(signal));
      h("a", { href: url, download: `stockroom-${new Date().toISOString().slice(0, 10)}.csv` }).click();
      // The browser has begun to read the blob by the next minute.
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      if (!signal.aborted) {
        notify(explain(error));
      }
    }
    save.removeAttribute("aria-busy");
  }

  return { element, shortcuts: new Map(), title: "Files" };
}

/**
 * @param {ImportedItems} counts
 * @param {Mode} mode
 * @param {[string, string, string, string, string]} labels The last two are for movements.
 */
function counted({ created, updated, unchanged, changed_fields }, mode, labels) {
  const [create, change, leave, book, find] = labels;
  const figures = /** @type {[string, number][]} */ (
    mode === "movements"
      ? [
          [book, updated],
          [find, unchanged],
        ]
      : [
          [create, created],
          [change, updated],
          [leave, unchanged],
        ]
  );
  const changed = mode === "movements" ? {} : changed_fields;
  const fields = Object.entries(changed).map(([field, count]) => `${field} ${number(count)}`);
  return [
    h(
      "dl",
      { class: "figures" },
      ...figures.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, number(value)))),
    ),
    fields.length > 0 && h("p", { class: "muted" }, `Changed fields: ${fields.join(", ")}`),
  ];
}

/** @param {NonNullable<Problem["errors"]>[number]} error */
function errorLine({ line, column, pointer, detail }) {
  const place = column ?? pointer?.slice(1);
  return h(
    "li",
    {},
    line !== undefined && h("b", {}, `Line ${number(line)}`),
    place && h("code", {}, place),
    h("span", {}, detail),
  );
}
