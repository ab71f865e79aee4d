-- Parked receipts are looked at again page by page.
CREATE INDEX inbox_received ON inbox (received_at, inbox_id) WHERE is_receipt = 1;
