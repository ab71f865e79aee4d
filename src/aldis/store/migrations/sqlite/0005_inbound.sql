-- Messages from subscribers; their parts wait in the inbox until they are whole.
CREATE TABLE inbound_messages (
    inbound_id    INTEGER PRIMARY KEY,
    connector     TEXT NOT NULL,
    received_at   BIGINT NOT NULL,
    source        TEXT NOT NULL,
    destination   TEXT NOT NULL,
    data_coding   BIGINT NOT NULL,
    text          TEXT NOT NULL,
    octets        BLOB NOT NULL,
    parts         BIGINT NOT NULL,
    parts_got     BIGINT NOT NULL,
    keyword       TEXT NOT NULL,
    to_account_id BIGINT NOT NULL,
    to_message_id BIGINT NOT NULL
);
CREATE INDEX inbound_received ON inbound_messages (received_at, inbound_id);
CREATE INDEX inbox_waiting ON inbox (received_at, inbox_id) WHERE is_receipt = 0;
CREATE INDEX inbox_pieces ON inbox (connector, upstream_id, inbox_id) WHERE is_receipt = 0;
