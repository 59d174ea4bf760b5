//! The client protocol in JSON.
