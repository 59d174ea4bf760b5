//! The cluster ring: several services in one process, over real gRPC and WebSocket.

mod faults;
mod pages;
mod promise;
mod pushes;
mod reflection;
mod rooms;
mod traces;
