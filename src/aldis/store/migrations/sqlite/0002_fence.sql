-- Claims up to this one were called off: what their workers still say moves nothing.
ALTER TABLE messages ADD COLUMN fenced BIGINT NOT NULL DEFAULT 0;
