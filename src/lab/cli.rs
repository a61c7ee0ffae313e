//! `cryptorun demo` and `cryptorun lab …`: what a person types, and how the answers look.

use crate::demo::{self, BASE_PORT, DemoOptions, REQUESTS_PER_SECOND, RegionLinks};
use crate::http::CallError;
use crate::protocol::{
    Direction, KillSignal, LabAnswer, LabRequest, LabStatus, LinkAct, VenueChannel, VenueFault,
};
use crate::venue::{VenueSettings, run_venue};
use clap::{Args, Subcommand, ValueEnum};
use cryptorun_platform::clock::SystemClock;
use cryptorun_platform::shutdown::Shutdown;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Runs three regions on this machine: switchover, lost region, cut link, proof
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Short times: profile local, round trips of 5/9/10 ms, detection after 5 s
    #[arg(long)]
    pub fast: bool,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    pub hold: bool,
    /// Only bring everything up, tell no story; with --hold, a demo to act on
    #[arg(long)]
    pub setup_only: bool,
    /// Folder for data, logs and report; one that an earlier demo made is emptied
    #[arg(long, default_value = "demo-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Round trips in ms: us-east-1–us-west-2 / us-east-1–eu-west-1 / us-west-2–eu-west-1
    #[arg(long, value_name = "A/B/C")]
    pub rtt: Option<RegionLinks>,
    /// How to print the result
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
    /// Kraken's public endpoint instead of the simulated venue
    #[arg(long, conflicts_with = "frames")]
    pub live: bool,
    /// Recorded book frames for the simulated venue, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub frames: Option<PathBuf>,
    /// First of a block of 64 ports on loopback
    #[arg(long, default_value_t = BASE_PORT, value_name = "PORT")]
    pub base_port: u16,
}

/// Act on a held demo
#[derive(Clone, Debug, Args)]
pub struct LabArgs {
    /// Control port of the held demo, as its demo.env says
    #[arg(long, env = "CRYPTORUN_LAB", global = true, value_name = "HOST:PORT")]
    pub lab: Option<SocketAddr>,
    /// How to print the answer
    #[arg(long, short, value_enum, default_value_t, global = true)]
    pub output: Output,
    /// Which
    #[command(subcommand)]
    pub verb: LabVerb,
}

/// What can be done to a held demo.
#[derive(Clone, Debug, Subcommand)]
pub enum LabVerb {
    /// Processes, links and venues as they stand
    Status,
    /// Cut a region's links, or the one between two
    Cut {
        /// One end
        a: String,
        /// The other end; every other region when left out
        b: Option<String>,
        /// Cut only what goes from A to B, or from B to A
        #[arg(long, value_enum, default_value_t)]
        direction: Way,
    },
    /// Heal a link, a region's links, or all of them
    Heal {
        /// One end
        a: Option<String>,
        /// The other end
        b: Option<String>,
    },
    /// Change a link's round trip
    Delay {
        /// One end
        a: String,
        /// The other end
        b: String,
        /// Round trip in milliseconds
        rtt_ms: u64,
    },
    /// Kill a process, or every process of a region
    Kill {
        /// Process or region
        target: String,
        /// SIGTERM instead of SIGKILL
        #[arg(long)]
        term: bool,
        /// Do not start it again until `lab start`
        #[arg(long)]
        keep_down: bool,
    },
    /// Start again what was killed with --keep-down
    Start {
        /// Process or region
        target: String,
    },
    /// SIGSTOP a process, or every process of a region
    Freeze {
        /// Process or region
        target: String,
    },
    /// SIGCONT
    Thaw {
        /// Process or region
        target: String,
    },
    /// Let the venue misbehave
    Venue(VenueArgs),
}

