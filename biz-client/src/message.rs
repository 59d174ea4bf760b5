//! Reads the message of a push: text as given, a file, or standard input.

use std::{fs::File, io::Read};

use roomcast_client::{Content, ContentType};

use crate::failure::Failure;

/// The most that is read: the largest content a server can be configured for has to fit a request of 1 MiB.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// The content that `argument` describes.
pub fn read(argument: &str, content_type: ContentType) -> Result<Content, Failure> {
    let bytes = match argument.strip_prefix('@') {
        _ if argument == "-" => bounded(std::io::stdin().lock(), "standard input")?,
        Some(text) if text.starts_with('@') => text.as_bytes().to_vec(),
        Some(path) => {
            let file =
                File::open(path).map_err(|error| Failure::Refused(format!("cannot read {path}: {error}")))?;
            bounded(file, path)?
        }
        None => argument.as_bytes().to_vec(),
    };
    if bytes.len() as u64 > MESSAGE_BYTES_MAX {
        return Err(too_large("the message"));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Content::text(content_type, text),
        Err(not_text) => Content::binary(content_type, not_text.into_bytes()),
    })
}

fn bounded(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source
        .take(MESSAGE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Refused(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > MESSAGE_BYTES_MAX {
        return Err(too_large(name));
    }
    Ok(bytes)
}

fn too_large(what: &str) -> Failure {
    Failure::Refused(format!("{what} has more than 1 MiB; a push takes 64 KiB unless the server allows more"))
}
