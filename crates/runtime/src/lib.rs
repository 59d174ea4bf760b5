//! What every service needs around its own work: configuration, listening, telemetry, back-off.

/// Of every program: it is faster than glibc's under a crowd that comes back (docs/measurements.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod backoff;
pub mod causes;
pub mod cli;
pub mod config;
pub mod front;
pub mod gate;
pub mod listen;
pub mod logging;
pub mod readiness;
pub mod telemetry;
pub mod trace;

pub use backoff::Backoff;
pub use causes::Causes;
pub use config::Config;
pub use front::Front;
pub use gate::{Gate, GateSettings, Refused};
pub use listen::{BindError, Bound, bind, serve};
pub use readiness::{Phase, Readiness};
pub use telemetry::Telemetry;
pub use trace::{Span, Tracing};