/// The simulated venue: run one, or let the held one misbehave
#[derive(Clone, Debug, Args)]
pub struct VenueArgs {
    /// Run a venue on this WebSocket address
    #[arg(long, requires_all = ["rest", "control"], value_name = "ADDR")]
    pub websocket: Option<SocketAddr>,
    /// Its REST address
    #[arg(long, value_name = "ADDR")]
    pub rest: Option<SocketAddr>,
    /// Its control address
    #[arg(long, value_name = "ADDR")]
    pub control: Option<SocketAddr>,
    /// Seed of what it generates
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Recorded book frames
    #[arg(long, value_name = "FILE")]
    pub frames: Option<PathBuf>,
    /// Lose the next N book frames of every client
    #[arg(long, value_name = "N")]
    pub drop_book: Option<u32>,
    /// Lose the next N trade frames of every client
    #[arg(long, value_name = "N")]
    pub drop_trades: Option<u32>,
    /// Break the checksum of the next N book frames
    #[arg(long, value_name = "N")]
    pub corrupt: Option<u32>,
    /// Say nothing for so many milliseconds
    #[arg(long, value_name = "MS")]
    pub stall: Option<u64>,
    /// Close every connection
    #[arg(long)]
    pub disconnect: bool,
}

/// A direction to cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Both.
    #[default]
    Both,
    /// From the first region to the second.
    AToB,
    /// From the second to the first.
    BToA,
}

impl DemoArgs {
    /// Runs the demo; the exit code.
    pub async fn run(self) -> u8 {
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => {
                eprintln!("error: cannot find this program to run it again: {error}");
                return 8;
            }
        };
        let options = DemoOptions {
            fast: self.fast,
            hold: self.hold,
            setup_only: self.setup_only,
            data: self.data,
            rtt: self.rtt,
            json: self.output == Output::Json,
            live: self.live,
            frames: self.frames,
            base_port: self.base_port,
            program,
            requests_per_second: REQUESTS_PER_SECOND,
            namespaces: None,
        };
        let shutdown = match Shutdown::on_signals() {
            Ok(shutdown) => shutdown,
            Err(error) => {
                eprintln!("error: cannot listen for signals: {error}");
                return 8;
            }
        };
        match demo::run(options, shutdown).await {
            Ok(_) => 0,
            Err(error) => {
                eprintln!("error: {error}");
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    eprintln!("  {cause}");
                    source = cause.source();
                }
                error.exit_code()
            }
        }
    }
}

impl LabArgs {
    /// Acts on the held demo, or runs a venue; the exit code.
    pub async fn run(self) -> u8 {
        if let LabVerb::Venue(venue) = &self.verb
            && let (Some(websocket), Some(rest), Some(control)) =
                (venue.websocket, venue.rest, venue.control)
        {
            return run_the_venue(venue, websocket, rest, control).await;
        }
        let Some(lab) = self.lab else {
            eprintln!("error: which demo? source its demo.env, or name its port with --lab");
            return 2;
        };
        let Some(request) = self.verb.request() else {
            eprintln!(
                "error: say what the venue shall do: --drop-book, --drop-trades, --corrupt, --stall or --disconnect"
            );
            return 2;
        };
        match crate::control::ask(lab, &request).await {
            Ok(answer) => {
                print(&answer, self.output);
                0
            }
            Err(CallError::Refused { reason, .. }) => {
                eprintln!("refused: {reason}");
                3
            }
            Err(error) => {
                eprintln!("error: the demo at {lab} does not answer: {error}");
                4
            }
        }
    }
}

async fn run_the_venue(
    args: &VenueArgs,
    websocket: SocketAddr,
    rest: SocketAddr,
    control: SocketAddr,
) -> u8 {
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => {
            eprintln!("error: cannot listen for signals: {error}");
            return 8;
        }
    };
    let settings = VenueSettings {
        name: "kraken".to_owned(),
        websocket,
        rest,
        control,
        seed: args.seed,
        rates: VenueSettings::RATES,
        frames: args.frames.clone(),
        clock: Arc::new(SystemClock),
    };
    match run_venue(settings, shutdown.token()).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            8
        }
    }
}

