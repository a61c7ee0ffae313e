//! Histories of the API are linearizable; an unknown outcome counts as either, and what is said to
//! have done nothing never stands.
//!
//! Two judges. The witness takes the server's word for where in the log an operation stands and holds
//! it to that: an acknowledged write stood by its index, a read shows the value as of its index. The
//! search ([`wgl`]) takes nobody's word.

use super::{Event, Invariant, Once, entry_of};
use crate::cluster::REGISTERS;
use crate::tally::Tally;
use cryptorun_core::command::Command;
use cryptorun_histories::history::{Operation, What};
use cryptorun_histories::wgl::{self, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct Linearizable {
    once: Once,
    /// By register: from which index on it has which value.
    values: [BTreeMap<u64, Option<String>>; 3],
    /// Every write's entries, asked again ones too.
    writes: BTreeMap<u64, String>,
    /// Writes of which a client was told that they did nothing.
    denied: BTreeSet<String>,
    history: [Vec<Operation>; 3],
    gave_up: u64,
}

impl Linearizable {
    fn witness(&self, operation: &Operation) -> Result<(), String> {
        let (Some(index), values) = (operation.index, &self.values[operation.register]) else {
            return Ok(());
        };
        match &operation.what {
            // A command asked again under its key is answered by a later entry than its own.
            What::Write { value } => {
                let stood = values.range(..=index).any(|(_, stood)| stood.as_ref() == Some(value));
                match self.writes.get(&index) {
                    Some(written) if written == value && stood => Ok(()),
                    other => Err(format!(
                        "{value} is acknowledged at {index}, where {other:?} stands; stood: {stood}"
                    )),
                }
            }
            What::Read { value } => {
                let stood = values.range(..=index).next_back().and_then(|(_, value)| value.clone());
                if stood == *value {
                    return Ok(());
                }
                Err(format!("a read at {index} shows {value:?}, where {stood:?} stood"))
            }
        }
    }
}

impl Invariant for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn see(&mut self, _now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.once.is_new(seen) => {
                if let Some(Command::Pause(pause)) = entry_of(seen).map(|entry| &entry.command) {
                    self.writes.insert(seen.log_id.index, pause.reason.clone());
                }
                for (n, group) in REGISTERS.iter().enumerate() {
                    let scope = seen.machine.scopes().get(&crate::nemesis::register(group));
                    let pause = scope.and_then(|scope| scope.pause.as_ref());
                    let known = self.values[n].last_key_value().and_then(|(_, v)| v.as_deref());
                    if pause.map(|pause| pause.reason.as_str()) != known {
                        let value = pause.map(|pause| pause.reason.clone());
                        if let Some(value) = value.as_ref().filter(|v| self.denied.contains(*v)) {
                            return Err(format!("{value} stands after it was denied"));
                        }
                        self.values[n].insert(seen.log_id.index, value);
                    }
                }
                Ok(())
            }
            Event::Operation { operation } => {
                self.history[operation.register].push((*operation).clone());
                self.witness(operation)
            }
            Event::Denied { value } => {
                self.denied.insert((*value).to_owned());
                let stood = |values: &BTreeMap<u64, Option<String>>| {
                    values.values().any(|stood| stood.as_deref() == Some(*value))
                };
                match self.values.iter().any(stood) {
                    true => Err(format!("{value} stood and is denied")),
                    false => Ok(()),
                }
            }
            Event::End { .. } => {
                for (n, history) in self.history.iter().enumerate() {
                    match wgl::check(history) {
                        Verdict::Linearizable => {}
                        Verdict::Not => {
                            return Err(format!("register {n}: no order explains {history:?}"));
                        }
                        Verdict::GaveUp => self.gave_up += 1,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn reached(&mut self, tally: &mut Tally) {
        if self.gave_up > 0 {
            tally.add("checker_gave_up", std::mem::take(&mut self.gave_up));
        }
    }
}
