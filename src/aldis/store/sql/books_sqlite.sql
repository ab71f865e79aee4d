-- What is asked of an SQLite ledger when it is checked; see `books.sql`.

-- name: accounts
-- Accounts with what they have; nothing is ever carried over here.
SELECT account_id, username, credits_milli, 0, 0 FROM accounts ORDER BY account_id;

-- name: count_queue
-- Messages that wait to be sent, and those that are being sent.
SELECT (SELECT count(*) FROM messages WHERE due_at IS NOT NULL), (SELECT count(*) FROM messages WHERE leased_until IS NOT NULL);

-- name: waits_in_vain
-- Messages that are to be sent although they are over, or upstream already; of one that is being sent for the second
-- time, a late answer to the first may say that.
SELECT message_id, status FROM messages WHERE (due_at IS NOT NULL AND status NOT IN ({pending}))
OR (leased_until IS NOT NULL AND status IN ({final})) LIMIT 21;

-- name: forgotten
-- Messages that were paid for and that nothing will move; a rehearsal costs nothing, and stays where it is.
SELECT message_id, status FROM messages WHERE status IN ({pending}) AND price_milli > 0 AND due_at IS NULL
AND leased_until IS NULL LIMIT 21;

-- name: charge
-- Batches that were not charged what their messages cost.
SELECT * FROM (
    SELECT b.batch_id, b.charged_milli, (
        SELECT coalesce(sum(m.price_milli), 0) FROM messages m
        WHERE m.message_id > b.batch_id AND m.message_id <= b.last_message_id AND m.batch_id = b.batch_id
    ) AS prices FROM batches b
) WHERE charged_milli <> prices LIMIT 21;

-- name: message_of_no_batch
-- Messages that are not in a batch of their account.
SELECT m.message_id, m.batch_id FROM messages m LEFT JOIN batches b ON b.batch_id = m.batch_id
WHERE b.batch_id IS NULL OR b.account_id <> m.account_id OR m.message_id NOT BETWEEN b.batch_id AND b.last_message_id
LIMIT 21;

-- name: part_of_no_message
-- Parts without a message.
SELECT p.message_id FROM parts p LEFT JOIN messages m ON m.message_id = p.message_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: event_of_no_message
-- History of what does not exist.
SELECT e.message_id FROM events e LEFT JOIN messages m ON m.message_id = e.message_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: push_of_no_message
-- Reports about what does not exist.
SELECT p.message_id FROM pushes p LEFT JOIN messages m ON m.message_id = p.message_id AND m.account_id = p.account_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: upstream_id_of_no_message
-- What upstreams call parts that do not exist.
SELECT u.message_id, u.connector FROM upstream_ids u LEFT JOIN messages m ON m.message_id = u.message_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: number_of_no_batch
-- Submissions' own numbers without a submission.
SELECT d.stop_dup_id, d.batch_id FROM deduplications d
LEFT JOIN batches b ON b.batch_id = d.batch_id AND b.account_id = d.account_id WHERE b.batch_id IS NULL LIMIT 21;
