//! What may happen in the sinks model, and what must hold in each state.

use super::obey;
use super::*;
use cryptorun_core::command::{Approve, RequestPromotion};
use cryptorun_core::directive::{HandOver, Want};
use stateright::{Model, Property};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Half a run-out of LogTime passes.
    Turn,
    /// A worker renews and gets its answer.
    Renew(usize),
    /// A worker renews; the answer is held up.
    RenewLate(usize),
    /// The held up answer arrives.
    Answer(usize),
    /// A worker opens a new session.
    Open(usize),
    /// A worker does what its directive wants.
    Obey(usize),
    /// A primary admits a record.
    Admit(usize),
    /// A follower gets the next record of its stream.
    Stream(usize),
    /// The sink checks the write on its way.
    Check(usize),
    /// The write lands.
    Put(usize),
    /// A worker's messages to the cluster stop.
    Silence(usize),
    /// They come through again.
    Return(usize),
    /// A worker's process dies.
    Crash(usize),
    /// The controller proposes.
    Propose(Digested<Command>),
    /// Ana asks for a switchover to the second region.
    Switchover,
    /// A drained holder goes on by its own clock.
    Resume(usize),
    /// A hand-over reaches the log.
    HandOver(usize),
    /// The controller hands over in the holder's name (mutant).
    HandOverForHolder(usize),
}

impl Model for Sinks {
    type State = State;
    type Action = Action;

    /// The first region writes, the others follow and have its opening record.
    fn init_states(&self) -> Vec<State> {
        let mut config = setup::config(timing(), limits(), 3, self.bounds.mode);
        config.scopes.values_mut().for_each(|policy| policy.people = 1);
        let bounds = &self.bounds;
        let site = Site {
            boot: 0,
            silent: false,
            keeper: None,
            late: None,
            reign: None,
            drained: None,
            gave_up: None,
            follows: None,
            handover: None,
            write: None,
            sink: Sink {
                chain: Vec::new(),
                highest: Token::NONE,
                sealed: None,
                ever: Token::NONE,
                broken: false,
            },
        };
        let mut state = State {
            cluster: setup::founded(config),
            sites: [site.clone(), site.clone(), site],
            next: 0,
            handed: Vec::new(),
            left_behind: false,
            left: Left {
                writes: bounds.writes,
                turns: bounds.turns,
                silences: bounds.silences,
                returns: bounds.returns,
                crashes: bounds.crashes,
                switchovers: bounds.switchovers,
                resumes: bounds.resumes,
                late: bounds.late,
            },
        };
        for at in 0..3 {
            self.open(&mut state, at);
            self.exchange(&mut state, at, 0, false);
        }
        for _ in 0..3 {
            for command in state.cluster.clone().advance() {
                self.apply(&mut state, 0, &Actor::Controller, command);
            }
            self.exchange(&mut state, 0, 0, false);
            self.obey(&mut state, 0);
            self.exchange(&mut state, 0, 0, false);
        }
        for at in [1, 2] {
            self.obey(&mut state, at);
            self.stream(&mut state, at);
            self.check(&mut state, at);
            self.put(&mut state, at);
            self.exchange(&mut state, at, 0, false);
        }
        self.turn(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left.turns > 0 {
            actions.push(Action::Turn);
        }
        if !self.bounds.prompt {
            let commands = state.cluster.advance().iter().cloned();
            actions.extend(commands.map(Action::Propose));
        }
        if state.left.switchovers > 0 {
            actions.push(Action::Switchover);
        }
        for (at, site) in state.sites.iter().enumerate() {
            self.worker_actions(state, at, site, actions);
            self.write_actions(state, at, site, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Turn => {
                state.left.turns -= 1;
                self.turn(&mut state);
            }
            Action::Renew(at) => self.exchange(&mut state, at, 0, false),
            Action::RenewLate(at) => {
                state.left.late -= 1;
                self.exchange(&mut state, at, 0, true);
            }
            Action::Answer(at) => {
                let renewed = state.sites[at].late.take()?;
                self.answered(&mut state.sites[at], &renewed);
            }
            Action::Open(at) => self.open(&mut state, at),
            Action::Obey(at) => self.obey(&mut state, at),
            Action::Admit(at) => {
                state.left.writes -= 1;
                self.admit(&mut state, at);
            }
            Action::Stream(at) => self.stream(&mut state, at),
            Action::Check(at) => self.check(&mut state, at),
            Action::Put(at) => self.put(&mut state, at),
            Action::Silence(at) => {
                state.left.silences -= 1;
                state.sites[at].silent = true;
            }
            Action::Return(at) => {
                state.left.returns -= 1;
                state.sites[at].silent = false;
            }
            Action::Crash(at) => {
                state.left.crashes -= 1;
                self.crash(&mut state.sites[at]);
            }
            Action::Propose(command) => {
                drop(self.apply(&mut state, 0, &Actor::Controller, &command))
            }
            Action::Switchover => {
                state.left.switchovers -= 1;
                self.ask(&mut state);
            }
            Action::Resume(at) => {
                state.left.resumes -= 1;
                self.resume(&mut state, at);
            }
            Action::HandOver(at) => self.hand_over(&mut state, at),
            Action::HandOverForHolder(at) => {
                let Some(Want::HandOver(HandOver { promotion, token, end, .. })) =
                    self.want(&state, at)
                else {
                    return None;
                };
                state.sites[at].handover = Some((promotion, token, end));
                self.hand_over(&mut state, at);
            }
        }
        if self.bounds.prompt && state != *last {
            self.settle(&mut state);
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no_sink_takes_a_lower_token", |_: &Self, state: &State| {
                state.sites.iter().all(|site| !site.sink.broken)
            }),
            Property::always("accepted_ranges_never_overlap", |model: &Self, state: &State| {
                model.ranges_agree(state)
            }),
            Property::always("nothing_sealed_is_left_behind", |_: &Self, state: &State| {
                !state.left_behind
            }),
            Property::always("a_switchover_loses_nothing", |model: &Self, state: &State| {
                model.switchovers_lose_nothing(state)
            }),
            Property::always("no_fork_is_served", |model: &Self, state: &State| {
                state.sites.iter().all(|site| model.serves_no_fork(state, site))
            }),
            Property::always("a_barrier_ends_its_token", |_: &Self, state: &State| {
                let ends = |pair: &[Record]| {
                    pair[0].kind != RecordKind::Barrier
                        || pair[0].token != pair[1].token
                        || pair[1].kind == RecordKind::Reopen
                };
                state.sites.iter().all(|site| site.sink.chain.windows(2).all(ends))
            }),
            Property::always("handed_over_is_over", |model: &Self, state: &State| {
                let over = |token: Option<Token>| token.is_some_and(|t| state.handed.contains(&t));
                let acts = |site: &Site| over(model.believes(site)) || over(site.reign);
                !state.sites.iter().any(acts)
            }),
            Property::always("a_write_keeps_its_token", |_: &Self, state: &State| {
                let mut records = state.sites.iter().flat_map(|site| &site.sink.chain);
                records.all(|record| record.admitted == record.token)
            }),
            Property::always("tokens_grow", |model: &Self, state: &State| {
                setup::tokens_grow(state.cluster.machine(), &model.scope)
            }),
        ]
    }
}

