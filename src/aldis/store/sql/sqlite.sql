-- Queries of the SQLite engine. Sets of ids arrive as carray(), which only SQLite has; {rows} is a list of VALUES rows.

-- name: accounts_for_admission
-- What admission needs to know of the accounts in a group.
SELECT account_id, credits_milli, daily_quota, quota_day, quota_used FROM accounts
WHERE account_id IN (SELECT value FROM carray(?));

-- name: charge_account
-- Writes credits and quota after a group; the CHECK on credits is the floor.
UPDATE accounts SET credits_milli = ?, quota_day = ?, quota_used = ? WHERE account_id = ?;

-- name: find_duplicate
-- The batch that an earlier submission with the same number made.
SELECT batch_id FROM deduplications WHERE account_id = ? AND stop_dup_id = ?;

-- name: insert_duplicate
-- Remembers a submission's number with its batch.
INSERT INTO deduplications (account_id, stop_dup_id, batch_id) VALUES (?, ?, ?);

-- name: insert_batches
-- Writes batches.
INSERT INTO batches (account_id, batch_id, created_at, last_message_id, parts, dca, body, originator, msg_class,
want_report, source_id, valid_until, charged_milli) VALUES {rows};

-- name: insert_messages
-- Writes messages as they are admitted.
INSERT INTO messages (message_id, batch_id, account_id, msisdn, status, price_milli, connector, due_at, completed_at)
VALUES {rows};

-- name: due_messages
-- Messages of a connector that may be sent, oldest first.
SELECT m.account_id, m.message_id, m.batch_id, m.msisdn, m.attempts + 1, b.parts, b.dca, b.body, b.originator, b.msg_class,
b.valid_until
FROM messages m INDEXED BY messages_due JOIN batches b ON b.batch_id = m.batch_id
WHERE m.connector = ? AND m.due_at <= ? ORDER BY m.due_at LIMIT ?;

-- name: lease_messages
-- Claims messages: the intent to send them.
UPDATE messages SET due_at = NULL, leased_until = ?, attempts = attempts + 1
WHERE message_id IN (SELECT value FROM carray(?));

-- name: load_parts
-- Standings of the parts of messages that have several.
SELECT p.message_id, p.part_no, p.status, p.assumed FROM carray(?) c CROSS JOIN parts p ON p.message_id = c.value;

-- name: load_messages
-- Messages with what judging their news needs of batch and account.
SELECT m.message_id, m.batch_id, m.account_id, m.msisdn, m.status, m.assumed, m.seq, m.price_milli, m.refunded_milli,
m.sent, m.attempts, m.fenced, m.due_at, m.leased_until, m.completed_at, b.parts, b.valid_until, b.want_report, b.source_id, a.push_url,
a.accept_empty_push
FROM carray(?) c CROSS JOIN messages m ON m.message_id = c.value CROSS JOIN batches b ON b.batch_id = m.batch_id
CROSS JOIN accounts a ON a.account_id = m.account_id;

-- name: save_messages
-- Writes messages back after judging.
UPDATE messages SET status = v.column2, assumed = v.column3, seq = v.column4, sent = v.column5,
refunded_milli = v.column6, fenced = v.column7, due_at = v.column8, leased_until = v.column9,
completed_at = v.column10
FROM (VALUES {rows}) v WHERE message_id = v.column1;

-- name: save_parts
-- Writes standings of parts.
INSERT OR REPLACE INTO parts (message_id, part_no, status, assumed) VALUES {rows};

-- name: insert_events
-- Appends to the history.
INSERT INTO events (message_id, event_id, at, kind, status, part_no, connector, upstream_id, detail) VALUES {rows};

-- name: insert_upstream_ids
-- Learns what upstreams call parts; the same again changes nothing.
INSERT OR IGNORE INTO upstream_ids (day, connector, upstream_id, message_id, part_no, attempt) VALUES {rows};

-- name: put_pushes
-- Owes reports; a newer one takes the place of an older one of the same message that has not gone out.
INSERT OR REPLACE INTO pushes (push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id,
accept_empty, attempts, due_at) VALUES {rows};

-- name: refund
-- Gives credits back.
UPDATE accounts SET credits_milli = credits_milli + ? WHERE account_id = ?;

-- name: match_receipts
-- Parts that an upstream knows by the given ids, submitted on the given days, and where each stands.
SELECT u.upstream_id, m.account_id, u.message_id, u.part_no, m.msisdn, coalesce(p.status, m.status)
FROM carray(?) d CROSS JOIN carray(?) c
CROSS JOIN upstream_ids u ON u.day = d.value AND u.connector = ? AND u.upstream_id = c.value
CROSS JOIN messages m ON m.message_id = u.message_id
LEFT JOIN parts p ON p.message_id = u.message_id AND p.part_no = u.part_no;

-- name: unanswered_parts
-- Parts that went without an answer, found by what stands for their ids, as they were sent and where each stands.
SELECT u.upstream_id, m.account_id, u.message_id, u.part_no, m.msisdn, coalesce(p.status, m.status), b.originator, b.body
FROM carray(?) d CROSS JOIN carray(?) c
CROSS JOIN upstream_ids u ON u.day = d.value AND u.connector = ? AND u.upstream_id = c.value
CROSS JOIN messages m ON m.message_id = u.message_id
CROSS JOIN batches b ON b.batch_id = m.batch_id
LEFT JOIN parts p ON p.message_id = u.message_id AND p.part_no = u.part_no;

