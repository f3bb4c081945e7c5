-- The tables that the last part of this step locks. A dump or an export that is reading them would hold up everyone after
-- the texts are filled in, so it is waited for before. Going back to the savepoint lets replicas read them meanwhile.
SAVEPOINT probe;
LOCK TABLE head, item_text IN ACCESS EXCLUSIVE MODE;
ROLLBACK TO SAVEPOINT probe;

-- Folded texts in place of lower-case ones: q ignores accents, and takes one or two characters for a beginning. A table of
-- its own, so that changes of stock leave it alone. Rust fills it.
CREATE TABLE item_search (
    id         text NOT NULL COLLATE "C" PRIMARY KEY,
    -- The first one or two characters of the id and of the name.
    id_start   text NOT NULL COLLATE "C",
    name_start text NOT NULL COLLATE "C",
    -- Id, name and description, with U+0001 between them.
    text       text NOT NULL COLLATE "C"
);
