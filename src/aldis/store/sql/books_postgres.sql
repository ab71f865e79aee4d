-- What is asked of a PostgreSQL ledger when it is checked; see `books.sql`. Retention drops whole weeks: what is older than
-- the oldest batch, or the oldest message, may have lost it to that.

-- name: accounts
-- Accounts with what they have, and the sums of what retention has dropped.
SELECT account_id, username, credits_milli, carried_charges, carried_refunds FROM accounts ORDER BY account_id;

-- name: count_queue
-- Messages that wait to be sent, and those that are being sent.
SELECT count(due_at), count(leased_until) FROM queue;

-- name: waits_in_vain
-- Messages that are to be sent although they are over, or upstream already, or do not exist; of one that is being sent for
-- the second time, a late answer to the first may say that it is upstream.
SELECT q.message_id, m.status FROM queue q
LEFT JOIN messages m ON m.account_id = q.account_id AND m.message_id = q.message_id
WHERE m.message_id IS NULL OR (q.due_at IS NOT NULL AND m.status NOT IN ({pending})) OR m.status IN ({final}) LIMIT 21;

-- name: queued_otherwise
-- Messages that are queued for another number or connector, or as another batch's, than their own.
SELECT q.message_id FROM queue q
JOIN messages m ON m.account_id = q.account_id AND m.message_id = q.message_id
LEFT JOIN batches b ON b.account_id = m.account_id AND b.batch_id = m.batch_id
WHERE q.msisdn <> m.msisdn OR q.connector <> m.connector OR q.batch_id <> m.batch_id OR q.parts <> b.parts LIMIT 21;

-- name: forgotten
-- Messages that were paid for and that nothing will move; a rehearsal costs nothing, and stays where it is.
SELECT m.message_id, m.status FROM messages m
LEFT JOIN queue q ON q.account_id = m.account_id AND q.message_id = m.message_id
WHERE m.status IN ({pending}) AND m.price_milli > 0 AND q.message_id IS NULL LIMIT 21;

-- name: charge
-- Batches that were not charged what their messages cost.
SELECT b.batch_id, b.charged_milli, coalesce(p.prices, 0) FROM batches b LEFT JOIN (
    SELECT account_id, batch_id, CAST(sum(price_milli) AS BIGINT) AS prices FROM messages GROUP BY account_id, batch_id
) p ON p.account_id = b.account_id AND p.batch_id = b.batch_id
WHERE b.charged_milli <> coalesce(p.prices, 0) LIMIT 21;

-- name: message_of_no_batch
-- Messages that are not in a batch of their account.
SELECT m.message_id, m.batch_id FROM messages m
LEFT JOIN batches b ON b.account_id = m.account_id AND b.batch_id = m.batch_id
WHERE (b.batch_id IS NULL AND (NOT EXISTS (SELECT FROM accounts WHERE carried_charges <> 0)
    OR m.batch_id >= (SELECT min(batch_id) FROM batches)))
OR m.message_id NOT BETWEEN b.batch_id AND b.last_message_id LIMIT 21;

-- name: part_of_no_message
-- Parts without a message.
SELECT p.message_id FROM parts p LEFT JOIN messages m ON m.account_id = p.account_id AND m.message_id = p.message_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: event_of_no_message
-- History of what does not exist.
SELECT e.message_id FROM events e LEFT JOIN messages m ON m.account_id = e.account_id AND m.message_id = e.message_id
WHERE m.message_id IS NULL LIMIT 21;

-- name: push_of_no_message
-- Reports about what does not exist; those whose last try has failed may outlive it.
SELECT p.message_id FROM pushes p LEFT JOIN messages m ON m.account_id = p.account_id AND m.message_id = p.message_id
WHERE m.message_id IS NULL AND (p.due_at IS NOT NULL OR NOT EXISTS (SELECT FROM accounts WHERE carried_charges <> 0)
    OR p.message_id >= (SELECT min(message_id) FROM messages)) LIMIT 21;

-- name: upstream_id_of_no_message
-- What upstreams call parts that do not exist.
SELECT u.message_id, u.connector FROM upstream_ids u
LEFT JOIN messages m ON m.account_id = u.account_id AND m.message_id = u.message_id
WHERE m.message_id IS NULL AND (NOT EXISTS (SELECT FROM accounts WHERE carried_charges <> 0)
    OR u.message_id >= (SELECT min(message_id) FROM messages)) LIMIT 21;

-- name: number_of_no_batch
-- Submissions' own numbers without a submission.
SELECT d.stop_dup_id, d.batch_id FROM deduplications d
LEFT JOIN batches b ON b.account_id = d.account_id AND b.batch_id = d.batch_id
WHERE b.batch_id IS NULL AND (NOT EXISTS (SELECT FROM accounts WHERE carried_charges <> 0)
    OR d.batch_id >= (SELECT min(batch_id) FROM batches)) LIMIT 21;
