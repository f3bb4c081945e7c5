-- First, because the column locks readers out until the end of the step, and this may take long.
CREATE INDEX ledger_by_actor ON ledger (actor, position) WHERE actor IS NOT NULL;

-- The fields that an update changed, as a JSON array; NULL for every other entry.
ALTER TABLE ledger ADD COLUMN changed text COLLATE "C";
