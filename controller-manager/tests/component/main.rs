//! Controllers over the real embedded stores, real gRPC, and nodes and push-managers played by the tests.

mod admission;
mod node;
mod repair;
mod requests;
mod rooms;
mod seats;
mod sessions;
mod sweep;
mod world;
