//! Keys and values: where a registration is written and how it is read.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use roomcast_types::ServiceId;

use crate::{Registration, Role};

/// An id is one segment of a key: everything else than this is encoded, `/` and `%` above all.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where keys begin.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What the keys of a role begin with, and no others.
    pub(super) fn of_role(&self, role: Role) -> String {
        format!("{}/services/{role}/", self.prefix)
    }

    pub(super) fn of(&self, role: Role, id: &ServiceId) -> String {
        format!("{}{}", self.of_role(role), utf8_percent_encode(id.as_str(), ENCODED))
    }

    /// `None` when key and value do not belong together, or are not ours.
    pub(super) fn read(&self, role: Role, key: &[u8], value: &[u8]) -> Option<Registration> {
        let segment = key.strip_prefix(self.of_role(role).as_bytes())?;
        let id = percent_decode(segment).decode_utf8().ok()?;
        let registration = serde_json::from_slice::<Registration>(value).ok()?;
        (registration.id.as_str() == id).then_some(Registration { role, ..registration })
    }
}

/// The value of a registration's key.
pub(super) fn value(registration: &Registration) -> String {
    serde_json::to_string(registration).expect("strings and numbers only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Option<Registration> {
        Keys::new("/p").read(Role::ConnectNode, key.as_bytes(), value.as_bytes())
    }

    const VALUE: &str = r#"{"id":"n/1","grpc_address":"h:1","url":"ws://h:2/ws","incarnation":"00000000000000ff","state":"ready","later":1}"#;

    #[test]
    fn a_value_is_json_under_the_encoded_id() {
        let found = read("/p/services/connect-node/n%2F1", VALUE).unwrap();
        assert_eq!(Keys::new("/p").of(found.role, &found.id), "/p/services/connect-node/n%2F1");
        assert_eq!(value(&found), VALUE.replace(r#","later":1"#, ""));
    }

    #[test]
    fn what_is_no_registration_is_not_read() {
        assert_eq!(read("/p/services/connect-node/n%2F1", "{}"), None);
        assert_eq!(read("/p/services/connect-node/other", VALUE), None);
        assert_eq!(read("/q/services/connect-node/n%2F1", VALUE), None);
        assert_eq!(read("/p/services/connect-node/%FF", VALUE), None);
    }
}
