//! The walls between crates and the size of files, held as tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each crate may use of ours; a crate that is not listed fails.
const WALLS: [(&str, &[&str]); 15] = [
    ("roomcast-types", &[]),
    ("roomcast-runtime", &["roomcast-types"]),
    ("roomcast-proto", &["roomcast-types"]),
    ("roomcast-test-servers", &[]),
    ("roomcast-registry", BACKENDS),
    ("roomcast-store", BACKENDS),
    ("roomcast-client", &["roomcast-proto", "roomcast-types"]),
    ("controller-manager", SERVICE_WITH_STORE),
    ("push-manager", SERVICE_WITH_STORE),
    ("connect-node", SERVICE),
    ("biz-client", &["roomcast-client", "roomcast-proto", "roomcast-testkit", "roomcast-types"]),
    ("load-generator", CUSTOMER),
    ("protoc", &[]),
    (
        "standalone",
        &[
            "connect-node",
            "controller-manager",
            "push-manager",
            "roomcast-registry",
            "roomcast-runtime",
            "roomcast-store",
            "roomcast-types",
        ],
    ),
    (
        "roomcast-testkit",
        &[
            "connect-node",
            "controller-manager",
            "push-manager",
            "roomcast-client",
            "roomcast-proto",
            "roomcast-registry",
            "roomcast-runtime",
            "roomcast-store",
            "roomcast-test-servers",
            "roomcast-types",
            "standalone",
        ],
    ),
];
/// What is configured and tried out on real servers.
const BACKENDS: &[&str] = &["roomcast-runtime", "roomcast-test-servers", "roomcast-types"];
/// The services never import each other: they meet in `proto/`.
const SERVICE: &[&str] = &["roomcast-proto", "roomcast-registry", "roomcast-runtime", "roomcast-types"];
const SERVICE_WITH_STORE: &[&str] =
    &["roomcast-proto", "roomcast-registry", "roomcast-runtime", "roomcast-store", "roomcast-types"];
/// Programs that stand outside use the client crate, as a customer would.
const CUSTOMER: &[&str] = &["roomcast-client", "roomcast-proto", "roomcast-types"];

/// Drivers that stay behind one crate's trait.
const DRIVERS: [(&str, &str); 3] =
    [("sqlx", "roomcast-store"), ("redis", "roomcast-store"), ("etcd-client", "roomcast-registry")];

/// Most lines of a source file. Files that are longer; this list may only shrink.
const LINES_MAX: usize = 400;
const LONGER: [&str; 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root").to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| path.extension().is_some_and(|is| is == extension));
    assert!(!found.is_empty());
    found
}

/// Package name and the names in its `[dependencies]` and `[dev-dependencies]`.
fn manifests() -> BTreeMap<String, Vec<String>> {
    let mut manifests = BTreeMap::new();
    for path in files("toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let text = fs::read_to_string(&path).unwrap();
        let Some(name) = text.lines().find_map(|line| line.strip_prefix("name = \"")) else { continue };
        let mut section = "";
        let mut dependencies = Vec::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if ["[dependencies]", "[dev-dependencies]"].contains(&section)
                && let Some((key, _)) = line.split_once(['.', '=', ' '])
            {
                dependencies.push(key.to_owned());
            }
        }
        manifests.insert(name.trim_end_matches('"').to_owned(), dependencies);
    }
    manifests
}

#[test]
fn crates_depend_one_way_only() {
    let manifests = manifests();
    let ours: Vec<_> = manifests.keys().cloned().collect();
    for (name, dependencies) in &manifests {
        let allowed = WALLS.iter().find(|(crate_name, _)| crate_name == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is not in the list of walls"));
        for dependency in dependencies {
            let is_fine =
                !ours.contains(dependency) || allowed.contains(&dependency.as_str()) || dependency == name;
            assert!(is_fine, "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn drivers_stay_behind_their_trait() {
    for (name, dependencies) in manifests() {
        for (driver, owner) in DRIVERS {
            assert!(
                name == owner || !dependencies.iter().any(|dependency| dependency == driver),
                "{driver} belongs into {owner}, not into {name}"
            );
        }
    }
}

#[test]
fn source_files_stay_small_and_say_what_they_are_for() {
    for path in files("rs") {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX || LONGER.contains(&shown.as_str()), "{shown} has {lines} lines");
        assert!(text.starts_with("//! "), "{shown} does not begin with a //! sentence");
        assert!(!text.contains(concat!("unbounded", "_channel")), "{shown} has a queue without a bound");
    }
    for shown in LONGER {
        let lines = fs::read_to_string(root().join(shown)).unwrap().lines().count();
        assert!(lines > LINES_MAX, "{shown} has become small: take it off the list");
    }
}
