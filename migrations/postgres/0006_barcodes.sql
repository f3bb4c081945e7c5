-- The barcodes of an item as a JSON array, to read them with it; NULL if it has none.
ALTER TABLE item ADD COLUMN barcodes text COLLATE "C";

-- The same barcodes, each at most one item's.
CREATE TABLE barcode (
    barcode text NOT NULL COLLATE "C" PRIMARY KEY,
    item_id text NOT NULL COLLATE "C"
);

CREATE INDEX barcode_of_item ON barcode (item_id);
