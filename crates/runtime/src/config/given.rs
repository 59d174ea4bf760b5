//! What the sources give, key by key: where each value came from, and whether it fits its key.

use std::{collections::BTreeMap, fmt};

use roomcast_types::card::MAX_USERS_BOUNDS;
use serde_json::Value;

use super::Config;

/// Where a value came from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    File(String),
    Environment(&'static str),
    Set,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => f.write_str(name),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// The value in force of every key that a source names, by the path of the key.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<String, (Value, Source)>);

impl Given {
    /// Takes a value in place of what an earlier source gave.
    pub(super) fn put(&mut self, path: String, value: Value, source: Source) {
        self.0.insert(path, (value, source));
    }

    /// Lays every value that fits its key over the defaults. Each is tried alone, so that one that does not fit hides
    /// no other.
    pub(super) fn lay_over(&self, defaults: &Value, problems: &mut Vec<String>) -> Value {
        let mut merged = defaults.clone();
        for (path, (value, _)) in &self.0 {
            let mut alone = defaults.clone();
            write(&mut alone, path, value.clone());
            match serde_json::from_value::<Config>(alone) {
                Ok(_) => write(&mut merged, path, value.clone()),
                Err(error) => problems.push(self.sourced(format!("{path}: {}", plain(path, value, &error)))),
            }
        }
        merged
    }

    /// A problem that begins with the path of its key, with the source that the key's value came from.
    pub(super) fn sourced(&self, problem: String) -> String {
        let path = problem.split(':').next().unwrap_or_default();
        match self.0.get(path) {
            Some((_, source)) => format!("{problem} ({source})"),
            None => problem,
        }
    }
}

/// Writes a key that exists.
fn write(root: &mut Value, path: &str, value: Value) {
    let place = path.split('.').try_fold(root, |place, key| place.get_mut(key));
    if let Some(place) = place {
        *place = value;
    }
}

/// Why a value does not fit, without words of the programming language.
fn plain(path: &str, value: &Value, error: &serde_json::Error) -> String {
    let error = error.to_string();
    let Some(takes) = takes(path, &error) else { return error };
    // A password may have been written without quotes, and be a number so.
    if path.ends_with("password") || path.ends_with("url") {
        return format!("it takes {takes}");
    }
    format!("it takes {takes}, not {value}")
}

/// What a key takes, from the error of reading it; `None` for an error that says it in its own words.
fn takes(path: &str, error: &str) -> Option<String> {
    if path == "room.default_max_users" {
        let (least, most) = (MAX_USERS_BOUNDS.start(), MAX_USERS_BOUNDS.end());
        return Some(format!("a whole number from {least} to {most}"));
    }
    if error.contains("IP address") {
        return Some("an IP address".to_owned());
    }
    let (_, expected) = error.rsplit_once("expected ")?;
    let takes = match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number that is not negative".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a path string" | "path string" => "text; put it in quotes".to_owned(),
        "a sequence" => "a list".to_owned(),
        others => others.replace('`', ""),
    };
    Some(takes)
}

#[cfg(test)]
mod tests {
    use crate::config::{Layers, Program};

    fn problems(file: &str, environment: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yaml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let layers = Layers::default().with_file(&path).unwrap().with_environment(environment);
        let layers = layers.with_sets(sets.iter().map(|set| (*set).to_owned()));
        let shown = path.display().to_string();
        let found = layers.load(Program::Controller).unwrap_err().problems;
        found.into_iter().map(|problem| problem.replace(&shown, "mine.yaml")).collect()
    }

    #[test]
    fn every_problem_is_told_with_its_key_its_source_and_what_it_takes() {
        let file = "room:\n  default_max_users: -3\n  rejoin_grace: bald\n  colour: red\nserver:\n  port: 99999999\n";
        let mut found = problems(
            file,
            &[("METRICS_PORT", "abc"), ("BIND", "here")],
            &["log.format=xml", "redis.tls=perhaps", "etcd.lease_ttl=1s"],
        );
        found.sort();
        let expected = [
            "etcd.lease_ttl: 1s is shorter than 2s (--set)",
            "log.format: it takes text or json, not \"xml\" (--set)",
            "mine.yaml: unknown key room.colour",
            "network.bind: it takes an IP address, not \"here\" (environment variable BIND)",
            "redis.tls: it takes true or false, not \"perhaps\" (--set)",
            "room.default_max_users: it takes a whole number from 1 to 1000000, not -3 (mine.yaml)",
            "room.rejoin_grace: \"bald\" is not a duration; write 250ms, 5s, 10m, 2h or 7d (mine.yaml)",
            "server.metrics_port: it takes a whole number from 0 to 65535, not \"abc\" (environment variable METRICS_PORT)",
            "server.port: it takes a whole number from 0 to 65535, not 99999999 (mine.yaml)",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_source_that_weighs_more_mends_a_value() {
        let found = problems("server:\n  port: abc\nroom: 5\nlog:\n", &[("GRPC_PORT", "1")], &[]);
        assert_eq!(found, ["mine.yaml: room is a section; name its keys"]);
    }

    #[test]
    fn a_password_without_quotes_is_not_shown() {
        let found = problems("redis:\n  password: 12345\n", &[], &[]);
        assert_eq!(found, ["redis.password: it takes text; put it in quotes (mine.yaml)"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_hides_no_other_source() {
        let found = problems("server: [\n", &[], &["server.port=abc"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("mine.yaml: ") && found[1].starts_with("server.port: "), "{found:?}");
    }
}
