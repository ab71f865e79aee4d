-- Whole tables of a PostgreSQL ledger in the columns of every ledger, for copies. {after} is where to go on.

-- name: accounts
-- Accounts.
SELECT t.account_id, t.carried_charges, t.carried_refunds, t.username, t.password_hash, t.credits_milli, t.daily_quota,
t.quota_day, t.quota_used, t.push_url, t.report_header, t.show_transient, t.strict_latin1, t.accept_empty_push,
t.disabled FROM accounts t WHERE {after};

-- name: top_ups
-- Top-ups.
SELECT t.account_id, t.top_up_id, t.at, t.amount_milli, t.note FROM top_ups t WHERE {after};

-- name: batches
-- Batches.
SELECT t.account_id, t.batch_id, t.created_at, t.last_message_id, t.parts, t.dca, t.body, t.originator, t.msg_class,
t.want_report, t.source_id, t.valid_until, t.charged_milli
FROM batches t WHERE {after};

-- name: deduplications
-- Submissions' own numbers.
SELECT t.account_id, t.stop_dup_id, t.batch_id FROM deduplications t WHERE {after};

-- name: messages
-- Messages; of what waits the queue knows how often it was claimed.
SELECT t.account_id, t.message_id, t.batch_id, t.msisdn, t.status, t.price_milli, t.connector, t.completed_at, t.assumed,
t.seq, coalesce(q.attempts, t.attempts), t.fenced, t.sent, t.refunded_milli
FROM messages t LEFT JOIN queue q ON q.account_id = t.account_id AND q.message_id = t.message_id WHERE {after};

-- name: queue
-- Messages that are to be sent or are being sent. A lease may outlive its reason, when a late answer to an earlier try
-- says that the message was taken: that is left out.
SELECT t.account_id, t.message_id, t.batch_id, t.msisdn, t.parts, t.connector, t.due_at, t.leased_until, t.attempts
FROM queue t LEFT JOIN messages m ON m.account_id = t.account_id AND m.message_id = t.message_id
WHERE (m.message_id IS NULL OR m.status IN (0, 63)) AND {after};

-- name: count_queue
-- How many messages are to be sent or are being sent.
SELECT count(*) FROM queue t LEFT JOIN messages m ON m.account_id = t.account_id AND m.message_id = t.message_id
WHERE m.message_id IS NULL OR m.status IN (0, 63);

-- name: parts
-- Standings of parts.
SELECT t.account_id, t.message_id, t.part_no, t.status, t.assumed FROM parts t WHERE {after};

-- name: events
-- The history.
SELECT t.account_id, t.message_id, t.event_id, t.at, t.kind, t.status, t.part_no, t.connector, t.upstream_id, t.detail
FROM events t WHERE {after};

-- name: upstream_ids
-- What upstreams call parts.
SELECT t.account_id, t.day, t.connector, t.upstream_id, t.message_id, t.part_no, t.attempt
FROM upstream_ids t WHERE {after};

-- name: inbox
-- What no message has taken.
SELECT t.inbox_id, t.connector, t.received_at, t.is_receipt, t.upstream_id, t.state, t.error, t.source, t.destination,
t.text, t.pdu FROM inbox t WHERE {after};

-- name: inbound_messages
-- Messages of subscribers.
SELECT t.inbound_id, t.connector, t.received_at, t.source, t.destination, t.data_coding, t.text, t.octets, t.parts,
t.parts_got, t.keyword, t.to_account_id, t.to_message_id FROM inbound_messages t WHERE {after};

-- name: pushes
-- Reports owed.
SELECT t.account_id, t.message_id, t.push_id, t.batch_id, t.url, t.msisdn, t.status, t.completed_at, t.source_id,
t.accept_empty, t.attempts, t.due_at, t.last_error FROM pushes t WHERE {after};

-- name: begin
-- Marks the ledger as an unfinished copy.
INSERT INTO unfinished_copy (table_name, source, total_rows) VALUES ($1, $2, $3);

-- name: progress
-- How far the copy of each table has come.
SELECT table_name, source, total_rows, copied_rows, position FROM unfinished_copy;

-- name: advance
-- Notes how far a table has come.
UPDATE unfinished_copy SET position = $1, copied_rows = copied_rows + $2 WHERE table_name = $3;

-- name: running_nodes
-- Nodes that work on this ledger.
SELECT node_number, host FROM nodes WHERE epoch <> 0 AND expires_at > $1 ORDER BY node_number;
