/**
 * The keys, and a switch for them: somebody who speaks to the computer may say a letter without meaning an action
 * (WCAG 2.1.4).
 */

import { ACTIONS, STEPS } from "./actions.js";
import { h } from "./dom.js";

const STORED = "stockroom.letters";

/** Returns whether letters begin actions. */
export function lettersAct() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    // A browser may keep nothing for anybody.
    return true;
  }
}

/** @param {boolean} act */
function setLettersAct(act) {
  try {
    act ? localStorage.removeItem(STORED) : localStorage.setItem(STORED, "off");
  } catch {
    // It holds until the page is closed, then.
  }
}

/** Shows what the keys do. */
export function showKeys() {
  const keys = /** @type {[string, string][]} */ ([
    ["/", "Find"],
    ["N", "New item"],
    ...[...ACTIONS, ...Object.values(STEPS), { key: "u", label: "Undo the last movement" }].map(({ key, label }) => [
      key.toUpperCase(),
      label,
    ]),
    ["Esc", "Back"],
  ]);
  const letters = h("input", { type: "checkbox", checked: lettersAct(), change: () => setLettersAct(letters.checked) });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "keys-title", close: () => dialog.remove() },
    h(
      "form",
      { method: "dialog", submit: () => dialog.close() },
      h("h2", { id: "keys-title" }, "Keys"),
      h(
        "dl",
        { class: "keys" },
        ...keys.map(([key, label]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, label))),
      ),
      h("p", { class: "muted" }, "A scanned code opens its item."),
      h("label", { class: "switch" }, letters, h("span", {}, "Letters begin actions")),
      h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Close")),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}
