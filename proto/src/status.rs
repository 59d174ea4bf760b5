//! One table between our error codes and gRPC statuses, in both directions.

use std::time::Duration;

use roomcast_types::{Code, Fault};
use tonic::{Code as Grpc, Status, metadata::MetadataValue};

use crate::pubsub::Refusal;

/// Metadata key that carries `retry_after_ms`.
const RETRY_AFTER: &str = "retry-after-ms";

fn grpc_code(code: Code) -> Grpc {
    match code {
        Code::BadRequest | Code::TooLarge => Grpc::InvalidArgument,
        Code::Unauthenticated => Grpc::Unauthenticated,
        Code::Forbidden => Grpc::PermissionDenied,
        Code::NotFound => Grpc::NotFound,
        Code::AlreadyExists => Grpc::AlreadyExists,
        Code::RoomFull | Code::InboxFull | Code::TooManyRooms | Code::RateLimited => Grpc::ResourceExhausted,
        Code::RoomDeleted | Code::NotJoined => Grpc::FailedPrecondition,
        Code::Unavailable => Grpc::Unavailable,
        Code::Internal => Grpc::Internal,
    }
}

/// The status of a fault; its message is `CODE: message`, so that the exact code survives.
pub fn status(fault: &Fault) -> Status {
    let mut status = Status::new(grpc_code(fault.code), fault.to_string());
    if let Some(after) = fault.retry_after {
        let millis = MetadataValue::from(after.as_millis().min(u128::from(u32::MAX)) as u32);
        status.metadata_mut().insert(RETRY_AFTER, millis);
    }
    status
}

impl From<&Fault> for Refusal {
    fn from(fault: &Fault) -> Self {
        let retry_after = fault.retry_after.unwrap_or_default();
        Self {
            code: fault.code.as_str().to_owned(),
            message: fault.message.clone(),
            retry_after_ms: u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after_ms } = refusal;
        let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms.into()));
        Self { code: code.parse().unwrap_or(Code::Internal), message, retry_after }
    }
}

/// The fault behind a status: its leading word when it is one of ours, else what the gRPC code says.
pub fn fault(status: &Status) -> Fault {
    let retry_after = status
        .metadata()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_millis);
    if let Some((word, message)) = status.message().split_once(": ")
        && let Ok(code) = word.parse()
    {
        return Fault { code, message: message.to_owned(), retry_after };
    }
    let code = match status.code() {
        Grpc::InvalidArgument | Grpc::OutOfRange => Code::BadRequest,
        Grpc::Unauthenticated => Code::Unauthenticated,
        Grpc::PermissionDenied => Code::Forbidden,
        Grpc::NotFound => Code::NotFound,
        Grpc::AlreadyExists => Code::AlreadyExists,
        Grpc::ResourceExhausted => Code::RateLimited,
        Grpc::Unavailable | Grpc::DeadlineExceeded | Grpc::Cancelled => Code::Unavailable,
        _ => Code::Internal,
    };
    Fault { code, message: status.message().to_owned(), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_wire() {
        for code in Code::ALL {
            let sent = Fault { code, message: "a: b".into(), retry_after: Some(Duration::from_millis(500)) };
            assert_eq!(fault(&status(&sent)), sent);
        }
    }

    #[test]
    fn a_foreign_status_keeps_its_meaning() {
        assert_eq!(fault(&Status::unavailable("tcp connect error")).code, Code::Unavailable);
        assert_eq!(fault(&Status::deadline_exceeded("late")).code, Code::Unavailable);
        assert_eq!(fault(&Status::unknown("what: now")).code, Code::Internal);
    }
}
