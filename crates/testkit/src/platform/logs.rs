//! What in a log nobody may overlook.

/// Most lines of one part that are told.
const LINES_MAX: usize = 20;

/// Lines of level ERROR, and panics, but those with one of the expected words in them.
pub fn complaints(name: &str, log: &str, expected: &[&str]) -> Vec<String> {
    let is_bad = |line: &&str| {
        (line.contains(" ERROR ") || line.contains("panicked at") || line.contains("stack overflow"))
            && !expected.iter().any(|words| line.contains(words))
    };
    log.lines().filter(is_bad).take(LINES_MAX).map(|line| format!("{name}: {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::complaints;

    #[test]
    fn errors_and_panics_are_found_and_what_is_expected_is_not() {
        let log =
            "t  INFO a: ERROR\nt ERROR b: lost\nthread 'x' panicked at y.rs:1:\nt ERROR c: known\nt  WARN d";
        let expected = ["n: t ERROR b: lost", "n: thread 'x' panicked at y.rs:1:"];
        assert_eq!(complaints("n", log, &["c: known"]), expected);
    }
}
