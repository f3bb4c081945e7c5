-- An index for each way to look for entries; the position is part of each.
CREATE INDEX ledger_by_time ON ledger (at);
CREATE INDEX ledger_by_reason ON ledger (reason) WHERE reason IS NOT NULL;
CREATE INDEX ledger_by_reference ON ledger (reference) WHERE reference IS NOT NULL;
