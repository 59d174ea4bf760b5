-- The record of rooms and seats, durable logs and inboxes, for SQLite; MySQL's twin is schema.sql at the root of the repository.
-- Re-runnable. Ids are BLOB and compared by bytes; times are milliseconds since 1970.

-- 'schema': version of this file. 'deleted_rooms': no room that was deleted had a version above this, so that a room
-- created anew under the same id starts above all its former versions.
CREATE TABLE IF NOT EXISTS versions (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO versions (name, value) VALUES ('schema', 2), ('deleted_rooms', 0) ON CONFLICT (name) DO NOTHING;

-- card_version grows with the card, seat_version with each admission; members counts the seats.
CREATE TABLE IF NOT EXISTS rooms (
    room_id BLOB NOT NULL PRIMARY KEY,
    card_version INTEGER NOT NULL,
    seat_version INTEGER NOT NULL,
    membership TEXT NOT NULL,
    max_users INTEGER NOT NULL,
    members INTEGER NOT NULL,
    is_auto_created INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    empty_since INTEGER,
    log TEXT NOT NULL DEFAULT 'RECENT',
    on_log_failure TEXT NOT NULL DEFAULT 'DEGRADE'
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rooms_empty ON rooms (empty_since)
    WHERE is_auto_created = 1 AND empty_since IS NOT NULL;

-- left_at IS NULL: the user holds a seat. read_epoch, read_offset: how far the user has read the room's log.
CREATE TABLE IF NOT EXISTS room_users (
    room_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    user_name TEXT NOT NULL,
    seat_version INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    left_at INTEGER,
    read_epoch INTEGER,
    read_offset INTEGER,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS room_users_seats ON room_users (room_id, user_id) WHERE left_at IS NULL;

-- One row per log: 'r' and a room id, or 'u' and a user id. epoch is 64 random bits; last_offset that of the newest
-- message, bytes the payloads of all messages of the epoch, gone ones too.
CREATE TABLE IF NOT EXISTS logs (
    log_key BLOB NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    last_offset INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS logs_used ON logs (used_at);

-- Messages of an epoch that is not the log's own are gone, and deleted later. bytes_before: payloads of the epoch's
-- earlier messages. payload stands last, so that what is asked of the others does not read it.
CREATE TABLE IF NOT EXISTS log_messages (
    log_key BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    payload_bytes INTEGER NOT NULL,
    bytes_before INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (log_key, epoch, log_offset)
) STRICT;

CREATE INDEX IF NOT EXISTS log_messages_created ON log_messages (created_at);

-- Idempotency keys within a log; those of pushes to no one in particular have the log_key 'a'.
CREATE TABLE IF NOT EXISTS log_keys (
    log_key BLOB NOT NULL,
    idempotency_key BLOB NOT NULL,
    digest INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    epoch INTEGER,
    log_offset INTEGER,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (log_key, idempotency_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS log_keys_expire ON log_keys (expires_at);

-- Messages that wait for a session of their user.
CREATE TABLE IF NOT EXISTS inbox_messages (
    user_id BLOB NOT NULL,
    message_id BLOB NOT NULL,
    payload BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, message_id)
) STRICT;

CREATE INDEX IF NOT EXISTS inbox_messages_expire ON inbox_messages (expires_at);
