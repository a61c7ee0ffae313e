//! Wing, Gong and Lowe's search for an order in which a register's history makes sense.
//!
//! It trusts nothing that the server says about order: calls, returns and values alone. Visited
//! (operations done, value) pairs are remembered under Zobrist hashes. An operation whose outcome is
//! unknown returns at the end of time, and may never have happened; one that wrote a value which
//! nobody read is left out beforehand, which changes no verdict, since values are unique and a read
//! says which one it saw. A search beyond its budget is no verdict.

use crate::history::{Operation, What};
use std::collections::{BTreeMap, HashSet};

/// Steps before the search gives up.
pub const STEPS_MAX: u64 = 5_000_000;

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Not,
    /// The budget ran out.
    GaveUp,
}

#[derive(Clone, Copy)]
struct Node {
    operation: usize,
    /// Its return's place in the list, for a call; none for a return.
    returns: Option<usize>,
    prev: usize,
    next: usize,
}

/// Judges one register's history.
pub fn check(history: &[Operation]) -> Verdict {
    let read: HashSet<&str> = history
        .iter()
        .filter_map(|operation| match &operation.what {
            What::Read { value } => value.as_deref(),
            What::Write { .. } => None,
        })
        .collect();
    let kept: Vec<&Operation> = history
        .iter()
        .filter(|operation| match (&operation.what, operation.returned) {
            (What::Write { value }, None) => read.contains(value.as_str()),
            (What::Read { .. }, None) => false,
            (_, Some(_)) => true,
        })
        .collect();
    Search::new(&kept).run()
}

struct Search {
    /// The first is the list's head.
    list: Vec<Node>,
    /// By operation: what it writes, or what it read; 0 is no value.
    writes: Vec<Option<u32>>,
    reads: Vec<u32>,
    known: Vec<bool>,
    zobrist: Vec<u128>,
}

