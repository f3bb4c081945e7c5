/** The names of items that the page has seen, for ledger entries, which have ids only. */

/** @import { Item } from "./api.js" */
import { getItem } from "./api.js";

/** @type {Map<string, Promise<string>>} */
const names = new Map();

/** @param {Item} item */
export function remember(item) {
  names.set(item.id, Promise.resolve(item.name));
}

/**
 * Returns the name of an item, or its id if it is gone.
 *
 * @param {string} id
 * @returns {Promise<string>}
 */
export function nameOf(id) {
  const known =
    names.get(id) ??
    getItem(id).then(
      (item) => item.name,
      () => id,
    );
  names.set(id, known);
  return known;
}
