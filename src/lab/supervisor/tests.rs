//! Real processes: small shell loops that live until they are told otherwise.

use super::*;
use crate::control::{Control, ask};
use crate::protocol::{Direction, LabAnswer, LabRequest, LinkAct, ProcessState};
use crate::wan::{HOLD_BYTES, PathSettings, Wan, WanSettings};
use cryptorun_platform::clock::SystemClock;
use rustix::process::{Pid, test_kill_process};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    supervisor: Supervisor,
    _logs: tempfile::TempDir,
}

fn world() -> World {
    let logs = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new(SupervisorSettings {
        logs: logs.path().join("logs"),
        log_bytes_max: 1 << 20,
        clock: Arc::new(SystemClock),
    });
    World { supervisor: supervisor.unwrap(), _logs: logs }
}

fn shell(name: &str, script: &str) -> ChildSettings {
    ChildSettings {
        name: name.into(),
        role: "worker".into(),
        region: Some("us-east-1".into()),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        addresses: Addresses::new(),
        restart: true,
        stop_order: 1,
        grace: Duration::from_millis(500),
    }
}

const FOREVER: &str = "echo up; while :; do sleep 1; done";

impl World {
    fn one(&self, name: &str) -> ProcessStatus {
        self.supervisor.status().into_iter().find(|process| process.name == name).unwrap()
    }

    async fn until(&self, name: &str, holds: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let reached = tokio::time::timeout(PATIENCE, self.supervisor.until(name, holds)).await;
        reached.unwrap_or_else(|_| panic!("still {:?}", self.one(name))).unwrap()
    }
}

