//! SQLite keeps the rules of logs and inboxes: in memory, in a file, and in a file that two handles share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use roomcast_store::{
    Inbox, Log, SqliteMessages,
    conformance::{inbox::Letterboxes, log::Journal},
};

async fn in_memory() -> Vec<Arc<SqliteMessages>> {
    let messages = Arc::new(SqliteMessages::ephemeral().await.unwrap());
    vec![messages.clone(), messages]
}

async fn in_a_file(handles: usize) -> (Vec<Arc<SqliteMessages>>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = Vec::new();
    for _ in 0..handles {
        opened.push(Arc::new(SqliteMessages::open(&folder.path().join("rooms.db")).await.unwrap()));
    }
    (opened, folder)
}

fn logs(handles: Vec<Arc<SqliteMessages>>) -> Journal {
    Journal::new(handles.into_iter().map(|handle| handle as Arc<dyn Log>).collect())
}

fn inboxes(handles: Vec<Arc<SqliteMessages>>) -> Letterboxes {
    Letterboxes::new(handles.into_iter().map(|handle| handle as Arc<dyn Inbox>).collect())
}

async fn logs_in_memory() -> Journal {
    logs(in_memory().await)
}

async fn logs_in_a_file(handles: usize) -> Journal {
    let (handles, folder) = in_a_file(handles).await;
    logs(handles).guarded_by(folder)
}

async fn inboxes_in_memory() -> Letterboxes {
    inboxes(in_memory().await)
}

async fn inboxes_in_a_file(handles: usize) -> Letterboxes {
    let (handles, folder) = in_a_file(handles).await;
    inboxes(handles).guarded_by(folder)
}

mod log_in_memory {
    roomcast_store::log_conformance!(super::logs_in_memory());
}

mod log_in_a_file {
    roomcast_store::log_conformance!(super::logs_in_a_file(1));
}

mod log_in_a_file_with_two_handles {
    roomcast_store::log_conformance!(super::logs_in_a_file(2));
}

mod inbox_in_memory {
    roomcast_store::inbox_conformance!(super::inboxes_in_memory());
}

mod inbox_in_a_file_with_two_handles {
    roomcast_store::inbox_conformance!(super::inboxes_in_a_file(2));
}
