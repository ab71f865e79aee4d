-- Whole tables of an SQLite ledger in the columns of every ledger, for copies. {after} is where to go on. The writes take
-- whole rows: ?1 is the first of the columns in `transfer.TABLES`.

-- name: accounts
-- Accounts; here nothing is ever carried over.
SELECT t.account_id, 0, 0, t.username, t.password_hash, t.credits_milli, t.daily_quota, t.quota_day, t.quota_used,
t.push_url, t.report_header, t.show_transient, t.strict_latin1, t.accept_empty_push, t.disabled
FROM accounts t WHERE {after};

-- name: top_ups
-- Top-ups, numbered for each account.
SELECT t.account_id, t.number, t.at, t.amount_milli, t.note FROM (
    SELECT account_id, row_number() OVER (PARTITION BY account_id ORDER BY top_up_id) AS number, at, amount_milli, note
    FROM top_ups
) t WHERE {after};

-- name: batches
-- Batches.
SELECT t.account_id, t.batch_id, t.created_at, t.last_message_id, t.parts, t.dca, t.body, t.originator, t.msg_class,
t.want_report, t.source_id, t.valid_until, t.charged_milli
FROM batches t WHERE {after};

-- name: deduplications
-- Submissions' own numbers.
SELECT t.account_id, t.stop_dup_id, t.batch_id FROM deduplications t WHERE {after};

-- name: messages
-- Messages, what is in the queue of them left out.
SELECT t.account_id, t.message_id, t.batch_id, t.msisdn, t.status, t.price_milli, t.connector, t.completed_at, t.assumed,
t.seq, t.attempts, t.fenced, t.sent, t.refunded_milli
FROM messages t WHERE {after};

-- name: queue
-- Messages that are to be sent or are being sent. A lease may outlive its reason, when a late answer to an earlier try
-- says that the message was taken: that is left out.
SELECT CASE WHEN b.batch_id IS NULL THEN NULL ELSE t.account_id END, t.message_id, t.batch_id, t.msisdn, b.parts,
t.connector, t.due_at, t.leased_until, t.attempts
FROM messages t LEFT JOIN batches b ON b.batch_id = t.batch_id
WHERE (t.due_at IS NOT NULL OR t.leased_until IS NOT NULL) AND t.status IN (0, 63) AND {after};

-- name: parts
-- Standings of parts.
SELECT m.account_id, t.message_id, t.part_no, t.status, t.assumed
FROM parts t LEFT JOIN messages m ON m.message_id = t.message_id WHERE {after};

-- name: events
-- The history.
SELECT m.account_id, t.message_id, t.event_id, t.at, t.kind, t.status, t.part_no, t.connector, t.upstream_id, t.detail
FROM events t LEFT JOIN messages m ON m.message_id = t.message_id WHERE {after};

-- name: upstream_ids
-- What upstreams call parts.
SELECT m.account_id, t.day, t.connector, t.upstream_id, t.message_id, t.part_no, t.attempt
FROM upstream_ids t LEFT JOIN messages m ON m.message_id = t.message_id WHERE {after};

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

-- name: count_queue
-- How many messages are to be sent or are being sent.
SELECT count(*) FROM messages WHERE (due_at IS NOT NULL OR leased_until IS NOT NULL) AND status IN (0, 63);

-- name: add_accounts
-- Writes accounts.
INSERT INTO accounts (account_id, username, password_hash, credits_milli, daily_quota, quota_day, quota_used, push_url,
report_header, show_transient, strict_latin1, accept_empty_push, disabled)
VALUES (?1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15);

-- name: add_top_ups
-- Writes top-ups under numbers of their own.
INSERT INTO top_ups (account_id, at, amount_milli, note) VALUES (?1, ?3, ?4, ?5);

-- name: add_batches
-- Writes batches.
INSERT INTO batches (account_id, batch_id, created_at, last_message_id, parts, dca, body, originator, msg_class,
want_report, source_id, valid_until, charged_milli) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13);

-- name: add_deduplications
-- Writes submissions' own numbers.
INSERT INTO deduplications (account_id, stop_dup_id, batch_id) VALUES (?1, ?2, ?3);

-- name: add_messages
-- Writes messages.
INSERT INTO messages (account_id, message_id, batch_id, msisdn, status, price_milli, connector, completed_at, assumed,
seq, attempts, fenced, sent, refunded_milli)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14);

-- name: add_queue
-- Queues messages that are there.
UPDATE messages SET due_at = ?7, leased_until = ?8, attempts = ?9 WHERE message_id = ?2;

-- name: add_parts
-- Writes standings of parts.
INSERT INTO parts (message_id, part_no, status, assumed) VALUES (?2, ?3, ?4, ?5);

-- name: add_events
-- Writes history.
INSERT INTO events (message_id, event_id, at, kind, status, part_no, connector, upstream_id, detail)
VALUES (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10);

-- name: add_upstream_ids
-- Writes what upstreams call parts.
INSERT INTO upstream_ids (day, connector, upstream_id, message_id, part_no, attempt) VALUES (?2, ?3, ?4, ?5, ?6, ?7);

-- name: add_inbox
-- Writes what no message has taken.
INSERT INTO inbox (inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text,
pdu) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11);

-- name: add_inbound_messages
-- Writes messages of subscribers.
INSERT INTO inbound_messages (inbound_id, connector, received_at, source, destination, data_coding, text, octets, parts,
parts_got, keyword, to_account_id, to_message_id)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13);

-- name: add_pushes
-- Writes reports owed.
INSERT INTO pushes (account_id, message_id, push_id, batch_id, url, msisdn, status, completed_at, source_id,
accept_empty, attempts, due_at, last_error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13);

-- name: begin
-- Marks the ledger as an unfinished copy.
INSERT INTO unfinished_copy (table_name, source, total_rows) VALUES (?, ?, ?);

-- name: progress
-- How far the copy of each table has come.
SELECT table_name, source, total_rows, copied_rows, position FROM unfinished_copy;

-- name: advance
-- Notes how far a table has come.
UPDATE unfinished_copy SET position = ?, copied_rows = copied_rows + ? WHERE table_name = ?;
