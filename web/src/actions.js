/**
 * Actions on an item. Each is a question (`dialog.js`) and one call (`api.js`), sent only for the
 * version that the person has seen.
 */

/** @import { Entry, Item, ItemChanges, NewItem, NewMovement, Reservation } from "./api.js" */
/** @import { Field, Values } from "./dialog.js" */
import {
  changeReservation,
  createItem,
  getItem,
  listHistory,
  moveStock,
  patchItem,
  Refused,
  reserveStock,
  reverseMovement,
} from "./api.js";
import { ask, explain, notify } from "./dialog.js";
import { h } from "./dom.js";
import { moment, number, quantity, stockInWords, words } from "./format.js";

/** The most stock that an item can have. */
const MOST = 1e12;

/** @type {Field[]} */
const REMARKS = [
  { name: "reference", label: "Reference", hint: "An order, a delivery note, …", maxlength: 200, more: true },
  { name: "note", label: "Note", type: "textarea", maxlength: 1_000, more: true },
];

/** @typedef {NewMovement["reason"]} Reason */
/** @type {[Reason, string][]} */
const REASONS = [
  ["damaged", "Damaged"],
  ["lost", "Lost"],
  ["found", "Found"],
  ["returned", "Returned"],
  ["transferred", "Transferred"],
  ["correction", "Correction"],
];

/** @type {Record<string, string>} The direction that a reason suggests; the others suggest none. */
const SUGGESTED = { damaged: "-1", lost: "-1", found: "1", returned: "1" };

