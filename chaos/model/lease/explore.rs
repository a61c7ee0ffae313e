//! What may happen in the lease model, and what must hold in each state.

use super::*;
use stateright::{Model, Property};

impl Model for Lease {
    type State = State;
    type Action = Action;

    /// The holder has its lease; the answer that says so is on its way.
    fn init_states(&self) -> Vec<State> {
        let rate = if self.is(Mutant::RateBeyondRho) { Rate::TooSlow } else { Rate::Slow };
        let process =
            Process { rate, opening: false, keeper: None, unsent: None, outstanding: None };
        let mut state = State {
            tick: 0,
            cluster: self.snapshot.clone(),
            leader: Some(Leader { ahead: 0, rate: Rate::Fast, since: 0 }),
            old_anchor: None,
            pending: Vec::new(),
            requests: BTreeSet::new(),
            answers: Vec::new(),
            processes: [process.clone(), process.clone(), process],
            grants: Vec::new(),
            ended: None,
            quarantine: 0,
            left: Left {
                renewals: self.bounds.renewals,
                leaders: self.bounds.leaders,
                repeats: self.bounds.repeats,
                given: self.bounds.given,
                restores: self.bounds.restores,
            },
        };
        self.open_at_once(&mut state, 0);
        self.renew_at_once(&mut state, 0, true);
        self.regrant_at_once(&mut state);
        self.renew_at_once(&mut state, 0, true);
        self.regrant_at_once(&mut state);
        if self.bounds.restores == 0 {
            self.open_at_once(&mut state, 2);
        }
        self.renew_at_once(&mut state, 0, false);
        self.bounds
            .leader_rates
            .iter()
            .map(|rate| {
                let leader = Some(Leader { ahead: 0, rate: *rate, since: 0 });
                State { leader, ..state.clone() }
            })
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.tick < self.bounds.ticks {
            actions.push(Action::Pass);
        }
        for (at, process) in state.processes.iter().enumerate() {
            self.process_actions(state, at, process, actions);
        }
        for reply in &state.answers {
            let same = |at: &usize| PROCESSES[*at].0 == PROCESSES[reply.to].0;
            for to in (0..PROCESSES.len()).filter(same) {
                actions.push(Action::Answer { reply: reply.clone(), to });
            }
        }
        match state.leader {
            Some(_) => self.leader_actions(state, actions),
            None => {
                for rate in self.bounds.leader_rates.iter().copied() {
                    actions.push(Action::Lead { rate, again: false });
                    if state.old_anchor.is_some() {
                        actions.push(Action::Lead { rate, again: true });
                    }
                }
            }
        }
        if state.left.restores > 0 {
            actions.push(Action::Restore);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass => {
                state.tick += 1;
                if let Some(leader) = &mut state.leader {
                    leader.ahead += leader.rate.ms().cast_signed();
                    leader.since = (leader.since + 1).min(1);
                }
                if let Some(old) = &mut state.old_anchor {
                    *old += Rate::Fast.ms().cast_signed();
                }
            }
            Action::Open(from) => {
                state.processes[from].opening = true;
                state.requests.insert(Request::Open(from));
            }
            Action::Renew(from) => {
                state.left.renewals[from] -= 1;
                self.renew(&mut state, from);
            }
            Action::Retry(from) => {
                state.left.repeats -= 1;
                self.renew(&mut state, from);
            }
            Action::Release(from) if self.is(Mutant::OthersRelease) => {
                state.left.given -= 1;
                let token = state.processes[from].keeper.as_ref()?.held(&self.scope)?.token;
                state.requests.insert(Request::Release { from, token });
            }
            Action::Release(from) => {
                state.left.given -= 1;
                let process = &mut state.processes[from];
                let mut keeper = Keeper::clone(process.keeper.as_ref()?);
                let token = keeper.give_up(&self.scope)?;
                process.keeper = Some(Digested::new(keeper));
                state.requests.insert(Request::Release { from, token });
            }
            Action::End(from) => {
                state.left.given -= 1;
                let process = &mut state.processes[from];
                process.keeper = None;
                process.outstanding = None;
                state.requests.insert(Request::End(from));
            }
            Action::Receive { request, again } => {
                if again {
                    state.left.repeats -= 1;
                } else {
                    state.requests.remove(&request);
                }
                self.append(&mut state, Proposal::Request(request));
            }
            Action::ProposeTick => self.append(&mut state, Proposal::Tick),
            Action::Propose(command) => self.append(&mut state, Proposal::Controller(command)),
            Action::Commit => self.commit(&mut state),
            Action::Answer { reply, to } => {
                state.answers.retain(|other| *other != reply);
                self.answered(&mut state, &reply, to);
            }
            Action::LoseLeader { keep } => {
                state.left.leaders -= 1;
                if keep < state.pending.len() {
                    self.facts.reached(Fact::StampedEntryLost);
                }
                state.pending.truncate(keep);
                let old = state.leader.take()?;
                if self.is(Mutant::OldAnchorKept) && state.old_anchor.is_none() {
                    state.old_anchor = Some(old.ahead);
                }
            }
            Action::Lead { rate, again } => self.lead(&mut state, rate, again),
            Action::Restore => {
                state.left.restores -= 1;
                self.restore(&mut state);
            }
        }
        self.forget_stale(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one_holder", |model: &Self, state: &State| {
                (0..PROCESSES.len()).filter(|at| model.acts(state, *at).is_some()).count() <= 1
            }),
            Property::always("holder_stops_g_before_the_next_grant", Self::margin_holds),
            Property::always("one_session_a_token", Self::one_session_a_token),
            Property::always("tokens_grow", |model: &Self, state: &State| {
                setup::tokens_grow(state.cluster.machine(), &model.scope)
            }),
        ]
    }
}

