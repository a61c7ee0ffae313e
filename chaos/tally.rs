//! What was reached: a fault that changed nothing and a state that nobody saw prove nothing.
//!
//! Kinds of faults count where they had an effect (a message dropped, a change lost, a sync held
//! up), rare states where they were seen in the log or at a sink. A run of many seeds is red unless
//! each of [`FAULTS`] and [`RARE`] was reached.

use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of faults, each with what counts as its effect.
pub const FAULTS: &[(&str, &str)] = &[
    ("crash_unsynced_lost", "a node died and lost changes that were not synced"),
    ("crash_torn", "a node died and its last write is on the medium in part"),
    ("crash_sectors", "a node died and any sectors of what was not synced are there"),
    ("crash_kept", "a node was killed and the machine wrote everything later"),
    ("crash_leader", "the node that led died"),
    ("crash_all", "all nodes were dead at once"),
    ("crash_again", "a node died within 300 ms of its start"),
    ("store_lost", "a node started without its materialised machine"),
    ("store_old", "a node started with the store as last flushed, behind its log"),
    ("node_stopped", "a node was stopped in order and handed its leadership over"),
    ("node_frozen", "a node stood still and something waited for it"),
    ("worker_frozen", "a worker stood still and polls were held up"),
    ("worker_crash", "a worker died with changes that were not synced"),
    ("worker_killed", "a worker was killed, its disk written later"),
    ("worker_stopped", "a worker was stopped in order"),
    ("region_lost", "node and worker of a region died together"),
    ("region_cut", "a message of a region cut from both others was dropped"),
    ("link_cut", "a message between two regions was dropped, the third saw both"),
    ("one_way_cut", "a message was dropped in one direction only"),
    ("node_cut", "a node lost its peers while its region went on"),
    ("control_cut", "a worker lost all nodes while its peers saw it"),
    ("data_cut", "a worker lost the other workers while all nodes saw it"),
    ("hidden_region", "a message was dropped of a region whose worker still reached other nodes"),
    ("left_alone", "a message was dropped between a holder cut from everybody and its followers"),
    ("left_behind", "a message was dropped of a holder without nodes, or between its followers"),
    ("flapping", "a link was cut and mended three times within seconds"),
    ("loss", "a message was dropped at random"),
    ("lost_answers", "a call was carried out and its answer dropped"),
    ("slow_link", "a message took half a second and more"),
    ("reorder", "a message overtook an earlier one"),
    ("doubled", "a call was delivered twice"),
    ("transfer", "leadership was handed to a node named by an operator"),
    ("snapshot", "a snapshot was built on demand"),
    ("wall_step", "a wall clock jumped by seconds or minutes"),
    ("clock_rate", "a clock's rate changed, within what is tolerated"),
    ("clock_wild", "a worker's or node's clock ran beyond what is tolerated"),
    ("disk_slow", "syncs took 20 to 200 ms"),
    ("disk_stalled", "a sync took a second and more"),
    ("disk_full", "a write failed for want of room"),
    ("disk_broken", "a process stopped since its disk failed"),
    ("venue_silent", "a region heard nothing from the venue"),
    ("old_token_shown", "a stopped holder's write was shown to a sink"),
    ("hasty_grant", "a controller asked for a grant before its time"),
    ("asked_twice", "an operator asked again with the same key after an unknown outcome"),
];

/// States that are rare, and where bugs live.
pub const RARE: &[(&str, &str)] = &[
    ("grant_first", "a scope's first grant"),
    ("grant_after_run_out", "a grant after a lease had run out"),
    ("regrant", "the assigned region was granted anew"),
    ("regrant_undone", "a regrant under way was rolled back"),
    ("handover", "a holder handed its lease over"),
    ("released", "a holder gave its lease back"),
    ("withheld_reserved", "a renewal did not extend a lease since a token was reserved"),
    ("withheld_stalled", "a renewal did not extend a lease for want of progress"),
    ("renewal_too_late", "a renewal came after its session had run out"),
    ("promotion_done", "a promotion ended done"),
    ("promotion_rolled_back", "a promotion was rolled back"),
    ("rolled_back_past_reserve", "one was rolled back with its token reserved"),
    ("promotion_superseded", "one gave way to the next after its grant"),
    ("promotion_denied", "one was denied"),
    ("promotion_cancelled", "one was cancelled"),
    ("promotion_expired", "nobody agreed in time"),
    ("promotion_void", "what was bound changed"),
    ("promotion_across_leaders", "a promotion's steps were driven by two leaders"),
    ("done_switchover", "a switchover was done"),
    ("done_failover", "a failover was done"),
    ("done_emergency", "an emergency was done"),
    ("by_controller", "the controller asked by itself and it was done"),
    ("unsealed_sink", "a sink could not be reached for its seal"),
    ("tail_fetched", "a candidate fetched records from a sealed sink"),
    ("fork_kept", "records were cut into a fork"),
    ("fenced_write", "a sink turned a write away by its token"),
    ("late_write", "a write came after its lease's end"),
    ("snapshot_installed", "a node took a snapshot from a peer"),
    ("leader_change", "leadership moved"),
    ("same_term_other_leader", "a term passed without a leader"),
    ("region_isolated", "a region was marked isolated"),
    ("region_reconciling", "a region was marked reconciling"),
    ("paused", "a scope was paused"),
    ("key_answered_again", "a command was answered from the request table"),
    ("unknown_outcome", "an operation's outcome was unknown to its client"),
    ("forwarded", "a command travelled through another node to the leader"),
    ("barred_session", "a worker's new boot barred its older one"),
    ("lease_dropped_by_clock", "a worker dropped its leases since its clock ran off"),
];

/// Plain figures.
pub const FIGURES: &[&str] = &[
    "crashes",
    "calls_of_the_dead",
    "leaderships",
    "grants",
    "acknowledged",
    "reads",
    "api_operations",
    "visible_writes",
    "promises_checked",
    "checker_gave_up",
    "promotions",
];

/// Counts by name, and least values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<&'static str, u64>, pub BTreeMap<&'static str, u64>);

impl Tally {
    /// Counts.
    pub fn add(&mut self, what: &'static str, n: u64) {
        *self.0.entry(what).or_default() += n;
    }

    /// Keeps the least.
    pub fn least(&mut self, what: &'static str, value: u64) {
        let known = self.1.entry(what).or_insert(value);
        *known = (*known).min(value);
    }

    /// How often.
    pub fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds another run's.
    pub fn absorb(&mut self, other: &Self) {
        for (what, n) in &other.0 {
            self.add(what, *n);
        }
        for (what, n) in &other.1 {
            self.least(what, *n);
        }
    }

    /// Kinds of faults and rare states that were never reached.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = FAULTS.iter().chain(RARE).map(|(what, _)| *what);
        all.filter(|what| self.get(what) == 0).collect()
    }
}

/// What a slow sync counts as.
pub(crate) fn slow_disk_word(more: Duration) -> &'static str {
    if more >= Duration::from_secs(1) { "disk_stalled" } else { "disk_slow" }
}