impl LabVerb {
    fn request(&self) -> Option<LabRequest> {
        Some(match self.clone() {
            Self::Status => LabRequest::Status,
            Self::Cut { a, b, direction } => {
                let direction = match direction {
                    Way::Both => Direction::Both,
                    Way::AToB => Direction::AToB,
                    Way::BToA => Direction::BToA,
                };
                LabRequest::Link(LinkAct::Cut { a, b, direction })
            }
            Self::Heal { a, b } => {
                LabRequest::Link(LinkAct::Heal { a, b, direction: Direction::Both })
            }
            Self::Delay { a, b, rtt_ms } => {
                LabRequest::Link(LinkAct::Delay { a, b: Some(b), rtt_us: rtt_ms * 1000 })
            }
            Self::Kill { target, term, keep_down } => {
                let signal = if term { KillSignal::Term } else { KillSignal::Kill };
                LabRequest::Kill { target, signal, keep_down }
            }
            Self::Start { target } => LabRequest::Start { target },
            Self::Freeze { target } => LabRequest::Freeze { target },
            Self::Thaw { target } => LabRequest::Thaw { target },
            Self::Venue(args) => {
                LabRequest::Fault { venue: "kraken".to_owned(), order: args.fault()? }
            }
        })
    }
}

impl VenueArgs {
    fn fault(&self) -> Option<VenueFault> {
        let client = None;
        if let Some(frames) = self.drop_book {
            return Some(VenueFault::Drop { channel: VenueChannel::Book, frames, client });
        }
        if let Some(frames) = self.drop_trades {
            return Some(VenueFault::Drop { channel: VenueChannel::Trade, frames, client });
        }
        if let Some(frames) = self.corrupt {
            return Some(VenueFault::CorruptChecksum { frames, client });
        }
        if let Some(ms) = self.stall {
            return Some(VenueFault::Stall { ms, client });
        }
        self.disconnect.then_some(VenueFault::Disconnect { client })
    }
}

fn print(answer: &LabAnswer, output: Output) {
    if output == Output::Json {
        match serde_json::to_string_pretty(answer) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("error: the answer cannot be shown as JSON: {error}"),
        }
        return;
    }
    match answer {
        LabAnswer::Status(status) => print_status(status),
        LabAnswer::Links(links) if links.changed.is_empty() => println!("nothing to change"),
        LabAnswer::Links(links) => println!("changed: {}", links.changed.join(", ")),
        LabAnswer::Processes { processes } => {
            for process in processes {
                println!("{} {:?}", process.name, process.state);
            }
        }
        LabAnswer::Fault(fault) => println!("{fault:?}"),
    }
}

fn print_status(status: &LabStatus) {
    println!(
        "{:<20} {:<8} {:<10} {:>8} {:>7}  ADDRESSES",
        "PROCESS", "ROLE", "STATE", "PID", "STARTS"
    );
    for process in &status.processes {
        let addresses: Vec<String> =
            process.addresses.iter().map(|(purpose, addr)| format!("{purpose} {addr}")).collect();
        println!(
            "{:<20} {:<8} {:<10} {:>8} {:>7}  {}",
            process.name,
            process.role,
            format!("{:?}", process.state).to_lowercase(),
            process.pid.map_or("–".to_owned(), |pid| pid.to_string()),
            process.starts,
            addresses.join("  ")
        );
    }
    println!("\n{:<22} {:>9} {:<5} {:>12} {:>12}", "LINK", "DELAY", "STATE", "BYTES", "HELD");
    for link in &status.links {
        println!(
            "{:<22} {:>6} ms {:<5} {:>12} {:>12}",
            link.id,
            link.delay_us / 1000,
            if link.cut { "CUT" } else { "ok" },
            link.bytes,
            link.held_bytes
        );
    }
}