impl Search {
    fn new(kept: &[&Operation]) -> Self {
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        let mut number = |value: &str| -> u32 {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX) + 1;
            *numbers.entry(value.to_owned()).or_insert(next)
        };
        let (mut writes, mut reads, mut known) = (Vec::new(), Vec::new(), Vec::new());
        let mut events = Vec::new();
        for (n, operation) in kept.iter().enumerate() {
            let (write, value) = match &operation.what {
                What::Write { value } => (Some(number(value)), 0),
                What::Read { value } => (None, value.as_deref().map_or(0, &mut number)),
            };
            writes.push(write);
            reads.push(value);
            known.push(operation.returned.is_some());
            let returned = operation.returned.map_or(u128::MAX, |at| at.as_nanos());
            // At one instant calls come first: what overlaps may be reordered.
            events.push((operation.called.as_nanos(), 0, n));
            events.push((returned, 1, n));
        }
        events.sort_unstable();
        let head = Node { operation: usize::MAX, returns: None, prev: 0, next: 1 };
        let mut list = vec![head];
        let mut calls: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, (_, kind, operation)) in events.iter().enumerate() {
            let at = at + 1;
            if *kind == 0 {
                calls.insert(*operation, at);
            } else if let Some(call) = calls.get(operation).copied() {
                let node: &mut Node = &mut list[call];
                node.returns = Some(at);
            }
            list.push(Node { operation: *operation, returns: None, prev: at - 1, next: at + 1 });
        }
        if let Some(last) = list.last_mut() {
            last.next = 0;
        }
        let mut seed = 0x0123_4567_89AB_CDEF_u64;
        let mut draw = || {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        let zobrist = kept.iter().map(|_| u128::from(draw()) << 64 | u128::from(draw())).collect();
        Self { list, writes, reads, known, zobrist }
    }

    fn run(mut self) -> Verdict {
        let mut done: Vec<(usize, u32)> = Vec::new();
        let mut visited: HashSet<(u128, u32)> = HashSet::new();
        let (mut value, mut hash, mut steps) = (0_u32, 0_u128, 0_u64);
        let mut at = self.list[0].next;
        while at != 0 {
            steps += 1;
            if steps > STEPS_MAX {
                return Verdict::GaveUp;
            }
            let Node { operation, returns, next, .. } = self.list[at];
            if returns.is_some() {
                let after = match self.writes[operation] {
                    Some(written) => Some(written),
                    None => (self.reads[operation] == value).then_some(value),
                };
                let with = hash ^ self.zobrist[operation];
                if let Some(after) = after
                    && visited.insert((with, after))
                {
                    done.push((at, value));
                    (value, hash) = (after, with);
                    self.lift(at);
                    at = self.list[0].next;
                } else {
                    at = next;
                }
                continue;
            }
            if !self.known[operation] {
                return Verdict::Linearizable; // What is left need not have happened.
            }
            let Some((call, before)) = done.pop() else { return Verdict::Not };
            hash ^= self.zobrist[self.list[call].operation];
            value = before;
            self.put_back(call);
            at = self.list[call].next;
        }
        Verdict::Linearizable
    }

    fn lift(&mut self, call: usize) {
        for at in [Some(call), self.list[call].returns].into_iter().flatten() {
            let Node { prev, next, .. } = self.list[at];
            self.list[prev].next = next;
            if next != 0 {
                self.list[next].prev = prev;
            }
        }
    }

    fn put_back(&mut self, call: usize) {
        for at in [self.list[call].returns, Some(call)].into_iter().flatten() {
            let Node { prev, next, .. } = self.list[at];
            self.list[prev].next = at;
            if next != 0 {
                self.list[next].prev = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn op(client: u64, called: u64, returned: Option<u64>, what: What) -> Operation {
        let (called, returned) =
            (Duration::from_millis(called), returned.map(Duration::from_millis));
        Operation { client, register: 0, called, returned, what, index: None }
    }

    fn write(value: &str) -> What {
        What::Write { value: value.to_owned() }
    }

    fn read(value: &str) -> What {
        What::Read { value: (!value.is_empty()).then(|| value.to_owned()) }
    }

    #[test]
    fn overlapping_operations_may_take_effect_in_any_order() {
        let history = [
            op(1, 0, Some(10), write("a")),
            op(2, 5, Some(15), write("b")),
            op(3, 12, Some(20), read("a")),
        ];
        assert_eq!(check(&history), Verdict::Linearizable);
    }

    #[test]
    fn a_read_that_misses_an_earlier_write_is_found() {
        let history = [
            op(1, 0, Some(10), write("a")),
            op(1, 11, Some(15), write("b")),
            op(2, 16, Some(20), read("a")),
        ];
        assert_eq!(check(&history), Verdict::Not);
        let nothing = [op(1, 0, Some(10), write("a")), op(2, 16, Some(20), read(""))];
        assert_eq!(check(&nothing), Verdict::Not);
    }

    #[test]
    fn an_unknown_write_may_happen_late_once_or_never() {
        let unknown = op(1, 0, None, write("a"));
        let late = [unknown.clone(), op(2, 50, Some(60), read("")), op(2, 70, Some(80), read("a"))];
        assert_eq!(check(&late), Verdict::Linearizable);
        assert_eq!(check(&[unknown.clone(), op(2, 50, Some(60), read(""))]), Verdict::Linearizable);
        let back_again = [
            unknown,
            op(2, 50, Some(60), read("a")),
            op(3, 70, Some(80), write("b")),
            op(2, 90, Some(95), read("a")),
        ];
        assert_eq!(check(&back_again), Verdict::Not);
    }

    #[test]
    fn a_value_nobody_wrote_is_found() {
        assert_eq!(check(&[op(1, 0, Some(5), read("x"))]), Verdict::Not);
    }

    #[test]
    fn thousands_of_operations_of_many_clients_take_no_time() {
        let mut history = Vec::new();
        for n in 0..4000_u64 {
            let (client, at) = (n % 6, n * 3);
            // Every client's operations overlap its neighbours'.
            let what =
                if n % 2 == 0 { write(&format!("v{n}")) } else { read(&format!("v{}", n - 1)) };
            history.push(op(client, at, Some(at + 5), what));
        }
        assert_eq!(check(&history), Verdict::Linearizable);
        history.push(op(1, 13_000, Some(13_001), read("v100")));
        assert_eq!(check(&history), Verdict::Not);
    }
}
