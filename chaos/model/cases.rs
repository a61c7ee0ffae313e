//! The runs: each model within its bounds, and each mutant within bounds wide enough to find it.

use crate::clock::Rate;
use crate::lease::{self, Lease};
use crate::mutants::Mutant;
use crate::people::{self, People};
use crate::report::Order::{BreadthFirst, DepthFirst};
use crate::report::{Run, explore};
use crate::sinks::{self, Sinks};
use cryptorun_core::scope::Mode;
use std::time::Duration;

/// Longer than any run takes on two slow cores; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(100);

/// A run by name.
pub type Check = (&'static str, Box<dyn Fn() -> Run>);

/// Every model within its bounds.
pub fn checks() -> Vec<Check> {
    let lease = |name, bounds: fn(u8) -> lease::Bounds, ticks| -> Check {
        (name, Box::new(move || explore(name, Lease::new(bounds(ticks), None), DepthFirst, LIMIT)))
    };
    let people = |name, bounds: fn() -> people::Bounds| -> Check {
        (name, Box::new(move || explore(name, People::new(bounds(), None), DepthFirst, LIMIT)))
    };
    let sinks = |name, bounds: fn() -> sinks::Bounds| -> Check {
        (name, Box::new(move || explore(name, Sinks::new(bounds(), None), DepthFirst, LIMIT)))
    };
    vec![
        lease("lease, clocks and leaders", lease_time, 5),
        lease("lease, longer, fast leaders", lease_fast, 6),
        lease("lease, given back", lease_given, 4),
        lease("lease, repeated requests", lease_repeated, 4),
        lease("lease, a second start", lease_reopened, 4),
        lease("lease, restored", lease_restored, 4),
        sinks("sinks, failover", failover),
        sinks("sinks, switchover", switchover),
        sinks("sinks, switchover cut short", cut_short),
        people("people, requests side by side", side_by_side),
        people("people, noes and time", noes_and_time),
    ]
}

/// One mutant, in the model that is to find it.
pub fn mutant(mutant: Mutant) -> Run {
    if let Some(bounds) = in_sinks(mutant) {
        return explore(mutant.id(), Sinks::new(bounds, Some(mutant)), BreadthFirst, LIMIT);
    }
    if let Some(bounds) = in_people(mutant) {
        return explore(mutant.id(), People::new(bounds, Some(mutant)), BreadthFirst, LIMIT);
    }
    let fast = lease::Bounds { leader_rates: vec![Rate::Fast], ..lease_time(5) };
    let alone = lease::Bounds { leaders: 0, ..fast.clone() };
    let bounds = match mutant {
        Mutant::ActWithoutDeadline => lease::Bounds { renewals: [0, 0, 3], ..alone },
        Mutant::LateAnswerRevives | Mutant::OthersRelease => {
            lease::Bounds { given: 1, ticks: 2, ..alone }
        }
        Mutant::OpenFrees | Mutant::OpenInherits => {
            lease::Bounds { reopens: true, renewals: [1, 2, 0], ticks: 1, ..alone }
        }
        Mutant::RestoreGrantsAtOnce => {
            lease::Bounds { restores: 1, renewals: [0, 0, 3], ticks: 1, ..alone }
        }
        Mutant::RetryResetsTime => lease::Bounds { repeats: 1, ..alone },
        Mutant::AnswerBySeqAlone => {
            lease::Bounds { reopens: true, renewals: [0, 3, 1], ticks: 4, ..alone }
        }
        Mutant::ClockBeforeBase => lease::Bounds { ticks: 4, ..fast },
        Mutant::OldAnchorKept => lease::Bounds { leaders: 2, uncommitted: 1, ticks: 4, ..fast },
        Mutant::RateBeyondRho
        | Mutant::NoRateAllowance
        | Mutant::StampBeforeReceipt
        | Mutant::DeadlineFromAnswer
        | Mutant::GrantWithoutExpiry => alone,
        _ => alone, // The other models' mutants left above.
    };
    explore(mutant.id(), Lease::new(bounds, Some(mutant)), BreadthFirst, LIMIT)
}

fn in_people(mutant: Mutant) -> Option<people::Bounds> {
    Some(match mutant {
        Mutant::ApprovalNotBound | Mutant::ApprovalNotUsedUp => {
            people::Bounds { leaves: 0, ..side_by_side() }
        }
        Mutant::OneHumanTwice | Mutant::ApprovalOutlivesLog | Mutant::ApprovalOutlivesWall => {
            people::Bounds { noes: 0, ..noes_and_time() }
        }
        Mutant::DenialIgnored => people::Bounds { waits: 0, ..noes_and_time() },
        _ => return None,
    })
}

/// Two requests at once or one after the other, people who agree, a worker that leaves.
pub fn side_by_side() -> people::Bounds {
    people::Bounds { asks: 2, approvals: 2, noes: 0, waits: 0, leaves: 1 }
}

/// One request, people who agree and disagree, clocks that end permissions.
pub fn noes_and_time() -> people::Bounds {
    people::Bounds { asks: 1, approvals: 1, noes: 1, waits: 2, leaves: 0 }
}

fn in_sinks(mutant: Mutant) -> Option<sinks::Bounds> {
    Some(match mutant {
        Mutant::TailBeforeSeal
        | Mutant::EverySinkRequired
        | Mutant::SealDuringWrite
        | Mutant::SealNotKept => failover(),
        Mutant::ForkNotCut => sinks::Bounds { returns: 1, ..failover() },
        Mutant::MaximumInMemory => sinks::Bounds { crashes: 1, ..failover() },
        Mutant::TokenReadAtWrite => sinks::Bounds { crashes: 0, returns: 1, ..failover() },
        Mutant::SwitchoverUnsealed => cut_short(),
        Mutant::BarrierIsAFlag | Mutant::AbortAfterHandover | Mutant::ControllerHandsOver => {
            sinks::Bounds { prompt: true, ..switchover() }
        }
        _ => return None,
    })
}

/// The holder falls silent, the controller moves the scope.
pub fn failover() -> sinks::Bounds {
    sinks::Bounds {
        writes: 1,
        turns: 4,
        silences: 1,
        may_be_silent: vec![0],
        returns: 0,
        crashes: 0,
        may_crash: vec![2],
        switchovers: 0,
        resumes: 0,
        late: 0,
        mode: Mode::Auto,
        prompt: true,
    }
}

/// A planned move, with a holder that may go on by its own clock.
pub fn switchover() -> sinks::Bounds {
    sinks::Bounds {
        writes: 1,
        turns: 0,
        silences: 0,
        switchovers: 1,
        resumes: 1,
        mode: Mode::Approve,
        prompt: false,
        ..failover()
    }
}

/// Clocks and changes of leader alone, as deep as a run-out needs.
pub fn lease_time(ticks: u8) -> lease::Bounds {
    lease::Bounds {
        ticks,
        renewals: [1, 0, 2],
        reopens: false,
        leaders: 1,
        uncommitted: 2,
        repeats: 0,
        given: 0,
        restores: 0,
        leader_rates: vec![Rate::Slow, Rate::Fast],
    }
}

/// The same with leaders whose clocks are fast, the worst case for a run-out.
pub fn lease_fast(ticks: u8) -> lease::Bounds {
    lease::Bounds { leader_rates: vec![Rate::Fast], ..lease_time(ticks) }
}

/// Releases and ended sessions, over changes of leader.
pub fn lease_given(ticks: u8) -> lease::Bounds {
    lease::Bounds { given: 1, uncommitted: 1, leader_rates: vec![Rate::Fast], ..lease_time(ticks) }
}

/// Requests that arrive twice, and retries.
pub fn lease_repeated(ticks: u8) -> lease::Bounds {
    lease::Bounds { repeats: 1, leaders: 0, leader_rates: vec![Rate::Fast], ..lease_time(ticks) }
}

/// A second start of the holder's identity while the first lives on.
pub fn lease_reopened(ticks: u8) -> lease::Bounds {
    lease::Bounds {
        renewals: [1, 2, 1],
        reopens: true,
        leaders: 0,
        leader_rates: vec![Rate::Fast],
        ..lease_time(ticks)
    }
}

/// A restore from a snapshot older than the grant, at any moment.
pub fn lease_restored(ticks: u8) -> lease::Bounds {
    lease::Bounds {
        renewals: [1, 0, 2],
        restores: 1,
        leaders: 0,
        leader_rates: vec![Rate::Fast],
        ..lease_time(ticks)
    }
}

/// A planned move whose holder falls silent on the way, and the time in which its lease runs out.
pub fn cut_short() -> sinks::Bounds {
    sinks::Bounds { writes: 0, silences: 1, turns: 3, prompt: true, ..switchover() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_holds_within_a_small_bound() {
        for bounds in [
            lease::Bounds { leader_rates: vec![Rate::Fast], leaders: 0, ..lease_time(5) },
            lease::Bounds { renewals: [0, 0, 2], ..lease_restored(4) },
        ] {
            let run = explore("small", Lease::new(bounds, None), DepthFirst, LIMIT);
            assert!(run.is_green(), "{run}");
        }
    }

    #[test]
    fn the_fence_holds_within_a_small_bound() {
        let moved = sinks::Bounds { prompt: true, resumes: 0, ..switchover() };
        for bounds in [failover(), moved] {
            let run = explore("small", Sinks::new(bounds, None), DepthFirst, LIMIT);
            assert!(run.is_green(), "{run}");
        }
    }

    #[test]
    fn people_are_counted_within_a_small_bound() {
        let bounds = people::Bounds { noes: 0, waits: 2, ..noes_and_time() };
        let run = explore("small", People::new(bounds, None), DepthFirst, LIMIT);
        assert!(run.is_green(), "{run}");
    }

    #[test]
    fn mistakes_are_found() {
        for (mutant_, property) in [
            (Mutant::DeadlineFromAnswer, "holder_stops_g_before_the_next_grant"),
            (Mutant::OpenInherits, "one_holder"),
            (Mutant::RestoreGrantsAtOnce, "holder_stops_g_before_the_next_grant"),
            (Mutant::SealDuringWrite, "no_sink_takes_a_lower_token"),
            (Mutant::ControllerHandsOver, "handed_over_is_over"),
            (Mutant::DenialIgnored, "a_no_is_final"),
        ] {
            let run = mutant(mutant_);
            assert!(run.found.iter().any(|found| found.property == property), "{run}");
        }
    }
}
