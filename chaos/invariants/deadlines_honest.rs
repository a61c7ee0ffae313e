//! A holder's deadline counts from before the first attempt of a renewal left: seen at the wire, not
//! asked of the keeper. A late answer shortens a lease, a retry never stretches it.

use super::{Event, Invariant};
use std::collections::BTreeMap;
use std::time::Duration;

/// See the module.
#[derive(Default)]
pub struct DeadlinesHonest {
    /// By worker: the newest renewal's session and number, and when its first attempt left.
    sent: BTreeMap<u64, (String, u64, Duration)>,
    /// What a renewal gives, as the cluster was founded.
    span: Option<Duration>,
}

impl Invariant for DeadlinesHonest {
    fn name(&self) -> &'static str {
        "deadlines_honest"
    }

    fn see(&mut self, now: Duration, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Applied { seen, .. } if self.span.is_none() => {
                let timing = seen.machine.timing();
                self.span = timing.map(|timing| timing.holder_span().to_duration());
                Ok(())
            }
            Event::RenewalSent { worker, session, seq } => {
                let known = self.sent.get(worker);
                if known.is_none_or(|(of, n, _)| of != session || n < seq) {
                    self.sent.insert(*worker, ((*session).to_owned(), *seq, now));
                }
                Ok(())
            }
            Event::Holds { worker, token, until } => {
                let Some((_, seq, sent)) = self.sent.get(worker) else { return Ok(()) };
                let Some(span) = self.span else { return Ok(()) };
                // The holder's clock may be slow by as much as is tolerated, and changes its rate.
                let latest = *sent + span + span / 100 + Duration::from_millis(30);
                if *until <= latest {
                    return Ok(());
                }
                Err(format!(
                    "{worker} holds {token} until {until:?}; renewal {seq} first left at {sent:?}"
                ))
            }
            _ => Ok(()),
        }
    }
}
