-- One row: what tells this ledger from that of every copy, in which the same positions may come to mean other changes.
CREATE TABLE epoch (
    row  INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
    name TEXT    NOT NULL CHECK (length(name) = 16 AND name NOT GLOB '*[^0-9a-f]*')
) STRICT;

INSERT INTO epoch (row, name) VALUES (1, lower(hex(randomblob(8))));
