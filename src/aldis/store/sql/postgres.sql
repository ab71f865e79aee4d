-- Queries of the PostgreSQL engine. Sets arrive as arrays, one a column, and are joined as rows of unnest(). Bounds on
-- message_id beside them say which partitions to look into.
-- Statements with `numbered` do what `number_commit` does by the way.
--
-- Plans are kept, and may have been made when a table was empty. So the shape of a look-up is written out: LATERAL with
-- OFFSET 0 (or FOR UPDATE) is a nested loop by key from the given rows, whatever the planner believes of the table;
-- rows that are locked are changed by their ctid, or by INSERT ... ON CONFLICT, which looks up by key too.

-- name: lock_purses
-- What accounts can pay with, locked in one order until the commit.
SELECT account_id, credits_milli, daily_quota, quota_day, quota_used FROM accounts
WHERE account_id = ANY($1::bigint[]) ORDER BY account_id FOR NO KEY UPDATE;

-- name: find_duplicates
-- The batches that earlier submissions with the same numbers made.
SELECT k.account_id, k.stop_dup_id, d.batch_id FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, stop_dup_id)
CROSS JOIN LATERAL (
    SELECT batch_id FROM deduplications d WHERE d.account_id = k.account_id AND d.stop_dup_id = k.stop_dup_id OFFSET 0
) d;

-- name: insert_duplicates
-- Remembers submissions' numbers with their batches.
INSERT INTO deduplications (account_id, stop_dup_id, batch_id)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]);

-- name: admit
-- Writes batches and messages as they are admitted, queues those that are to be sent, and writes credits and quota; the
-- CHECK on credits is the floor.
WITH v AS MATERIALIZED (
    SELECT * FROM unnest($14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
    $20::text[], $21::bigint[], $22::bigint[], $23::bigint[])
    AS v(message_id, batch_id, account_id, msisdn, status, price_milli, connector, due_at, completed_at, parts)
), batched AS (
    INSERT INTO batches (account_id, batch_id, created_at, last_message_id, parts, dca, body, originator, msg_class,
    want_report, source_id, valid_until, charged_milli)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bytea[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[])
), written AS (
    INSERT INTO messages (account_id, message_id, batch_id, msisdn, status, price_milli, connector, completed_at)
    SELECT account_id, message_id, batch_id, msisdn, status, price_milli, connector, completed_at FROM v
), queued AS (
    INSERT INTO queue (account_id, message_id, batch_id, msisdn, parts, connector, due_at)
    SELECT account_id, message_id, batch_id, msisdn, parts, connector, due_at FROM v WHERE due_at IS NOT NULL
), numbered AS (
    INSERT INTO commits AS c (line, number, at)
    SELECT $28::bigint, $29::bigint, (extract(epoch FROM now()) * 1000)::bigint
    ON CONFLICT (line, number) DO UPDATE SET at = EXCLUDED.at RETURNING c.number
)
UPDATE accounts a SET credits_milli = c.credits_milli, quota_day = c.quota_day, quota_used = c.quota_used
FROM unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::bigint[])
AS c(account_id, credits_milli, quota_day, quota_used) WHERE a.account_id = c.account_id
RETURNING (SELECT number FROM numbered);

