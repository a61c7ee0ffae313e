//! Time as the cluster counts it, and the arithmetic of leases.
//!
//! [`LogTime`] is elapsed time that only committed entries advance; leases use it alone.
//! [`WallTime`] rides along for people: it may refuse a permission, never extend one.
//!
//! What always holds: the holder gives ρ and the guard away ([`Timing::holder_span`]), the cluster
//! waits ρ longer ([`Timing::run_out`]), so a successor starts at least the guard after the holder
//! stopped. `docs/safety.md` carries the proof.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A span in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Millis(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// A span of whole minutes.
    pub const fn mins(mins: u64) -> Self {
        Self::secs(mins * 60)
    }

    /// The same span for the standard library's timers.
    pub const fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl From<std::time::Duration> for Millis {
    /// Whole milliseconds; the longest span there is for one that is longer.
    fn from(span: std::time::Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    /// `840 ms`, `9.4 s`, `63 s`, `12 min`: as an operator would say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..1_000 => write!(f, "{ms} ms"),
            ms @ 1_000..10_000 => write!(f, "{}.{} s", ms / 1000, ms % 1000 / 100),
            ms @ 10_000..600_000 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}

/// Elapsed time as the log counts it, in milliseconds since the cluster was founded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogTime(pub u64);

impl LogTime {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for LogTime {
    type Output = Self;
    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. May jump; for people and for refusing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WallTime(pub u64);

impl WallTime {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339 in UTC: `2025-01-01T00:00:00Z`, with an optional fraction.
    ///
    /// # Errors
    /// A sentence that says what a time looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a time like 2025-01-01T00:00:00Z");
        let body =
            text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).ok_or_else(wrong)?;
        let (date, clock) = body.split_once('T').ok_or_else(wrong)?;
        let number = |part: &str| -> Result<u64, String> {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong());
            }
            part.parse().map_err(|_| wrong())
        };
        let mut days = date.splitn(3, '-');
        let mut next = |len: usize| -> Result<u64, String> {
            let part = days.next().ok_or_else(wrong)?;
            if part.len() != len { Err(wrong()) } else { number(part) }
        };
        let (year, month, day) = (next(4)?, next(2)?, next(2)?);
        let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut parts = whole.splitn(3, ':');
        let mut next = || -> Result<u64, String> {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 { Err(wrong()) } else { number(part) }
        };
        let (hour, minute, second) = (next()?, next()?, next()?);
        number(fraction)?;
        let millis = number(&format!("{fraction:0<3}")[..3])?;
        if year < 1970
            || !(1..=12).contains(&month)
            || day < 1
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(wrong());
        }
        let days = days_from_civil(year, month, day);
        Ok(Self((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis))
    }
}

impl Add<Millis> for WallTime {
    type Output = Self;
    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for WallTime {
    type Output = Self;
    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC, with milliseconds when there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0 / 1000, self.0 % 1000);
        let (year, month, day) = civil_from_days(secs / 86_400);
        let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if millis > 0 {
            write!(f, ".{millis:03}")?;
        }
        f.write_str("Z")
    }
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a Gregorian date.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let years = |y: u64| y * 365 + y / 4 - y / 100 + y / 400;
    let to_year = years(year - 1) - years(1969);
    let to_month: u64 = (1..month).map(|m| days_in_month(year, m)).sum();
    to_year + to_month + day - 1
}

fn civil_from_days(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_from_civil(year + 1, 1, 1) <= days {
        year += 1;
    }
    days -= days_from_civil(year, 1, 1);
    let mut month = 1;
    while days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

/// What the leader writes on each entry: the log's time and its own wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stamp {
    /// Elapsed time as the cluster counts it.
    pub log: LogTime,
    /// The leader's wall clock, for the audit and for refusing.
    pub wall: WallTime,
}

/// The named sets of timings (DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Profile {
    /// Round trips up to 300 ms; the default.
    Wan,
    /// Round trips up to 150 ms.
    Near,
    /// One machine, tests, `demo --fast`.
    Local,
}

