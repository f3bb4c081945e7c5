-- Folded texts in place of lower-case ones: q ignores accents, and takes one or two characters for a beginning. A trigram
-- without its positions (detail = none) makes the index smaller, and bounds the work of a search by its form: some trigrams
-- find candidates, and Rust compares their texts. Rust fills it.
DROP TABLE item_text;

CREATE VIRTUAL TABLE item_search USING fts5 (
    id, name, description,
    content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1'
);
