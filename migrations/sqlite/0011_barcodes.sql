-- The barcodes of an item as a JSON array, to read them with it; NULL if it has none.
ALTER TABLE item ADD COLUMN barcodes TEXT;

-- The same barcodes, each at most one item's.
CREATE TABLE barcode (
    barcode TEXT NOT NULL PRIMARY KEY,
    item_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX barcode_of_item ON barcode (item_id);
