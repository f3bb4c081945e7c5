-- The fields that an update changed, as a JSON array; NULL for every other entry.
ALTER TABLE ledger ADD COLUMN changed TEXT;

CREATE INDEX ledger_by_actor ON ledger (actor) WHERE actor IS NOT NULL;
