-- The first tables on PostgreSQL. Times are epoch milliseconds UTC, money is milli-credits.
-- Keys and joins begin with account_id (receipt look-up with the connector), and no sequence is shared by all nodes, so
-- that the tables can be spread by account. What grows for ever is partitioned by time: ids rise with it.

-- The carried sums are of batches and messages that retention has dropped, so that the books still add up.
CREATE TABLE accounts (
    account_id         BIGINT PRIMARY KEY,
    username           TEXT NOT NULL UNIQUE,
    password_hash      TEXT NOT NULL,
    credits_milli      BIGINT NOT NULL DEFAULT 0 CHECK (credits_milli >= 0),
    daily_quota        BIGINT,
    quota_day          BIGINT NOT NULL DEFAULT 0,
    quota_used         BIGINT NOT NULL DEFAULT 0,
    push_url           TEXT NOT NULL DEFAULT '',
    report_header      TEXT NOT NULL DEFAULT '',
    show_transient     BIGINT NOT NULL DEFAULT 1,
    strict_latin1      BIGINT NOT NULL DEFAULT 0,
    accept_empty_push  BIGINT NOT NULL DEFAULT 0,
    disabled           BIGINT NOT NULL DEFAULT 0,
    carried_charges    BIGINT NOT NULL DEFAULT 0,
    carried_refunds    BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0);

-- Credits given to (or taken from) an account by hand; charges are in batches, refunds in messages.
CREATE TABLE top_ups (
    account_id   BIGINT NOT NULL,
    top_up_id    BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    amount_milli BIGINT NOT NULL,
    note         TEXT NOT NULL,
    PRIMARY KEY (account_id, top_up_id)
);

CREATE TABLE batches (
    account_id      BIGINT NOT NULL,
    batch_id        BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    last_message_id BIGINT NOT NULL,
    parts           BIGINT NOT NULL,
    dca             BIGINT NOT NULL,
    body            BYTEA NOT NULL,
    originator      TEXT NOT NULL,
    msg_class       BIGINT NOT NULL,
    want_report     BIGINT NOT NULL,
    source_id       TEXT NOT NULL,
    valid_until     BIGINT NOT NULL,
    charged_milli   BIGINT NOT NULL CHECK (charged_milli >= 0),
    PRIMARY KEY (account_id, batch_id)
) PARTITION BY RANGE (batch_id);
CREATE TABLE batches_rest PARTITION OF batches DEFAULT;
-- The operator's look-up, who knows only the id; it rises, so it costs little.
CREATE INDEX batches_id ON batches (batch_id);

-- A submission's own number (stop_dup_id) -> the batch that it made.
CREATE TABLE deduplications (
    account_id  BIGINT NOT NULL,
    stop_dup_id BIGINT NOT NULL,
    batch_id    BIGINT NOT NULL,
    PRIMARY KEY (account_id, stop_dup_id)
);

-- Status and money of each message. No column that changes has an index, so that an update stays in its page.
CREATE TABLE messages (
    account_id     BIGINT NOT NULL,
    message_id     BIGINT NOT NULL,
    batch_id       BIGINT NOT NULL,
    msisdn         BIGINT NOT NULL,
    status         BIGINT NOT NULL,
    price_milli    BIGINT NOT NULL,
    connector      TEXT NOT NULL,
    completed_at   BIGINT,
    assumed        BIGINT NOT NULL DEFAULT 0,
    seq            BIGINT NOT NULL DEFAULT 0,
    attempts       BIGINT NOT NULL DEFAULT 0,
    fenced         BIGINT NOT NULL DEFAULT 0,
    sent           BIGINT NOT NULL DEFAULT 0,
    refunded_milli BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, message_id),
    CHECK (refunded_milli = 0 OR refunded_milli = price_milli)
) PARTITION BY RANGE (message_id);
CREATE TABLE messages_rest PARTITION OF messages DEFAULT;

