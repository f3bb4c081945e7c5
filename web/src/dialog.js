/**
 * Questions to a person: a modal dialog with a few fields, which stays open until its change is answered.
 *
 * Focus goes into the dialog and back to where it was (`<dialog>` does both), Enter sends, Escape cancels. The same
 * values sent again keep their idempotency key; other values are another decision.
 */

/** @import { Attempt } from "./api.js" */
/** @import { Child } from "./dom.js" */
import { newKey, Refused, Unreachable } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { number, quantity } from "./format.js";

/** @typedef {Record<string, string>} Values */
/**
 * @typedef {object} Field
 * @property {string} name The member of the request's body, as in a JSON Pointer without its first slash.
 * @property {string} label
 * @property {"text" | "number" | "textarea" | "select" | "choice"} [type]
 * @property {string | number} [value]
 * @property {string} [hint]
 * @property {boolean} [required]
 * @property {boolean} [more] True if it is out of sight at first.
 * @property {boolean} [half] True if it shares its line with the next one.
 * @property {number} [min]
 * @property {number} [max]
 * @property {number} [maxlength]
 * @property {string} [pattern]
 * @property {"decimal"} [inputmode]
 * @property {[value: string, label: string][]} [options]
 */
/**
 * @template T
 * @typedef {object} Question
 * @property {string} title
 * @property {Child[]} [intro]
 * @property {Field[]} fields
 * @property {string} submit
 * @property {(values: Values, attempt: Attempt) => Promise<T>} send
 * @property {(error: Refused, form: HTMLFormElement) => Promise<string | null> | string | null} [explain] Returns a
 *   better text than the refusal's detail.
 * @property {(form: HTMLFormElement) => void} [ready]
 */

/** Milliseconds for which a message stays. */
const TOAST = 6_000;

/**
 * Shows a short message for some seconds.
 *
 * @param {string} text
 */
export function notify(text) {
  const toast = h("p", { class: "toast" }, text);
  byId("toasts").append(toast);
  setTimeout(() => toast.remove(), TOAST);
}

/**
 * Returns an error in words; of a refused movement, with its numbers.
 *
 * @param {unknown} error
 * @param {string} [unit]
 */
export function explain(error, unit) {
  if (error instanceof Unreachable) {
    return "There is no connection to the server.";
  }
  if (!(error instanceof Refused)) {
    throw error;
  }
  const { problem, kind } = error;
  if (kind === "insufficient-stock" && problem.quantity !== undefined) {
    const { reserved = 0, available = problem.quantity } = problem;
    const held = reserved ? `, of which ${number(reserved)} are reserved` : "";
    return `There are ${quantity(problem.quantity, unit)}${held}. At most ${quantity(available, unit)} can be taken.`;
  }
  return problem.detail;
}

/**
 * Asks, sends, and returns the answer; `null` if the person cancels.
 *
 * @template T
 * @param {Question<T>} question
 * @returns {Promise<T | null>}
 */
export function ask(question) {
  const title = h("h2", { id: "dialog-title" }, question.title);
  const message = h("div", { class: "message", role: "alert" });
  const submit = h("button", { class: "primary", type: "submit" }, question.submit);
  const cancel = h("button", { type: "button", click: () => dialog.close() }, "Cancel");
  const seen = question.fields.filter((field) => !field.more);
  const more = question.fields.filter((field) => field.more);
  const form = h(
    "form",
    { method: "dialog" },
    title,
    ...(question.intro ?? []),
    h("div", { class: "fields" }, ...seen.map(fieldElement)),
    more.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, "Reference and note"),
        h("div", { class: "fields" }, ...more.map(fieldElement)),
      ),
    message,
    h("div", { class: "buttons" }, cancel, submit),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  document.body.append(dialog);

  let last = { values: "", key: "" };
  /** @type {AbortController | null} */
  let sending = null;
  /** @type {T | null} */
  let answer = null;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) {
      return;
    }
    const values = valuesOf(form);
    const text = JSON.stringify(values);
    if (text !== last.values) {
      last = { values: text, key: newKey() };
    }
    sending = new AbortController();
    const { signal } = sending;
    clearErrors(form);
    fill(message);
    submit.setAttribute("aria-busy", "true");
    const onRepeat = () => fill(message, "No answer. Trying again: it will be done once.");
    try {
      answer = await question.send(values, { key: last.key, signal, onRepeat });
      sending = null;
      dialog.close();
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      fill(message, await messageFor(error, question, form));
      sending = null;
    }
    submit.removeAttribute("aria-busy");
  });

  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (sending) {
        sending.abort();
        notify("Cancelled while it was being sent. The ledger shows whether it was done.");
      }
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    question.ready?.(form);
    const first = form.querySelector("input:not([type=radio]), textarea, select");
    if (first instanceof HTMLInputElement) {
      first.focus();
      first.select();
    } else if (!first) {
      submit.focus();
    }
  });
}

