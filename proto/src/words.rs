//! Enums of the wire as their words, for the JSON replies.

macro_rules! words {
    ($module:ident, $enum:path) => {
        pub mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            pub fn serialize<S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
                match <$enum>::try_from(*value) {
                    Ok(known) => to.serialize_str(known.as_str_name()),
                    Err(_) => to.serialize_i32(*value),
                }
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
                let word = String::deserialize(from)?;
                <$enum>::from_str_name(&word)
                    .map(i32::from)
                    .ok_or_else(|| D::Error::custom(format!("unknown word {word:?}")))
            }
        }
    };
}

words!(room_state, crate::pubsub::room_card::State);
words!(membership, crate::pubsub::room_card::Membership);
words!(room_log, crate::pubsub::room_card::Log);
words!(on_log_failure, crate::pubsub::room_card::OnLogFailure);
