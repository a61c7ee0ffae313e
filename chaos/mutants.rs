//! Bugs on purpose: a check that has not caught its mutant does not count.
//!
//! Wherever a trait stands between the product and the world, the bug is put into the trait: a disk
//! that says *synced* too early, a log that answers what it should not. The others are named lines
//! inside the product, compiled in by the feature `mutants` alone ([`cryptorun_core::seeded_bug`]).

use crate::stories::Story;
use cryptorun_platform::disk::{Disk, DiskFile, DiskLock, Open, SimDisk, SyncMode};
use cryptorun_raft::state_store::{Changes, StoreError};
use cryptorun_raft::{MemoryStore, StateStore};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One bug.
#[derive(Debug)]
pub struct Mutant {
    /// As `--mutant` takes it.
    pub name: &'static str,
    /// What is wrong.
    pub bug: &'static str,
    /// Whether it is a line inside the product.
    pub seeded: bool,
    /// The story to look for it in, where ordinary seeds hardly ever get there.
    pub story: Option<Story>,
}

const fn wrapped(name: &'static str, bug: &'static str) -> Mutant {
    Mutant { name, bug, seeded: false, story: None }
}

const fn seeded(name: &'static str, bug: &'static str) -> Mutant {
    Mutant { name, bug, seeded: true, story: None }
}

const fn seeded_in(story: Story, name: &'static str, bug: &'static str) -> Mutant {
    Mutant { name, bug, seeded: true, story: Some(story) }
}

/// All of them.
pub const ALL: &[Mutant] = &[
    // In traits.
    wrapped("append_before_sync", "appended entries are acknowledged before their sync"),
    wrapped("vote_before_sync", "votes are granted before their sync"),
    wrapped("log_tail_lost", "a crash takes the end of the synced log with it"),
    wrapped("store_loses_a_record", "the materialised machine comes back without one record"),
    wrapped("stale_read", "linearizable reads are answered from whatever the node has"),
    wrapped("unknown_called_failed", "an unknown outcome is said to have done nothing"),
    wrapped("proposed_again_when_unknown", "an unknown outcome is proposed again, without its key"),
    wrapped("answer_of_another_index", "an answer names the index after its own"),
    wrapped("warm_log_lies", "a worker's batch log is never synced"),
    wrapped("queue_before_sync", "a worker's queue acknowledges before its sync"),
    // Leases.
    seeded("t_send_late", "a renewal's clock is read 900 ms after it was sent"),
    seeded("retry_restarts_clock", "a retried renewal counts from the retry"),
    seeded("guard_forgotten", "the holder keeps no guard and gives no rate error away"),
    seeded("grant_without_expiry", "a grant does not wait for the old lease to end"),
    seeded("expired_renewal_revives", "a renewal that came too late extends its leases"),
    seeded("withheld_listed", "a withheld lease is listed as extended all the same"),
    seeded("new_boot_frees_lease", "a new boot of a worker frees the older one's leases at once"),
    seeded("handover_keeps_token", "a holder goes on after it handed over"),
    // Tokens and time.
    seeded("token_reused", "a regrant reserves the token of the last reign again"),
    seeded("logtime_runs_ahead", "a leader's stamps run at twice the speed of its clock"),
    seeded("logtime_goes_back", "a new leader's stamps start from the cluster's beginning"),
    // Fences, seals, chains.
    seeded("fence_check_removed", "a sink takes writes under any token"),
    seeded("seal_skipped", "a sink answers a seal without refusing anything"),
    seeded_in(
        Story::SealedWhileBehind,
        "tail_before_seal",
        "a sink reads its end before it begins to refuse",
    ),
    seeded("fence_not_kept", "the highest token is not written to the medium"),
    seeded("late_write_published", "a write is not asked about its lease after the sync"),
    seeded("stale_directive_obeyed", "an older directive replaces a newer one"),
    seeded("fork_discarded", "what is cut from a chain is thrown away"),
    seeded("beyond_end_followed", "records behind a token's committed end are followed"),
    seeded("one_seal_is_enough", "a promotion is granted with one sealed sink of three"),
    seeded("start_is_lowest", "the new reign starts at the lowest sealed end"),
    // People and promotions.
    seeded("approval_unbound", "an approval is not bound to the assignment's version"),
    seeded("one_person_too_few", "one person less than the policy demands is enough"),
    seeded("same_person_twice", "a person's second approval counts as another's"),
    seeded("expired_approval_taken", "approvals are taken after a request's time"),
    seeded("cancelled_goes_on", "a cancelled promotion stays open"),
    seeded("step_never_late", "no step ever runs out of time"),
    seeded("report_ends_nothing", "a promotion's last step leaves it open"),
    seeded("undo_leaves_token", "a promotion that is rolled back leaves its token reserved"),
    seeded("inherited_left_alone", "a new leader does not go on with a promotion that it finds"),
    seeded("pause_ignored", "the controller asks for promotions of paused scopes"),
    seeded("one_witness_is_enough", "one region's word makes another region lost"),
    seeded(
        "holder_back_unnoticed",
        "neither renewals nor a live lease keep the controller from asking",
    ),
    // Audit, machine, API.
    seeded("audit_entry_skipped", "approvals leave no audit entry"),
    seeded("audit_entry_edited", "an audit entry is changed after it was hashed"),
    seeded("apply_remembers", "applying depends on what this process applied before"),
    seeded("request_table_ignored", "a command asked again under its key is carried out again"),
];

