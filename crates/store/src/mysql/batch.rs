//! Statements on many rows at once.
//!
//! A batch is cut into pieces whose number of rows is a power of two, the last one filled up by repeating its last
//! value: so few statements differ that a connection keeps them all prepared. Every statement here may meet a value
//! twice.

/// Rows of one statement: its bytes stay far below the smallest `max_allowed_packet`, its placeholders below 65,535.
const ROWS_MAX: usize = 512;

/// Pieces of a batch; none for an empty one.
pub(super) fn pieces<T>(values: &[T]) -> impl Iterator<Item = Vec<&T>> {
    values.chunks(ROWS_MAX).map(|chunk| {
        let mut piece: Vec<&T> = chunk.iter().collect();
        let last = chunk.last().expect("a chunk is not empty");
        piece.resize(chunk.len().next_power_of_two(), last);
        piece
    })
}

/// `before`, then `row` as often as given with commas in between, then `after`.
pub(super) fn statement(before: &str, row: &str, rows: usize, after: &str) -> String {
    let mut text = String::with_capacity(before.len() + (row.len() + 1) * rows + after.len());
    text.push_str(before);
    for index in 0..rows {
        if index > 0 {
            text.push(',');
        }
        text.push_str(row);
    }
    text.push_str(after);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pieces_hold_every_value_in_few_sizes() {
        let mut sizes = BTreeSet::new();
        for count in 0..2_000_usize {
            let values: Vec<usize> = (0..count).collect();
            let pieces: Vec<Vec<&usize>> = pieces(&values).collect();
            let found: BTreeSet<usize> = pieces.iter().flatten().map(|value| **value).collect();
            assert!(found.into_iter().eq(0..count));
            sizes.extend(pieces.iter().map(Vec::len));
        }
        assert!(sizes.iter().all(|size| size.is_power_of_two() && *size <= ROWS_MAX), "{sizes:?}");
    }

    #[test]
    fn a_statement_repeats_its_row() {
        assert_eq!(statement("IN (", "?", 3, ")"), "IN (?,?,?)");
    }
}