-- name: admit_at_once
-- Writes the batches of all accounts that can pay for the whole of theirs, as `admit` does; answers with these accounts.
-- The condition on credits is looked at again, in the row itself, where another transaction was faster. It commits
-- itself, maybe long after its client is gone: where its number was called off meanwhile it fails, for that is taken.
-- (IS TRUE keeps the planner from a nested loop of rows and accounts.)
WITH paid AS MATERIALIZED (
    UPDATE accounts a SET credits_milli = a.credits_milli - c.charge_milli, quota_day = $27,
    quota_used = CASE WHEN a.quota_day = $27 THEN a.quota_used ELSE 0 END + c.counted
    FROM unnest($24::bigint[], $25::bigint[], $26::bigint[]) AS c(account_id, charge_milli, counted)
    WHERE a.account_id = c.account_id AND a.credits_milli >= c.charge_milli AND (a.daily_quota IS NULL
    OR CASE WHEN a.quota_day = $27 THEN a.quota_used ELSE 0 END + c.counted <= a.daily_quota)
    RETURNING a.account_id
), v AS MATERIALIZED (
    SELECT * FROM unnest($14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
    $20::text[], $21::bigint[], $22::bigint[], $23::bigint[])
    AS v(message_id, batch_id, account_id, msisdn, status, price_milli, connector, due_at, completed_at, parts)
    WHERE (account_id IN (SELECT account_id FROM paid)) IS TRUE
), batched AS (
    INSERT INTO batches (account_id, batch_id, created_at, last_message_id, parts, dca, body, originator, msg_class,
    want_report, source_id, valid_until, charged_milli)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bytea[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[]) AS b(account_id)
    WHERE (account_id IN (SELECT account_id FROM paid)) IS TRUE
), written AS (
    INSERT INTO messages (account_id, message_id, batch_id, msisdn, status, price_milli, connector, completed_at)
    SELECT account_id, message_id, batch_id, msisdn, status, price_milli, connector, completed_at FROM v
), queued AS (
    INSERT INTO queue (account_id, message_id, batch_id, msisdn, parts, connector, due_at)
    SELECT account_id, message_id, batch_id, msisdn, parts, connector, due_at FROM v WHERE due_at IS NOT NULL
), numbered AS (
    INSERT INTO commits AS c (line, number, at)
    SELECT $28::bigint, $29::bigint, (extract(epoch FROM now()) * 1000)::bigint WHERE EXISTS (SELECT FROM paid)
    RETURNING c.number
)
SELECT (SELECT number FROM numbered), account_id FROM paid;

-- name: batches_there
-- Which of some batches are there.
SELECT b.batch_id FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, batch_id) CROSS JOIN LATERAL (
    SELECT batch_id FROM batches b WHERE b.account_id = k.account_id AND b.batch_id = k.batch_id OFFSET 0
) b;

-- name: claim
-- Leases due messages of a connector, oldest first, from a low-water mark on, to a node that is alive (or to nobody).
WITH picked AS MATERIALIZED (
    SELECT q.ctid AS place, q.message_id, q.parts, q.due_at FROM queue q
    WHERE q.connector = $1 AND q.due_at BETWEEN $2 AND $3
    AND ($6::bigint = 0 OR EXISTS (SELECT FROM nodes n WHERE n.epoch = $6 AND n.epoch <> 0))
    ORDER BY q.due_at, q.message_id LIMIT $4 FOR UPDATE OF q SKIP LOCKED
), fitting AS MATERIALIZED (
    SELECT place, due_at FROM (
        SELECT p.*, sum(parts) OVER w AS total, row_number() OVER w AS rank
        FROM picked p WINDOW w AS (ORDER BY due_at, message_id)
    ) s WHERE total <= $4 OR rank = 1
), leased AS (
    UPDATE queue q SET due_at = NULL, leased_until = $5, holder = $6, attempts = q.attempts + 1 FROM fitting f
    WHERE q.ctid = f.place
    RETURNING f.due_at, q.account_id, q.message_id, q.batch_id, q.msisdn, q.attempts, q.parts
), numbered AS (
    INSERT INTO commits AS c (line, number, at)
    SELECT $7::bigint, $8::bigint, (extract(epoch FROM now()) * 1000)::bigint WHERE EXISTS (SELECT FROM fitting)
    ON CONFLICT (line, number) DO UPDATE SET at = EXCLUDED.at RETURNING c.number
)
SELECT (SELECT number FROM numbered), l.due_at, l.account_id, l.message_id, l.batch_id, l.msisdn, l.attempts, l.parts,
b.dca, b.body, b.originator, b.msg_class, b.valid_until
FROM leased l CROSS JOIN LATERAL (
    SELECT * FROM batches b WHERE b.account_id = l.account_id AND b.batch_id = l.batch_id OFFSET 0
) b;

-- name: oldest_due
-- Since when the oldest message of a connector waits: the sweep that lets the low-water mark go back.
SELECT due_at FROM queue WHERE connector = $1 AND due_at IS NOT NULL ORDER BY due_at LIMIT 1;

