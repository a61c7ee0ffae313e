//! The control plane beside etcd: both alive together, one after the other in each round, the order
//! turned from round to round.

use crate::BenchError;
use crate::etcd::{self, Etcd};
use crate::load::{self, Client, Measured};
use crate::machine;
use crate::ours::{Ours, Settings, write_bytes};
use crate::report::{Floor, Report, Rounds, Row};
use clap::{Args, ValueEnum};
use cryptorun_lab::demo::RegionLinks;
use std::path::PathBuf;
use std::time::Duration;

const CLIENTS: [usize; 3] = [1, 16, 64];
/// Round trips of DESIGN §22, in ms; the first is the leader's nearest.
const WIDE: [u64; 3] = [70, 130, 140];
/// Clients that share a connection where connections carry many requests.
const STREAMS: usize = 16;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Committed writes on loopback.
    Write,
    /// Linearizable reads on loopback, confirmed by a quorum.
    Read,
    /// The same within the leader's lease.
    LeaseRead,
    /// Writes and both kinds of reads over HTTP/2, beside gRPC.
    Streams,
    /// Committed writes over wide links.
    Wan,
}

impl Rows {
    const ALL: [Self; 5] = [Self::Write, Self::Read, Self::LeaseRead, Self::Streams, Self::Wan];
}

/// What to measure and where.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Times each system is measured with each load
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each
    #[arg(long, default_value_t = 4)]
    secs: u64,
    /// Client counts
    #[arg(long, value_delimiter = ',', default_values_t = CLIENTS)]
    clients: Vec<usize>,
    /// Which rows
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Rows::ALL)]
    rows: Vec<Rows>,
    /// Folder that is emptied and used; on the disk that is to be measured
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// The program; by default the one beside this
    #[arg(long)]
    program: Option<PathBuf>,
    /// First of a block of ports
    #[arg(long, default_value_t = 19_400)]
    base_port: u16,
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// Measures and prints; false when a floor was missed.
///
/// # Errors
/// What prevented the measurement.
pub async fn run(options: Options) -> Result<bool, BenchError> {
    let program = program(&options)?;
    std::fs::create_dir_all(&options.data)
        .map_err(|e| BenchError::cannot(&options.data.display().to_string(), e))?;
    let sync = machine::sync_cost(&options.data).map_err(|e| BenchError::cannot("the disk", e))?;
    let mut report = Report {
        peer: etcd::installed().map(|version| format!("etcd {version}")),
        rounds: options.rounds,
        seconds: options.secs,
        cores: machine::cores(),
        load: [machine::load(); 2],
        sync_us: sync.as_secs_f64() * 1e6,
        rows: Vec::new(),
    };
    if report.peer.is_none() {
        eprintln!(
            "etcd is not installed (package etcd-server): its rows and the ratios are left out"
        );
    }
    if options.rows.iter().any(|rows| *rows != Rows::Wan) {
        report.rows.extend(loopback(&options, program.clone()).await?);
    }
    if options.rows.contains(&Rows::Wan) {
        report.rows.extend(wide(&options, program).await?);
    }
    report.load[1] = machine::load();
    match options.output {
        Output::Table => print!("{}", report.table()),
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => return Err(BenchError::cannot("the report", error)),
        },
    }
    Ok(report.holds())
}

/// The program that is built with the same profile, beside this one.
fn program(options: &Options) -> Result<PathBuf, BenchError> {
    let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("cryptorun"));
    let program = options.program.clone().or_else(beside).filter(|path| path.is_file());
    program.ok_or_else(|| {
        BenchError::Cannot(
            "no cryptorun beside this program: cargo build --release, or say --program".into(),
        )
    })
}

/// One kind of load on one system.
type Load<'a> = Box<dyn Fn(usize) -> Vec<Client> + 'a>;

struct Kind<'a> {
    rows: Rows,
    what: &'static str,
    ours: Load<'a>,
    peer: Load<'a>,
    floor: fn(usize, &crate::report::Ratios) -> Option<Floor>,
}

async fn loopback(options: &Options, program: PathBuf) -> Result<Vec<Row>, BenchError> {
    let ours = start(options, program, "loopback", [0; 3]).await?;
    let measured = beside(options, &ours).await;
    ours.lab.stop().await;
    measured
}