fn runs(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

/// Waits for the end of a process that is not ours to wait for: gone, or a corpse that init has
/// yet to bury.
async fn dies(pid: i32) {
    let dead = async {
        while !std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z") || stat.contains(") X"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, dead).await.unwrap();
}

#[tokio::test]
async fn a_killed_child_is_started_again_unless_it_is_kept_down() {
    let world = world();
    world.supervisor.start(shell("w1", FOREVER)).await.unwrap();
    let first = world.until("w1", |process| process.state == ProcessState::Running).await;
    world.supervisor.kill("w1", KillSignal::Kill, false).unwrap();
    let second = world.until("w1", |process| process.starts == 2).await;
    assert_ne!(first.pid, second.pid);
    assert_eq!(second.last_end.as_deref(), Some("signal 9"));

    world.supervisor.kill("us-east-1", KillSignal::Kill, true).unwrap();
    world.until("w1", |process| process.state == ProcessState::Down).await;
    assert!(world.supervisor.kill("w1", KillSignal::Kill, false).is_err());
    world.supervisor.start_again("w1").unwrap();
    let third = world.until("w1", |process| process.state == ProcessState::Running).await;
    assert_eq!(third.starts, 3);
    let log = std::fs::read_to_string(&third.log).unwrap();
    assert_eq!(log.matches("--- supervisor: started, pid").count(), 3, "{log}");

    world.supervisor.shutdown().await;
    assert!(!runs(third.pid.unwrap()));
    let late = world.supervisor.start(shell("w2", FOREVER)).await;
    assert!(matches!(late, Err(SupervisorError::ShuttingDown)));
}

#[tokio::test]
async fn shutdown_takes_frozen_and_stubborn_children_and_what_they_started() {
    let world = world();
    let stubborn = "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 1; done";
    world.supervisor.start(shell("stubborn", stubborn)).await.unwrap();
    world.supervisor.start(shell("frozen", FOREVER)).await.unwrap();
    let log = world.one("stubborn").log;
    let grandchild = async {
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let mut words = text.lines().filter_map(|line| line.strip_prefix("child "));
            if let Some(pid) = words.next() {
                return pid.parse::<i32>().unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let grandchild = tokio::time::timeout(PATIENCE, grandchild).await.unwrap();
    world.supervisor.freeze("frozen").unwrap();
    let pids: Vec<i32> = world.supervisor.status().iter().filter_map(|child| child.pid).collect();
    assert_eq!(world.one("frozen").state, ProcessState::Frozen);
    world.supervisor.shutdown().await;
    assert!(pids.len() == 2 && pids.iter().all(|pid| !runs(*pid)));
    dies(grandchild).await;
    assert!(world.supervisor.status().iter().all(|child| child.state == ProcessState::Down));
}

#[tokio::test]
async fn dropping_the_last_handle_leaves_no_process() {
    let world = world();
    world.supervisor.start(shell("w1", FOREVER)).await.unwrap();
    let child = world.supervisor.chosen("w1").unwrap().remove(0);
    let pid = world.one("w1").pid.unwrap();
    drop(world);
    tokio::time::timeout(PATIENCE, child.stop()).await.unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn failing_children_are_retried_and_wrong_programs_are_refused() {
    let world = world();
    world.supervisor.start(shell("fails", "exit 8")).await.unwrap();
    let tried = world.until("fails", |process| process.starts >= 3).await;
    assert_eq!(tried.last_end.as_deref(), Some("exit 8"));
    let once = ChildSettings { restart: false, ..shell("once", "exit 0") };
    world.supervisor.start(once).await.unwrap();
    let done = world.until("once", |process| process.state == ProcessState::Down).await;
    assert_eq!((done.starts, done.last_end.as_deref()), (1, Some("exit 0")));
    let missing = ChildSettings { program: "/no/such".into(), ..shell("missing", "") };
    let error = world.supervisor.start(missing).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start missing: /no/such");
    assert!(matches!(
        world.supervisor.start(shell("once", "")).await,
        Err(SupervisorError::NameTaken { .. })
    ));
    world.supervisor.shutdown().await;
}

#[tokio::test]
async fn a_held_lab_is_acted_on_through_its_control_port() {
    let world = world();
    world.supervisor.start(shell("w1", FOREVER)).await.unwrap();
    let wan = Wan::bind(WanSettings {
        paths: PathSettings::both("us-east-1", "us-west-2", Duration::from_millis(70), None).into(),
        routes: Vec::new(),
        control: None,
        hold_bytes: HOLD_BYTES,
        clock: Arc::new(SystemClock),
    });
    let control = Control {
        supervisor: world.supervisor.clone(),
        links: wan.await.unwrap().links(),
        venues: [("kraken".to_owned(), SocketAddr::from(([127, 0, 0, 1], 1)))].into(),
    };
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(control.serve(listener, stop.clone()));

    let freeze = LabRequest::Freeze { target: "w1".into() };
    let LabAnswer::Processes { processes } = ask(address, &freeze).await.unwrap() else { panic!() };
    assert_eq!(processes[0].state, ProcessState::Frozen);
    let (a, b) = ("us-east-1".to_owned(), None);
    let cut = LabRequest::Link(LinkAct::Cut { a, b, direction: Direction::AToB });
    let LabAnswer::Links(links) = ask(address, &cut).await.unwrap() else { panic!() };
    assert_eq!(links.changed, ["us-east-1>us-west-2"]);
    let LabAnswer::Status(status) = ask(address, &LabRequest::Status).await.unwrap() else {
        panic!()
    };
    assert!(status.links[0].cut && !status.links[1].cut);
    assert_eq!(status.venues["kraken"], None, "a venue that is down is shown as such");
    let thaw = LabRequest::Thaw { target: "w9".into() };
    let refused = ask(address, &thaw).await.unwrap_err().to_string();
    assert_eq!(refused, "no process or region 'w9'; known: us-east-1, w1");

    stop.cancel();
    serving.await.unwrap().unwrap();
    world.supervisor.shutdown().await;
}

/// This test program again, running only the helper named.
fn myself(helper: &str) -> (PathBuf, Vec<String>) {
    let name = format!("supervisor::tests::{helper}");
    let args = ["--exact", &name, "--ignored", "--nocapture"].map(str::to_owned);
    (std::env::current_exe().unwrap(), args.into())
}

#[tokio::test]
#[ignore = "a helper of a_killed_supervisor_takes_its_children_along, which runs it"]
async fn helper_supervisor() {
    let world = world();
    let (program, args) = myself("helper_child");
    let child = ChildSettings { program, args, ..shell("child", "") };
    world.supervisor.start(child).await.unwrap();
    let log = world.one("child").log;
    // The child says so once it has asked to die with us.
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("bound") {
        tokio::task::yield_now().await;
    }
    println!("\nchild {}", world.one("child").pid.unwrap());
    std::future::pending().await
}

#[test]
#[ignore = "a helper of a_killed_supervisor_takes_its_children_along, which runs it"]
fn helper_child() {
    die_with_parent().unwrap();
    println!("\nbound");
    std::thread::park();
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_children_along() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let (program, args) = myself("helper_supervisor");
    let mut supervisor = tokio::process::Command::new(program)
        .args(args)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let child = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some(pid) = line.strip_prefix("child ") {
                return pid.parse::<i32>().unwrap();
            }
        }
        panic!("the helper ended early");
    };
    let child = tokio::time::timeout(PATIENCE, child).await.unwrap();
    assert!(runs(child));
    supervisor.kill().await.unwrap();
    dies(child).await;
}
