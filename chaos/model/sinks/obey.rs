//! What workers and sinks do: the model's side of the fence.

use super::*;
use cryptorun_core::directive::{self, HandOver, Want};

impl Sinks {
    /// What the machine's present directive wants of a site's worker.
    pub(super) fn want(&self, state: &State, at: usize) -> Option<Want> {
        let site = &state.sites[at];
        let keeper = site.keeper.as_ref().filter(|_| !site.silent)?;
        directive::for_session(state.cluster.machine(), keeper.session())
            .into_iter()
            .find(|directive| directive.scope == self.scope)
            .map(|directive| directive.want)
    }

    /// Does what the directive wants, as far as that can be done at once.
    pub(super) fn obey(&self, state: &mut State, at: usize) {
        let Some(want) = self.want(state, at) else { return };
        let busy = state.sites[at].write.is_some_and(|write| write.checked);
        match want {
            Want::Idle => state.sites[at].follows = None,
            Want::Primary { token, start } => self.become_primary(state, at, token, start),
            Want::Replica { upstream, token } => {
                let upstream = upstream
                    .and_then(|name| setup::regions().iter().position(|region| *region == name));
                self.follow(state, at, upstream, token);
            }
            // The gate: a barrier and a seal wait for the write in flight.
            Want::Drain { .. } | Want::Seal { .. } | Want::HandOver(_) | Want::FetchTail { .. }
                if busy && !self.is(Mutant::SealDuringWrite) => {}
            Want::Drain { promotion, token, .. } => {
                let site = &mut state.sites[at];
                let writes = self.believes(site) == Some(token) && site.reign == Some(token);
                if writes && site.drained.is_none() && site.gave_up != Some(promotion) {
                    append(site, token, RecordKind::Barrier);
                    site.drained = Some((promotion, site.sink.end()));
                }
            }
            Want::HandOver(HandOver { promotion, token, end, seal }) => {
                let site = &mut state.sites[at];
                if let Some(seal) = seal {
                    self.seal(site, seal);
                }
                let keeps = site.drained.is_some() && site.sink.end() == end;
                if self.believes(site) == Some(token) && keeps && site.handover.is_none() {
                    self.give_up(site);
                    site.handover = Some((promotion, token, end));
                    site.reign = None;
                }
            }
            Want::Seal { token } => self.seal(&mut state.sites[at], token),
            Want::FetchTail { to, from, .. } => {
                let source = from
                    .iter()
                    .find_map(|name| setup::regions().iter().position(|region| region == name));
                let Some(source) = source else { return };
                let tail = state.sites[source].sink.chain.clone();
                let sink = &mut state.sites[at].sink;
                if tail.starts_with(&sink.chain) && tail.len() as u64 >= to.seq {
                    sink.chain = tail[..to.seq as usize].to_vec();
                }
            }
        }
    }

    pub(super) fn give_up(&self, site: &mut Site) -> Option<Token> {
        let mut keeper = Keeper::clone(site.keeper.as_ref()?);
        let token = keeper.give_up(&self.scope);
        site.keeper = Some(Digested::new(keeper));
        token
    }

    fn become_primary(&self, state: &mut State, at: usize, token: Token, start: Position) {
        let busy = state.sites[at].write.is_some_and(|write| write.checked);
        let site = &mut state.sites[at];
        if self.believes(site) != Some(token) || busy {
            return;
        }
        site.follows = None;
        if site.reign == Some(token) {
            if site.drained.take().is_some() {
                append(site, token, RecordKind::Reopen);
            }
            return;
        }
        let sink = &mut site.sink;
        if token < sink.highest {
            return;
        }
        let opened = sink.chain.iter().any(|record| record.token == token);
        if !opened {
            sink.chain.truncate(start.seq as usize); // Beyond it nothing ever became visible.
            if sink.end() != start {
                return;
            }
        }
        sink.sealed = None;
        sink.raise(token);
        site.reign = Some(token);
        match (opened, sink.is_behind_barrier(token)) {
            (true, true) => append(site, token, RecordKind::Reopen),
            (true, false) => {}
            (false, _) => append(site, token, RecordKind::Opening),
        }
    }

