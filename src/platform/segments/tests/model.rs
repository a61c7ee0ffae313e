//! Any sequence of appends, crashes and restarts against a list in memory.

use proptest::prelude::*;

use super::*;
use crate::disk::Keep;

#[derive(Clone, Debug)]
enum Step {
    Append {
        len: usize,
        durable: bool,
    },
    Burst {
        count: u8,
        len: usize,
    },
    Remove,
    Close {
        direct: bool,
    },
    Crash {
        keep: Keep,
        direct: bool,
    },
    /// With a batch written and not yet synced.
    CrashInFlight {
        len: usize,
        keep: Keep,
        direct: bool,
    },
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        Just(Keep::Nothing),
        Just(Keep::Everything),
        (0..3000_usize).prop_map(|bytes| Keep::Torn { bytes }),
        any::<u64>().prop_map(|seed| Keep::Sectors { seed }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..900_usize, any::<bool>()).prop_map(|(len, durable)| Step::Append { len, durable }),
        2 => (1..8_u8, 0..2000_usize).prop_map(|(count, len)| Step::Burst { count, len }),
        1 => Just(Step::Remove),
        1 => any::<bool>().prop_map(|direct| Step::Close { direct }),
        1 => (keep(), any::<bool>()).prop_map(|(keep, direct)| Step::Crash { keep, direct }),
        2 => (0..6000_usize, keep(), any::<bool>())
            .prop_map(|(len, keep, direct)| Step::CrashInFlight { len, keep, direct }),
    ]
}

struct Model {
    disk: SimDisk,
    log: Log,
    sent: u32,
    acked: u32,
    /// Records below this were removed with their segments, or may have been.
    from: u32,
}

impl Model {
    async fn go(&mut self, step: Step, segment_bytes: u64) {
        match step {
            Step::Append { len, durable: false } => self.send(len),
            Step::Append { len, durable: true } => {
                self.send(len);
                self.log.flush().await.unwrap();
                self.acked = self.sent;
            }
            Step::Burst { count, len } => {
                (0..count).for_each(|_| self.send(len));
                self.log.flush().await.unwrap();
                self.acked = self.sent;
            }
            Step::Remove => {
                let at = Position { segment: self.log.current_segment(), offset: 0 };
                let current = self.log.read(at, usize::MAX).unwrap();
                if at.segment > 0 {
                    assert_eq!(current[0].kind, RESTATED, "a segment opens with the state");
                }
                self.from = ids(&current).first().copied().unwrap_or(self.acked);
                self.log.remove_segments_below(at.segment).unwrap();
            }
            Step::Close { direct } => {
                self.log.close().await.unwrap();
                self.acked = self.sent;
                self.reopen(direct, segment_bytes);
            }
            Step::Crash { keep, direct } => self.crash(keep, direct, segment_bytes),
            Step::CrashInFlight { len, keep, direct } => {
                let id = self.sent;
                self.sent += 1;
                self.log.append(1, |buf| buf.extend(body(id, len)), Some(Box::new(drop)));
                while self.disk.pending() == 0 {
                    tokio::task::yield_now().await;
                }
                self.crash(keep, direct, segment_bytes);
            }
        }
        let read = ids(&self.log.read(Position::default(), usize::MAX).unwrap());
        assert!(read.iter().copied().eq(read.first().copied().unwrap_or(0)
            ..self.acked.max(read.last().map_or(0, |last| last + 1))));
    }

    fn send(&mut self, len: usize) {
        let id = self.sent;
        self.sent += 1;
        self.log.append(1, |buf| buf.extend(body(id, len)), None);
    }

    fn crash(&mut self, keep: Keep, direct: bool, segment_bytes: u64) {
        self.disk.crash(keep);
        self.disk = self.disk.restarted();
        self.reopen(direct, segment_bytes);
    }

    fn reopen(&mut self, direct: bool, segment_bytes: u64) {
        let settings = settings(MODES[usize::from(direct)], segment_bytes);
        let (log, records) = open(&self.disk, &settings).unwrap();
        let found = ids(&records);
        let from = found.first().copied().unwrap_or(self.from);
        let to = found.last().map_or(from, |last| last + 1);
        assert_eq!(found, Vec::from_iter(from..to));
        assert!(from <= self.from, "{from} to {} were not removed", self.from);
        assert!(to >= self.acked && to <= self.sent, "{} <= {to} <= {}", self.acked, self.sent);
        // What was lost was never acknowledged; its ids are free again.
        (self.sent, self.acked) = (to, to);
        self.log = log;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_log_behaves_like_a_list(
        steps in prop::collection::vec(step(), 1..40),
        blocks in 1..6_u64,
    ) {
        block(async {
            let disk = SimDisk::new();
            let segment_bytes = blocks * 4096;
            let settings = settings(SyncMode::FdataSync, segment_bytes);
            let log = open(&disk, &settings).unwrap().0;
            let mut model = Model { disk, log, sent: 0, acked: 0, from: 0 };
            for step in steps {
                model.go(step, segment_bytes).await;
            }
        });
    }
}
