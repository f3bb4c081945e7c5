"use strict";

// Swagger UI keeps the credentials of Authorize in this entry, and only if persistAuthorization is set at its start.
const AUTHORIZED = "authorized";
const KEEP = "stockroom-keep-token";
const keep = document.getElementById("keep");

// Keeps the token, or forgets the one that was kept: as the box says.
function persist() {
  if (keep.checked) {
    localStorage.setItem(KEEP, "yes");
    localStorage.setItem(AUTHORIZED, JSON.stringify(window.ui.authSelectors.authorized()));
  } else {
    localStorage.removeItem(KEEP);
    localStorage.removeItem(AUTHORIZED);
  }
}

keep.checked = localStorage.getItem(KEEP) !== null;
keep.addEventListener("change", persist);

window.ui = SwaggerUIBundle({
  // Relative to /docs, so that it is right behind any base path.
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: keep.checked,
  // The box may change after the start.
  plugins: [{ statePlugins: { auth: { wrapActions: { persistAuthorizationIfNeeded: () => persist } } } }],
  tryItOutEnabled: true,
  // Else the document's address would be sent to a validator on another host.
  validatorUrl: null,
});