-- name: load_parts
-- Standings of the parts of messages that have several.
SELECT k.message_id, p.part_no, p.status, p.assumed FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, message_id)
CROSS JOIN LATERAL (
    SELECT part_no, status, assumed FROM parts p
    WHERE p.account_id = k.account_id AND p.message_id = k.message_id AND p.message_id BETWEEN $3 AND $4 OFFSET 0
) p;

-- name: lock_messages
-- Messages with what judging their news needs of batch and account, locked in the order in which they are given; the
-- queue's columns are read after the lock is held.
SELECT m.message_id, m.batch_id, m.account_id, m.msisdn, m.status, m.assumed, m.seq, m.price_milli, m.refunded_milli,
m.sent, m.attempts, m.fenced, NULL::bigint, NULL::bigint, m.completed_at, b.parts, b.valid_until, b.want_report,
b.source_id, a.push_url, a.accept_empty_push
FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, message_id)
CROSS JOIN LATERAL (
    SELECT * FROM messages m
    WHERE m.account_id = k.account_id AND m.message_id = k.message_id AND m.message_id BETWEEN $3 AND $4
    FOR NO KEY UPDATE
) m
CROSS JOIN LATERAL (
    SELECT parts, valid_until, want_report, source_id FROM batches b
    WHERE b.account_id = k.account_id AND b.batch_id = m.batch_id AND b.batch_id BETWEEN $5 AND $4 OFFSET 0
) b
CROSS JOIN LATERAL (
    SELECT push_url, accept_empty_push FROM accounts a WHERE a.account_id = k.account_id OFFSET 0
) a;

-- name: lock_queued
-- Where messages that are not upstream yet stand in the queue, locked against claims in the order given.
SELECT k.message_id, q.due_at, q.leased_until, q.attempts
FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, message_id)
CROSS JOIN LATERAL (
    SELECT due_at, leased_until, attempts FROM queue q
    WHERE q.account_id = k.account_id AND q.message_id = k.message_id FOR UPDATE
) q;

-- name: save
-- Writes messages back after judging, with all that most news changes. The messages are there, and locked: nothing is
-- inserted. Those that were taken upstream, or are over, leave the queue; history is appended; what upstreams call
-- parts is learnt; reports are owed as `put_pushes` says.
WITH saved AS (
    INSERT INTO messages (account_id, message_id, status, assumed, seq, sent, refunded_milli, fenced, attempts,
    completed_at, price_milli, batch_id, msisdn, connector)
    SELECT v.*, 0, 0, '' FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) v
    ON CONFLICT (account_id, message_id) DO UPDATE SET status = EXCLUDED.status, assumed = EXCLUDED.assumed,
    seq = EXCLUDED.seq, sent = EXCLUDED.sent, refunded_milli = EXCLUDED.refunded_milli, fenced = EXCLUDED.fenced,
    attempts = EXCLUDED.attempts, completed_at = EXCLUDED.completed_at
), gone AS (
    DELETE FROM queue WHERE ctid = ANY(ARRAY(
        SELECT q.ctid FROM unnest($12::bigint[], $13::bigint[]) AS k(account_id, message_id) CROSS JOIN LATERAL (
            SELECT q.ctid FROM queue q WHERE q.account_id = k.account_id AND q.message_id = k.message_id OFFSET 0
        ) q
    ))
), told AS (
    INSERT INTO events (account_id, message_id, event_id, at, kind, status, part_no, connector, upstream_id, detail)
    SELECT * FROM unnest($14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::bigint[],
    $20::bigint[], $21::text[], $22::text[], $23::text[])
), named AS (
    INSERT INTO upstream_ids (account_id, day, connector, upstream_id, message_id, part_no, attempt)
    SELECT * FROM unnest($24::bigint[], $25::bigint[], $26::text[], $27::text[], $28::bigint[],
    $29::bigint[], $30::bigint[])
    ON CONFLICT DO NOTHING
), owed AS (
    INSERT INTO pushes AS p (push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id,
    accept_empty, attempts, due_at, owner)
    SELECT v.*, $43::bigint FROM unnest($31::bigint[], $32::bigint[], $33::bigint[], $34::bigint[], $35::text[],
    $36::bigint[], $37::bigint[], $38::bigint[], $39::text[], $40::bigint[], $41::bigint[], $42::bigint[])
    AS v(push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id, accept_empty,
    attempts, due_at)
    ON CONFLICT (account_id, message_id) DO UPDATE SET push_id = EXCLUDED.push_id, batch_id = EXCLUDED.batch_id,
    url = EXCLUDED.url, status = EXCLUDED.status, completed_at = EXCLUDED.completed_at, attempts = EXCLUDED.attempts,
    due_at = EXCLUDED.due_at, last_error = '', accept_empty = EXCLUDED.accept_empty,
    owner = CASE WHEN p.due_at IS NOT NULL AND EXISTS (SELECT FROM nodes n WHERE n.epoch = p.owner AND n.epoch <> 0)
        THEN p.owner ELSE EXCLUDED.owner END
    RETURNING message_id, owner
), numbered AS (
    INSERT INTO commits AS c (line, number, at)
    SELECT $44::bigint, $45::bigint, (extract(epoch FROM now()) * 1000)::bigint
    ON CONFLICT (line, number) DO UPDATE SET at = EXCLUDED.at RETURNING c.number
)
SELECT (SELECT number FROM numbered), (SELECT array_agg(message_id) FROM owed), (SELECT array_agg(owner) FROM owed);

