/**
 * The person at the page: the token, the role that it has, and the question for it.
 *
 * A token stays in this tab. It stays in the browser only if the person asks for that.
 */

/** @import { Caller } from "./api.js" */
import { byId, fill, h } from "./dom.js";

const TOKEN_ENTRY = "stockroom.token";

/** The roles, the lowest first: each may do what those before it may. */
const ROLES = /** @type {const} */ (["read", "write", "admin"]);

/** @typedef {typeof ROLES[number]} Role */

/** The token in use; empty where none is needed. */
let token = stored();
/** @type {Caller} Where no token is demanded, everybody may do everything. */
let caller = { role: "admin" };
/** @type {Promise<void> | null} The question that is open. */
let asking = null;

function stored() {
  try {
    return sessionStorage.getItem(TOKEN_ENTRY) ?? localStorage.getItem(TOKEN_ENTRY) ?? "";
  } catch {
    // A browser may keep nothing for anybody.
    return "";
  }
}

/** @param {boolean} keep */
function store(keep) {
  try {
    forgetStored();
    (keep ? localStorage : sessionStorage).setItem(TOKEN_ENTRY, token);
  } catch {
    // It holds until the page is left, then.
  }
}

function forgetStored() {
  sessionStorage.removeItem(TOKEN_ENTRY);
  localStorage.removeItem(TOKEN_ENTRY);
}

/** Returns the token, or an empty text. */
export function currentToken() {
  return token;
}

/** @param {Role} role */
export function may(role) {
  return ROLES.indexOf(caller.role) >= ROLES.indexOf(role);
}

/**
 * Shows who is signed in, and hides what the role does not allow.
 *
 * @param {Caller} found
 */
export function setCaller(found) {
  const { role } = caller;
  caller = found;
  byId("new").hidden = !may("write");
  const session = byId("session");
  session.hidden = !token;
  if (token) {
    fill(
      session,
      h("span", { class: "muted" }, `${caller.name ?? "Signed in"} (${caller.role})`),
      h("button", { type: "button", class: "plain", click: signOut }, "Sign out"),
    );
  }
  if (role !== caller.role) {
    // The view offers what another role may do: it is made again.
    dispatchEvent(new Event("hashchange"));
  }
}

/** Forgets the token, and everything that was read with it. */
function signOut() {
  token = "";
  try {
    forgetStored();
  } catch {
    // Nothing was kept.
  }
  location.reload();
}

/**
 * Asks for a token that the server knows. A second call waits for the same answer, and whatever else is on the page stays.
 *
 * @param {string} refused The token that was refused; empty if none was sent.
 * @param {(token: string) => Promise<Caller | null>} identify Returns the caller, or `null` if the server does not know
 *   the token.
 * @returns {Promise<void>}
 */
export function signIn(refused, identify) {
  if (token !== refused) {
    return Promise.resolve();
  }
  asking ??= askForToken(refused, identify).finally(() => {
    asking = null;
  });
  return asking;
}

/**
 * @param {string} refused
 * @param {(token: string) => Promise<Caller | null>} identify
 * @returns {Promise<void>}
 */
function askForToken(refused, identify) {
  const input = h("input", {
    id: "token",
    name: "token",
    type: "password",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "token-error",
  });
  const keep = h("input", { type: "checkbox", name: "keep" });
  const message = h("p", { id: "token-error", class: "message", role: "alert" });
  const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "token-title" }, "Sign in"),
    h(
      "p",
      { class: "muted" },
      refused
        ? "Your token has expired or was revoked. Your input is kept."
        : "This stockroom needs a token. Ask the person who runs it for one.",
    ),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input),
    h("label", { class: "switch" }, keep, h("span", {}, "Stay signed in on this computer")),
    message,
    h("div", { class: "buttons" }, submit),
  );
  const dialog = h("dialog", { class: "sign-in", "aria-labelledby": "token-title" }, form);
  // Without a token there is nothing to go back to.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  document.body.append(dialog);
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.setAttribute("aria-busy", "true");
      const typed = input.value.trim();
      try {
        const found = await identify(typed);
        if (found) {
          token = typed;
          store(keep.checked);
          setCaller(found);
          dialog.remove();
          resolve();
        } else {
          message.textContent = "The server does not know this token, or it has expired.";
          input.select();
        }
      } catch (error) {
        message.textContent = error instanceof Error ? error.message : "";
      }
      submit.removeAttribute("aria-busy");
    });
    dialog.showModal();
    input.focus();
  });
}
