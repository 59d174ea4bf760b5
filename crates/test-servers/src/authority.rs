//! Certificates for servers that encrypt: an authority that nobody else knows, and what it signed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// PEM files of one authority, and of a certificate that it signed for servers and clients of this machine.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Writes the files into a folder.
    pub(crate) fn create(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Roomcast tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "root");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key();
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let authority = Self { folder: folder.to_owned() };
        let files = [
            (authority.ca_file(), issuer.pem()),
            (authority.cert_file(), certificate.pem()),
            (authority.key_file(), key.serialize_pem()),
        ];
        for (path, pem) in files {
            fs::write(path, pem).expect("a temporary folder takes files");
        }
        authority
    }

    /// The authority's own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The certificate that it signed.
    pub fn cert_file(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// The key of the certificate that it signed.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("key.pem")
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