-- name: keep_queued
-- Lets messages wait in the queue, or be held as they were; one that had left it comes back.
INSERT INTO queue (account_id, message_id, batch_id, msisdn, parts, connector, due_at, leased_until, attempts)
SELECT v.account_id, v.message_id, m.batch_id, m.msisdn, v.parts, m.connector, v.due_at, v.leased_until, v.attempts
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
AS v(account_id, message_id, parts, due_at, leased_until, attempts)
CROSS JOIN LATERAL (
    SELECT batch_id, msisdn, connector FROM messages m
    WHERE m.account_id = v.account_id AND m.message_id = v.message_id AND m.message_id BETWEEN $7 AND $8 OFFSET 0
) m
ON CONFLICT (account_id, message_id) DO UPDATE SET due_at = EXCLUDED.due_at, leased_until = EXCLUDED.leased_until;

-- name: save_parts
-- Writes standings of parts.
INSERT INTO parts (account_id, message_id, part_no, status, assumed)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (account_id, message_id, part_no) DO UPDATE SET status = EXCLUDED.status, assumed = EXCLUDED.assumed;

-- name: put_pushes
-- Owes reports; a newer one takes the place of an older one of the same message. While the older one is held by a node
-- that lives, the newer one is that node's too, so that the two can't overtake each other.
INSERT INTO pushes AS p (push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id,
accept_empty, attempts, due_at, owner)
SELECT v.*, $13::bigint FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
$7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[])
AS v(push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id, accept_empty, attempts,
due_at)
ON CONFLICT (account_id, message_id) DO UPDATE SET push_id = EXCLUDED.push_id, batch_id = EXCLUDED.batch_id,
url = EXCLUDED.url, status = EXCLUDED.status, completed_at = EXCLUDED.completed_at, attempts = EXCLUDED.attempts,
due_at = EXCLUDED.due_at, last_error = '', accept_empty = EXCLUDED.accept_empty,
owner = CASE WHEN p.due_at IS NOT NULL AND EXISTS (SELECT FROM nodes n WHERE n.epoch = p.owner AND n.epoch <> 0)
    THEN p.owner ELSE EXCLUDED.owner END
RETURNING message_id, owner;

-- name: refund
-- Gives credits back.
UPDATE accounts a SET credits_milli = a.credits_milli + v.amount FROM (
    SELECT account_id, sum(amount)::bigint AS amount FROM unnest($1::bigint[], $2::bigint[]) AS r(account_id, amount)
    GROUP BY account_id ORDER BY account_id
) v WHERE a.account_id = v.account_id;

