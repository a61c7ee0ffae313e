//! Which entries somebody asks for: by whom, about what, when.

use super::AuditEntry;
use crate::people::Actor;
use crate::time::WallTime;

/// All that is given has to hold; nothing given is every entry. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose acts.
    pub by: Option<Actor>,
    /// What they are about or name: `P-7`, `warm/global`.
    pub about: Option<String>,
    /// Not before this.
    pub since: Option<WallTime>,
    /// Not after this.
    pub until: Option<WallTime>,
}

impl Filter {
    /// Whether it lets every entry through.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it lets this one through.
    pub fn takes(&self, entry: &AuditEntry) -> bool {
        self.by.as_ref().is_none_or(|by| *by == entry.actor)
            && self.about.as_ref().is_none_or(|about| entry.names(about))
            && self.since.is_none_or(|since| entry.at.wall >= since)
            && self.until.is_none_or(|until| entry.at.wall <= until)
    }
}

impl AuditEntry {
    /// Whether it is about `what`, alone or among others: `warm/global P-7` is about two things.
    pub fn is_about(&self, what: &str) -> bool {
        self.subject == what || self.subject.split(' ').any(|word| word == what)
    }

    /// Whether it is about `what` or names it as a word of its sentence.
    pub fn names(&self, what: &str) -> bool {
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
        self.is_about(what)
            || self
                .detail
                .split(|c: char| !inside(c))
                .any(|word| word.trim_end_matches('.') == what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Hash;
    use crate::time::{LogTime, Stamp};

    fn entry(subject: &str, detail: &str) -> AuditEntry {
        AuditEntry {
            seq: 1,
            index: 1,
            at: Stamp { log: LogTime(0), wall: WallTime(1000) },
            actor: Actor::Person("ana".into()),
            via: None,
            action: "refused".to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
            hash: Hash::ZERO,
        }
    }

    #[test]
    fn a_promotion_is_named_as_a_word_and_not_as_the_beginning_of_another() {
        for (subject, detail) in [
            ("P-7", ""),
            ("warm/global P-7", ""),
            ("warm/global", "moving: warm/global is being moved by P-7"),
            ("P-3", "by P-7"),
            ("P-3", "see P-7."),
        ] {
            assert!(entry(subject, detail).names("P-7"), "{subject}: {detail}");
        }
        for (subject, detail) in [("P-71", ""), ("P-3", "by P-71"), ("P-3", "P-7-old XP-7")] {
            assert!(!entry(subject, detail).names("P-7"), "{subject}: {detail}");
        }
    }

    #[test]
    fn everything_that_is_given_has_to_hold() {
        let entry = entry("P-7", "");
        let ana = Filter { by: Some("ana".parse().unwrap()), ..Filter::default() };
        assert!(ana.takes(&entry) && !ana.is_open() && Filter::default().takes(&entry));
        assert!(!Filter { about: Some("P-8".to_owned()), ..ana.clone() }.takes(&entry));
        let at = |ms| Some(WallTime(ms));
        assert!(Filter { since: at(1000), until: at(1000), ..ana.clone() }.takes(&entry));
        assert!(!Filter { since: at(1001), ..ana.clone() }.takes(&entry));
        assert!(!Filter { until: at(999), ..ana }.takes(&entry));
    }
}
