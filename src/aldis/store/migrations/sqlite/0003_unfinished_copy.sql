-- How far the copy of another ledger into this one has come; `position` is the key of the last row, in JSON. While there
-- are rows, this ledger is incomplete and nothing starts on it.
CREATE TABLE unfinished_copy (
    table_name  TEXT NOT NULL PRIMARY KEY,
    source      TEXT NOT NULL,
    total_rows  BIGINT NOT NULL,
    copied_rows BIGINT NOT NULL DEFAULT 0,
    position    TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
