//! Page sizes and page tokens: a token is the last key of its page, opaque to the caller and safe in a URL.

use roomcast_types::Fault;

/// Entries a page when the caller names no size.
const DEFAULT: u32 = 100;
/// Most entries a page.
const MAX: u32 = 1_000;

/// Which list a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// Rooms by id.
    Rooms,
    /// Members of a room by user id.
    Members,
    /// Sessions of a node by session id.
    Sessions,
}

impl List {
    fn tag(self) -> u8 {
        match self {
            Self::Rooms => b'r',
            Self::Members => b'm',
            Self::Sessions => b's',
        }
    }
}

/// Reads `page_size`.
pub(crate) fn size(asked: u32) -> Result<usize, Fault> {
    match asked {
        0 => Ok(DEFAULT as usize),
        1..=MAX => Ok(asked as usize),
        _ => {
            Err(Fault::bad_request(format!("page_size is {asked}; it takes 1 to {MAX}, or 0 for {DEFAULT}")))
        }
    }
}

/// The token of the page after `last`.
pub(crate) fn token(list: List, last: &str) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let bytes = std::iter::once(list.tag()).chain(last.bytes());
    bytes.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The key that a token holds; `None` for the empty token of the first page.
pub(crate) fn after(list: List, token: &str) -> Result<Option<String>, Fault> {
    if token.is_empty() {
        return Ok(None);
    }
    let bad = || Fault::bad_request("page_token is not one that this list gave out; start with an empty one");
    if !token.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(bad());
    }
    let bytes: Option<Vec<u8>> =
        (0..token.len()).step_by(2).map(|at| u8::from_str_radix(&token[at..at + 2], 16).ok()).collect();
    match bytes.as_deref() {
        Some([tag, key @ ..]) if *tag == list.tag() && !key.is_empty() => {
            String::from_utf8(key.to_vec()).map(Some).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

/// Cuts what was read with one entry too many down to a page; the token of the next one, empty on the last page.
pub(crate) fn cut<T>(list: List, entries: &mut Vec<T>, size: usize, key: impl Fn(&T) -> String) -> String {
    if entries.len() <= size {
        return String::new();
    }
    entries.truncate(size);
    entries.last().map(|last| token(list, &key(last))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_on_from_the_last_key() {
        for key in ["a", "ä room/with & signs", "007"] {
            let token = token(List::Rooms, key);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token} is safe in a URL");
            assert_eq!(after(List::Rooms, &token), Ok(Some(key.to_owned())));
        }
    }

    #[test]
    fn a_token_of_another_list_or_of_nobody_is_refused() {
        let foreign = token(List::Members, "user");
        for bad in [foreign.as_str(), "zz", "7", "72", "ää", "72ff"] {
            let refused = after(List::Rooms, bad).unwrap_err();
            assert!(refused.message.starts_with("page_token"), "{bad}: {refused}");
        }
    }

    #[test]
    fn a_page_size_out_of_bounds_names_the_limit() {
        assert_eq!((size(0), size(1), size(1_000)), (Ok(100), Ok(1), Ok(1_000)));
        assert!(size(1_001).unwrap_err().message.contains("1 to 1000"));
    }
}
