//! All scenarios, one file for each family.

mod clients;
mod etcd;
mod mariadb;
mod network;
mod processes;
mod redis;

use super::stage::Scenario;

/// All of them, family by family.
pub fn all() -> Vec<&'static Scenario> {
    [processes::ALL, network::ALL, etcd::ALL, redis::ALL, mariadb::ALL, clients::ALL]
        .into_iter()
        .flatten()
        .collect()
}

/// The one of this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_words() {
        let mut names: Vec<_> = super::all().iter().map(|scenario| scenario.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