-- name: insert_inbox
-- Keeps what no message has taken.
INSERT INTO inbox (inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text,
pdu) VALUES {rows};

-- name: parked_receipts
-- Receipts that waited for the given ids.
SELECT i.inbox_id, i.connector, i.received_at, i.is_receipt, i.upstream_id, i.state, i.error, i.source, i.destination,
i.text, i.pdu FROM carray(?) c CROSS JOIN inbox i INDEXED BY inbox_upstream
ON i.is_receipt = 1 AND i.connector = ? AND i.upstream_id = c.value ORDER BY i.inbox_id;

-- name: parked_since
-- Receipts parked in a span of time, from a place on.
SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu
FROM inbox INDEXED BY inbox_received
WHERE is_receipt = 1 AND (received_at, inbox_id) > (?, ?) AND received_at < ? ORDER BY received_at, inbox_id LIMIT ?;

-- name: count_parked
-- How many receipts match nothing.
SELECT count(*) FROM inbox WHERE is_receipt = 1;

-- name: list_parked
-- Receipts that belong to no message, the newest first.
SELECT inbox_id, connector, received_at, is_receipt, upstream_id, state, error, source, destination, text, pdu
FROM inbox INDEXED BY inbox_received WHERE is_receipt = 1 AND ?1 IN ('', connector) AND ?3 IN ('', upstream_id)
AND (?2 = '' OR substr(source, -length(?2)) = ?2) ORDER BY received_at DESC, inbox_id DESC LIMIT ?4;

-- name: forget_parked
-- Drops receipts that have found no message in all that time.
DELETE FROM inbox WHERE inbox_id IN (SELECT inbox_id FROM inbox INDEXED BY inbox_received
WHERE is_receipt = 1 AND received_at < ? ORDER BY received_at, inbox_id LIMIT 5000);

-- name: delete_inbox
-- Takes receipts out of the inbox once they have a home; their words are in the history then.
DELETE FROM inbox WHERE inbox_id IN (SELECT value FROM carray(?));

-- name: delete_push
-- Forgets a push that was delivered, unless a newer one has taken its place.
DELETE FROM pushes WHERE message_id = ? AND push_id = ?;

-- name: reschedule_push
-- Sets when a failed push is tried again; null: never.
UPDATE pushes SET attempts = ?, due_at = ?, last_error = ? WHERE message_id = ? AND push_id = ?;

-- name: push_events
-- Appends the end of a push to its message's history.
INSERT INTO events (message_id, event_id, at, kind, status, part_no, connector, upstream_id, detail)
SELECT v.column1, v.column2, v.column3, v.column4, m.status, 0, '', '', v.column5
FROM (VALUES {rows}) v JOIN messages m ON m.message_id = v.column1;

-- name: due_pushes
-- Pushes that may be tried, oldest first.
SELECT push_id, message_id, batch_id, account_id, url, msisdn, status, completed_at, source_id, accept_empty, attempts,
due_at FROM pushes WHERE due_at <= ? ORDER BY due_at LIMIT ?;

-- name: lapsed
-- Messages whose worker has not been heard of.
SELECT account_id, message_id, attempts, connector FROM messages WHERE leased_until <= ? ORDER BY leased_until LIMIT ?;

-- name: expired
-- Queued messages whose validity is over, among the ten thousand that wait longest.
SELECT q.account_id, q.message_id FROM (SELECT account_id, message_id, batch_id FROM messages INDEXED BY messages_due
WHERE connector = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT 10000) q
JOIN batches b ON b.batch_id = q.batch_id WHERE b.valid_until <= ?2 LIMIT ?3;

-- name: unfinished_until
-- How far one look for unfinished messages goes.
SELECT message_id FROM messages WHERE message_id > ? AND message_id <= ? ORDER BY message_id LIMIT 1 OFFSET ?;

-- name: unfinished
-- Old messages of a connector that are not over, and wait for nobody here.
SELECT account_id, message_id FROM messages WHERE message_id > ? AND message_id <= ? AND connector = ?
AND status NOT IN (SELECT value FROM carray(?)) AND due_at IS NULL AND leased_until IS NULL;

-- name: submissions
-- What came of handing messages to upstreams that may still have them, if these gave ids.
SELECT m.account_id, m.message_id, m.msisdn, b.originator, e.connector, e.part_no, e.upstream_id, e.detail
FROM carray(?) c CROSS JOIN messages m ON m.message_id = c.value AND m.status NOT IN (SELECT value FROM carray(?))
CROSS JOIN batches b ON b.batch_id = m.batch_id
CROSS JOIN events e ON e.message_id = m.message_id AND e.kind IN ('submit', 'late word') AND e.upstream_id <> ''
ORDER BY e.message_id, e.event_id;

-- name: fact
-- A number that was noted.
SELECT value FROM facts WHERE fact = ?;