-- Messages that are to be sent or are being sent: a small table beside the large one, so that claims and their dead rows
-- stay in it. due_at: when work may be done. leased_until: until when a worker holds it, and holder: the node's epoch.
CREATE TABLE queue (
    account_id   BIGINT NOT NULL,
    message_id   BIGINT NOT NULL,
    batch_id     BIGINT NOT NULL,
    msisdn       BIGINT NOT NULL,
    parts        BIGINT NOT NULL,
    connector    TEXT NOT NULL,
    due_at       BIGINT,
    leased_until BIGINT,
    holder       BIGINT NOT NULL DEFAULT 0,
    attempts     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, message_id),
    CHECK ((due_at IS NULL) <> (leased_until IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
CREATE INDEX queue_due ON queue (connector, due_at, message_id) WHERE due_at IS NOT NULL;
CREATE INDEX queue_leased ON queue (leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX queue_holder ON queue (holder) WHERE leased_until IS NOT NULL;

-- Standings of the parts of messages that have several; a message with one part stands for it.
CREATE TABLE parts (
    account_id BIGINT NOT NULL,
    message_id BIGINT NOT NULL,
    part_no    BIGINT NOT NULL,
    status     BIGINT NOT NULL,
    assumed    BIGINT NOT NULL,
    PRIMARY KEY (account_id, message_id, part_no)
) PARTITION BY RANGE (message_id);
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;

-- What upstreams call our parts. Partitioned by the day of submission: inserts stay in one small tree, a look-up names
-- the days that it searches, and old days go as a whole.
CREATE TABLE upstream_ids (
    connector    TEXT NOT NULL,
    upstream_id  TEXT NOT NULL,
    day          BIGINT NOT NULL,
    account_id   BIGINT NOT NULL,
    message_id   BIGINT NOT NULL,
    part_no      BIGINT NOT NULL,
    attempt      BIGINT NOT NULL,
    PRIMARY KEY (connector, upstream_id, day, message_id, part_no)
) PARTITION BY RANGE (day);
CREATE TABLE upstream_ids_rest PARTITION OF upstream_ids DEFAULT;

-- The history, append-only. That a message was accepted is implied by its batch. Its key refuses the same news twice.
CREATE TABLE events (
    account_id  BIGINT NOT NULL,
    message_id  BIGINT NOT NULL,
    event_id    BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    kind        TEXT NOT NULL,
    status      BIGINT NOT NULL,
    part_no     BIGINT NOT NULL,
    connector   TEXT NOT NULL,
    upstream_id TEXT NOT NULL,
    detail      TEXT NOT NULL,
    PRIMARY KEY (account_id, message_id, event_id)
) PARTITION BY RANGE (message_id);
CREATE TABLE events_rest PARTITION OF events DEFAULT;

-- What upstreams sent and no message has taken: receipts that match nothing yet, and inbound messages.
CREATE TABLE inbox (
    inbox_id    BIGINT PRIMARY KEY,
    connector   TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    is_receipt  BIGINT NOT NULL,
    upstream_id TEXT NOT NULL,
    state       TEXT NOT NULL,
    error       TEXT NOT NULL,
    source      TEXT NOT NULL,
    destination TEXT NOT NULL,
    text        TEXT NOT NULL,
    pdu         BYTEA NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX inbox_upstream ON inbox (connector, upstream_id) WHERE is_receipt = 1;
-- The second condition, which always holds, keeps it from being read whole for a look-up by id.
CREATE INDEX inbox_received ON inbox (received_at) WHERE is_receipt = 1 AND received_at IS NOT NULL;

-- Reports owed to customers' URLs: one a message, the newest. due_at is null once the last try has failed. owner: the
-- epoch of the node whose memory holds it; 0: nobody's yet.
CREATE TABLE pushes (
    account_id   BIGINT NOT NULL,
    message_id   BIGINT NOT NULL,
    push_id      BIGINT NOT NULL,
    batch_id     BIGINT NOT NULL,
    url          TEXT NOT NULL,
    msisdn       BIGINT NOT NULL,
    status       BIGINT NOT NULL,
    completed_at BIGINT,
    source_id    TEXT NOT NULL,
    accept_empty BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    due_at       BIGINT,
    last_error   TEXT NOT NULL DEFAULT '',
    owner        BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, message_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX pushes_due ON pushes (owner, due_at) WHERE due_at IS NOT NULL;

-- The nodes that run. A row's epoch names one life of a node; it is set to 0 when others have found the node dead, and
-- from then on nothing that it still says under the old epoch counts. process: which one of which machine it is.
CREATE TABLE nodes (
    node_number BIGINT PRIMARY KEY CHECK (node_number BETWEEN 0 AND 1023),
    epoch       BIGINT NOT NULL,
    roles       TEXT NOT NULL,
    host        TEXT NOT NULL,
    process     TEXT NOT NULL,
    started_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL
) WITH (fillfactor = 40);
CREATE UNIQUE INDEX nodes_epoch ON nodes (epoch) WHERE epoch <> 0;

-- How far each node number's ids have come.
CREATE TABLE last_ids (
    node_number BIGINT PRIMARY KEY,
    last_id     BIGINT NOT NULL
) WITH (fillfactor = 40);

-- Who holds which bind of which connector: owned while a node with that epoch lives. fence rises with each owner.
CREATE TABLE binds (
    connector TEXT NOT NULL,
    bind_no   BIGINT NOT NULL,
    epoch     BIGINT NOT NULL DEFAULT 0,
    fence     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (connector, bind_no)
) WITH (fillfactor = 40);

-- How far the copy of another ledger into this one has come; `position` is the key of the last row, in JSON. While there
-- are rows, this ledger is incomplete and nothing starts on it.
CREATE TABLE unfinished_copy (
    table_name  TEXT NOT NULL PRIMARY KEY,
    source      TEXT NOT NULL,
    total_rows  BIGINT NOT NULL,
    copied_rows BIGINT NOT NULL DEFAULT 0,
    position    TEXT NOT NULL DEFAULT ''
);
