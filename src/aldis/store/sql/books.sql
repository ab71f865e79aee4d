-- What is asked of a ledger when it is checked: counts, sums, and what must not be (no row: all is well). These are the
-- same on every engine; `books_*.sql` have the others. {pending} and {final} are lists of status codes. Of each kind of
-- damage some rows are enough.

-- name: top_ups
-- What accounts were given by hand.
SELECT account_id, count(*), CAST(sum(amount_milli) AS BIGINT) FROM top_ups GROUP BY account_id;

-- name: charges
-- What accounts were charged.
SELECT account_id, count(*), CAST(sum(charged_milli) AS BIGINT) FROM batches GROUP BY account_id;

-- name: refunds
-- What accounts got back.
SELECT account_id, count(*), CAST(sum(refunded_milli) AS BIGINT) FROM messages WHERE refunded_milli <> 0
GROUP BY account_id;

-- name: statuses
-- How many messages stand where.
SELECT status, count(*) FROM messages GROUP BY status;

-- name: count_events
-- Lines of history.
SELECT count(*) FROM events;

-- name: count_parts
-- Standings of parts.
SELECT count(*) FROM parts;

-- name: count_upstream_ids
-- What upstreams call parts.
SELECT count(*) FROM upstream_ids;

-- name: count_deduplications
-- Submissions' own numbers.
SELECT count(*) FROM deduplications;

-- name: count_inbox
-- Parked receipts, and inbound messages.
SELECT coalesce(sum(is_receipt), 0), coalesce(sum(1 - is_receipt), 0) FROM inbox;

-- name: count_inbound
-- Messages of subscribers, and those that lack parts.
SELECT count(*), count(CASE WHEN parts_got < parts THEN 1 END) FROM inbound_messages;

-- name: count_pushes
-- Reports that are to be pushed, and those whose last try has failed.
SELECT count(due_at), count(*) - count(due_at) FROM pushes;

-- name: unfinished
-- What is being copied into this ledger.
SELECT DISTINCT source FROM unfinished_copy;

-- name: completion
-- Messages whose time of completion and status contradict each other.
SELECT message_id, status FROM messages WHERE (completed_at IS NULL) = (status IN ({final})) LIMIT 21;

-- name: batch_of_nobody
-- Batches without an account.
SELECT b.batch_id, b.account_id FROM batches b LEFT JOIN accounts a ON a.account_id = b.account_id
WHERE a.account_id IS NULL LIMIT 21;

-- name: top_up_of_nobody
-- Top-ups without an account.
SELECT t.top_up_id, t.account_id FROM top_ups t LEFT JOIN accounts a ON a.account_id = t.account_id
WHERE a.account_id IS NULL LIMIT 21;
