-- Parked receipts are looked at again page by page.
DROP INDEX inbox_received;
-- The second condition, which always holds, keeps it from being read whole for a look-up by id.
CREATE INDEX inbox_received ON inbox (received_at, inbox_id) WHERE is_receipt = 1 AND received_at IS NOT NULL;
