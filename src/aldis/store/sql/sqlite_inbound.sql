-- Messages of subscribers in the embedded ledger.

-- name: waiting_inbound
-- PDUs that came in a span of time and are in no message so far, from a place on.
SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu
FROM inbox INDEXED BY inbox_waiting
WHERE is_receipt = 0 AND (received_at, inbox_id) > (?, ?) AND received_at < ? ORDER BY received_at, inbox_id LIMIT ?;

-- name: pieces_of_inbound
-- All parts of long messages that are there.
SELECT i.inbox_id, i.connector, i.received_at, i.is_receipt, i.upstream_id, i.state, i.error, i.source, i.destination,
i.text, i.pdu FROM carray(?) c CROSS JOIN inbox i INDEXED BY inbox_pieces
ON i.is_receipt = 0 AND i.connector = ? AND i.upstream_id = c.value ORDER BY i.inbox_id;

-- name: insert_inbound
-- Writes messages.
INSERT INTO inbound_messages (inbound_id, connector, received_at, source, destination, data_coding, text, octets, parts,
parts_got, keyword, to_account_id, to_message_id) VALUES {rows};

-- name: earlier_inbound
-- Whole messages from one number to another that were there in a span of time, with so many parts.
SELECT octets FROM inbound_messages INDEXED BY inbound_received
WHERE connector = ? AND source = ? AND destination = ? AND parts = ? AND parts_got = parts
AND received_at BETWEEN ? AND ?;

-- name: list_inbound
-- Messages, the newest first.
SELECT inbound_id, connector, received_at, source, destination, data_coding, text, octets, parts, parts_got, keyword,
to_account_id, to_message_id FROM inbound_messages INDEXED BY inbound_received
WHERE ?1 IN ('', connector) AND (?2 = '' OR substr(source, -length(?2)) = ?2)
AND (?3 = '' OR substr(destination, -length(?3)) = ?3) AND ?4 IN ('', keyword)
ORDER BY received_at DESC, inbound_id DESC LIMIT ?5;

-- name: forget_inbound
-- Drops old messages.
DELETE FROM inbound_messages WHERE inbound_id IN (SELECT inbound_id FROM inbound_messages INDEXED BY inbound_received
WHERE received_at < ? ORDER BY received_at, inbound_id LIMIT 5000);