impl Sinks {
    fn worker_actions(&self, state: &State, at: usize, site: &Site, to: &mut Vec<Action>) {
        if site.silent {
            if state.left.returns > 0 {
                to.push(Action::Return(at));
            }
        } else if state.left.silences > 0 && self.bounds.may_be_silent.contains(&at) {
            to.push(Action::Silence(at));
        }
        if site.keeper.is_some() && state.left.crashes > 0 && self.bounds.may_crash.contains(&at) {
            to.push(Action::Crash(at));
        }
        if site.drained.is_some() && state.left.resumes > 0 && self.may_resume(site) {
            to.push(Action::Resume(at));
        }
        if site.late.is_some() {
            to.push(Action::Answer(at));
        }
        if site.silent {
            return;
        }
        if site.handover.is_some() {
            to.push(Action::HandOver(at));
        }
        match &site.keeper {
            None => to.push(Action::Open(at)),
            Some(_) => {
                if site.late.is_none() && self.has_news(state, at) {
                    to.push(Action::Renew(at));
                }
                if site.late.is_none() && state.left.late > 0 && self.believes(site).is_some() {
                    to.push(Action::RenewLate(at));
                }
                to.push(Action::Obey(at));
                if self.is(Mutant::ControllerHandsOver) && site.handover.is_none() {
                    to.push(Action::HandOverForHolder(at));
                }
            }
        }
    }

    fn write_actions(&self, state: &State, at: usize, site: &Site, to: &mut Vec<Action>) {
        match site.write {
            Some(write) if write.checked => to.push(Action::Put(at)),
            Some(_) => to.push(Action::Check(at)),
            None => {
                let admits = site.reign.is_some()
                    && site.drained.is_none()
                    && self.believes(site) == site.reign;
                if admits && state.left.writes > 0 {
                    to.push(Action::Admit(at));
                }
                if self.next_streamed(state, at).is_some() {
                    to.push(Action::Stream(at));
                }
            }
        }
    }

