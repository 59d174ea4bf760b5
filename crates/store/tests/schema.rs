//! Both schemas describe the same tables and columns.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

const SQLITE: &str = include_str!("../src/schema.sqlite.sql");
const MYSQL: &str = include_str!("../../../schema.sql");

/// Column names of each table, in order. Reads the plain layout of both files: one column or key per line.
fn tables(schema: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut tables = BTreeMap::new();
    let mut current = None;
    for line in schema.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
            current = Some((rest.trim_end_matches(" ("), Vec::new()));
        } else if line.starts_with(')') {
            tables.extend(current.take());
        } else if let (Some((_, columns)), Some(word)) = (&mut current, line.split_whitespace().next())
            && !matches!(word, "PRIMARY" | "KEY" | "UNIQUE" | "CONSTRAINT" | "--")
        {
            columns.push(word);
        }
    }
    tables
}

/// The statement that seeds the versions, without the words that differ between the two.
fn seeds(schema: &str) -> &str {
    let start = schema.find("VALUES").unwrap();
    let end = start + schema[start..].rfind("('deleted_rooms', 0)").unwrap();
    schema[start..end].trim()
}

#[test]
fn both_schemas_have_the_same_tables_and_columns() {
    let sqlite = tables(SQLITE);
    let names: Vec<&str> = sqlite.keys().copied().collect();
    let wanted = ["inbox_messages", "log_keys", "log_messages", "logs", "room_users", "rooms", "versions"];
    assert_eq!(names, wanted);
    assert!(sqlite.values().all(|columns| columns.len() > 1), "{sqlite:?}");
    let mut mysql = tables(MYSQL);
    assert!(mysql.remove("inbox_locks").is_some(), "one writer needs no locks, several do");
    assert_eq!(sqlite, mysql);
    assert_eq!(seeds(SQLITE), seeds(MYSQL));
}

#[test]
fn ids_are_bytes_in_both() {
    let is_id = |line: &&str| {
        ["room_id ", "user_id ", "log_key ", "idempotency_key "].iter().any(|name| line.starts_with(name))
    };
    for (schema, kind, count) in [(SQLITE, "BLOB NOT NULL", 8), (MYSQL, "VARBINARY(12", 9)] {
        let columns: Vec<&str> = schema.lines().map(str::trim).filter(is_id).collect();
        assert_eq!(columns.len(), count);
        assert!(columns.iter().all(|column| column.contains(kind)), "{columns:?}");
    }
}

#[test]
fn statements_can_run_again() {
    for schema in [SQLITE, MYSQL] {
        let creates = schema.lines().filter(|line| line.starts_with("CREATE"));
        assert!(creates.into_iter().all(|line| line.contains("IF NOT EXISTS")));
    }
}
