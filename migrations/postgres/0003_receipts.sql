-- A receipt of each write under a key, so that a request that is sent again changes nothing again. It repeats nothing
-- of an item, which can have 25 KB. An actor is a client by its token; without tokens all are one, called ''.
-- A key is bytes, because a text of PostgreSQL cannot hold U+0000.
CREATE TABLE receipt (
    actor       text   NOT NULL COLLATE "C",
    key         bytea  NOT NULL,
    fingerprint bytea  NOT NULL,
    receipt     text   NOT NULL COLLATE "C",
    at          bigint NOT NULL,
    PRIMARY KEY (actor, key)
);

-- A replica could remember a write meanwhile, and its receipt would be lost.
LOCK TABLE idempotency IN ACCESS EXCLUSIVE MODE;

-- Until here the whole answer was kept. That of an import is a receipt already.
INSERT INTO receipt (actor, key, fingerprint, receipt, at)
SELECT convert_from(scope, 'UTF8'), key, fingerprint, CASE
    WHEN outcome LIKE '{"created":%' THEN json_build_object('created', json_build_object(
        'id', outcome::json #> '{created,id}',
        'version', outcome::json #> '{created,version}',
        'at', outcome::json #> '{created,created_at}'))::text
    WHEN outcome LIKE '{"moved":%' THEN
        json_build_object('moved', json_build_object('position', outcome::json #> '{moved,0,position}'))::text
    WHEN outcome LIKE '{"moved_all":%' THEN json_build_object('moved_all', json_build_object(
        'first', outcome::json #> '{moved_all,0,position}',
        'last', outcome::json #> '{moved_all,-1,position}'))::text
    WHEN outcome LIKE '{"reserved":%' THEN
        json_build_object('reserved', json_build_object('id', outcome::json #> '{reserved,id}'))::text
    ELSE outcome
END, at
FROM idempotency;

DROP TABLE idempotency;
ALTER TABLE receipt RENAME TO idempotency;
ALTER INDEX receipt_pkey RENAME TO idempotency_pkey;

-- For the sweep, which forgets the oldest keys of one actor after the other.
CREATE INDEX idempotency_by_age ON idempotency (actor, at);

-- The number of keys of each actor. Counting them at each write would read all of them.
CREATE TABLE idempotency_count (
    actor text   NOT NULL COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL
);

INSERT INTO idempotency_count (actor, count) SELECT actor, count(*) FROM idempotency GROUP BY actor;

-- For the sweep of closed reservations.
CREATE INDEX reservation_by_end ON reservation (closed_at) WHERE closed_at IS NOT NULL;
