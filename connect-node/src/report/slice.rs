//! What is known of one of the 64 slices of a node's sessions.

/// See the module.
#[derive(Clone, Copy, Default)]
pub struct Slice {
    /// Grows with each change.
    pub version: u64,
    /// The controller may know something else under this version.
    pub is_unsure: bool,
    /// The controller asked for it.
    pub is_wanted: bool,
    /// How often it was sent in full.
    pub sends: u64,
}

impl Slice {
    /// The version grows with it: should the slice get lost on its way, the versions still differ.
    pub fn mark_unsure(&mut self) {
        if !self.is_unsure {
            self.is_unsure = true;
            self.version += 1;
        }
    }

    /// It is being sent in full.
    pub fn sent(&mut self) {
        self.is_unsure = false;
        self.is_wanted = false;
        self.sends += 1;
    }
}
