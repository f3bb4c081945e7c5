-- row has a name, because a rowid without one may change, and item_text refers to it.
CREATE TABLE item (
    row            INTEGER NOT NULL PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    name           TEXT    NOT NULL,
    description    TEXT,
    category       TEXT,
    location       TEXT,
    unit           TEXT,
    quantity       INTEGER NOT NULL CHECK (quantity BETWEEN 0 AND 1000000000000),
    reserved       INTEGER NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
    reorder_level  INTEGER CHECK (reorder_level BETWEEN 0 AND 1000000000000),
    price_amount   TEXT,
    price_currency TEXT,
    attributes     TEXT    NOT NULL,
    version        INTEGER NOT NULL CHECK (version > 0),
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    low_stock      INTEGER NOT NULL AS (coalesce(quantity - reserved <= reorder_level, 0)),
    CHECK ((price_amount IS NULL) = (price_currency IS NULL))
) STRICT;

-- An entry outlives its item, so item_id refers to no table.
CREATE TABLE ledger (
    position  INTEGER NOT NULL PRIMARY KEY,
    item_id   TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    delta     INTEGER NOT NULL,
    quantity  INTEGER NOT NULL CHECK (quantity BETWEEN 0 AND 1000000000000),
    reserved  INTEGER NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
    version   INTEGER NOT NULL CHECK (version > 0),
    reason    TEXT,
    note      TEXT,
    reference TEXT,
    actor     TEXT,
    at        INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX ledger_of_item ON ledger (item_id, version);
