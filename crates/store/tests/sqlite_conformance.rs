//! SQLite keeps the rules of the record: in memory, in a file, and in a file that two handles share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use roomcast_store::{Rooms, SqliteRooms, conformance::rooms::Record};

async fn in_memory() -> Record {
    Record::new(vec![Arc::new(SqliteRooms::ephemeral().await.unwrap())])
}

async fn in_a_file(handles: usize) -> Record {
    let folder = tempfile::tempdir().unwrap();
    let mut opened: Vec<Arc<dyn Rooms>> = Vec::new();
    for _ in 0..handles {
        opened.push(Arc::new(SqliteRooms::open(&folder.path().join("rooms.db")).await.unwrap()));
    }
    Record::new(opened).guarded_by(folder)
}

mod memory {
    roomcast_store::rooms_conformance!(super::in_memory());
}

mod file {
    roomcast_store::rooms_conformance!(super::in_a_file(1));
}

mod file_with_two_handles {
    roomcast_store::rooms_conformance!(super::in_a_file(2));
}
