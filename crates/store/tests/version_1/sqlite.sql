-- The record of rooms and seats for SQLite; MySQL's twin is schema.sql at the root of the repository.
-- Re-runnable. Ids are BLOB and compared by bytes; times are milliseconds since 1970.

-- 'schema': version of this file. 'deleted_rooms': no room that was deleted had a version above this, so that a room
-- created anew under the same id starts above all its former versions.
CREATE TABLE IF NOT EXISTS versions (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO versions (name, value) VALUES ('schema', 1), ('deleted_rooms', 0) ON CONFLICT (name) DO NOTHING;

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
    empty_since INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rooms_empty ON rooms (empty_since)
    WHERE is_auto_created = 1 AND empty_since IS NOT NULL;

-- left_at IS NULL: the user holds a seat.
CREATE TABLE IF NOT EXISTS room_users (
    room_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    user_name TEXT NOT NULL,
    seat_version INTEGER NOT NULL,
    joined_at INTEGER NOT NULL,
    left_at INTEGER,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS room_users_seats ON room_users (room_id, user_id) WHERE left_at IS NULL;