-- name: facts
-- The numbers under names from one to another.
SELECT fact, value FROM facts WHERE fact >= ? AND fact < ?;

-- name: add_fact
-- Adds to a number.
INSERT INTO facts (fact, value) VALUES (?, ?) ON CONFLICT (fact) DO UPDATE SET value = value + excluded.value;

-- name: forget_facts
-- Forgets numbers under names from one to another.
DELETE FROM facts WHERE fact >= ? AND fact < ?;

-- name: note_fact
-- Notes a number.
INSERT INTO facts (fact, value) VALUES (?, ?) ON CONFLICT (fact) DO UPDATE SET value = excluded.value;

-- name: queued_connectors
-- Names of the connectors that messages wait for.
SELECT DISTINCT connector FROM messages INDEXED BY messages_due WHERE due_at IS NOT NULL;

-- name: find_batch
-- A batch of an account with its first messages: one look for a batch of one, and for others the sign that more follow.
SELECT b.created_at, b.originator, b.source_id, b.dca, b.body, b.last_message_id,
m.message_id, m.msisdn, m.status, m.completed_at, m.price_milli, m.seq
FROM batches b JOIN messages m ON m.message_id > b.batch_id AND m.message_id <= b.last_message_id
AND m.batch_id = b.batch_id WHERE b.batch_id = ? AND b.account_id = ? ORDER BY m.message_id LIMIT 2;

-- name: report_rows
-- The messages of a batch; other nodes' ids may lie in its range.
SELECT message_id, msisdn, status, completed_at, price_milli, seq FROM messages
WHERE message_id > ?1 AND message_id <= ?2 AND batch_id = ?1 ORDER BY message_id;

-- name: history
-- All events of a batch's messages.
SELECT b.account_id, e.message_id, e.event_id, e.at, e.kind, e.status, e.part_no, e.connector, e.upstream_id, e.detail
FROM batches b JOIN messages m ON m.message_id > b.batch_id AND m.message_id <= b.last_message_id
AND m.batch_id = b.batch_id JOIN events e ON e.message_id = m.message_id
WHERE b.batch_id = ? AND b.account_id = ? AND m.message_id <= coalesce(?, b.last_message_id) ORDER BY e.message_id, e.event_id;

-- name: count_due
-- How many messages may be sent now, and since when the oldest waits.
SELECT count(*), min(due_at) FROM messages INDEXED BY messages_due WHERE due_at <= ?;

-- name: count_leased
-- How many messages are being sent.
SELECT count(*) FROM messages WHERE leased_until IS NOT NULL;

-- name: count_pushes
-- How many pushes may be tried now, and since when the oldest waits.
SELECT count(*), min(due_at) FROM pushes WHERE due_at <= ?;

-- name: find_account
-- An account by its name.
SELECT account_id, username, password_hash, credits_milli, daily_quota, push_url, report_header, show_transient,
strict_latin1, accept_empty_push, disabled FROM accounts WHERE username = ?;

-- name: owner_of
-- Who submitted a batch.
SELECT a.username FROM batches b JOIN accounts a ON a.account_id = b.account_id WHERE b.batch_id = ?;

-- name: list_accounts
-- All accounts by name.
SELECT account_id, username, password_hash, credits_milli, daily_quota, push_url, report_header, show_transient,
strict_latin1, accept_empty_push, disabled FROM accounts ORDER BY username;

-- name: insert_account
-- Creates an account.
INSERT INTO accounts (username, password_hash, daily_quota, push_url, report_header, show_transient, strict_latin1,
accept_empty_push, disabled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: update_account
-- Changes an account, its credits aside.
UPDATE accounts SET username = ?, password_hash = ?, daily_quota = ?, push_url = ?, report_header = ?,
show_transient = ?, strict_latin1 = ?, accept_empty_push = ?, disabled = ? WHERE account_id = ?;

-- name: credits_of
-- An account's credits.
SELECT credits_milli FROM accounts WHERE account_id = ?;

-- name: insert_top_up
-- Writes down credits given by hand.
INSERT INTO top_ups (account_id, at, amount_milli, note) VALUES (?, ?, ?, ?);

-- name: remember_last_id
-- Notes the last id that this node made: those of events and pushes are in no index of their own.
INSERT INTO facts (fact, value) VALUES ('last_id', ?)
ON CONFLICT (fact) DO UPDATE SET value = max(value, excluded.value);

-- name: largest_id
-- The largest id in the tables, or noted.
SELECT max(coalesce((SELECT max(last_message_id) FROM batches), 0), coalesce((SELECT max(message_id) FROM messages), 0),
coalesce((SELECT max(inbox_id) FROM inbox), 0), coalesce((SELECT max(inbound_id) FROM inbound_messages), 0),
coalesce((SELECT value FROM facts WHERE fact = 'last_id'), 0));

-- name: forget_upstream_ids
-- Drops the ids of parts submitted long ago.
DELETE FROM upstream_ids WHERE (day, connector, upstream_id, message_id, part_no) IN
(SELECT day, connector, upstream_id, message_id, part_no FROM upstream_ids WHERE day < ? LIMIT 5000);