/**
 * @template T
 * @param {unknown} error
 * @param {Question<T>} question
 * @param {HTMLFormElement} form
 * @returns {Promise<string>}
 */
async function messageFor(error, question, form) {
  if (error instanceof Unreachable) {
    return "There is no connection, so it is not known whether this was done. Send it again: it will be done once.";
  }
  if (!(error instanceof Refused)) {
    throw error;
  }
  const better = await question.explain?.(error, form);
  return better ?? (showErrors(form, error) ? "" : explain(error));
}

/**
 * Shows each error at its field, and returns whether every error has one.
 *
 * @param {HTMLFormElement} form
 * @param {Refused} refused
 */
function showErrors(form, { problem }) {
  const errors = problem.errors ?? [];
  let shown = 0;
  for (const { pointer, detail } of errors) {
    const input = form.elements.namedItem(pointer?.slice(1) ?? "");
    const place = input instanceof HTMLElement && document.getElementById(`${input.id}-error`);
    if (place) {
      place.textContent = capitalised(detail);
      input.setAttribute("aria-invalid", "true");
      input.closest("details")?.setAttribute("open", "");
      if (shown++ === 0) {
        input.focus();
      }
    }
  }
  return errors.length > 0 && shown === errors.length;
}

/** @param {HTMLFormElement} form */
function clearErrors(form) {
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    fill(byId(`${input.id}-error`));
  }
}

/**
 * The values of the fields, without blanks around them.
 *
 * @param {HTMLFormElement} form
 * @returns {Values}
 */
function valuesOf(form) {
  return Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
}

/** @param {string} text */
function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {Field} field */
function fieldElement(field) {
  const id = `field-${field.name.replaceAll("/", "-")}`;
  const { name, required, min, max, maxlength, pattern, inputmode, hint } = field;
  const described = `${id}-error${field.hint ? ` ${id}-hint` : ""}`;
  const common = { id, name, required, "aria-describedby": described, autocomplete: "off" };
  const below = [
    field.hint && h("small", { id: `${id}-hint` }, field.hint),
    h("small", { id: `${id}-error`, class: "error" }),
  ];
  const frame = (/** @type {Child[]} */ ...children) =>
    h("div", { class: field.half ? "field half" : "field" }, ...children, ...below);
  const label = h("label", { for: id }, field.label);
  switch (field.type) {
    case "choice":
      return h(
        "fieldset",
        { class: "field choice" },
        h("legend", {}, field.label),
        h(
          "div",
          {},
          ...(field.options ?? []).map(([value, text]) =>
            h(
              "label",
              {},
              h("input", { type: "radio", name, value, checked: value === field.value }),
              h("span", {}, text),
            ),
          ),
        ),
      );
    case "select":
      return frame(
        label,
        h(
          "select",
          common,
          ...(field.options ?? []).map(([value, text]) =>
            h("option", { value, selected: value === field.value }, text),
          ),
        ),
      );
    case "textarea":
      return frame(label, h("textarea", { ...common, maxlength, rows: 3 }, field.value ?? ""));
    case "number": {
      const input = h("input", {
        ...common,
        type: "number",
        inputmode: "numeric",
        min,
        max,
        step: 1,
        value: field.value,
      });
      const step = (/** @type {1 | -1} */ by) => () => (by > 0 ? input.stepUp() : input.stepDown());
      return frame(
        label,
        h(
          "div",
          { class: "stepper" },
          h("button", { type: "button", tabindex: -1, "aria-label": "One less", click: step(-1) }, "−"),
          input,
          h("button", { type: "button", tabindex: -1, "aria-label": "One more", click: step(1) }, "+"),
        ),
      );
    }
    default:
      return frame(
        label,
        h("input", {
          ...common,
          type: "text",
          maxlength,
          pattern,
          inputmode,
          title: pattern && hint,
          value: field.value,
        }),
      );
  }
}
