-- The record of rooms and seats for MySQL 8 and MariaDB 10.6 or later; run it in the database that DB_NAME names.
-- Re-runnable: it creates what is missing and changes nothing that is there.
-- Ids are VARBINARY and bound as bytes, so that ids that differ by case, accent or trailing space stay different.
-- Times are milliseconds since 1970. SQLite's twin lives in the store crate, where a test compares the two.

-- 'schema': version of this file. 'deleted_rooms': no room that was deleted had a version above this, so that a room
-- created anew under the same id starts above all its former versions.
CREATE TABLE IF NOT EXISTS versions (
    name VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
) ENGINE = InnoDB;

INSERT IGNORE INTO versions (name, value) VALUES ('schema', 1), ('deleted_rooms', 0);

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
    PRIMARY KEY (room_id),
    KEY rooms_empty (is_auto_created, empty_since)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

-- left_at IS NULL: the user holds a seat.
CREATE TABLE IF NOT EXISTS room_users (
    room_id VARBINARY(128) NOT NULL,
    user_id VARBINARY(128) NOT NULL,
    user_name VARCHAR(128) NOT NULL,
    seat_version BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    left_at BIGINT NULL,
    PRIMARY KEY (room_id, user_id),
    KEY room_users_seats (room_id, left_at, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
