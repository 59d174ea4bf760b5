//! What every backend must do, as suites against the traits alone.
//!
//! Each rule is an async function named by the sentence it proves; it takes a fresh backend and panics when the
//! backend breaks it. A backend is plugged in by one line of a test file,
//! [`rooms_conformance!`](crate::rooms_conformance), [`presence_conformance!`](crate::presence_conformance),
//! [`log_conformance!`](crate::log_conformance) or [`inbox_conformance!`](crate::inbox_conformance), which becomes one
//! test per rule.

#![allow(clippy::unwrap_used, reason = "a rule fails by panicking")]

pub mod inbox;
pub mod log;
pub mod presence;
pub mod rooms;

use std::time::{Duration, Instant};

/// Names a suite's rules once: gives `run_all` and the macro that becomes one test per rule.
macro_rules! suite {
    ($d:tt, $(#[$doc:meta])* $tests:ident in $module:ident on $fixture:ty { $($rule:ident)* }) => {
        /// Runs every rule, each on a backend of its own.
        pub async fn run_all(fresh: impl AsyncFn() -> $fixture) {
            $( $rule(&fresh().await).await; )*
        }

        $(#[$doc])*
        #[macro_export]
        macro_rules! $tests {
            ($d fresh:expr) => {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $rule() {
                        let backend = $d fresh.await;
                        $d crate::conformance::$module::$rule(&backend).await;
                    }
                )*
            };
        }
    };
}
use suite;

/// Ids that a backend with a collation, or one that reads numbers, would take for each other.
const LOOK_ALIKES: [&str; 10] = ["Room", "room", "é", "e\u{301}", "e", "a", "a ", "007", "7", "7.0"];

/// Waits until `condition` holds; panics after a generous time.
async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(20);
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