-- name: match_receipts
-- Parts that an upstream knows by the given ids, submitted on the given days, and where each stands. The days are rows,
-- too: of an array the planner does not know which partitions it leaves out.
SELECT u.upstream_id, u.account_id, u.message_id, u.part_no, m.msisdn, coalesce(p.status, m.status)
FROM unnest($2::text[]) AS k(upstream_id) CROSS JOIN unnest($3::bigint[]) AS d(day)
CROSS JOIN LATERAL (
    SELECT * FROM upstream_ids u
    WHERE u.connector = $1 AND u.upstream_id = k.upstream_id AND u.day = d.day OFFSET 0
) u
CROSS JOIN LATERAL (
    SELECT msisdn, status FROM messages m WHERE m.account_id = u.account_id AND m.message_id = u.message_id OFFSET 0
) m
LEFT JOIN LATERAL (
    SELECT status FROM parts p
    WHERE p.account_id = u.account_id AND p.message_id = u.message_id AND p.part_no = u.part_no OFFSET 0
) p ON TRUE;

-- name: unanswered_parts
-- Parts that went without an answer, found by what stands for their ids, as they were sent and where each stands.
SELECT u.upstream_id, u.account_id, u.message_id, u.part_no, m.msisdn, coalesce(p.status, m.status), b.originator,
b.body
FROM unnest($2::text[]) AS k(upstream_id) CROSS JOIN unnest($3::bigint[]) AS d(day)
CROSS JOIN LATERAL (
    SELECT * FROM upstream_ids u
    WHERE u.connector = $1 AND u.upstream_id = k.upstream_id AND u.day = d.day OFFSET 0
) u
CROSS JOIN LATERAL (
    SELECT msisdn, status, batch_id FROM messages m WHERE m.account_id = u.account_id AND m.message_id = u.message_id OFFSET 0
) m
CROSS JOIN LATERAL (
    SELECT originator, body FROM batches b WHERE b.account_id = u.account_id AND b.batch_id = m.batch_id OFFSET 0
) b
LEFT JOIN LATERAL (
    SELECT status FROM parts p
    WHERE p.account_id = u.account_id AND p.message_id = u.message_id AND p.part_no = u.part_no OFFSET 0
) p ON TRUE;

-- name: insert_inbox
-- Keeps what no message has taken.
INSERT INTO inbox (inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text,
pdu)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
$8::text[], $9::text[], $10::text[], $11::bytea[]);

-- name: parked_receipts
-- Receipts that waited for the given ids, locked so that they are taken once.
SELECT i.* FROM unnest($2::text[]) AS k(upstream_id)
CROSS JOIN LATERAL (
    SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu
    FROM inbox WHERE is_receipt = 1 AND connector = $1 AND upstream_id = k.upstream_id FOR UPDATE SKIP LOCKED
) i ORDER BY i.inbox_id;

-- name: parked_since
-- Receipts parked in a span of time, from a place on.
SELECT i.inbox_id, i.connector, i.received_at, i.is_receipt, i.upstream_id, i.state, i.error, i.source, i.destination,
i.text, i.pdu FROM inbox i
WHERE i.is_receipt = 1 AND i.received_at IS NOT NULL AND (i.received_at, i.inbox_id) > ($1, $2) AND i.received_at < $3
ORDER BY i.received_at, i.inbox_id LIMIT $4 FOR UPDATE OF i SKIP LOCKED;

-- name: list_parked
-- Receipts that belong to no message, the newest first.
SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu FROM inbox
WHERE is_receipt = 1 AND received_at IS NOT NULL AND $1::text IN ('', connector) AND $3::text IN ('', upstream_id)
AND ($2::text = '' OR right(source, length($2)) = $2) ORDER BY received_at DESC, inbox_id DESC LIMIT $4;

-- name: forget_parked
-- Drops receipts that have found no message in all that time.
DELETE FROM inbox WHERE inbox_id IN (
    SELECT inbox_id FROM inbox WHERE is_receipt = 1 AND received_at IS NOT NULL AND received_at < $1
    ORDER BY received_at, inbox_id LIMIT 5000 FOR UPDATE SKIP LOCKED
) RETURNING inbox_id;

-- name: count_parked
-- How many receipts match nothing.
SELECT count(*) FROM inbox WHERE is_receipt = 1;

-- name: delete_inbox
-- Takes receipts out of the inbox once they have a home; their words are in the history then.
DELETE FROM inbox WHERE inbox_id = ANY($1::bigint[]);