async fn beside(options: &Options, ours: &Ours) -> Result<Vec<Row>, BenchError> {
    let peer = Etcd::beside(&ours.lab, options.base_port).await?;
    let peers = |load: fn(&Etcd, usize) -> Vec<Client>| -> Load<'_> {
        let peer = peer.as_ref();
        Box::new(move |count| peer.map(|peer| load(peer, count)).unwrap_or_default())
    };
    let kinds = [
        Kind {
            rows: Rows::Write,
            what: "committed write",
            ours: Box::new(|count| ours.writers(count)),
            peer: peers(|peer, count| peer.writers(count, write_bytes())),
            floor: |clients, ratios| match clients {
                1 => Some(Floor::at_most("p50 ≤ 0.8 ×", 0.8, ratios.p50)),
                64 => Some(Floor::at_least("op/s ≥ 3 ×", 3.0, ratios.per_second)),
                _ => None,
            },
        },
        Kind {
            rows: Rows::Read,
            what: "linearizable read, by quorum",
            ours: Box::new(|count| ours.readers(count, "linearizable")),
            peer: peers(|peer, count| peer.readers(count)),
            floor: |_, _| None,
        },
        Kind {
            rows: Rows::LeaseRead,
            what: "linearizable read, by lease",
            ours: Box::new(|count| ours.readers(count, "lease")),
            peer: peers(|peer, count| peer.readers(count)),
            floor: |_, _| None,
        },
        Kind {
            rows: Rows::Streams,
            what: "committed write, HTTP/2 beside gRPC",
            ours: Box::new(|count| ours.stream_writers(count, STREAMS)),
            peer: peers(|peer, count| peer.grpc_writers(count, write_bytes(), STREAMS)),
            floor: |_, _| None,
        },
        Kind {
            rows: Rows::Streams,
            what: "read by quorum, HTTP/2 beside gRPC",
            ours: Box::new(|count| ours.stream_readers(count, STREAMS, "linearizable")),
            peer: peers(|peer, count| peer.grpc_readers(count, STREAMS)),
            floor: |_, _| None,
        },
    ];
    let lasting = Duration::from_secs(options.secs);
    let mut rows = Vec::new();
    for kind in kinds.iter().filter(|kind| options.rows.contains(&kind.rows)) {
        for clients in &options.clients {
            let (mut of_ours, mut of_peer) = (Rounds::default(), Rounds::default());
            for round in 0..options.rounds {
                for turn in 0..2 {
                    if (round + turn) % 2 == 0 {
                        of_ours.0.push(
                            load::run((kind.ours)(*clients), lasting, ours.pids.clone()).await?,
                        );
                    } else if let Some(peer) = &peer {
                        of_peer.0.push(
                            load::run((kind.peer)(*clients), lasting, peer.pids.clone()).await?,
                        );
                    }
                }
            }
            let ratios = peer.as_ref().map(|_| of_ours.over(&of_peer));
            rows.push(Row {
                what: kind.what,
                clients: *clients,
                ours: of_ours.figures(),
                peer: peer.as_ref().map(|_| of_peer.figures()),
                ratios,
                floor: ratios.and_then(|ratios| (kind.floor)(*clients, &ratios)),
            });
            tell(rows.last());
        }
    }
    Ok(rows)
}

/// Commits over wide links: the client stands beside the leader, a quorum needs the nearest peer.
async fn wide(options: &Options, program: PathBuf) -> Result<Vec<Row>, BenchError> {
    let ours = start(options, program, "wide", WIDE).await?;
    let measured = across(options, &ours).await;
    ours.lab.stop().await;
    measured
}

async fn across(options: &Options, ours: &Ours) -> Result<Vec<Row>, BenchError> {
    let lasting = Duration::from_secs(options.secs);
    let mut rows = Vec::new();
    for clients in &options.clients {
        let mut rounds = Vec::<Measured>::new();
        for _ in 0..options.rounds {
            rounds.push(load::run(ours.writers(*clients), lasting, ours.pids.clone()).await?);
        }
        let figures = Rounds(rounds).figures();
        let nearest_us = WIDE[0] as f64 * 1e3;
        rows.push(Row {
            what: "committed write, RTT 70/130/140 ms",
            clients: *clients,
            ours: figures,
            peer: None,
            ratios: None,
            floor: Some(Floor::at_most("p50 ≤ 1.3 × nearest", 1.3, figures.p50_us / nearest_us)),
        });
        tell(rows.last());
    }
    Ok(rows)
}

async fn start(
    options: &Options,
    program: PathBuf,
    name: &str,
    rtt_ms: [u64; 3],
) -> Result<Ours, BenchError> {
    Ours::start(Settings {
        folder: options.data.join(name),
        program,
        base_port: options.base_port,
        links: RegionLinks(rtt_ms.map(Duration::from_millis)),
        clients: options.clients.iter().copied().max().unwrap_or(1),
    })
    .await
}

/// A line as soon as it is known: a run takes minutes.
fn tell(row: Option<&Row>) {
    if let Some(row) = row {
        let ratio = row.ratios.map_or(String::new(), |r| {
            format!("; beside the peer p50 {:.2} ×, op/s {:.2} ×", r.p50, r.per_second)
        });
        eprintln!(
            "{}, {} clients: p50 {:.2} ms, {:.0} op/s{ratio}",
            row.what,
            row.clients,
            row.ours.p50_us / 1e3,
            row.ours.per_second
        );
    }
}
