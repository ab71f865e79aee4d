-- One index on leases in place of two: each message's row is written into all of them when it is claimed.
DROP INDEX queue_leased;
DROP INDEX queue_holder;
CREATE INDEX queue_leases ON queue (holder, leased_until) WHERE leased_until IS NOT NULL;
