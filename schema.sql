-- The record of rooms and seats, durable logs and inboxes, for MySQL 8 and MariaDB 10.6 or later; run it in the database
-- that DB_NAME names. Re-runnable: it creates what is missing and changes nothing that is there. Tables of an earlier
-- version are brought to this one by controller-manager --migrate.
-- Ids are VARBINARY and bound as bytes, so that ids that differ by case, accent or trailing space stay different.
-- Times are milliseconds since 1970. SQLite's twin lives in the store crate, where a test compares the two.

-- 'schema': version of this file. 'deleted_rooms': no room that was deleted had a version above this, so that a room
-- created anew under the same id starts above all its former versions.
CREATE TABLE IF NOT EXISTS versions (
    name VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB;

INSERT IGNORE INTO versions (name, value) VALUES ('schema', 2), ('deleted_rooms', 0);

-- card_version grows with the card, seat_version with each admission; members counts the seats.
CREATE TABLE IF NOT EXISTS rooms (
    room_id VARBINARY(128) NOT NULL,
    card_version BIGINT NOT NULL,
    seat_version BIGINT NOT NULL,
    membership VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    max_users INT UNSIGNED NOT NULL,
    members BIGINT NOT NULL,
    is_auto_created TINYINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    empty_since BIGINT NULL,
    log VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'RECENT',
    on_log_failure VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'DEGRADE',
    PRIMARY KEY (room_id),
    KEY rooms_empty (is_auto_created, empty_since)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- left_at IS NULL: the user holds a seat. read_epoch, read_offset: how far the user has read the room's log.
CREATE TABLE IF NOT EXISTS room_users (
    room_id VARBINARY(128) NOT NULL,
    user_id VARBINARY(128) NOT NULL,
    user_name VARCHAR(128) NOT NULL,
    seat_version BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    left_at BIGINT NULL,
    read_epoch BIGINT NULL,
    read_offset BIGINT NULL,
    PRIMARY KEY (room_id, user_id),
    KEY room_users_seats (room_id, left_at, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- One row per log: 'r' and a room id, or 'u' and a user id. epoch is 64 random bits; last_offset that of the newest
-- message, bytes the payloads of all messages of the epoch, gone ones too.
CREATE TABLE IF NOT EXISTS logs (
    log_key VARBINARY(129) NOT NULL,
    epoch BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (log_key),
    KEY logs_used (used_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Messages of an epoch that is not the log's own are gone, and deleted later. bytes_before: payloads of the epoch's
-- earlier messages.
CREATE TABLE IF NOT EXISTS log_messages (
    log_key VARBINARY(129) NOT NULL,
    epoch BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    message_id BINARY(16) NOT NULL,
    payload_bytes BIGINT NOT NULL,
    bytes_before BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    payload MEDIUMBLOB NOT NULL,
    PRIMARY KEY (log_key, epoch, log_offset),
    KEY log_messages_created (created_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Idempotency keys within a log; those of pushes to no one in particular have the log_key 'a'.
CREATE TABLE IF NOT EXISTS log_keys (
    log_key VARBINARY(129) NOT NULL,
    idempotency_key VARBINARY(128) NOT NULL,
    digest BIGINT NOT NULL,
    message_id BINARY(16) NOT NULL,
    epoch BIGINT NULL,
    log_offset BIGINT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (log_key, idempotency_key),
    KEY log_keys_expire (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Messages that wait for a session of their user.
CREATE TABLE IF NOT EXISTS inbox_messages (
    user_id VARBINARY(128) NOT NULL,
    message_id BINARY(16) NOT NULL,
    payload MEDIUMBLOB NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, message_id),
    KEY inbox_messages_expire (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- Whoever puts into an inbox holds its row here, so that no inbox is over its limit. SQLite has one writer anyway.
CREATE TABLE IF NOT EXISTS inbox_locks (
    user_id VARBINARY(128) NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (user_id),
    KEY inbox_locks_used (used_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
