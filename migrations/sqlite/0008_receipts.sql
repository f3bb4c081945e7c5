-- A receipt of each write under a key, so that a request that is sent again changes nothing again. It repeats nothing
-- of an item, which can have 25 KB. An actor is a client by its token; without tokens all are one, called ''.
CREATE TABLE receipt (
    actor       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    receipt     TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (actor, key)
) STRICT;

-- Until here the whole answer was kept. That of an import is a receipt already.
INSERT INTO receipt (actor, key, fingerprint, receipt, at)
SELECT scope, key, fingerprint, CASE
    WHEN outcome LIKE '{"created":%' THEN json_object('created', json_object(
        'id', outcome ->> '$.created.id',
        'version', outcome ->> '$.created.version',
        'at', outcome ->> '$.created.created_at'))
    WHEN outcome LIKE '{"moved":%' THEN json_object('moved', json_object('position', outcome ->> '$.moved[0].position'))
    WHEN outcome LIKE '{"moved_all":%' THEN json_object('moved_all', json_object(
        'first', outcome ->> '$.moved_all[0].position',
        'last', outcome ->> '$.moved_all[#-1].position'))
    WHEN outcome LIKE '{"reserved":%' THEN json_object('reserved', json_object('id', outcome ->> '$.reserved.id'))
    ELSE outcome
END, at
FROM idempotency;

DROP TABLE idempotency;
ALTER TABLE receipt RENAME TO idempotency;

-- For the sweep, which forgets the oldest keys of one actor after the other.
CREATE INDEX idempotency_by_age ON idempotency (actor, at);

-- The number of keys of each actor. Counting them at each write would read all of them.
CREATE TABLE idempotency_count (
    actor TEXT    NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;

INSERT INTO idempotency_count (actor, count) SELECT actor, count(*) FROM idempotency GROUP BY actor;

-- For the sweep of closed reservations.
CREATE INDEX reservation_by_end ON reservation (closed_at) WHERE closed_at IS NOT NULL;
