CREATE INDEX item_search_by_id_start ON item_search (id_start);
CREATE INDEX item_search_by_name_start ON item_search (name_start);

-- The index of trigrams; without the extension q reads all texts, and finds the same.
DO $$
DECLARE
    home text;
BEGIN
    SELECT quote_ident(nspname) INTO home
    FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'pg_trgm';
    IF home IS NOT NULL THEN
        EXECUTE 'CREATE INDEX item_search_by_trigram ON item_search USING gin (text ' || home || '.gin_trgm_ops)';
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'pg_trgm may not be used: %', SQLERRM;
END $$;

DROP TABLE item_text;

-- Version 0.1.0 asks for the name of before in each write, which fails from now on. Otherwise it would write items without
-- the new texts. Reads of version 0.1.0 ask for position and epoch alone.
ALTER TABLE head RENAME COLUMN at TO last_at;
