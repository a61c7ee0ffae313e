//! `GET /v1/cluster/credentials`: who presents and trusts what.

use crate::region::RegionName;
use crate::time::WallTime;
use serde::{Deserialize, Serialize};

/// `GET /v1/certs`: what one process presents and trusts, and who came to it with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Credentials {
    /// Its SPIFFE id.
    pub process: String,
    /// Its wall clock, by which it judges dates.
    pub wall: WallTime,
    /// Its own certificate.
    pub presents: CertificateSeen,
    /// Whose signatures it believes.
    pub trusts: Vec<TrustedAuthority>,
    /// Certificates that it no longer believes, by authority.
    pub revocations: Vec<RevocationList>,
    /// Why what its files hold now is not in use.
    pub not_taken: Option<String>,
    /// Peers it met since it started, with the certificate that each came with last.
    pub peers: Vec<Presented>,
}

/// A certificate, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertificateSeen {
    /// Its serial number in hex.
    pub serial: String,
    /// The key that signed it: the first digits of that key's identifier.
    pub authority: String,
    /// When it ends.
    pub until: WallTime,
}

/// An authority whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TrustedAuthority {
    /// The first digits of its key's identifier.
    pub authority: String,
    /// Its common name.
    pub name: String,
    /// When its certificate ends.
    pub until: WallTime,
}

/// A list of certificates that an authority took back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationList {
    /// Whose.
    pub authority: String,
    /// When it was made.
    pub issued: WallTime,
    /// When the next is due.
    pub next: Option<WallTime>,
    /// Certificates on it.
    pub revoked: u64,
}

/// What a peer came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Presented {
    /// Its SPIFFE id.
    pub id: String,
    /// Its certificate.
    pub certificate: CertificateSeen,
    /// When it last connected, by the wall clock of whom it came to.
    pub at: WallTime,
}

/// One line of `GET /v1/cluster/certs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeCredentials {
    /// Its number.
    pub node: u64,
    /// Its region.
    pub region: RegionName,
    /// What it says; none where it did not answer.
    pub credentials: Option<Credentials>,
    /// Why it did not.
    pub cause: Option<String>,
}
