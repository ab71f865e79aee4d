-- What the names of a node's connections end with, so that whoever finds it dead can end them.
ALTER TABLE nodes ADD COLUMN label TEXT NOT NULL DEFAULT '';