/// The mutant of that name.
pub fn named(name: &str) -> Option<&'static Mutant> {
    ALL.iter().find(|mutant| mutant.name == name)
}

/// Whether this build can run it.
pub fn is_built(mutant: &Mutant) -> bool {
    !mutant.seeded || cfg!(feature = "mutants")
}

thread_local! {
    static ASKED: Cell<&'static str> = const { Cell::new("") };
}

/// From now on this thread's runs have that bug.
pub(crate) fn arm(mutant: Option<&'static Mutant>) {
    let name = mutant.map_or("", |mutant| mutant.name);
    ASKED.set(name);
    #[cfg(feature = "mutants")]
    cryptorun_core::seeded_bug::ask_for(name);
}

/// Whether this bug was asked for.
pub(crate) fn is(name: &str) -> bool {
    ASKED.get() == name
}

/// Whose disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Node,
    Worker,
}

/// The disk as the process gets it.
pub(crate) fn disk(disk: Arc<SimDisk>, whose: Whose) -> Arc<dyn Disk> {
    // First bytes of a frame of the log: kind and version of the codec.
    let about = match (whose, ASKED.get()) {
        (Whose::Node, "append_before_sync") => About::Frames([17, 1, 0]),
        (Whose::Node, "vote_before_sync") => About::Frames([16, 1, 0]),
        (Whose::Worker, "warm_log_lies") => About::Folder("warm/log"),
        (Whose::Worker, "queue_before_sync") => About::Folder("queue"),
        _ => return disk,
    };
    Arc::new(LyingDisk { disk, about })
}

/// Wrecks a node's medium after its crash, where the mutant says so.
pub(crate) fn after_crash(disk: &SimDisk) {
    if !is("log_tail_lost") {
        return;
    }
    let (disk, dir) = (disk.restarted(), Path::new("n/log"));
    let Ok(names) = disk.list(dir) else { return };
    for name in names.iter().rev() {
        let cut = disk.corrupt(&dir.join(name), |bytes| {
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return };
            let from = last.saturating_sub(700);
            bytes[from..].fill(0);
        });
        if cut.is_ok() {
            return;
        }
    }
}

/// Where the materialised machine is kept.
pub(crate) fn store(store: MemoryStore) -> Arc<dyn StateStore> {
    if is("store_loses_a_record") { Arc::new(Forgetful(store)) } else { Arc::new(store) }
}

/// Gives everything back but the last record.
struct Forgetful(MemoryStore);

impl StateStore for Forgetful {
    fn read(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let mut content = self.0.read()?;
        if content.len() > 1 {
            content.pop_last();
        }
        Ok(content)
    }

    fn write(&self, changes: Changes) -> Result<(), StoreError> {
        self.0.write(changes)
    }

    fn reset(&self, content: Changes) -> Result<(), StoreError> {
        self.0.reset(content)
    }
}

/// What is not synced.
#[derive(Clone, Copy)]
enum About {
    Frames([u8; 3]),
    Folder(&'static str),
}

/// A disk whose syncs of certain things are lies.
struct LyingDisk {
    disk: Arc<SimDisk>,
    about: About,
}

struct LyingFile {
    file: Box<dyn DiskFile>,
    about: About,
    lies: bool,
}

impl DiskFile for LyingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let About::Frames(about) = self.about {
            self.lies = bytes.windows(3).any(|window| window == about);
        }
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if self.lies { Ok(()) } else { self.file.sync_data() }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn mode(&self) -> SyncMode {
        self.file.mode()
    }
}

impl Disk for LyingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn open(&self, path: &Path, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, open)?;
        let lies = matches!(self.about, About::Folder(dir) if path.starts_with(dir));
        // What founds a file stays true: a missing header would be no start at all.
        let lies = lies && open != Open::Create;
        Ok(Box::new(LyingFile { file, about: self.about, lies }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        self.disk.free(path)
    }
    fn show(&self, path: &Path) -> PathBuf {
        self.disk.show(path)
    }
}