    /// Whether a renewal would tell the machine or the worker something.
    fn has_news(&self, state: &State, at: usize) -> bool {
        let site = &state.sites[at];
        let Some(keeper) = &site.keeper else { return false };
        let machine = state.cluster.machine();
        let Some(session) = machine.live_session(keeper.session()) else { return true };
        let listed = machine
            .live_lease(&self.scope)
            .filter(|lease| lease.holder == *keeper.session() && lease.withheld_from.is_none())
            .map(|lease| lease.token);
        let knows = keeper.held(&self.scope).map(|held| held.token);
        let news = listed.is_some() && listed != knows && site.handover.is_none();
        session.report != self.report(site)
            || (news && !state.handed.contains(&listed.unwrap_or_default()))
    }

    fn may_resume(&self, site: &Site) -> bool {
        site.handover.is_none() || self.is(Mutant::AbortAfterHandover)
    }

    /// By its own clock nothing further came: the holder goes on behind its barrier.
    fn resume(&self, state: &mut State, at: usize) {
        let site = &mut state.sites[at];
        if self.is(Mutant::AbortAfterHandover)
            && let (Some((_, token, _)), Some(keeper)) = (site.handover, &site.keeper)
        {
            let mut keeper = Keeper::clone(keeper);
            keeper.refused(&self.scope, token);
            site.keeper = Some(Digested::new(keeper));
            site.reign = Some(token);
        }
        let Some(token) = site.reign else { return };
        let believed = self.believes(site) == Some(token) || self.is(Mutant::AbortAfterHandover);
        let open = token >= site.sink.highest && site.write.is_none_or(|write| !write.checked);
        if believed && open {
            site.gave_up = site.drained.take().map(|(promotion, _)| promotion);
            obey::append(site, token, RecordKind::Reopen);
            self.facts.reached(Fact::HolderWentOn);
        }
    }

    fn ask(&self, state: &mut State) {
        let ana = Actor::Person("ana".into());
        let ask = RequestPromotion {
            kind: Kind::Switchover,
            scope: self.scope.clone(),
            from: None,
            to: setup::regions()[1].clone(),
            reason: Some("a test".to_owned()),
            plan: None,
        };
        let step = self.apply(state, 0, &ana, &Command::RequestPromotion(ask));
        if let Ok(Outcome::Promotion { id, people_missing: 1.. }) = &*step.answer {
            let approve = Approve { promotion: *id, reason: None, certificate: None };
            self.apply(state, 0, &Actor::Person("ben".into()), &Command::Approve(approve));
        }
    }

    /// Wherever two sinks hold accepted records under one number, it is the same record.
    fn ranges_agree(&self, state: &State) -> bool {
        let history = &self.scope(&state.cluster).history;
        let accepted = |record: &Record, seq: usize| seq as u64 <= range_end(history, record.token);
        let longest = state.sites.iter().map(|site| site.sink.chain.len()).max().unwrap_or(0);
        (0..longest).all(|at| {
            let mut there = state
                .sites
                .iter()
                .filter_map(|site| site.sink.chain.get(at))
                .filter(|record| accepted(record, at + 1));
            let first = there.next();
            there.all(|record| Some(record) == first)
        })
    }

    /// A follower has acknowledged the reigns up to its token: beyond their ranges it holds nothing.
    fn serves_no_fork(&self, state: &State, site: &Site) -> bool {
        let Some((_, token)) = site.follows else { return true };
        let history = &self.scope(&state.cluster).history;
        let known = history.iter().filter(|reign| reign.token <= token).cloned();
        let known: Vec<Reign> = known.collect();
        let mut records = site.sink.chain.iter().enumerate();
        records.all(|(at, record)| (at as u64) < range_end(&known, record.token))
    }

    /// Where a planned hand-over ended a token, nothing of it lies beyond its range.
    fn switchovers_lose_nothing(&self, state: &State) -> bool {
        let machine = state.cluster.machine();
        let history = &self.scope(&state.cluster).history;
        let planned = |reign: &Reign| {
            let promotion = reign.promotion.and_then(|id| machine.promotions().get(&id));
            promotion.is_some_and(|promotion| promotion.kind == Kind::Switchover)
        };
        history.windows(2).filter(|pair| planned(&pair[1])).all(|pair| {
            let beyond = |site: &Site| {
                let records = site.sink.chain.iter().enumerate();
                records
                    .filter(|(_, record)| record.token == pair[0].token)
                    .any(|(at, _)| (at as u64) >= pair[1].start.seq)
            };
            !state.sites.iter().any(beyond)
        })
    }
}
