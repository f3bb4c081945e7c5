-- An index for each order that a list can have; the id behind the key makes the order total.
CREATE INDEX item_by_name ON item (name, id);
CREATE INDEX item_by_quantity ON item (quantity, id);
CREATE INDEX item_by_creation ON item (created_at, id);
CREATE INDEX item_by_update ON item (updated_at, id);

-- An index for each filter.
CREATE INDEX item_by_category ON item (category, id);
CREATE INDEX item_by_location ON item (location, id);
CREATE INDEX item_by_low_stock ON item (low_stock, id);

-- Substrings of what q looks through, in lower case. Rust writes it: a trigger may not touch it under
-- trusted_schema=OFF, and SQLite's lower() knows ASCII only.
CREATE VIRTUAL TABLE item_text USING fts5 (
    id, name, description, content = '', contentless_delete = 1, tokenize = 'trigram case_sensitive 1'
);
