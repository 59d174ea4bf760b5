//! How joins were answered, how often a session had to ask, and how long it waited.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use hdrhistogram::Histogram;
use rand::RngExt;
use serde::Serialize;

use crate::{
    report::Quantiles,
    tally::{histogram, record},
};

/// Of an answer without `retry_after_ms`: the back-off of the client library.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The joins of some sessions.
#[derive(Clone)]
pub struct Joins {
    /// From the moment that all began to `joined`.
    waits: Histogram<u64>,
    /// From each asking to its answer.
    answers: Histogram<u64>,
    codes: BTreeMap<String, u64>,
    refusal: Option<String>,
}

/// What an answer means for the session.
#[derive(Debug, PartialEq)]
pub enum Then {
    AskAgain(Duration),
    GiveUp,
}

impl Joins {
    pub fn new() -> Result<Self> {
        Ok(Self { waits: histogram()?, answers: histogram()?, codes: BTreeMap::new(), refusal: None })
    }

    /// Counts `joined`.
    pub fn joined(&mut self, since_all: Duration, since_asked: Duration) {
        record(&mut self.waits, since_all);
        self.answered("joined", since_asked);
    }

    /// Counts an error frame, the answer to asking for the so-manyth time (from 0).
    pub fn refused(&mut self, error: &serde_json::Value, since_asked: Duration, attempt: u32) -> Then {
        let code = error["code"].as_str().unwrap_or("without a code");
        self.answered(code, since_asked);
        if !matches!(code, "RATE_LIMITED" | "UNAVAILABLE" | "INTERNAL") {
            self.refusal.get_or_insert_with(|| format!("{code}: {}", error["message"]));
            return Then::GiveUp;
        }
        let asked = error["retry_after_ms"].as_u64().map(Duration::from_millis);
        let ceiling = FIRST_WAIT.saturating_mul(2u32.saturating_pow(attempt)).min(WAIT_MAX);
        Then::AskAgain(asked.unwrap_or_else(|| ceiling.mul_f64(rand::rng().random())))
    }

    fn answered(&mut self, code: &str, since_asked: Duration) {
        record(&mut self.answers, since_asked);
        *self.codes.entry(code.to_owned()).or_default() += 1;
    }

    /// Adds those of other sessions.
    pub fn add(&mut self, others: Self) -> Result<()> {
        self.waits.add(others.waits)?;
        self.answers.add(others.answers)?;
        for (code, count) in others.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.refusal = self.refusal.take().or(others.refusal);
        Ok(())
    }

    /// In numbers, for so many sessions and rooms.
    pub fn report(self, sessions: u32, rooms: u32) -> JoinReport {
        let joined = self.waits.len();
        JoinReport {
            rooms,
            joined,
            not_joined: u64::from(sessions).saturating_sub(joined),
            seconds_to_last: self.waits.max() as f64 / 1e9,
            latency_us: (&self.waits).into(),
            answer_us: (&self.answers).into(),
            answers: self.codes,
            first_refusal: self.refusal,
        }
    }
}

/// The result of all joins.
#[derive(Debug, Serialize)]
pub struct JoinReport {
    pub rooms: u32,
    pub joined: u64,
    pub not_joined: u64,
    pub seconds_to_last: f64,
    /// From the moment that all began to `joined`, repeats included.
    pub latency_us: Quantiles,
    /// From each asking to its answer, whatever it was.
    pub answer_us: Quantiles,
    /// How many answers of each kind: `joined` or the code of an error.
    pub answers: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_refusal: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_time_can_heal_is_asked_again() {
        let mut joins = Joins::new().unwrap();
        let error =
            |code: &str, after: Option<u64>| json!({"code": code, "message": "m", "retry_after_ms": after});
        let then = joins.refused(&error("UNAVAILABLE", Some(70)), Duration::ZERO, 0);
        assert_eq!(then, Then::AskAgain(Duration::from_millis(70)));
        let Then::AskAgain(wait) = joins.refused(&error("INTERNAL", None), Duration::ZERO, 9) else {
            panic!()
        };
        assert!(wait <= WAIT_MAX);
        assert_eq!(joins.refused(&error("ROOM_FULL", Some(5)), Duration::ZERO, 0), Then::GiveUp);
        joins.joined(Duration::from_secs(2), Duration::from_secs(1));
        let report = joins.report(2, 1);
        assert_eq!((report.joined, report.not_joined, report.answers["ROOM_FULL"]), (1, 1, 1));
        assert!((report.seconds_to_last - 2.0).abs() < 0.01);
    }
}