/** Seconds for which stock can be reserved. */
const TERMS = /** @type {[string, string][]} */ ([
  ["900", "15 minutes"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["259200", "3 days"],
  ["604800", "1 week"],
  ["2592000", "30 days"],
]);

/**
 * @typedef {object} Action
 * @property {string} key The letter that begins it.
 * @property {string} label
 * @property {(item: Item) => Promise<unknown>} run
 */

/** @type {Action[]} The actions offered for every item. */
export const ACTIONS = [
  { key: "r", label: "Receive", run: (item) => askMovement(item, "Receive", "received", 1) },
  { key: "s", label: "Sell", run: (item) => askMovement(item, "Sell", "sold", -1) },
  { key: "c", label: "Count", run: askCount },
  { key: "x", label: "Correct", run: askCorrection },
  { key: "h", label: "Reserve", run: askReservation },
  { key: "e", label: "Edit", run: askChanges },
];

/**
 * Returns an item's stock for a question. If somebody changes the item meanwhile, the change is refused, the question
 * shows the new stock, and the next try is for the new version.
 *
 * @param {Item} item
 */
function shown(item) {
  const stock = h("p", { class: "dialog-stock" }, stockInWords(item));
  const state = { item, intro: [h("p", { class: "dialog-item" }, item.name), stock], explain: explainStale };
  return state;

  /** @param {Refused} error */
  async function explainStale(error) {
    if (error.status !== 412) {
      return error.problem.errors ? null : explain(error, item.unit);
    }
    const before = state.item;
    const [now, { entries }] = await Promise.all([getItem(item.id), listHistory(item.id, { limit: 2 })]);
    state.item = now;
    stock.textContent = stockInWords(now);
    const change = `${words(entries[0], entries[1])}: ${number(before.quantity)} → ${number(now.quantity)}`;
    return `The item was changed meanwhile (${change}). Nothing was booked. Check, and send it again.`;
  }
}

/**
 * @param {Values} values
 * @returns {{ reference?: string, note?: string }}
 */
function remarksIn({ reference, note }) {
  return { reference: reference || undefined, note: note || undefined };
}

/**
 * Asks how the stock of an item changes, with remarks, and reports the rest.
 *
 * @param {Item} item
 * @param {object} question
 * @param {string} question.title
 * @param {string} [question.submit] Label of the button, if it is not the title.
 * @param {Field[]} question.fields
 * @param {(form: HTMLFormElement) => void} [question.ready]
 * @param {(values: Values) => NewMovement} question.change
 */
async function askToMove(item, { title, submit = title, fields, ready, change }) {
  const state = shown(item);
  const moved = await ask({
    title,
    ...state,
    fields: [...fields, ...REMARKS],
    submit,
    ready,
    send: (values, attempt) => moveStock(state.item, { ...change(values), ...remarksIn(values) }, attempt),
  });
  if (moved) {
    // A repeat has no item if somebody has deleted it meanwhile.
    const left = moved.item ? `${quantity(moved.item.available, moved.item.unit)} available.` : "The item is deleted.";
    notify(`${words(moved.entry)}. ${left}`);
  }
  return moved;
}

/** @type {Field} */
const DELTA = { name: "delta", label: "How many", type: "number", value: 1, required: true, min: 1, max: MOST };

/**
 * @param {Item} item
 * @param {string} title
 * @param {Reason} reason
 * @param {1 | -1} direction
 */
function askMovement(item, title, reason, direction) {
  const change = (/** @type {Values} */ { delta }) => ({ delta: direction * Number(delta), reason });
  return askToMove(item, { title, fields: [DELTA], change });
}

/** @param {Item} item */
function askCount(item) {
  return askToMove(item, {
    title: "Count",
    submit: "Save the count",
    fields: [
      {
        name: "counted",
        label: "How many are there",
        type: "number",
        value: item.quantity,
        required: true,
        min: 0,
        max: MOST,
      },
    ],
    change: ({ counted }) => ({ counted: Number(counted), reason: "counted" }),
  });
}

/** @param {Item} item */
function askCorrection(item) {
  return askToMove(item, {
    title: "Correct",
    fields: [
      DELTA,
      {
        name: "direction",
        label: "Direction",
        type: "choice",
        value: "-1",
        options: [
          ["-1", "Take away"],
          ["1", "Add"],
        ],
      },
      { name: "reason", label: "Why", type: "select", options: REASONS, value: "damaged" },
    ],
    ready: ({ elements }) => {
      const reason = /** @type {HTMLSelectElement} */ (elements.namedItem("reason"));
      const direction = /** @type {RadioNodeList} */ (elements.namedItem("direction"));
      reason.addEventListener("change", () => {
        direction.value = SUGGESTED[reason.value] ?? direction.value;
      });
    },
    change: ({ delta, direction, reason }) => ({
      delta: Number(direction) * Number(delta),
      reason: /** @type {Reason} */ (reason),
    }),
  });
}

/** @param {Item} item */
async function askReservation(item) {
  const state = shown(item);
  const reservation = await ask({
    title: "Reserve",
    ...state,
    fields: [
      { name: "quantity", label: "How many", type: "number", value: 1, required: true, min: 1, max: MOST },
      { name: "expires_in", label: "For how long", type: "select", options: TERMS, value: "86400" },
      { name: "reference", label: "For whom", hint: "An order or a name", maxlength: 200 },
    ],
    submit: "Reserve",
    send: (values, attempt) =>
      reserveStock(
        state.item,
        {
          quantity: Number(values.quantity),
          expires_in: Number(values.expires_in),
          reference: values.reference || undefined,
        },
        attempt,
      ),
  });
  if (reservation) {
    notify(`Reserved ${number(reservation.quantity)} until ${moment(reservation.expires_at)}.`);
  }
  return reservation;
}

/** The steps of a reservation. */
export const STEPS = /** @type {const} */ ({
  fulfil: { key: "f", label: "Fulfil", text: "The stock leaves the shelf. What is left stays reserved." },
  release: { key: "l", label: "Release", text: "The stock is available to others again." },
  extend: { key: "t", label: "Extend", text: "The stock is held longer." },
});

/**
 * @param {Item} item
 * @param {keyof typeof STEPS} step
 * @param {Reservation[]} reservations The ones to choose from.
 */
export async function askToStep(item, step, reservations) {
  if (reservations.length === 0) {
    notify("Nothing is reserved.");
    return null;
  }
  const { label, text } = STEPS[step];
  const options = reservations.map(
    (one) => /** @type {[string, string]} */ ([one.id, reservationInWords(one, item.unit)]),
  );
  const only = reservations.length === 1;
  /** @type {Field[]} */
  const fields = only
    ? []
    : [{ name: "reservation", label: "Reservation", type: "select", options, value: options[0][0] }];
  if (step === "fulfil") {
    const [{ quantity: held }] = reservations;
    fields.push({
      name: "quantity",
      label: "How many",
      type: "number",
      value: held,
      required: true,
      min: 1,
      max: only ? held : MOST,
    });
  } else if (step === "extend") {
    fields.push({
      name: "expires_in",
      label: "For how long, from now",
      type: "select",
      options: TERMS,
      value: "86400",
    });
  }
  const chosen = (/** @type {string} */ id) => reservations.find((one) => one.id === id) ?? reservations[0];
  const changed = await ask({
    title: label,
    intro: [h("p", { class: "dialog-item" }, item.name), h("p", {}, only ? `${options[0][1]}. ${text}` : text)],
    fields,
    submit: label,
    ready: ({ elements }) => {
      const choice = elements.namedItem("reservation");
      const many = elements.namedItem("quantity");
      if (choice instanceof HTMLSelectElement && many instanceof HTMLInputElement) {
        choice.addEventListener("change", () => {
          many.value = String(chosen(choice.value).quantity);
        });
      }
    },
    send: async (values, attempt) => {
      const before = chosen(values.reservation);
      const body =
        step === "fulfil"
          ? { quantity: Number(values.quantity) }
          : step === "extend"
            ? { expires_in: Number(values.expires_in) }
            : {};
      return { before, body, after: await changeReservation(before, step, body, attempt) };
    },
  });
  if (changed) {
    const { before, body, after } = changed;
    const held = quantity(before.quantity, item.unit);
    notify(
      {
        fulfil: `${quantity(body.quantity ?? before.quantity, item.unit)} of ${held} fulfilled.`,
        release: `Reservation of ${held} released.`,
        extend: `Reserved until ${moment(after.expires_at)}.`,
      }[step],
    );
  }
  return changed;
}

/**
 * Asks to reverse a movement.
 *
 * @param {Item} item
 * @param {Entry} entry
 */
export async function askToUndo(item, entry) {
  const undone = await ask({
    title: "Undo",
    intro: [
      h("p", { class: "dialog-item" }, item.name),
      h("p", {}, `${words(entry)}, ${moment(entry.at)}. The same stock is moved the other way.`),
    ],
    fields: [{ name: "note", label: "Why", hint: "It may stay empty.", maxlength: 1_000 }],
    submit: "Undo",
    send: (values, attempt) => reverseMovement(entry, remarksIn({ note: values.note, reference: "" }), attempt),
  });
  if (undone) {
    notify(`Undone: ${words(entry)}.`);
  }
  return undone;
}

/**
 * @param {Reservation} reservation
 * @param {string} [unit]
 */
export function reservationInWords({ quantity: held, reference }, unit) {
  return `${quantity(held, unit)}${reference ? ` for ${reference}` : ""}`;
}

/**
 * The fields of an item that a person edits; its stock changes by movements.
 *
 * @param {Partial<Item>} item
 * @returns {Field[]}
 */
function itemFields(item) {
  return [
    { name: "name", label: "Name", value: item.name, required: true, maxlength: 200 },
    { name: "category", label: "Category", value: item.category, maxlength: 100, half: true },
    { name: "location", label: "Location", value: item.location, maxlength: 100, half: true },
    { name: "unit", label: "Unit", value: item.unit, maxlength: 100, hint: "Such as piece or g", half: true },
    {
      name: "reorder_level",
      label: "Reorder at",
      type: "number",
      value: item.reorder_level,
      min: 0,
      max: MOST,
      half: true,
    },
    {
      name: "barcodes",
      label: "Barcodes",
      type: "textarea",
      value: item.barcodes?.join("\n"),
      hint: "One on each line, at most 16",
    },
    {
      name: "unit_price/amount",
      label: "Price of one",
      value: item.unit_price?.amount,
      pattern: "(0|[1-9][0-9]{0,8})([.,][0-9]{1,6})?",
      inputmode: "decimal",
      hint: "Such as 12.50",
      half: true,
    },
    {
      name: "unit_price/currency",
      label: "Currency",
      value: item.unit_price?.currency,
      pattern: "[A-Za-z]{3}",
      hint: "Such as EUR",
      half: true,
    },
    { name: "description", label: "Description", type: "textarea", value: item.description, maxlength: 4_000 },
  ];
}

/**
 * The changed fields of an item as a merge patch; emptied fields become `null`.
 *
 * @param {Values} before
 * @param {Values} after
 * @returns {ItemChanges}
 */
function changesBetween(before, after) {
  /** @type {any} */
  const changes = {};
  for (const [name, text] of Object.entries(after)) {
    if (text !== before[name] && !name.startsWith("unit_price/")) {
      changes[name] = text === "" ? null : fieldValue(name, text);
    }
  }
  const amount = after["unit_price/amount"].replace(",", ".");
  const currency = after["unit_price/currency"].toUpperCase();
  if (amount !== before["unit_price/amount"] || currency !== before["unit_price/currency"]) {
    changes.unit_price = amount || currency ? { amount, currency } : null;
  }
  return changes;
}

/**
 * @param {string} name
 * @param {string} text
 */
function fieldValue(name, text) {
  switch (name) {
    case "reorder_level":
      return Number(text);
    case "barcodes":
      return text
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
    default:
      return text;
  }
}

/**
 * @param {Partial<Item>} item
 * @returns {Values}
 */
function texts(item) {
  return Object.fromEntries(itemFields(item).map((field) => [field.name, String(field.value ?? "").trim()]));
}

/** @param {Item} item */
async function askChanges(item) {
  let current = item;
  const changed = await ask({
    title: "Edit",
    fields: itemFields(item),
    submit: "Save",
    send: (values, attempt) => patchItem(current, changesBetween(texts(current), values), attempt),
    // Fields that this person has not touched take over what somebody else made of them.
    explain: async (error, form) => {
      if (error.status !== 412) {
        return null;
      }
      const now = await getItem(item.id);
      const [before, after] = [texts(current), texts(now)];
      const others = Object.keys(after).filter((name) => after[name] !== before[name]);
      const labels = itemFields(now)
        .filter((field) => others.includes(field.name))
        .map((field) => field.label);
      for (const name of others) {
        const input = /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
        if (input.value.trim() === before[name]) {
          input.value = after[name];
        }
      }
      current = now;
      const change = labels.length ? ` (${labels.join(", ")})` : "";
      return `Somebody else changed the item meanwhile${change}. Nothing was saved. Check, and save again.`;
    },
  });
  if (changed) {
    notify("Saved.");
  }
  return changed;
}

/** The form of an item's id. Any other text that was scanned is a barcode. */
export const ID = /^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$/;

/** The form of a number on a package (EAN, UPC, ISBN, GTIN), which is no id that a person would give. */
const PACKAGE = /^[0-9]{8,14}$/;

/**
 * @param {string} typed The text to begin with, such as a scanned code.
 * @returns {Promise<Item | null>}
 */
export async function askNewItem(typed) {
  const id = ID.test(typed) && !PACKAGE.test(typed) ? typed : "";
  const barcodes = typed && !id ? [typed] : undefined;
  const [name, ...rest] = itemFields({ barcodes });
  const created = await ask({
    title: "New item",
    fields: [
      name,
      {
        name: "id",
        label: "Id",
        value: id,
        maxlength: 64,
        pattern: "[A-Za-z0-9][A-Za-z0-9._~\\-]{0,63}",
        hint: "Letters, digits and . _ ~ -; made up if empty",
        half: true,
      },
      { name: "quantity", label: "In stock", type: "number", value: 0, min: 0, max: MOST, half: true },
      ...rest,
    ],
    submit: "Create",
    send: ({ quantity: stock, ...values }, attempt) => {
      const fields = changesBetween(texts({}), values);
      const given = Object.entries(fields).filter(([, value]) => value !== null);
      const item = /** @type {NewItem} */ ({ ...Object.fromEntries(given), quantity: Number(stock) });
      return createItem(item, attempt);
    },
  });
  if (created) {
    notify(`Created ${created.name}.`);
  }
  return created;
}