impl std::str::FromStr for Profile {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wan" => Ok(Self::Wan),
            "near" => Ok(Self::Near),
            "local" => Ok(Self::Local),
            _ => Err(format!("no profile '{text}'; known: wan, near, local")),
        }
    }
}

/// Pieces of 256 KiB, one a round trip: 25 MiB of snapshot, ten times what three tiers and a year of
/// promotions come to.
pub const SNAPSHOT_PIECES: u64 = 100;

/// The numbers that leases and elections run on. Plain data; [`Timing::check`] says whether they fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timing {
    /// The profile these numbers came from.
    pub profile: Profile,
    /// Raft heartbeat.
    pub heartbeat: Millis,
    /// Shortest election timeout.
    pub election_min: Millis,
    /// Longest election timeout.
    pub election_max: Millis,
    /// Lease time to live.
    pub ttl: Millis,
    /// How often a session is renewed.
    pub renew_every: Millis,
    /// How long one renewal attempt may take.
    pub renew_timeout: Millis,
    /// ρ: the clock rate error that the protocol tolerates, in thousandths.
    pub rate_error_permille: u32,
    /// G: the gap kept between a holder's stop and its successor's start.
    pub guard: Millis,
    /// The largest round trip the profile is meant for.
    pub rtt_max: Millis,
}