-- name: end_pushes
-- Forgets pushes that were delivered, unless newer ones have taken their places, or another node owns them now; appends
-- the ends of pushes to their messages' history. Which push and whose it is, is said once more where it is changed: after
-- a wait for its row it may be another.
WITH gone AS (
    DELETE FROM pushes WHERE push_id = ANY($1::bigint[]) AND owner = $4 AND ctid = ANY(ARRAY(
        SELECT p.ctid FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k(push_id, account_id, message_id)
        CROSS JOIN LATERAL (
            SELECT p.ctid FROM pushes p WHERE p.account_id = k.account_id AND p.message_id = k.message_id
            AND p.push_id = k.push_id AND p.owner = $4 OFFSET 0
        ) p
    ))
), told AS (
    INSERT INTO events (account_id, message_id, event_id, at, kind, status, part_no, connector, upstream_id, detail)
    SELECT v.account_id, v.message_id, v.event_id, v.at, v.kind, m.status, 0, '', '', v.detail
    FROM unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[])
    AS v(account_id, message_id, event_id, at, kind, detail)
    CROSS JOIN LATERAL (
        SELECT status FROM messages m
        WHERE m.account_id = v.account_id AND m.message_id = v.message_id AND m.message_id BETWEEN $11 AND $12 OFFSET 0
    ) m
    ON CONFLICT DO NOTHING
), numbered AS (
    INSERT INTO commits AS c (line, number, at)
    SELECT $13::bigint, $14::bigint, (extract(epoch FROM now()) * 1000)::bigint
    ON CONFLICT (line, number) DO UPDATE SET at = EXCLUDED.at RETURNING c.number
)
SELECT number FROM numbered;

-- name: reschedule_pushes
-- Sets when failed pushes are tried again; null: never.
UPDATE pushes p SET attempts = v.attempts, due_at = v.due_at, last_error = v.detail FROM (
    SELECT k.*, old.ctid AS place FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::text[]) AS k(push_id, account_id, message_id, attempts, due_at, detail) CROSS JOIN LATERAL (
        SELECT old.ctid FROM pushes old WHERE old.account_id = k.account_id AND old.message_id = k.message_id
        AND old.push_id = k.push_id AND old.owner = $7 OFFSET 0
    ) old
) v WHERE p.ctid = v.place AND p.push_id = v.push_id AND p.owner = $7;

-- name: adopt_pushes
-- Takes due pushes that are nobody's.
UPDATE pushes SET owner = $1 WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pushes WHERE owner = 0 AND due_at <= $2 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
));

-- name: due_pushes
-- A node's pushes that may be tried, oldest first.
SELECT push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id, accept_empty, attempts,
due_at FROM pushes WHERE owner = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3;

-- name: orphan_pushes
-- Makes pushes of nodes that are gone nobody's. Whose each is, is looked at once more when the row is locked: another
-- node may have taken it meanwhile.
WITH RECURSIVE owners(owner) AS (
    (SELECT owner FROM pushes WHERE due_at IS NOT NULL AND owner <> 0 ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT p.owner FROM pushes p WHERE p.due_at IS NOT NULL AND p.owner > o.owner ORDER BY p.owner LIMIT 1)
    FROM owners o WHERE o.owner IS NOT NULL
)
UPDATE pushes p SET owner = 0 FROM (
    SELECT q.account_id, q.message_id FROM owners o CROSS JOIN LATERAL (
        SELECT account_id, message_id FROM pushes WHERE owner = o.owner AND due_at IS NOT NULL LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) q WHERE o.owner IS NOT NULL AND NOT EXISTS (SELECT FROM nodes n WHERE n.epoch = o.owner AND n.epoch <> 0)
) v WHERE p.account_id = v.account_id AND p.message_id = v.message_id;

-- name: lapsed
-- Claims whose worker has not been heard of, or is known to be gone: holder by holder, of whom there are few.
WITH RECURSIVE holders(holder) AS (
    (SELECT holder FROM queue WHERE leased_until IS NOT NULL ORDER BY holder LIMIT 1)
    UNION ALL
    SELECT (SELECT holder FROM queue WHERE leased_until IS NOT NULL AND holder > h.holder ORDER BY holder LIMIT 1)
    FROM holders h WHERE h.holder IS NOT NULL
)
SELECT q.account_id, q.message_id, q.attempts, q.connector FROM holders h CROSS JOIN LATERAL (
    SELECT account_id, message_id, attempts, connector FROM queue WHERE holder = h.holder AND leased_until <=
    CASE WHEN h.holder = 0 OR EXISTS (SELECT FROM nodes n WHERE n.epoch = h.holder) THEN $1 ELSE 9223372036854775807 END
    LIMIT $2
) q LIMIT $2;

