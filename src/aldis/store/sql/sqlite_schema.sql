-- The sum of all migrations, for reading; a test keeps it so.

CREATE TABLE accounts (
    account_id        INTEGER PRIMARY KEY,
    username          TEXT NOT NULL UNIQUE,
    password_hash     TEXT NOT NULL,
    credits_milli     BIGINT NOT NULL DEFAULT 0 CHECK (credits_milli >= 0 AND typeof(credits_milli) = 'integer'),
    daily_quota       BIGINT,
    quota_day         BIGINT NOT NULL DEFAULT 0,
    quota_used        BIGINT NOT NULL DEFAULT 0,
    push_url          TEXT NOT NULL DEFAULT '',
    report_header     TEXT NOT NULL DEFAULT '',
    show_transient    BIGINT NOT NULL DEFAULT 1,
    strict_latin1     BIGINT NOT NULL DEFAULT 0,
    accept_empty_push BIGINT NOT NULL DEFAULT 0,
    disabled          BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE batches (
    batch_id        INTEGER PRIMARY KEY,
    account_id      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_message_id BIGINT NOT NULL,
    parts           BIGINT NOT NULL,
    dca             BIGINT NOT NULL,
    body            BLOB NOT NULL,
    originator      TEXT NOT NULL,
    msg_class       BIGINT NOT NULL,
    want_report     BIGINT NOT NULL,
    source_id       TEXT NOT NULL,
    valid_until     BIGINT NOT NULL,
    charged_milli   BIGINT NOT NULL CHECK (charged_milli >= 0)
);

CREATE TABLE deduplications (
    account_id  BIGINT NOT NULL,
    stop_dup_id BIGINT NOT NULL,
    batch_id    BIGINT NOT NULL,
    PRIMARY KEY (account_id, stop_dup_id)
) WITHOUT ROWID;

CREATE TABLE events (
    message_id  BIGINT NOT NULL,
    event_id    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    kind        TEXT NOT NULL,
    status      BIGINT NOT NULL,
    part_no     BIGINT NOT NULL,
    connector   TEXT NOT NULL,
    upstream_id TEXT NOT NULL,
    detail      TEXT NOT NULL,
    PRIMARY KEY (message_id, event_id)
) WITHOUT ROWID;

CREATE TABLE facts (
    fact  TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) WITHOUT ROWID;

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

CREATE TABLE inbox (
    inbox_id    INTEGER PRIMARY KEY,
    connector   TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    is_receipt  BIGINT NOT NULL,
    upstream_id TEXT NOT NULL,
    state       TEXT NOT NULL,
    error       TEXT NOT NULL,
    source      TEXT NOT NULL,
    destination TEXT NOT NULL,
    text        TEXT NOT NULL,
    pdu         BLOB NOT NULL
);

CREATE TABLE messages (
    message_id     INTEGER PRIMARY KEY,
    batch_id       BIGINT NOT NULL,
    account_id     BIGINT NOT NULL,
    msisdn         BIGINT NOT NULL,
    status         BIGINT NOT NULL,
    price_milli    BIGINT NOT NULL,
    connector      TEXT NOT NULL,
    due_at         BIGINT,
    completed_at   BIGINT,
    leased_until   BIGINT,
    assumed        BIGINT NOT NULL DEFAULT 0,
    seq            BIGINT NOT NULL DEFAULT 0,
    attempts       BIGINT NOT NULL DEFAULT 0,
    sent           BIGINT NOT NULL DEFAULT 0,
    refunded_milli BIGINT NOT NULL DEFAULT 0, fenced BIGINT NOT NULL DEFAULT 0,
    CHECK (refunded_milli = 0 OR refunded_milli = price_milli),
    CHECK (completed_at IS NULL OR due_at IS NULL),
    CHECK (leased_until IS NULL OR due_at IS NULL)
);

CREATE TABLE migrations
(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE parts (
    message_id BIGINT NOT NULL,
    part_no    BIGINT NOT NULL,
    status     BIGINT NOT NULL,
    assumed    BIGINT NOT NULL,
    PRIMARY KEY (message_id, part_no)
) WITHOUT ROWID;

CREATE TABLE pushes (
    message_id   INTEGER PRIMARY KEY,
    push_id      BIGINT NOT NULL,
    batch_id     BIGINT NOT NULL,
    account_id   BIGINT NOT NULL,
    url          TEXT NOT NULL,
    msisdn       BIGINT NOT NULL,
    status       BIGINT NOT NULL,
    completed_at BIGINT,
    source_id    TEXT NOT NULL,
    accept_empty BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    due_at       BIGINT,
    last_error   TEXT NOT NULL DEFAULT ''
);

CREATE TABLE top_ups (
    top_up_id    INTEGER PRIMARY KEY,
    account_id   BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    amount_milli BIGINT NOT NULL,
    note         TEXT NOT NULL
);

CREATE TABLE unfinished_copy (
    table_name  TEXT NOT NULL PRIMARY KEY,
    source      TEXT NOT NULL,
    total_rows  BIGINT NOT NULL,
    copied_rows BIGINT NOT NULL DEFAULT 0,
    position    TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE upstream_ids (
    day          BIGINT NOT NULL,
    connector    TEXT NOT NULL,
    upstream_id  TEXT NOT NULL,
    message_id   BIGINT NOT NULL,
    part_no      BIGINT NOT NULL,
    attempt      BIGINT NOT NULL,
    PRIMARY KEY (day, connector, upstream_id, message_id, part_no)
) WITHOUT ROWID;

CREATE INDEX inbound_received ON inbound_messages (received_at, inbound_id);

CREATE INDEX inbox_pieces ON inbox (connector, upstream_id, inbox_id) WHERE is_receipt = 0;

CREATE INDEX inbox_received ON inbox (received_at, inbox_id) WHERE is_receipt = 1;

CREATE INDEX inbox_upstream ON inbox (connector, upstream_id) WHERE is_receipt = 1;

CREATE INDEX inbox_waiting ON inbox (received_at, inbox_id) WHERE is_receipt = 0;

CREATE INDEX messages_due ON messages (connector, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX messages_leased ON messages (leased_until) WHERE leased_until IS NOT NULL;

CREATE INDEX pushes_due ON pushes (due_at) WHERE due_at IS NOT NULL;
