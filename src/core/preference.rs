//! Which node should lead, and when that is worth a change: a preference with hysteresis.
//!
//! A leader looks at the others now and then. One in a region that is preferred to its own has to have
//! been well all the while for [`WELL_FOR`] before leadership goes to it, and none is handed over
//! within [`REST`] of the last change: a region that comes and goes must not take it along.
//!
//! Deliberately absent: clocks and Raft; both are handed in.

use crate::region::RegionName;
use crate::time::Millis;
use std::collections::BTreeMap;

/// How long a preferred node must have been well.
pub const WELL_FOR: Millis = Millis::secs(60);
/// How long a leadership is left in peace.
pub const REST: Millis = Millis::mins(10);

/// One leadership's view of the others. A new leadership starts anew, and with it the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    began: Millis,
    /// Since when each region's node has been well.
    well_since: BTreeMap<RegionName, Millis>,
}

impl Watch {
    /// A leadership begins now, on any clock that only grows.
    pub fn new(now: Millis) -> Self {
        Self { began: now, well_since: BTreeMap::new() }
    }

    /// Notes whose nodes are well: they answer and have nearly all of the log. Says to which region
    /// leadership should go, if it should.
    pub fn look(
        &mut self,
        now: Millis,
        own: &RegionName,
        preferred: &[RegionName],
        well: impl Fn(&RegionName) -> bool,
    ) -> Option<RegionName> {
        for region in preferred {
            if well(region) {
                self.well_since.entry(region.clone()).or_insert(now);
            } else {
                self.well_since.remove(region);
            }
        }
        if now.0.saturating_sub(self.began.0) < REST.0 {
            return None;
        }
        let better = preferred.iter().take_while(|region| *region != own);
        let lasting = |region: &&RegionName| {
            self.well_since
                .get(*region)
                .is_some_and(|since| now.0.saturating_sub(since.0) >= WELL_FOR.0)
        };
        better.into_iter().find(lasting).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(names: &[&str]) -> Vec<RegionName> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn leadership_goes_to_the_first_that_has_been_well_for_a_minute_and_not_before_the_rest_is_over()
     {
        let preferred = regions(&["us-east-1", "us-west-2"]);
        let own = RegionName::from("eu-west-1");
        let mut watch = Watch::new(Millis(5));
        for second in 0..599 {
            let seen = watch.look(Millis(5 + second * 1000), &own, &preferred, |_| true);
            assert_eq!(seen, None, "at {second} s");
        }
        let seen = watch.look(Millis(5 + 600_000), &own, &preferred, |_| true);
        assert_eq!(seen, Some("us-east-1".into()));
        let east_is_gone = |region: &RegionName| region.as_str() != "us-east-1";
        let seen = watch.look(Millis(5 + 601_000), &own, &preferred, east_is_gone);
        assert_eq!(seen, Some("us-west-2".into()), "the next best is well");
    }

    #[test]
    fn a_region_that_comes_and_goes_gets_nothing() {
        let preferred = regions(&["us-east-1"]);
        let own = RegionName::from("eu-west-1");
        let mut watch = Watch::new(Millis(0));
        for second in 0..3600 {
            let well = second % 50 != 0;
            assert_eq!(watch.look(Millis(second * 1000), &own, &preferred, |_| well), None);
        }
    }

    #[test]
    fn who_leads_where_it_is_wanted_or_where_nothing_is_wanted_stays() {
        let own = RegionName::from("us-east-1");
        let mut watch = Watch::new(Millis(0));
        let preferred = regions(&["us-east-1", "us-west-2"]);
        for hour in 0..10 {
            let now = Millis(hour * 3_600_000);
            assert_eq!(watch.look(now, &own, &preferred, |_| true), None);
            assert_eq!(watch.look(now, &own, &[], |_| true), None);
        }
    }
}
