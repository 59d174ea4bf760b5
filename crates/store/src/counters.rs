//! What a handle of a store has counted, for metrics.

/// Counts since the handle was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions begun that write; 0 for a store without transactions.
    pub transactions: u64,
    /// Calls that were not made, because the store did not answer the last ones or too many waited.
    pub calls_refused: u64,
    /// Whether calls are refused at present because the store did not answer the last ones.
    pub is_refusing: bool,
}
