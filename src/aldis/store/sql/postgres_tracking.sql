-- Old messages that are not over, in the shared ledger.

-- name: unfinished_until
-- How far one look for unfinished messages goes.
SELECT max(batch_id) FROM (
    SELECT batch_id FROM batches WHERE batch_id > $1 AND batch_id <= $2 ORDER BY batch_id LIMIT $3
) b;

-- name: unfinished
-- Old messages of a connector that are not over, and wait for nobody here.
SELECT m.account_id, m.message_id FROM batches b CROSS JOIN LATERAL (
    SELECT account_id, message_id FROM messages m WHERE m.account_id = b.account_id
    AND m.message_id BETWEEN b.batch_id AND b.last_message_id AND m.batch_id = b.batch_id AND m.connector = $3
    AND m.status <> ALL($4::bigint[]) OFFSET 0
) m WHERE b.batch_id > $1 AND b.batch_id <= $2
AND NOT EXISTS (SELECT FROM queue q WHERE q.account_id = m.account_id AND q.message_id = m.message_id);

-- name: submissions
-- What came of handing messages to upstreams that may still have them, if these gave ids.
SELECT k.account_id, k.message_id, m.msisdn, b.originator, e.connector, e.part_no, e.upstream_id, e.detail
FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, message_id)
CROSS JOIN LATERAL (
    SELECT msisdn, batch_id FROM messages m WHERE m.account_id = k.account_id AND m.message_id = k.message_id
    AND m.status <> ALL($3::bigint[]) OFFSET 0
) m
CROSS JOIN LATERAL (
    SELECT originator FROM batches b WHERE b.account_id = k.account_id AND b.batch_id = m.batch_id OFFSET 0
) b
CROSS JOIN LATERAL (
    SELECT event_id, connector, part_no, upstream_id, detail FROM events e WHERE e.account_id = k.account_id
    AND e.message_id = k.message_id AND e.kind IN ('submit', 'late word') AND e.upstream_id <> '' OFFSET 0
) e ORDER BY k.message_id, e.event_id;
