/**
 * Values and ledger entries in words. Numbers and dates follow the reader's own locale; words are English.
 */

/** @import { Entry, Item, Money } from "./api.js" */

const NUMBERS = new Intl.NumberFormat();
const SIGNED = new Intl.NumberFormat(undefined, { signDisplay: "exceptZero" });
const DATES = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const MOMENTS = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** @param {number | string} value */
export function number(value) {
  // A decimal in a string keeps all of its digits, also those that a number would lose.
  return NUMBERS.format(/** @type {number} */ (value));
}

/** @param {number} value */
export function signed(value) {
  // A minus as wide as the plus, where the locale has only a hyphen.
  return SIGNED.format(value).replace("-", "−");
}

/**
 * @param {number} value
 * @param {string} [unit]
 */
export function quantity(value, unit) {
  return unit ? `${number(value)} ${unit}` : number(value);
}

/** @param {Money} money */
export function price({ amount, currency }) {
  const digits = amount.split(".")[1]?.length ?? 0;
  const style = { style: /** @type {const} */ ("currency"), currency };
  const format = new Intl.NumberFormat(undefined, {
    ...style,
    maximumFractionDigits: Math.max(
      digits,
      new Intl.NumberFormat(undefined, style).resolvedOptions().maximumFractionDigits ?? 0,
    ),
  });
  return format.format(/** @type {any} */ (amount));
}

/** @param {string} time */
export function date(time) {
  return DATES.format(new Date(time));
}

/** @param {string | number} time */
export function moment(time) {
  return MOMENTS.format(new Date(time));
}

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/**
 * Returns the time since a moment, or until it.
 *
 * @param {string} time
 */
export function relative(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) {
      return RELATIVE.format(Math.trunc(seconds / length), unit);
    }
  }
  return seconds > 1 ? "in less than a minute" : "just now";
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** @type {Record<string, [string, string]>} The words for stock that comes in, and for stock that goes out. */
const MOVED = {
  received: ["Received", "Sent back"],
  sold: ["Sale reversed:", "Sold"],
  returned: ["Returned by a customer:", "Returned to the supplier:"],
  damaged: ["No longer damaged:", "Damaged:"],
  lost: ["No longer lost:", "Lost:"],
  found: ["Found", "No longer found:"],
  transferred: ["Transferred in:", "Transferred out:"],
  correction: ["Corrected by", "Corrected by"],
};

/**
 * Describes a ledger entry. An entry has the reserved quantity after it; its own share follows only from the entry
 * before it.
 *
 * @param {Entry} entry
 * @param {Entry} [before]
 */
export function words(entry, before) {
  const size = number(Math.abs(entry.delta));
  const adjacent = before?.version === entry.version - 1;
  const held = adjacent ? ` ${number(Math.abs(entry.reserved - before.reserved))}` : "";
  switch (entry.event) {
    case "created":
      return entry.delta ? `Created with ${size}` : "Created";
    case "updated": {
      const edited = ["Edited", ...(entry.changed ?? []).slice(0, SHOWN_CHANGES).map(changeInWords)].join(" ");
      const more = (entry.changed?.length ?? 0) > SHOWN_CHANGES ? " and more" : "";
      return `${edited.replace("Edited ", "Changed ")}${more}${entry.delta ? `, stock set to ${number(entry.quantity)}` : ""}`;
    }
    case "deleted":
      return "Deleted";
    case "counted":
      return entry.delta
        ? `Counted ${number(entry.quantity)} (${signed(entry.delta)})`
        : `Counted ${number(entry.quantity)}, as expected`;
    case "reserved":
      return `Reserved${held}`;
    case "released":
      return `Reservation${held ? ` of${held}` : ""} released`;
    case "expired":
      return `Reservation${held ? ` of${held}` : ""} expired`;
    case "extended":
      return `Reservation${held ? ` of${held}` : ""} extended`;
    case "fulfilled":
      return `Reservation of ${size} fulfilled`;
    default: {
      const [incoming, outgoing] = MOVED[entry.reason ?? "correction"] ?? MOVED.correction;
      const shown = entry.reason === "correction" ? signed(entry.delta) : size;
      return `${entry.delta < 0 ? outgoing : incoming} ${shown}`;
    }
  }
}

/** The most changed fields that an entry shows. */
const SHOWN_CHANGES = 3;

/**
 * @param {NonNullable<Entry["changed"]>[number]} change
 * @param {number} index
 */
function changeInWords({ pointer, before, after }, index) {
  const name = pointer
    .slice(1)
    .replace(/^attributes\//, "")
    .replaceAll("_", " ")
    .replaceAll("~1", "/")
    .replaceAll("~0", "~");
  const [old, now] = [before, after].map((value) => (value === undefined ? "" : valueInWords(value)));
  const change = old && now ? ` from ${old} to ${now}` : now ? ` to ${now}` : old ? `, which was ${old}` : "";
  return `${index > 0 ? "and " : ""}${name}${change}`;
}

/** @param {any} value */
function valueInWords(value) {
  if (Array.isArray(value)) {
    return value.join(", ");
  }
  if (typeof value === "object" && value?.amount && value.currency) {
    return price(value);
  }
  return typeof value === "string" ? `“${value}”` : typeof value === "number" ? number(value) : JSON.stringify(value);
}

/**
 * The author, the reference and the note of a change.
 *
 * @param {Entry} entry
 */
export function remarks(entry) {
  const undone = entry.reverses && `undoes entry ${number(entry.reverses)}`;
  return [undone, entry.reference, entry.note, entry.actor && `by ${entry.actor}`].filter(Boolean).join(", ");
}

/** @param {Item} item */
export function stockInWords(item) {
  const { quantity: stock, reserved, unit } = item;
  return reserved
    ? `${quantity(stock, unit)} in stock, ${number(reserved)} reserved`
    : `${quantity(stock, unit)} in stock, none reserved`;
}