-- name: expired
-- Queued messages whose validity is over, among the ten thousand that wait longest.
SELECT q.account_id, q.message_id FROM (
    SELECT account_id, message_id, batch_id FROM queue WHERE connector = $1 AND due_at <= $2
    ORDER BY due_at, message_id LIMIT 10000
) q JOIN batches b ON b.account_id = q.account_id AND b.batch_id = q.batch_id
WHERE b.valid_until <= $2 LIMIT $3;

-- name: fact
-- A number that was noted.
SELECT value FROM facts WHERE fact = $1;

-- name: facts
-- The numbers under names that begin so.
SELECT fact, value FROM facts WHERE starts_with(fact, $1);

-- name: add_facts
-- Adds to numbers, in the order of their names: two nodes add to the same ones.
INSERT INTO facts AS f (fact, value) SELECT * FROM unnest($1::text[], $2::bigint[]) AS v(fact, value) ORDER BY v.fact
ON CONFLICT (fact) DO UPDATE SET value = f.value + EXCLUDED.value;

-- name: forget_facts
-- Forgets numbers under names that begin so.
DELETE FROM facts WHERE starts_with(fact, $1);

-- name: note_fact
-- Notes a number.
INSERT INTO facts (fact, value) VALUES ($1, $2) ON CONFLICT (fact) DO UPDATE SET value = EXCLUDED.value;

-- name: queued_connectors
-- Names of the connectors that messages wait for.
WITH RECURSIVE names(name) AS (
    (SELECT connector FROM queue WHERE due_at IS NOT NULL ORDER BY connector LIMIT 1)
    UNION ALL
    SELECT (SELECT q.connector FROM queue q WHERE q.due_at IS NOT NULL AND q.connector > n.name
        ORDER BY q.connector LIMIT 1)
    FROM names n WHERE n.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL;

-- name: find_batches
-- Batches of accounts, each with its messages as arrays.
SELECT b.account_id, b.batch_id, b.created_at, b.originator, b.source_id, b.dca, b.body, r.*
FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, batch_id)
CROSS JOIN LATERAL (
    SELECT * FROM batches b
    WHERE b.account_id = k.account_id AND b.batch_id = k.batch_id AND b.batch_id BETWEEN $3 AND $4 OFFSET 0
) b
CROSS JOIN LATERAL (
    SELECT array_agg(m.message_id ORDER BY m.message_id) AS message_ids,
    array_agg(m.msisdn ORDER BY m.message_id) AS msisdns,
    array_agg(m.status ORDER BY m.message_id) AS statuses,
    array_agg(m.completed_at ORDER BY m.message_id) AS completed_ats,
    array_agg(m.price_milli ORDER BY m.message_id) AS prices,
    array_agg(m.seq ORDER BY m.message_id) AS seqs
    FROM messages m WHERE m.account_id = b.account_id AND m.message_id > b.batch_id
    AND m.message_id <= b.last_message_id AND m.batch_id = b.batch_id AND m.message_id >= $3
) r;

-- name: history
-- All events of a batch's messages.
SELECT e.account_id, e.message_id, e.event_id, e.at, e.kind, e.status, e.part_no, e.connector, e.upstream_id, e.detail
FROM batches b JOIN messages m ON m.account_id = b.account_id AND m.message_id > b.batch_id
AND m.message_id <= b.last_message_id AND m.batch_id = b.batch_id
JOIN events e ON e.account_id = b.account_id AND e.message_id = m.message_id
WHERE b.account_id = $1 AND b.batch_id = $2 AND m.message_id <= coalesce($3, b.last_message_id)
ORDER BY e.message_id, e.event_id;

-- name: count_due
-- How many messages may be sent now, and since when the oldest waits.
SELECT count(*), min(due_at) FROM queue WHERE due_at <= $1;