impl Lease {
    fn process_actions(&self, state: &State, at: usize, process: &Process, to: &mut Vec<Action>) {
        let Some(keeper) = &process.keeper else {
            let may = at != 1 || self.bounds.reopens;
            let new = self.session(at);
            let was = state.cluster.machine().sessions().contains_key(&new);
            if may && !process.opening && !was && at != 0 {
                to.push(Action::Open(at));
            }
            return;
        };
        if process.outstanding.is_none() && state.left.renewals[at] > 0 {
            to.push(Action::Renew(at));
        }
        if process.outstanding.is_some() && state.left.repeats > 0 {
            to.push(Action::Retry(at));
        }
        if state.left.given > 0 {
            if keeper.held(&self.scope).is_some() {
                to.push(Action::Release(at));
            }
            to.push(Action::End(at));
        }
    }

    fn leader_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let room = state.pending.len() < self.bounds.uncommitted;
        if !state.pending.is_empty() {
            actions.push(Action::Commit);
        }
        if room {
            for request in &state.requests {
                let received = |again| Action::Receive { request: request.clone(), again };
                actions.push(received(false));
                if state.left.repeats > 0 {
                    actions.push(received(true));
                }
            }
            if state.pending.is_empty() && state.leader.is_some_and(|leader| leader.ahead > 0) {
                actions.push(Action::ProposeTick);
            }
            if state.quarantine == 0 {
                let proposed = |command: &Digested<Command>| {
                    let what = Proposal::Controller(command.clone());
                    state.pending.iter().any(|entry| entry.what == what)
                };
                let commands = state.cluster.advance();
                let new = commands.iter().filter(|command| !proposed(command));
                actions.extend(new.cloned().map(Action::Propose));
            }
        }
        if state.left.leaders > 0 {
            let keeps = 0..=state.pending.len();
            actions.extend(keeps.map(|keep| Action::LoseLeader { keep }));
        }
    }

    /// Whatever a process still holds has ended, by its own clock, G before a higher token's grant.
    fn margin_holds(&self, state: &State) -> bool {
        let guard = clock::timing(self.mutant).guard;
        state.processes.iter().all(|process| {
            let held = process.keeper.as_ref().and_then(|keeper| keeper.held(&self.scope));
            let Some(held) = held else { return true };
            let next = state.grants.iter().find(|(token, _)| *token > held.token);
            next.is_none_or(|(_, tick)| clock::stops_before(&held, process.rate, *tick, guard))
        })
    }

    /// No two sessions ever hold leases under one token.
    fn one_session_a_token(&self, state: &State) -> bool {
        let mut tokens: Vec<Token> = state
            .processes
            .iter()
            .filter_map(|process| process.keeper.as_ref()?.held(&self.scope))
            .map(|held| held.token)
            .collect();
        tokens.sort_unstable();
        tokens.windows(2).all(|pair| pair[0] != pair[1])
    }

    fn open_at_once(&self, state: &mut State, process: usize) {
        state.processes[process].opening = true;
        self.apply(state, 0, &self.actor(process), &self.command(&Request::Open(process)), 0);
        self.answer_at_once(state, process);
    }

    fn renew_at_once(&self, state: &mut State, process: usize, answered: bool) {
        self.renew(state, process);
        let Some(request) = state.requests.pop_first() else { return };
        self.apply(state, 0, &self.actor(process), &self.command(&request), 0);
        if answered {
            self.answer_at_once(state, process);
        }
    }

    fn answer_at_once(&self, state: &mut State, process: usize) {
        for reply in std::mem::take(&mut state.answers) {
            self.answered(state, &reply, process);
        }
    }

    fn regrant_at_once(&self, state: &mut State) {
        for command in state.cluster.clone().advance() {
            self.apply(state, 0, &Actor::Controller, command, 0);
        }
    }
}
