//! The cluster ring.
