-- What tells whether a commit happened whose answer was lost: each connection that writes leaves the number of its last
-- transaction here, within that transaction. Transaction ids can't tell: after a crash the server uses them again.
CREATE TABLE commits (
    line   BIGINT PRIMARY KEY,
    number BIGINT NOT NULL,
    at     BIGINT NOT NULL
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
