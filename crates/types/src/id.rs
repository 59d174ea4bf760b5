//! Ids that people choose: rooms, users, clients, services. Compared byte by byte, cheap to clone.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest room, user or service id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 128;
/// Longest client id, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 64;
/// Longest user name, in bytes of UTF-8.
pub const USER_NAME_BYTES_MAX: usize = 128;

/// Why a text is not an id: names the field and the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// No bytes at all.
    #[error("{field} is empty; it takes 1 to {max} bytes")]
    Empty {
        /// The field as the caller knows it.
        field: &'static str,
        /// Most bytes allowed.
        max: usize,
    },
    /// More bytes than allowed.
    #[error("{field} has {length} bytes; at most {max} are allowed")]
    TooLong {
        /// The field as the caller knows it.
        field: &'static str,
        /// Bytes given.
        length: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// A character that ids of this kind do not take.
    #[error("{field} has {found:?} at byte {position}; {allowed}")]
    Character {
        /// The field as the caller knows it.
        field: &'static str,
        /// The character.
        found: char,
        /// Its byte position.
        position: usize,
        /// What is allowed, in words.
        allowed: &'static str,
    },
}

fn check(
    field: &'static str,
    text: &str,
    max: usize,
    allowed: &'static str,
    accepts: fn(char) -> bool,
) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty { field, max });
    }
    if text.len() > max {
        return Err(InvalidId::TooLong { field, length: text.len(), max });
    }
    match text.char_indices().find(|(_, c)| !accepts(*c)) {
        Some((position, found)) => Err(InvalidId::Character { field, found, position, allowed }),
        None => Ok(()),
    }
}

/// Checks a user name: at most [`USER_NAME_BYTES_MAX`] bytes without control characters; may be empty.
pub fn check_user_name(name: &str) -> Result<(), InvalidId> {
    if name.is_empty() {
        return Ok(());
    }
    check("user_name", name, USER_NAME_BYTES_MAX, NO_CONTROL, |c| !c.is_control())
}

const NO_CONTROL: &str = "control characters are not allowed";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:expr, $allowed:expr, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps the text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                check($field, text, $max, $allowed, $accepts)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// A room: 1 to 128 bytes of UTF-8 without control characters.
    RoomId, "room_id", ID_BYTES_MAX, NO_CONTROL, |c| !c.is_control()
}
id! {
    /// An account: 1 to 128 bytes of UTF-8 without control characters.
    UserId, "user_id", ID_BYTES_MAX, NO_CONTROL, |c| !c.is_control()
}
id! {
    /// A connect-node: 1 to 128 bytes of UTF-8 without control characters.
    NodeId, "node_id", ID_BYTES_MAX, NO_CONTROL, |c| !c.is_control()
}
id! {
    /// Any registered process: 1 to 128 bytes of UTF-8 without control characters.
    ServiceId, "id", ID_BYTES_MAX, NO_CONTROL, |c| !c.is_control()
}
id! {
    /// Chosen by a client and the same on each of its reconnects: 1 to 64 of `A-Za-z0-9._-`.
    ClientId, "client_id", CLIENT_ID_BYTES_MAX, "it takes A-Z a-z 0-9 . _ -",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_and_the_limit() {
        assert_eq!(RoomId::new("").unwrap_err().to_string(), "room_id is empty; it takes 1 to 128 bytes");
        let long = "x".repeat(129);
        assert_eq!(
            UserId::new(&long).unwrap_err().to_string(),
            "user_id has 129 bytes; at most 128 are allowed"
        );
        assert!(ClientId::new("a b").unwrap_err().to_string().contains("at byte 1"));
        assert!(RoomId::new("line\nbreak").unwrap_err().to_string().contains("control characters"));
    }

    #[test]
    fn ids_that_look_alike_stay_different() {
        for (a, b) in [("Room", "room"), ("é", "e"), ("a", "a "), ("007", "7")] {
            assert_ne!(RoomId::new(a).unwrap(), RoomId::new(b).unwrap());
        }
    }
}
