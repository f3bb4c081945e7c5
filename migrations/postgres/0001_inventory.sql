-- Texts compare and sort byte by byte (COLLATE "C"), as on SQLite and in Rust; moments are milliseconds since 1970.

-- One row: where the ledger ends, and what tells it from every other. Whoever writes locks it first and holds it to the
-- commit, so that the writes of all replicas come one after the other, in the order of their positions.
CREATE TABLE head (
    only_row bool   NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    position bigint NOT NULL CHECK (position >= 0),
    at       bigint,
    epoch    text   NOT NULL COLLATE "C" CHECK (epoch ~ '^[0-9a-f]{16}$')
);

INSERT INTO head (position, epoch) VALUES (0, left(replace(gen_random_uuid()::text, '-', ''), 8) ||
                                             right(replace(gen_random_uuid()::text, '-', ''), 8));

CREATE TABLE item (
    id             text   NOT NULL COLLATE "C" PRIMARY KEY,
    name           text   NOT NULL COLLATE "C",
    description    text   COLLATE "C",
    category       text   COLLATE "C",
    location       text   COLLATE "C",
    unit           text   COLLATE "C",
    quantity       bigint NOT NULL CHECK (quantity BETWEEN 0 AND 1000000000000),
    reserved       bigint NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
    reorder_level  bigint CHECK (reorder_level BETWEEN 0 AND 1000000000000),
    price_amount   text   COLLATE "C",
    price_currency text   COLLATE "C",
    -- Not jsonb, which keeps neither the order of the members nor their numbers as they were sent.
    attributes     text   NOT NULL COLLATE "C",
    version        bigint NOT NULL CHECK (version > 0),
    created_at     bigint NOT NULL,
    updated_at     bigint NOT NULL,
    low_stock      bool   NOT NULL GENERATED ALWAYS AS (coalesce(quantity - reserved <= reorder_level, false)) STORED,
    CHECK ((price_amount IS NULL) = (price_currency IS NULL))
);

-- An index for each order that a list can have; the id behind the key makes the order total.
CREATE INDEX item_by_name ON item (name, id);
CREATE INDEX item_by_quantity ON item (quantity, id);
CREATE INDEX item_by_creation ON item (created_at, id);
CREATE INDEX item_by_update ON item (updated_at, id);

-- An index for each filter.
CREATE INDEX item_by_category ON item (category, id);
CREATE INDEX item_by_location ON item (location, id);
CREATE INDEX item_by_low_stock ON item (low_stock, id);

-- What q looks through, in lower case that Rust made: id, name and description, with U+0001 between them. A table of its
-- own, so that changes of stock leave it alone.
CREATE TABLE item_text (
    id   text NOT NULL COLLATE "C" PRIMARY KEY,
    text text NOT NULL COLLATE "C"
);

-- The index of its substrings; without the extension q reads all texts, and finds the same.
DO $$
DECLARE
    home text;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE 'pg_trgm cannot be had: %', SQLERRM;
    END;
    SELECT quote_ident(nspname) INTO home
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm';
    IF home IS NOT NULL THEN
        EXECUTE 'CREATE INDEX item_text_by_trigram ON item_text USING gin (text ' || home || '.gin_trgm_ops)';
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'pg_trgm may not be used: %', SQLERRM;
END $$;

-- A closed reservation outlives its item, so item_id refers to no table.
CREATE TABLE reservation (
    id         text   NOT NULL COLLATE "C" PRIMARY KEY,
    item_id    text   NOT NULL COLLATE "C",
    quantity   bigint NOT NULL CHECK (quantity BETWEEN 1 AND 1000000000000),
    state      text   NOT NULL COLLATE "C" CHECK (state IN ('open', 'fulfilled', 'released', 'expired')),
    reference  text   COLLATE "C",
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    closed_at  bigint CHECK ((closed_at IS NULL) = (state = 'open'))
);

-- What is due, of one item or of all.
CREATE INDEX reservation_open ON reservation (item_id, expires_at) WHERE state = 'open';
CREATE INDEX reservation_due ON reservation (expires_at, id) WHERE state = 'open';

-- An index for each filter.
CREATE INDEX reservation_of_item ON reservation (item_id, id);
CREATE INDEX reservation_by_state ON reservation (state, id);
CREATE INDEX reservation_by_reference ON reservation (reference, id) WHERE reference IS NOT NULL;

-- An entry outlives its item, so item_id refers to no table.
CREATE TABLE ledger (
    position       bigint NOT NULL PRIMARY KEY,
    item_id        text   NOT NULL COLLATE "C",
    event          text   NOT NULL COLLATE "C",
    delta          bigint NOT NULL,
    quantity       bigint NOT NULL CHECK (quantity BETWEEN 0 AND 1000000000000),
    reserved       bigint NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
    version        bigint NOT NULL CHECK (version > 0),
    reason         text   COLLATE "C",
    note           text   COLLATE "C",
    reference      text   COLLATE "C",
    reservation_id text   COLLATE "C",
    actor          text   COLLATE "C",
    at             bigint NOT NULL
);

CREATE UNIQUE INDEX ledger_of_item ON ledger (item_id, version);

-- An index for each way to look for entries. The position stands behind the key, so that entries come in their order.
CREATE INDEX ledger_by_time ON ledger (at, position);
CREATE INDEX ledger_by_reason ON ledger (reason, position) WHERE reason IS NOT NULL;
CREATE INDEX ledger_by_reference ON ledger (reference, position) WHERE reference IS NOT NULL;

-- What was answered under which key, so that a request that is sent again changes nothing again. Scope and key are
-- bytes, because a text of PostgreSQL cannot hold U+0000.
CREATE TABLE idempotency (
    scope       bytea  NOT NULL,
    key         bytea  NOT NULL,
    fingerprint bytea  NOT NULL,
    outcome     text   NOT NULL COLLATE "C",
    at          bigint NOT NULL,
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_by_age ON idempotency (at);