impl Timing {
    /// The table of DESIGN §5.
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Wan => Self {
                profile,
                heartbeat: Millis(500),
                election_min: Millis(1500),
                election_max: Millis(2500),
                ttl: Millis(10_000),
                renew_every: Millis(2000),
                renew_timeout: Millis(1000),
                rate_error_permille: 10,
                guard: Millis(500),
                rtt_max: Millis(300),
            },
            Profile::Near => Self {
                profile,
                heartbeat: Millis(250),
                election_min: Millis(750),
                election_max: Millis(1250),
                ttl: Millis(5000),
                renew_every: Millis(1000),
                renew_timeout: Millis(600),
                rate_error_permille: 10,
                guard: Millis(500),
                rtt_max: Millis(150),
            },
            Profile::Local => Self {
                profile,
                heartbeat: Millis(50),
                election_min: Millis(150),
                election_max: Millis(300),
                ttl: Millis(2000),
                renew_every: Millis(300),
                renew_timeout: Millis(200),
                rate_error_permille: 10,
                guard: Millis(100),
                rtt_max: Millis(30),
            },
        }
    }

    /// How long after `t_send` a holder may act: `TTL·(1−ρ) − G`, rounded down.
    pub fn holder_span(&self) -> Millis {
        if crate::seeded_bug::is("guard_forgotten") {
            return self.ttl;
        }
        let give = (self.ttl.0 * u64::from(self.rate_error_permille)).div_ceil(1000);
        Millis(self.ttl.0.saturating_sub(give).saturating_sub(self.guard.0))
    }

    /// How long after the last renewal a lease has run out: `TTL·(1+ρ)`, rounded up, and one more
    /// millisecond because stamps are rounded down to whole ones.
    pub fn run_out(&self) -> Millis {
        let give = (self.ttl.0 * u64::from(self.rate_error_permille)).div_ceil(1000);
        Millis(self.ttl.0 + give + 1)
    }

    /// Longest time from a leader's death to the next leader's first commit: the lease the followers
    /// keep for it, a random wait, pre-vote, vote and append.
    pub fn raft_failover(&self, rtt: Millis) -> Millis {
        Millis(self.election_max.0 * 2 + rtt.0 * 3)
    }

    /// How long a snapshot may take to get through: [`SNAPSHOT_PIECES`] round trips of the largest that
    /// the profile is meant for, and never less than ten seconds, for the disk at the other end.
    pub fn snapshot_within(&self) -> Millis {
        Millis((self.rtt_max.0 * SNAPSHOT_PIECES).max(10_000))
    }

    /// Whether a round trip of `rtt` and a sync of `fsync` fit these numbers.
    ///
    /// # Errors
    /// Each rule that breaks, with its arithmetic.
    pub fn check(&self, rtt: Millis, fsync: Millis) -> Result<(), Vec<String>> {
        let mut wrong = Vec::new();
        let need = (rtt.0 + fsync.0) * 4;
        if self.heartbeat.0 * 3 < need {
            wrong.push(format!(
                "heartbeat {} < (rtt {} + fsync {}) / 0.75 = {}: replication would time out",
                self.heartbeat,
                rtt,
                fsync,
                Millis(need.div_ceil(3))
            ));
        }
        let outage = Millis(self.renew_every.0 + self.raft_failover(rtt).0 + rtt.0);
        if outage >= self.holder_span() {
            wrong.push(format!(
                "renew {} + raft failover {} + rtt {} = {} is not below TTL·(1−ρ) − G = {}: an \
                 election would cost a healthy holder its lease",
                self.renew_every,
                self.raft_failover(rtt),
                rtt,
                outage,
                self.holder_span()
            ));
        }
        let through = Millis((rtt.0 + fsync.0) * SNAPSHOT_PIECES);
        let slack = Millis(fsync.0 * SNAPSHOT_PIECES);
        if through.0 > self.snapshot_within().0 + slack.0 {
            wrong.push(format!(
                "{SNAPSHOT_PIECES} pieces of a snapshot at rtt {rtt} take {through}, and after {} it is \
                 given up: a node that was away would never come back",
                self.snapshot_within(),
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_profile_fits_the_round_trip_it_is_meant_for() {
        for profile in [Profile::Wan, Profile::Near, Profile::Local] {
            let timing = Timing::of(profile);
            assert_eq!(timing.check(timing.rtt_max, Millis(5)), Ok(()), "{profile:?}");
        }
    }

    #[test]
    fn a_round_trip_a_profile_cannot_carry_is_refused_with_the_arithmetic() {
        let wrong = Timing::of(Profile::Local).check(Millis(140), Millis(5)).unwrap_err();
        assert!(wrong[0].contains("heartbeat 50 ms < (rtt 140 ms + fsync 5 ms) / 0.75 = 194 ms"));
    }

    #[test]
    fn a_snapshot_gets_through_at_the_round_trip_of_its_profile_and_is_checked_beyond() {
        for profile in [Profile::Wan, Profile::Near, Profile::Local] {
            let timing = Timing::of(profile);
            assert!(timing.snapshot_within().0 >= timing.rtt_max.0 * SNAPSHOT_PIECES);
        }
        let wrong = Timing::of(Profile::Wan).check(Millis(340), Millis(5)).unwrap_err();
        assert!(wrong[0].contains("100 pieces of a snapshot at rtt 340 ms"), "{wrong:?}");
    }

    #[test]
    fn wall_times_read_and_write_the_same_text() {
        for text in ["2025-01-01T00:00:00Z", "2000-02-29T23:59:59.120Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(WallTime::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(WallTime::parse("2025-01-01T00:00:00Z").unwrap().0, 1_735_689_600_000);
        for text in
            ["2025-02-29T00:00:00Z", "2025-01-01", "25-01-01T00:00:00Z", "2025-01-01T24:00:00Z"]
        {
            assert!(WallTime::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn wall_times_round_trip(ms in 0u64..4_000_000_000_000) {
            prop_assert_eq!(WallTime::parse(&WallTime(ms).to_string()).unwrap(), WallTime(ms));
        }

        /// With both clocks off by ρ in the worst direction, the successor still starts G later.
        #[test]
        fn successor_starts_at_least_the_guard_after_the_holder_stopped(
            ttl in 1_000u64..60_000, permille in 0u32..50, guard in 1u64..500,
        ) {
            let timing = Timing { ttl: Millis(ttl), rate_error_permille: permille, guard: Millis(guard),
                ..Timing::of(Profile::Wan) };
            // True time, in thousandths of a millisecond: the holder's clock is slow, the leader's fast.
            let rho = u128::from(permille);
            let holder_stops = u128::from(timing.holder_span().0) * 1_000_000 / (1000 - rho);
            let run_out = u128::from(timing.run_out().0 - 1) * 1_000_000 / (1000 + rho);
            prop_assert!(run_out >= holder_stops + u128::from(guard) * 1000 - 1000);
        }
    }
}
