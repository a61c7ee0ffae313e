//! The records the machine is made of: what `raft/` stores one by one and snapshots as a whole.

use crate::audit::{AuditEntry, AuditHead};
use crate::config::Cluster;
use crate::promotion::{Promotion, PromotionId};
use crate::region::RegionName;
use crate::report::RegionRecord;
use crate::restore::Restored;
use crate::rules::{RuleChange, RuleId};
use crate::scope::{Scope, ScopeId};
use crate::session::{Session, SessionKey};
use crate::time::Stamp;
use serde::{Deserialize, Serialize};

/// Serialises a type as the text of its `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::schema::Object::with_type(utoipa::openapi::schema::Type::String)
                    .into()
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the text of a ", stringify!($name)))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
    };
}
pub(crate) use text_serde;

/// Names one record. Its order is the order of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// LogTime and wall clock of the last entry, and the id counters.
    Clock,
    /// Cluster id, version, configuration.
    Cluster,
    /// A region.
    Region(RegionName),
    /// A session.
    Session(SessionKey),
    /// A scope.
    Scope(ScopeId),
    /// A promotion.
    Promotion(PromotionId),
    /// An idempotent request.
    Request(RequestKey),
    /// A review.
    Review(u64),
    /// The head of the audit chain.
    AuditHead,
    /// One of the last audit entries.
    Audit(u64),
    /// A rule change.
    Rule(RuleId),
    /// How far a restore has come.
    Restored,
    /// Which regions' nodes shall lead.
    Preference,
}

/// One record's content. Short-lived on its way to or from a store, so its size matters little.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// See [`RecordKey::Clock`].
    Clock(Clock),
    /// See [`RecordKey::Cluster`].
    Cluster(Cluster),
    /// See [`RecordKey::Region`].
    Region(RegionRecord),
    /// See [`RecordKey::Session`].
    Session(Session),
    /// See [`RecordKey::Scope`].
    Scope(Scope),
    /// See [`RecordKey::Promotion`].
    Promotion(Promotion),
    /// See [`RecordKey::Request`].
    Request(Request),
    /// See [`RecordKey::Review`].
    Review(Review),
    /// See [`RecordKey::AuditHead`].
    AuditHead(AuditHead),
    /// See [`RecordKey::Audit`].
    Audit(AuditEntry),
    /// See [`RecordKey::Rule`].
    Rule(RuleChange),
    /// See [`RecordKey::Restored`].
    Restored(Restored),
    /// See [`RecordKey::Preference`].
    Preference(Vec<RegionName>),
}

macro_rules! borrowed {
    ($($name:ident($content:ty)),* $(,)?) => {
        /// A record where it stands in the machine: most are written out, and not kept.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum RecordRef<'a> {
            $($name(&'a $content),)*
        }

        impl RecordRef<'_> {
            /// A copy that stands on its own.
            pub fn to_record(self) -> Record {
                match self {
                    $(Self::$name(content) => Record::$name(content.to_owned()),)*
                }
            }
        }

        impl<'a> From<&'a Record> for RecordRef<'a> {
            fn from(record: &'a Record) -> Self {
                match record {
                    $(Record::$name(content) => Self::$name(content),)*
                }
            }
        }
    };
}

borrowed! {
    Clock(Clock), Cluster(Cluster), Region(RegionRecord), Session(Session), Scope(Scope),
    Promotion(Promotion), Request(Request), Review(Review), AuditHead(AuditHead), Audit(AuditEntry),
    Rule(RuleChange), Restored(Restored), Preference([RegionName]),
}

/// The machine's time and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The highest stamp applied.
    pub now: Stamp,
    /// Number of the next promotion.
    pub next_promotion: u64,
    /// Number of the next review.
    pub next_review: u64,
}

/// Who sent a request under which key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestKey {
    /// The certificate's identity.
    pub identity: String,
    /// The `Idempotency-Key` it chose.
    pub key: String,
}

/// What a request did, so that asking again does nothing and learns the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Request {
    /// Whose.
    pub key: RequestKey,
    /// Hash of the command: the same key with another body is refused.
    pub command: crate::position::Hash,
    /// The log index that carried it.
    pub index: u64,
    /// When.
    pub at: Stamp,
    /// The answer it got.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub answer: crate::command::Answer,
}

/// A conflict that only a person may settle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Its number.
    pub id: u64,
    /// The scope it is about.
    pub scope: ScopeId,
    /// What differs, in words and numbers, never values.
    pub what: String,
    /// Opened when.
    pub at: Stamp,
    /// Who decided, what, why.
    pub decided: Option<(crate::people::OperatorId, String, Stamp)>,
}