    fn follow(&self, state: &mut State, at: usize, upstream: Option<usize>, token: Token) {
        if state.sites[at].write.is_some_and(|write| write.checked) {
            return;
        }
        let history = self.scope(&state.cluster).history.clone();
        let site = &mut state.sites[at];
        site.reign = None;
        site.drained = None;
        let held = self.give_up(site);
        site.follows = upstream.filter(|up| *up != at).map(|up| (up, token));
        let sink = &mut site.sink;
        sink.raise(token);
        sink.sealed = sink.sealed.filter(|(sealed, _)| *sealed > token);
        if !self.is(Mutant::ForkNotCut) {
            while let Some(last) = sink.chain.last()
                && sink.chain.len() as u64 > range_end(&history, last.token)
            {
                sink.chain.pop();
            }
        }
        if let Some(token) = held {
            self.release(state, at, token);
        }
    }

    /// Refuses below the token, durably, and only then answers where the chain ends.
    fn seal(&self, site: &mut Site, token: Token) {
        if token < site.sink.highest || site.sink.sealed.is_some_and(|(sealed, _)| sealed == token)
        {
            return;
        }
        // A worker that is told to seal under a higher token writes no more.
        if site.reign.is_some_and(|reign| reign < token) && site.drained.is_none() {
            site.reign = None;
        }
        let sink = &mut site.sink;
        match self.mutant {
            Some(Mutant::TailBeforeSeal) => {}
            Some(Mutant::SealNotKept) => sink.ever = sink.ever.max(token),
            _ => sink.raise(token),
        }
        sink.sealed = Some((token, sink.chain.len()));
    }

    /// A worker admits a record: the token is read at this check and travels with the write.
    pub(super) fn admit(&self, state: &mut State, at: usize) {
        let site = &state.sites[at];
        let Some(token) = site.reign else { return };
        let kind = RecordKind::Data(state.next);
        state.next += 1;
        let record = Record { token, kind, admitted: token };
        state.sites[at].write =
            Some(Write { shown: token, record, checked: false, followed: false });
    }

    /// The next record of the stream it follows.
    pub(super) fn stream(&self, state: &mut State, at: usize) {
        let Some(record) = self.next_streamed(state, at) else { return };
        let Some((_, shown)) = state.sites[at].follows else { return };
        state.sites[at].write = Some(Write { shown, record, checked: false, followed: true });
    }

    pub(super) fn next_streamed(&self, state: &State, at: usize) -> Option<Record> {
        let site = &state.sites[at];
        let (upstream, _) = site.follows?;
        let theirs = &state.sites[upstream].sink.chain;
        let own = &site.sink.chain;
        theirs.starts_with(own).then(|| theirs.get(own.len()).copied())?
    }

    /// The sink's check. What is turned away is counted and gone.
    pub(super) fn check(&self, state: &mut State, at: usize) {
        let believes = self.believes(&state.sites[at]);
        let site = &mut state.sites[at];
        let Some(write) = &mut site.write else { return };
        if self.is(Mutant::TokenReadAtWrite)
            && let Some(token) = believes.filter(|_| !write.followed)
        {
            (write.shown, write.record.token) = (token, token);
        }
        let sink = &site.sink;
        let barred = sink.is_behind_barrier(write.shown) && !self.is(Mutant::BarrierIsAFlag);
        // A primary's own writes follow its opening record; a barrier ends its token.
        let opened = write.followed || sink.chain.iter().any(|r| r.token == write.shown);
        if write.shown < sink.highest || !opened || (barred && !write.followed) {
            self.facts.reached(Fact::WriteTurnedAway);
            site.write = None;
            return;
        }
        write.checked = true;
    }

    /// The record lands. An own one is visible only if the lease is still believed in.
    pub(super) fn put(&self, state: &mut State, at: usize) {
        let believes = self.believes(&state.sites[at]);
        let site = &mut state.sites[at];
        let Some(write) = site.write.take() else { return };
        if !write.followed && believes != Some(write.shown) {
            return; // Too late: it leaves the chain at once.
        }
        let sink = &mut site.sink;
        sink.broken |= write.shown < sink.ever;
        sink.raise(write.shown.max(sink.highest));
        sink.chain.push(write.record);
    }

    /// The process is gone; what is on its disk stays.
    pub(super) fn crash(&self, site: &mut Site) {
        Self::close(site);
        site.write = None; // What a stream still brings comes to the next process.
        if self.is(Mutant::MaximumInMemory) {
            site.sink.highest = Token::NONE;
            site.sink.sealed = None;
        }
    }
}

pub(super) fn append(site: &mut Site, token: Token, kind: RecordKind) {
    site.sink.broken |= token < site.sink.ever;
    site.sink.chain.push(Record { token, kind, admitted: token });
}
