"""For Schemathesis: a request that the document calls valid is refused only for what a schema cannot say."""

import schemathesis

# The names of problems that need no further reason: they depend on the state of the inventory.
OF_THE_STATE = {
    "already-reversed",
    "barcode-taken",
    "batch-refused",
    "exceeds-reservation",
    "has-reservations",
    "idempotency-key-reused",
    "import-refused",
    "insufficient-stock",
    "invalid-cursor",
    "invalid-import",
    "item-exists",
    "not-found",
    "not-reversible",
    "precondition-failed",
    "reservation-closed",
    "reservation-expired",
    "too-much-stock",
}

# The members that may be wrong in a valid body, and in which way.
OF_THE_BODY = {
    ("/attributes", "control-character"),
    ("/attributes", "too-long"),
    ("/unit_price/amount", "required"),
    ("/unit_price/currency", "required"),
}


@schemathesis.serializer("application/x-ndjson", "text/csv", "application/octet-stream")
def as_it_is(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    # An id in the body must be the one in the path: left to chance, hardly any replacement would be carried out.
    if case.operation.label == "PUT /inventory/{id}" and case.meta.generation.mode.is_positive and "id" in case.body:
        case.body["id"] = case.path_parameters["id"]


@schemathesis.check
def refused_for_a_known_reason(ctx, response, case):
    if response.status_code < 400 or not case.meta.generation.mode.is_positive:
        return
    problem = response.json()
    if problem["type"].removeprefix("/problems/") in OF_THE_STATE:
        return
    errors = problem.get("errors", [])
    assert errors and all(map(is_beyond_a_schema, errors)), f"a valid request was refused: {problem}"


def is_beyond_a_schema(error):
    # A parameter that goes only with certain values of others, such as the separator with CSV, or a name mapped twice.
    if "parameter" in error:
        return error["code"] in ("unsupported", "map")
    pointer, code = error.get("pointer") or "", error["code"]
    # Any number of the client's own may be one that 64 bits do not hold exactly.
    in_attributes = pointer.startswith("/attributes/") and code == "inexact-number"
    return in_attributes or (pointer, code) in OF_THE_BODY
