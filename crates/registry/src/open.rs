//! From the section `etcd` of the configuration to the registry that it means.

use std::{io, path::PathBuf, sync::Arc};

use roomcast_runtime::config::{Etcd, EtcdTarget};

use crate::{EtcdRegistry, MemoryRegistry, Registry};

/// Why no registry can be opened from a section `etcd`. Another start with the same configuration fails as well.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The section contradicts itself; names the key.
    #[error("{0}")]
    Section(String),
    /// A file of the section cannot be read.
    #[error("etcd.{key}: cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        key: &'static str,
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the section is not what its key says.
    #[error("etcd.{key}: {} has no {wanted} in PEM form", path.display())]
    NotPem {
        /// Which file.
        key: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// The driver takes no such address, certificate or key.
    #[error("etcd: {address} cannot be used with these addresses, certificates and keys")]
    Refused {
        /// host:port.
        address: String,
        /// The driver's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The registry that a section means: process memory, or etcd. Waits for no server: one that is away shows in the
/// calls. Needs a tokio runtime around it, and lives as long as that one.
pub fn open(section: &Etcd) -> Result<Arc<dyn Registry>, OpenError> {
    match section.target().map_err(OpenError::Section)? {
        EtcdTarget::Memory => Ok(Arc::new(MemoryRegistry::new())),
        EtcdTarget::Servers(servers) => Ok(Arc::new(EtcdRegistry::open(&servers, section)?)),
    }
}
