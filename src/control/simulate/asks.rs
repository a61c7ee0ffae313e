//! What the controller would have asked for in a window, by the rules that held or by others.

use cryptorun_core::config::ClusterConfig;
use cryptorun_core::decide::{Ask, Loss, decide};
use cryptorun_core::diagnose::cause;
use cryptorun_core::machine::Machine;
use cryptorun_core::record::Record;
use cryptorun_core::scope::{Mode, Scope, ScopeId};
use cryptorun_core::steps::{Wanted, wanted};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{Afterwards, SimulatedAsk};

/// Shown one state after another.
pub(super) struct Asks<'w> {
    scope: &'w ScopeId,
    /// Other rules than those that held.
    by: Option<&'w ClusterConfig>,
    /// The last of `found` is not over; the assignment that it is about.
    open: Option<u64>,
    found: Vec<SimulatedAsk>,
}

impl<'w> Asks<'w> {
    pub fn new(scope: &'w ScopeId, by: Option<&'w ClusterConfig>) -> Self {
        Self { scope, by, open: None, found: Vec::new() }
    }

    pub fn look(&mut self, at: WallTime, machine: &Machine) {
        match self.by {
            Some(rules) => self.see(at, &under(machine, self.scope, rules)),
            None => self.see(at, machine),
        }
    }

    pub fn finish(self) -> Vec<SimulatedAsk> {
        self.found
    }

    fn see(&mut self, at: WallTime, machine: &Machine) {
        let Some(scope) = machine.scopes().get(self.scope) else { return };
        if let (Some(version), Some(last)) = (self.open, self.found.last_mut()) {
            last.until = at;
            let moved = scope.assignment_version != version;
            last.then = match (moved, cause(machine, scope)) {
                (true, _) => Afterwards::Moved,
                (false, None) => Afterwards::CameBack,
                (false, Some(_)) => return,
            };
            self.open = None;
        }
        if let Some(wanted) = wanted(machine, scope) {
            self.open = Some(scope.assignment_version);
            self.found.push(ask(at, machine, scope, wanted));
        }
    }
}

fn ask(at: WallTime, machine: &Machine, scope: &Scope, wanted: Wanted) -> SimulatedAsk {
    let Wanted { kind, to, cause } = wanted;
    let ask = Ask { kind, scope: scope.id.clone(), to: to.clone(), by: None, promotion: None };
    SimulatedAsk {
        at,
        until: at,
        kind,
        to,
        alone: scope.mode == Mode::Auto,
        reason: cause.sentence(),
        loss: decide(machine, &ask).map_or_else(|_| Loss::unknown(), |decision| decision.loss),
        then: Afterwards::Open,
    }
}

/// The machine as it would stand under other rules: limits, and the scope's policy.
fn under(machine: &Machine, id: &ScopeId, rules: &ClusterConfig) -> Machine {
    let mut other = machine.clone();
    if let Some(cluster) = machine.cluster() {
        let mut cluster = cluster.clone();
        cluster.config.limits = rules.limits;
        other.load(Record::Cluster(cluster));
    }
    if let (Some(scope), Some(policy)) = (machine.scopes().get(id), rules.scopes.get(id)) {
        let scope = Scope { policy: policy.clone(), mode: policy.mode, ..scope.clone() };
        other.load(Record::Scope(scope));
    }
    other
}
