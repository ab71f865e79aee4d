-- A row for each transaction's number, in place of one that is updated by all of a connection: while an old snapshot is
-- open, each update would walk over all those before it.
ALTER TABLE commits DROP CONSTRAINT commits_pkey;
ALTER TABLE commits ADD PRIMARY KEY (line, number);
ALTER TABLE commits ADD COLUMN is_called_off BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE commits SET (fillfactor = 100);
