-- Queries of nodes: their lives, and which of them owns which bind.

-- name: join_node
-- Begins a life of a node under the lowest free number; the epoch is unlike that of any other life.
WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now), free AS (
    SELECT n AS number FROM generate_series(0, $1::bigint) n
    WHERE NOT EXISTS (SELECT FROM nodes WHERE node_number = n AND epoch <> 0) ORDER BY n LIMIT 1
)
INSERT INTO nodes AS old (node_number, epoch, roles, host, process, label, started_at, expires_at)
SELECT number, now * 1024 + number, $3, $4, $5, $6, now, now + $2 FROM free, clock
ON CONFLICT (node_number) DO UPDATE SET epoch = EXCLUDED.epoch, roles = EXCLUDED.roles, host = EXCLUDED.host,
process = EXCLUDED.process, label = EXCLUDED.label, started_at = EXCLUDED.started_at, expires_at = EXCLUDED.expires_at
RETURNING node_number, epoch, started_at;

-- name: know_binds
-- Makes rows for the binds of a connector.
INSERT INTO binds (connector, bind_no) SELECT $1, n FROM generate_series(0, $2::bigint - 1) n ON CONFLICT DO NOTHING;

-- name: beat
-- Prolongs a node's life and tells the time; nothing if the life is over.
UPDATE nodes SET expires_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $2 WHERE epoch = $1
RETURNING expires_at - $2;

-- name: bury_nodes
-- Finds nodes dead that have not been heard of in time: from here on nothing under their epochs counts.
UPDATE nodes SET epoch = 0 WHERE node_number IN (
    SELECT node_number FROM nodes WHERE epoch NOT IN (0, $1)
    AND expires_at < (extract(epoch FROM clock_timestamp()) * 1000)::bigint FOR UPDATE SKIP LOCKED
) RETURNING node_number, label;

-- name: end_connections
-- Ends the connections whose names end with these labels: a node that stands still in the middle of a transaction holds its
-- locks for as long, and no time limit of the server's counts while a client has begun a statement and not ended it.
WITH theirs AS MATERIALIZED (
    SELECT a.pid FROM pg_stat_activity a JOIN unnest($1::text[]) AS v(label) ON a.application_name LIKE 'aldis % ' || v.label
    WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()
)
SELECT count(pg_terminate_backend(pid)) FROM theirs;

-- name: living_nodes
-- The nodes that live.
SELECT epoch, roles, host, process FROM nodes WHERE epoch <> 0 ORDER BY epoch;

-- name: bind_owners
-- Every bind with the living node that owns it, and how often it was taken.
SELECT b.connector, b.bind_no, coalesce(n.epoch, 0), b.fence
FROM binds b LEFT JOIN nodes n ON n.epoch = b.epoch AND n.epoch <> 0 ORDER BY b.connector, b.bind_no;

-- name: take_binds
-- Gives binds that nobody living owned to a node that lives, unless they were taken since. What is compared is in the row
-- itself: where two take one at once, a condition on other tables would not be looked at again for the second.
UPDATE binds b SET epoch = $1, fence = b.fence + 1
FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS v(connector, bind_no, fence)
WHERE b.connector = v.connector AND b.bind_no = v.bind_no AND b.fence = v.fence
AND EXISTS (SELECT FROM nodes n WHERE n.epoch = $1)
RETURNING b.connector, b.bind_no;

-- name: give_binds
-- Makes a node's binds nobody's.
UPDATE binds b SET epoch = 0 FROM unnest($2::text[], $3::bigint[]) AS v(connector, bind_no)
WHERE b.connector = v.connector AND b.bind_no = v.bind_no AND b.epoch = $1
RETURNING b.connector, b.bind_no;

-- name: leave_nodes
-- Ends lives.
UPDATE nodes SET epoch = 0 WHERE epoch = ANY($1::bigint[]);
