-- A closed reservation outlives its item, so item_id refers to no table.
CREATE TABLE reservation (
    id         TEXT    NOT NULL PRIMARY KEY,
    item_id    TEXT    NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 1000000000000),
    state      TEXT    NOT NULL CHECK (state IN ('open', 'fulfilled', 'released', 'expired')),
    reference  TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    closed_at  INTEGER CHECK ((closed_at IS NULL) = (state = 'open'))
) STRICT;

-- What is due, of one item or of all.
CREATE INDEX reservation_open ON reservation (item_id, expires_at) WHERE state = 'open';
CREATE INDEX reservation_due ON reservation (expires_at) WHERE state = 'open';

-- An index for each filter.
CREATE INDEX reservation_of_item ON reservation (item_id, id);
CREATE INDEX reservation_by_state ON reservation (state, id);
CREATE INDEX reservation_by_reference ON reservation (reference, id) WHERE reference IS NOT NULL;

ALTER TABLE ledger ADD COLUMN reservation_id TEXT;
