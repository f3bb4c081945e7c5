-- The position of the movement that an entry reverses. The index allows one reversal of each.
ALTER TABLE ledger ADD COLUMN reverses INTEGER;

CREATE UNIQUE INDEX ledger_by_reversal ON ledger (reverses) WHERE reverses IS NOT NULL;
