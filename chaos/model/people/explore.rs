//! What may happen in the people model, and what must hold in each state.

use super::*;
use cryptorun_core::command::{Approve, Cancel, Deny, RequestPromotion};
use cryptorun_core::people::{Grant, Person, Role as PersonRole};
use cryptorun_core::promotion::Kind;
use cryptorun_core::scope::Mode;
use stateright::{Model, Property};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Workers obey and report, the controller proposes.
    Work,
    /// A person asks for a switchover.
    Ask { handle: usize, to: usize },
    /// A person agrees.
    Approve { handle: usize, id: u64 },
    /// A person says no.
    Deny { handle: usize, id: u64 },
    /// A person withdraws it.
    Cancel { handle: usize, id: u64 },
    /// More than half an approval's span passes, in the log or on the leader's wall clock or both.
    Wait { log: bool, wall: bool },
    /// A worker ends its session.
    Leave(usize),
}

impl Model for People {
    type State = State;
    type Action = Action;

    /// The first region holds; nobody has asked for anything.
    fn init_states(&self) -> Vec<State> {
        let mut config = setup::config(timing(), limits(), 3, Mode::Approve);
        let approver =
            Person { grants: vec![Grant { role: PersonRole::Approver, tier: None, region: None }] };
        config.people.insert("eve".into(), approver.clone());
        if self.mutant == Some(Mutant::OneHumanTwice) {
            config.people.insert("ana-2".into(), approver);
        }
        let mut state = State {
            cluster: setup::founded(config),
            workers: [None, None, None],
            requests: Vec::new(),
            wrong: None,
            left: Left {
                asks: self.bounds.asks,
                approvals: self.bounds.approvals,
                noes: self.bounds.noes,
                waits: self.bounds.waits,
                leaves: self.bounds.leaves,
            },
        };
        for at in 0..3 {
            self.open(&mut state, at);
            self.renew(&mut state, at);
        }
        for _ in 0..6 {
            self.work(&mut state);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Work);
        let twice = self.mutant == Some(Mutant::OneHumanTwice);
        for handle in 0..HANDLES.len() - usize::from(!twice) {
            // Who is alike may be named in any order: only the first two ask.
            if state.left.asks > 0 && handle < 2 {
                actions.extend((0..3).map(|to| Action::Ask { handle, to }));
            }
            for promotion in state.cluster.machine().promotions().values() {
                let id = promotion.id.0;
                if state.left.approvals > 0 {
                    actions.push(Action::Approve { handle, id });
                }
                if state.left.noes > 0 {
                    actions.extend([Action::Deny { handle, id }, Action::Cancel { handle, id }]);
                }
            }
        }
        if state.left.waits > 0 {
            let clocks = [(true, true), (true, false), (false, true)];
            actions.extend(clocks.map(|(log, wall)| Action::Wait { log, wall }));
        }
        if state.left.leaves > 0 {
            actions.extend((0..3).map(Action::Leave));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Work => self.work(&mut state),
            Action::Ask { handle, to } => {
                state.left.asks -= 1;
                self.ask(&mut state, handle, to)?;
            }
            Action::Approve { handle, id } => {
                state.left.approvals -= 1;
                let id = PromotionId(id);
                let approve = Approve { promotion: id, reason: None, certificate: None };
                let step = self.now(&mut state, &Self::person(handle), &Command::Approve(approve));
                match &*step.answer {
                    Ok(_) => self.note_yes(&mut state, id, handle),
                    Err(_) => self.facts.reached(Fact::ApprovalRefused),
                }
            }
            Action::Deny { handle, id } => {
                let reason = "no".to_owned();
                let deny = Command::Deny(Deny { promotion: PromotionId(id), reason });
                self.say_no(&mut state, handle, id, &deny)?;
            }
            Action::Cancel { handle, id } => {
                let cancel = Command::Cancel(Cancel { promotion: PromotionId(id) });
                self.say_no(&mut state, handle, id, &cancel)?;
            }
            Action::Wait { log, wall } => {
                state.left.waits -= 1;
                self.wait(&mut state, log, wall);
            }
            Action::Leave(at) => {
                state.left.leaves -= 1;
                self.leave(&mut state, at);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no_grant_without_enough_people", |_: &Self, state: &State| {
                state.wrong != Some(Wrong::TooFewPeople)
            }),
            Property::always("no_approval_counts_on_other_facts", |_: &Self, state: &State| {
                state.wrong != Some(Wrong::OtherFacts)
            }),
            Property::always("no_approval_after_its_time", |_: &Self, state: &State| {
                state.wrong != Some(Wrong::TooLate)
            }),
            Property::always("no_approval_is_used_twice", |_: &Self, state: &State| {
                state.wrong != Some(Wrong::UsedTwice)
            }),
            Property::always("a_no_is_final", |_: &Self, state: &State| {
                state.wrong != Some(Wrong::AgainstANo)
            }),
            Property::always("tokens_grow", |model: &Self, state: &State| {
                setup::tokens_grow(state.cluster.machine(), &model.scope)
            }),
        ]
    }
}

impl People {
    fn ask(&self, state: &mut State, handle: usize, to: usize) -> Option<()> {
        let ask = RequestPromotion {
            kind: Kind::Switchover,
            scope: self.scope.clone(),
            from: None,
            to: setup::regions()[to].clone(),
            reason: Some("a test".to_owned()),
            plan: None,
        };
        let step = self.now(state, &Self::person(handle), &Command::RequestPromotion(ask));
        let Ok(Outcome::Promotion { id, .. }) = &*step.answer else { return None };
        let behind = BTreeSet::new();
        let (refused, granted) = (false, false);
        state.requests.push(Request { id: id.0, to, behind, age: (0, 0), refused, granted });
        self.note_yes(state, *id, handle);
        Some(())
    }

    /// A no is final where it was accepted while the promotion could still be stopped.
    fn say_no(&self, state: &mut State, handle: usize, id: u64, command: &Command) -> Option<()> {
        state.left.noes -= 1;
        let open = state.cluster.machine().promotions().get(&PromotionId(id)).is_some_and(is_open);
        let step = self.now(state, &Self::person(handle), command);
        step.answer.as_ref().as_ref().ok()?;
        let request = state.requests.iter_mut().find(|request| request.id == id)?;
        request.refused |= open;
        Some(())
    }

    fn wait(&self, state: &mut State, log: bool, wall: bool) {
        let ms = |passes: bool| if passes { WAIT.0.cast_signed() } else { 1 };
        let ahead = Ahead { log: ms(log), wall: ms(wall) };
        for request in &mut state.requests {
            request.age.0 = (request.age.0 + u8::from(log)).min(2);
            request.age.1 = (request.age.1 + u8::from(wall)).min(2);
        }
        self.apply(state, ahead, &Actor::Node(1), &Command::Tick);
        let expired = |p: &&Promotion| {
            matches!(p.state, Stage::Ended(cryptorun_core::promotion::Outcome::Expired))
        };
        if state.cluster.machine().promotions().values().any(|p| expired(&p)) {
            self.facts.reached(Fact::ApprovalExpired);
        }
    }
}
