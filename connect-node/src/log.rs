//! Logged rooms and users: their messages in order, and what those who come back have missed.

//!
//! | module | its part |
//! |---|---|
//! | [`sequencer`] | the order, as a pure state machine |
//! | [`sequence`] | one log: passes on in that order, and reads what is missing |
//! | [`returning`] | what one who comes back has missed |
//! | [`compare`] | whether messages were appended that never came |
//! | [`reader`] | the way to the logs, through a push-manager |

pub mod compare;
pub mod reader;
pub mod returning;
pub mod sequence;
pub mod sequencer;
