//! Who a process or person is: `spiffe://<trust domain>/cryptorun/<cluster>/<class>/<region>/<id>`.
//!
//! The certificate carries this as its URI name; it proves *who*, never *what may be done*. The
//! cluster is part of it, so that staging's people are nobody in production, and so is the class,
//! so that a worker's certificate cannot speak Raft.
//!
//! Open fields: plain data. Text from outside becomes an id only through `FromStr`, which checks;
//! `pki` checks again before it signs.

use std::fmt;
use std::str::FromStr;

/// The path's first segment; other products may share the trust domain.
const PRODUCT: &str = "cryptorun";
/// SPIFFE's own limit on a whole id.
const ID_BYTES_MAX: usize = 2048;
/// Each part is a name that people read and files are called by.
const PART_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A control-plane node.
    Node,
    /// A data-plane worker.
    Worker,
    /// A human at the CLI.
    Person,
    /// A program that is neither: a scraper, a pipeline.
    Service,
}

impl Class {
    pub const ALL: [Class; 4] = [Class::Node, Class::Worker, Class::Person, Class::Service];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Node => "node",
            Class::Worker => "worker",
            Class::Person => "person",
            Class::Service => "service",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Class::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| IdentityError::Class { class: text.to_owned() })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    pub trust_domain: String,
    pub cluster: String,
    pub class: Class,
    pub region: String,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "'{text}' is not an identity: expected spiffe://<trust domain>/cryptorun/<cluster>/<class>/<region>/<id>"
    )]
    Shape { text: String },
    #[error("identity class '{class}' is unknown: expected node, worker, person or service")]
    Class { class: String },
    #[error("{part} '{text}' of an identity may hold only {allowed}, at most 64 of them")]
    Part { part: &'static str, text: String, allowed: &'static str },
}

impl SpiffeId {
    pub fn new(
        trust_domain: &str,
        cluster: &str,
        class: Class,
        region: &str,
        id: &str,
    ) -> Result<Self, IdentityError> {
        let made = Self {
            trust_domain: trust_domain.to_owned(),
            cluster: cluster.to_owned(),
            class,
            region: region.to_owned(),
            id: id.to_owned(),
        };
        made.check()?;
        Ok(made)
    }

    /// Whether this could have come from `FromStr`; the fields are open.
    pub fn check(&self) -> Result<(), IdentityError> {
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if !is_name(&self.trust_domain, lower) {
            return Err(IdentityError::Part {
                part: "trust domain",
                text: self.trust_domain.clone(),
                allowed: "a-z 0-9 . _ -",
            });
        }
        let any = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        for (part, text) in [("cluster", &self.cluster), ("region", &self.region), ("id", &self.id)]
        {
            if !is_name(text, any) {
                return Err(IdentityError::Part {
                    part,
                    text: text.clone(),
                    allowed: "A-Z a-z 0-9 . _ -",
                });
            }
        }
        Ok(())
    }
}

fn is_name(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    // `.` and `..` would climb in a path.
    !matches!(text, "" | "." | "..") && text.len() <= PART_BYTES_MAX && text.bytes().all(allowed)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, cluster, class, region, id } = self;
        write!(f, "spiffe://{trust_domain}/{PRODUCT}/{cluster}/{class}/{region}/{id}")
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape { text: text.chars().take(200).collect() };
        if text.len() > ID_BYTES_MAX {
            return Err(shape());
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, PRODUCT, cluster, class, region, id] = parts[..] else {
            return Err(shape());
        };
        Self::new(trust_domain, cluster, class.parse()?, region, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        for class in Class::ALL {
            let id = SpiffeId::new("trading.example", "prod", class, "us-east-1", "n1").unwrap();
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(
            "spiffe://trading.example/cryptorun/prod/person/eu-west-1/ana"
                .parse::<SpiffeId>()
                .unwrap()
                .class,
            Class::Person
        );
    }

    #[test]
    fn anything_that_is_not_exactly_an_id_is_refused() {
        for text in [
            "",
            "spiffe://td/cryptorun/prod/node/us-east-1",
            "spiffe://td/cryptorun/prod/node/us-east-1/n1/more",
            "spiffe://td/other/prod/node/us-east-1/n1",
            "https://td/cryptorun/prod/node/us-east-1/n1",
            "spiffe://TD/cryptorun/prod/node/us-east-1/n1",
            "spiffe://td/cryptorun/prod/operator/us-east-1/n1",
            "spiffe://td/cryptorun/prod/node/../n1",
            "spiffe://td/cryptorun//node/us-east-1/n1",
            "spiffe://td/cryptorun/prod/node/us-east-1/n%31",
            "spiffe://td:8443/cryptorun/prod/node/us-east-1/n1",
            "spiffe://td/cryptorun/prod/node/us-east-1/n1?x=1",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "accepted {text:?}");
        }
    }
}
