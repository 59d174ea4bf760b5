//! Lays the sources of configuration over each other and reads the result.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value};

use super::{
    Config, ConfigError, EtcdTarget, SecretUrl,
    given::{Given, Source},
};

/// `config.yaml` as it was when this was built: the default of every key.
pub const EMBEDDED: &str = include_str!("../../../../config.yaml");

/// Whose environment names apply: several tiers use `GRPC_PORT` for keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// controller-manager.
    Controller,
    /// push-manager.
    PushManager,
    /// connect-node.
    ConnectNode,
    /// All three in one process: names that would mean several keys do not apply.
    Standalone,
}

/// The sources, in the order of their weight.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// Text of a YAML file and where it came from.
    file: Option<(String, String)>,
    /// The environment, as a map.
    environment: BTreeMap<String, String>,
    /// `path=value`.
    sets: Vec<String>,
}

impl Layers {
    /// Reads a YAML file to lay over the defaults.
    pub fn with_file(mut self, path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::one(format!("cannot read config file {}: {error}", path.display()))
        })?;
        self.file = Some((path.display().to_string(), text));
        Ok(self)
    }

    /// Takes the environment.
    pub fn with_environment(mut self, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = environment.into_iter().collect();
        self
    }

    /// Takes `path=value` flags, the last one weighing most.
    pub fn with_sets(mut self, sets: impl IntoIterator<Item = String>) -> Self {
        self.sets.extend(sets);
        self
    }

    /// Reads and validates the result.
    pub fn load(self, program: Program) -> Result<Config, ConfigError> {
        let defaults = parse_yaml("the embedded config.yaml", EMBEDDED)?;
        let mut problems = Vec::new();
        let given = self.given(program, &defaults, &mut problems);
        let merged = given.lay_over(&defaults, &mut problems);
        let mut config: Config = serde_json::from_value(merged)
            .map_err(|error| ConfigError::one(format!("the embedded config.yaml: {error}")))?;
        if program == Program::Standalone {
            config.embed_stores();
        }
        let mut unfit = config.validate().err().map(|error| error.problems).unwrap_or_default();
        if program != Program::Standalone && config.etcd.target() == Ok(EtcdTarget::Memory) {
            unfit.push(
                "etcd.url: a registry in memory: is this process's own, so no other would find it; name the servers \
                 (ETCD_URL=etcd://host:2379 or ETCD_ENDPOINTS=host:2379), or run `standalone`"
                    .to_owned(),
            );
        }
        problems.extend(unfit.into_iter().map(|problem| given.sourced(problem)));
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// What the sources say, the later ones over the earlier.
    fn given(&self, program: Program, defaults: &Value, problems: &mut Vec<String>) -> Given {
        let mut given = Given::default();
        if let Some((name, text)) = &self.file {
            match parse_yaml(name, text) {
                Ok(layer) => leaves(defaults, &layer, "", name, &mut given, problems),
                Err(error) => problems.extend(error.problems),
            }
        }
        for (variable, path) in names(program) {
            let Some(text) = self.environment.get(*variable) else { continue };
            match value(defaults, path, text) {
                Ok(value) => given.put((*path).to_owned(), value, Source::Environment(variable)),
                Err(error) => problems.push(format!("{variable}: {error}")),
            }
        }
        for assignment in &self.sets {
            let assigned = match assignment.split_once('=') {
                Some((path, text)) => {
                    value(defaults, path.trim(), text.trim()).map(|value| (path.trim(), value))
                }
                None => Err("write --set path=value".to_owned()),
            };
            match assigned {
                Ok((path, value)) => given.put(path.to_owned(), value, Source::Set),
                Err(error) => problems.push(format!("--set {assignment}: {error}")),
            }
        }
        given
    }
}

impl Default for Config {
    fn default() -> Self {
        Layers::default()
            .load(Program::Standalone)
            .expect("a test proves that the embedded config.yaml loads")
    }
}

impl Config {
    /// Stores that nothing else was said of are this process's own.
    fn embed_stores(&mut self) {
        if self.database.url.is_empty() {
            self.database.url = SecretUrl::new(format!("sqlite:{}", self.database.path.display()));
        }
        for url in [&mut self.redis.url, &mut self.etcd.url] {
            if url.is_empty() {
                *url = SecretUrl::new("memory:");
            }
        }
    }
}

/// Variables that mean the same key for every program.
const COMMON: &[(&str, &str)] = &[
    ("BIND", "network.bind"),
    ("ALLOW_INSECURE", "network.allow_insecure"),
    ("ADVERTISE_HOST", "network.advertise_host"),
    ("DATABASE_URL", "database.url"),
    ("DB_HOST", "database.host"),
    ("DB_PORT", "database.port"),
    ("DB_USER", "database.user"),
    ("DB_PASSWORD", "database.password"),
    ("DB_PASSWORD_FILE", "database.password_file"),
    ("DB_NAME", "database.dbname"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_ADDR", "redis.addr"),
    ("REDIS_PASSWORD", "redis.password"),
    ("REDIS_PASSWORD_FILE", "redis.password_file"),
    ("ETCD_URL", "etcd.url"),
    ("ETCD_ENDPOINTS", "etcd.endpoints"),
    ("ETCD_PASSWORD", "etcd.password"),
    ("ETCD_PASSWORD_FILE", "etcd.password_file"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.otlp_endpoint"),
    ("RUST_LOG", "log.level"),
];

fn names(program: Program) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let own: &[(&str, &str)] = match program {
        Program::Controller => &[
            ("CONTROLLER_ID", "server.id"),
            ("GRPC_PORT", "server.port"),
            ("METRICS_PORT", "server.metrics_port"),
        ],
        Program::PushManager => &[
            ("MANAGER_ID", "push_manager.id"),
            ("GRPC_PORT", "push_manager.port"),
            ("METRICS_PORT", "push_manager.metrics_port"),
            ("CONTROLLER_ADDRESS", "push_manager.controller_address"),
        ],
        Program::ConnectNode => &[
            ("NODE_ID", "connect_node.id"),
            ("GRPC_PORT", "connect_node.grpc_port"),
            ("HTTP_PORT", "connect_node.http_port"),
            ("METRICS_PORT", "connect_node.metrics_port"),
            ("PUBLIC_WS_URL", "connect_node.public_ws_url"),
            ("CONTROLLER_ADDRESS", "connect_node.controller_address"),
        ],
        Program::Standalone => &[],
    };
    COMMON.iter().chain(own)
}

fn parse_yaml(name: &str, text: &str) -> Result<Value, ConfigError> {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(ConfigError::one(format!("{name}: expected sections with keys"))),
        Err(error) => Err(ConfigError::one(format!("{name}: {error}"))),
    }
}

