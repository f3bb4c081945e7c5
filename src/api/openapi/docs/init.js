"use strict";

window.ui = SwaggerUIBundle({
  // Relative to /docs, so that it is right behind any base path.
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  // Else the document's address would be sent to a validator on another host.
  validatorUrl: null,
});