-- name: count_leased
-- How many messages are being sent.
SELECT count(*) FROM queue WHERE leased_until IS NOT NULL;

-- name: count_pushes
-- How many pushes may be tried now, and since when the oldest waits.
SELECT count(*), min(due_at) FROM pushes WHERE due_at <= $1;

-- name: find_accounts
-- Accounts by their names.
SELECT account_id, username, password_hash, credits_milli, daily_quota, push_url, report_header, show_transient,
strict_latin1, accept_empty_push, disabled FROM accounts WHERE username = ANY($1::text[]);

-- name: owner_of
-- Who submitted a batch.
SELECT a.username FROM batches b JOIN accounts a ON a.account_id = b.account_id WHERE b.batch_id = $1;

-- name: list_accounts
-- All accounts by name.
SELECT account_id, username, password_hash, credits_milli, daily_quota, push_url, report_header, show_transient,
strict_latin1, accept_empty_push, disabled FROM accounts ORDER BY username COLLATE "C";

-- name: lock_account_numbers
-- Lets one transaction at a time find the next number for an account.
SELECT pg_advisory_xact_lock(hashtext('aldis accounts'));

-- name: insert_account
-- Creates an account under the next number.
INSERT INTO accounts (account_id, username, password_hash, daily_quota, push_url, report_header, show_transient,
strict_latin1, accept_empty_push, disabled)
SELECT coalesce(max(account_id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM accounts RETURNING account_id;

-- name: update_account
-- Changes an account, its credits aside.
UPDATE accounts SET username = $1, password_hash = $2, daily_quota = $3, push_url = $4, report_header = $5,
show_transient = $6, strict_latin1 = $7, accept_empty_push = $8, disabled = $9 WHERE account_id = $10;

-- name: credits_of
-- An account's credits.
SELECT credits_milli FROM accounts WHERE account_id = $1;

-- name: give_credits
-- Adds credits, or takes some.
UPDATE accounts SET credits_milli = credits_milli + $2 WHERE account_id = $1 RETURNING credits_milli;

-- name: insert_top_up
-- Writes down credits given by hand, under the account's next number; the account is locked by the change of credits.
INSERT INTO top_ups (account_id, top_up_id, at, amount_milli, note)
SELECT $1, coalesce(max(top_up_id), 0) + 1, $2, $3, $4 FROM top_ups WHERE account_id = $1;

-- name: largest_id
-- The largest id that is near at hand in the tables, or was noted.
SELECT greatest((SELECT last_message_id FROM batches ORDER BY batch_id DESC LIMIT 1), (SELECT max(inbox_id) FROM inbox),
(SELECT max(inbound_id) FROM inbound_messages), (SELECT max(last_id) FROM last_ids), 0);

-- name: remember_last_id
-- Notes how far a node number's ids have come.
INSERT INTO last_ids AS l (node_number, last_id) VALUES ($1, $2)
ON CONFLICT (node_number) DO UPDATE SET last_id = greatest(l.last_id, EXCLUDED.last_id);

-- name: number_commit
-- Numbers a transaction of a connection if it has written something; answers nothing if not.
INSERT INTO commits AS c (line, number, at) SELECT $1::bigint, $2::bigint, (extract(epoch FROM now()) * 1000)::bigint
WHERE pg_current_xact_id_if_assigned() IS NOT NULL
ON CONFLICT (line, number) DO UPDATE SET at = EXCLUDED.at RETURNING c.number;

-- name: call_off
-- Whether a numbered transaction is not there, after waiting for its end if it is under way; if so, it never will be.
INSERT INTO commits AS c (line, number, at, is_called_off)
VALUES ($1, $2, (extract(epoch FROM now()) * 1000)::bigint, true)
ON CONFLICT (line, number) DO UPDATE SET at = c.at RETURNING is_called_off;

-- name: forget_numbers
-- Drops numbers of a connection that nobody is in doubt of.
DELETE FROM commits WHERE line = $1 AND number < $2;

-- name: forget_commits
-- Drops the numbers of connections that have not written for so many milliseconds, by the server's own clock.
DELETE FROM commits WHERE at < (extract(epoch FROM now()) * 1000)::bigint - $1;
