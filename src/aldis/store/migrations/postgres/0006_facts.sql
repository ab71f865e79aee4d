-- Numbers that outlive a node: how far a sweep over old messages has come.
CREATE TABLE facts (
    fact  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