/// Sections merge key by key; anything else, lists included, replaces.
fn leaves(
    known: &Value,
    layer: &Value,
    path: &str,
    source: &str,
    given: &mut Given,
    problems: &mut Vec<String>,
) {
    let Value::Object(known) = known else {
        return given.put(path.to_owned(), layer.clone(), Source::File(source.to_owned()));
    };
    let layer = match layer {
        Value::Object(layer) => layer,
        // Every key of it is commented out.
        Value::Null => return,
        _ => return problems.push(format!("{source}: {path} is a section; name its keys")),
    };
    for (key, value) in layer {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match known.get(key) {
            Some(known) => leaves(known, value, &path, source, given, problems),
            None => problems.push(format!("{source}: unknown key {path}{}", suggestion(known, key))),
        }
    }
}

fn suggestion(known: &Map<String, Value>, key: &str) -> String {
    match known.keys().map(|name| (distance(name, key), name)).min() {
        Some((distance, name)) if distance <= 3 => format!("; did you mean {name}?"),
        _ => String::new(),
    }
}

/// Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A text as the value of an existing key, of the kind that its default is.
fn value(defaults: &Value, path: &str, text: &str) -> Result<Value, String> {
    let mut place = defaults;
    let mut walked = String::new();
    for key in path.split('.') {
        let Value::Object(section) = place else { return Err(format!("{walked} has no keys of its own")) };
        let dot = if walked.is_empty() { "" } else { "." };
        place = section
            .get(key)
            .ok_or_else(|| format!("unknown key {walked}{dot}{key}{}", suggestion(section, key)))?;
        walked = format!("{walked}{dot}{key}");
    }
    Ok(match place {
        Value::Object(_) => return Err(format!("{walked} is a section; name one of its keys")),
        Value::Array(_) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Value::String(item.to_owned()))
            .collect(),
        Value::String(_) => Value::String(text.to_owned()),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(layers: Layers) -> String {
        layers.load(Program::ConnectNode).unwrap_err().to_string()
    }

    #[test]
    fn the_embedded_file_is_complete_and_valid() {
        let config = Layers::default().load(Program::Controller).unwrap();
        let shown = serde_json::to_value(&config).unwrap();
        let written = parse_yaml("config.yaml", EMBEDDED).unwrap();
        assert_eq!(shown, written, "what is read prints as it was written");
    }

    #[test]
    fn later_sources_weigh_more() {
        let file = std::env::temp_dir().join(format!("roomcast-config-{}.yaml", std::process::id()));
        std::fs::write(&file, "connect_node:\n  http_port: 1000\n  grpc_port: 1001\n  metrics_port: 1002\n")
            .unwrap();
        let config = Layers::default()
            .with_file(&file)
            .unwrap()
            .with_environment([
                ("GRPC_PORT".to_owned(), "2001".to_owned()),
                ("METRICS_PORT".into(), "2002".into()),
            ])
            .with_sets(["connect_node.metrics_port=3002".to_owned()])
            .load(Program::ConnectNode)
            .unwrap();
        std::fs::remove_file(&file).unwrap();
        let node = config.connect_node;
        assert_eq!((node.http_port, node.grpc_port, node.metrics_port), (1000, 2001, 3002));
    }

    #[test]
    fn a_list_comes_from_commas() {
        let layers = Layers::default()
            .with_environment([("CONTROLLER_ADDRESS".to_owned(), "a:50051, b:50051".to_owned())]);
        let config = layers.load(Program::ConnectNode).unwrap();
        assert_eq!(config.connect_node.controller_address, ["a:50051", "b:50051"]);
    }

    #[test]
    fn problems_name_the_key() {
        let set = |text: &str| Layers::default().with_sets([text.to_owned()]);
        assert!(problems(set("room.default_max_user=5")).contains("did you mean default_max_users?"));
        assert!(problems(set("room.rejoin_grace=5")).contains("room.rejoin_grace: \"5\" is not a duration"));
        assert!(problems(set("server.port=70000")).contains("server.port"));
        assert!(problems(set("network.bind=0.0.0.0")).contains("network.allow_insecure"));
        assert!(problems(set("room")).contains("path=value"));
        assert!(problems(set("room=1")).contains("is a section"));
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let layers = Layers::default().with_sets(
            ["telemetry.sample_ratio=2", "push_manager.wait=31s", "connect_node.id="].map(str::to_owned),
        );
        let found = problems(layers);
        for key in ["telemetry.sample_ratio", "push_manager.wait", "connect_node.id"] {
            assert!(found.contains(key), "{key} missing in {found}");
        }
    }
}
