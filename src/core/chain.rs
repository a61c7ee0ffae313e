//! Hash chains: for batches, manifests and the audit.
//!
//! Each link's hash covers the one before it and the record's bytes, so an edit, a removal or a
//! reordering anywhere shows at that record.

use crate::position::{Hash, Position};

/// Domain separation: a batch cannot be replayed as an audit entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Audit entries.
    Audit,
    /// Warm batches.
    Batch,
    /// Cold manifests.
    Manifest,
}

impl Chain {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Audit => b"cryptorun audit 1",
            Self::Batch => b"cryptorun batch 1",
            Self::Manifest => b"cryptorun manifest 1",
        }
    }

    /// The position after `body` is appended at `end`.
    pub fn append(self, end: Position, body: &[u8]) -> Position {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.label());
        hasher.update(&(end.seq + 1).to_le_bytes());
        hasher.update(&end.hash.0);
        hasher.update(body);
        Position { seq: end.seq + 1, hash: Hash(*hasher.finalize().as_bytes()) }
    }

    /// Follows a run of bodies from `start`.
    ///
    /// # Errors
    /// The number of the first record whose hash is not the one claimed for it.
    pub fn verify<'a>(
        self,
        start: Position,
        records: impl IntoIterator<Item = (&'a [u8], Hash)>,
    ) -> Result<Position, u64> {
        records.into_iter().try_fold(start, |end, (body, claimed)| {
            let next = self.append(end, body);
            if next.hash == claimed { Ok(next) } else { Err(next.seq) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(bodies: &[Vec<u8>]) -> Vec<(Vec<u8>, Hash)> {
        let mut end = Position::START;
        bodies
            .iter()
            .map(|body| {
                end = Chain::Audit.append(end, body);
                (body.clone(), end.hash)
            })
            .collect()
    }

    fn check(links: &[(Vec<u8>, Hash)]) -> Result<Position, u64> {
        Chain::Audit.verify(Position::START, links.iter().map(|(b, h)| (b.as_slice(), *h)))
    }

    proptest! {
        #[test]
        fn any_edit_is_found_at_its_record(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..12),
            at in any::<prop::sample::Index>(), bit in 0usize..8,
        ) {
            let mut links = build(&bodies);
            prop_assert!(check(&links).is_ok());
            let at = at.index(links.len());
            links[at].0[0] ^= 1 << bit;
            prop_assert_eq!(check(&links), Err(at as u64 + 1));
        }

        #[test]
        fn removal_and_reordering_are_found(
            bodies in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..20), 3..12),
        ) {
            let links = build(&bodies.into_iter().collect::<Vec<_>>());
            let mut removed = links.clone();
            removed.remove(0);
            prop_assert!(check(&removed).is_err());
            let mut swapped = links;
            swapped.swap(0, 1);
            prop_assert!(check(&swapped).is_err());
        }
    }

    #[test]
    fn chains_of_different_kinds_differ() {
        assert_ne!(
            Chain::Audit.append(Position::START, b"x"),
            Chain::Batch.append(Position::START, b"x")
        );
    }
}
