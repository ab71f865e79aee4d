-- Messages of subscribers in the shared ledger.

-- name: waiting_inbound
-- PDUs that came in a span of time and are in no message so far, from a place on.
SELECT i.inbox_id, i.connector, i.received_at, i.is_receipt, i.upstream_id, i.state, i.error, i.source, i.destination,
i.text, i.pdu FROM inbox i
WHERE i.is_receipt = 0 AND i.received_at IS NOT NULL AND (i.received_at, i.inbox_id) > ($1, $2) AND i.received_at < $3
ORDER BY i.received_at, i.inbox_id LIMIT $4 FOR UPDATE OF i SKIP LOCKED;

-- name: pieces_of_inbound
-- All parts of long messages that are there.
SELECT i.* FROM unnest($2::text[]) AS k(upstream_id)
CROSS JOIN LATERAL (
    SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu
    FROM inbox WHERE is_receipt = 0 AND connector = $1 AND upstream_id = k.upstream_id FOR UPDATE SKIP LOCKED
) i ORDER BY i.inbox_id;

-- name: count_pieces_of_inbound
-- How many parts of long messages there are, also those that another node has in hand.
SELECT upstream_id, count(*) FROM inbox WHERE is_receipt = 0 AND connector = $1 AND upstream_id = ANY($2::text[])
GROUP BY upstream_id;

-- name: insert_inbound
-- Writes messages.
INSERT INTO inbound_messages (inbound_id, connector, received_at, source, destination, data_coding, text, octets, parts,
parts_got, keyword, to_account_id, to_message_id)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[],
$8::bytea[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[]);

-- name: earlier_inbound
-- Whole messages from one number to another that were there in a span of time, with so many parts.
SELECT octets FROM inbound_messages
WHERE connector = $1 AND source = $2 AND destination = $3 AND parts = $4 AND parts_got = parts
AND received_at BETWEEN $5 AND $6;

-- name: list_inbound
-- Messages, the newest first.
SELECT inbound_id, connector, received_at, source, destination, data_coding, text, octets, parts, parts_got, keyword,
to_account_id, to_message_id FROM inbound_messages
WHERE $1::text IN ('', connector) AND ($2::text = '' OR right(source, length($2)) = $2)
AND ($3::text = '' OR right(destination, length($3)) = $3) AND $4::text IN ('', keyword)
ORDER BY received_at DESC, inbound_id DESC LIMIT $5;

-- name: forget_inbound
-- Drops old messages.
DELETE FROM inbound_messages WHERE inbound_id IN (
    SELECT inbound_id FROM inbound_messages WHERE received_at < $1
    ORDER BY received_at, inbound_id LIMIT 5000 FOR UPDATE SKIP LOCKED
) RETURNING inbound_id;
