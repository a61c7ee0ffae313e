//! Regions as network namespaces of one machine: each with an address, rules and a cable of its own.
//!
//! ```text
//!   us-east-1 10.77.1.2 ──veth── 10.77.1.1 ┐
//!   us-west-2 10.77.2.2 ──veth── 10.77.2.1 ├─ hub 10.77.0.1: links, venue, people
//!   eu-west-1 10.77.3.2 ──veth── 10.77.3.1 ┘
//! ```
//!
//! The hub forwards nothing: a region reaches another only through the links, which listen at the
//! hub. There is no netem to be had everywhere, so delay is theirs; what is dropped in a region is
//! dropped by nftables, below TCP.
//!
//! What always holds: nothing is left behind, however the run ends. The hub is a namespace of its
//! own ([`step_inside`]), mounts included, and the kernel takes it down with its last process.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Set in a process that was started inside.
const INSIDE: &str = "CRYPTORUN_OWN_NETWORK";
/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const TOOLS: [&str; 5] = ["unshare", "nsenter", "ip", "nft", "mount"];

/// Why something about a namespace did not go.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("{program} cannot be run")]
    NoProgram { program: String, source: io::Error },
    #[error("{line}: {said}")]
    Failed { line: String, said: String },
    #[error("no region '{0}' has a namespace")]
    UnknownRegion(String),
}

/// Starts this program again inside a network of its own and becomes it; returns in there, or with
/// the reason why there is none. To be called before any thread is started.
///
/// # Errors
/// What is missing: a program, or the right to make namespaces.
pub fn step_inside() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    for tool in TOOLS {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Err(format!("there is no {tool} on this machine"));
        }
    }
    let as_root = ["--net", "--mount", "--propagation", "private"];
    let as_user = ["--user", "--map-root-user"];
    let tries = [as_root.to_vec(), [&as_user[..], &as_root[..]].concat()];
    let words = tries.into_iter().find(|words| {
        // Whether it may mount and make a link as well.
        let probe =
            "mount -t tmpfs none /run && ip link add name probe type veth && nft list ruleset";
        let tried = Command::new("unshare").args(words).args(["sh", "-c", probe]).output();
        tried.is_ok_and(|tried| tried.status.success())
    });
    let words = words.ok_or("this user may not make network namespaces here")?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let error = Command::new("unshare")
        .args(words)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("unshare: {error}"))
}

/// The namespaces of one lab.
#[derive(Clone, Debug)]
pub struct Namespaces {
    regions: Vec<String>,
}

impl Namespaces {
    /// Makes them; those of an earlier lab in this hub go. Only after [`step_inside`].
    ///
    /// # Errors
    /// The command that failed and what it said.
    pub fn make(regions: &[&str]) -> Result<Self, NetnsError> {
        if !PathBuf::from(NAMES).join(".hub").exists() {
            // A folder of names for this hub alone.
            run("mkdir", &["-p", NAMES])?;
            run("mount", &["-t", "tmpfs", "none", NAMES])?;
            run("touch", &[&format!("{NAMES}/.hub")])?;
            run("ip", &["link", "set", "lo", "up"])?;
            run("ip", &["addr", "add", &format!("{HUB}/32"), "dev", "lo"])?;
        }
        let made = Self { regions: regions.iter().map(|&region| region.to_owned()).collect() };
        for (region, n) in made.regions.iter().zip(1..) {
            if PathBuf::from(NAMES).join(region).exists() {
                run("ip", &["link", "delete", &format!("hub{n}")])?;
                run("ip", &["netns", "delete", region])?;
            }
            let (near, far) = (format!("hub{n}"), format!("region{n}"));
            let (gate, address) = (format!("10.77.{n}.1/24"), format!("10.77.{n}.2/24"));
            run("ip", &["netns", "add", region])?;
            let pair =
                ["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", region];
            run("ip", &pair)?;
            run("ip", &["addr", "add", &gate, "dev", &near])?;
            run("ip", &["link", "set", &near, "up"])?;
            run("ip", &["-n", region, "link", "set", "lo", "up"])?;
            run("ip", &["-n", region, "addr", "add", &address, "dev", &far])?;
            made.plug(region, true)?;
        }
        Ok(made)
    }

    /// Where links, the venue and people are.
    pub fn hub(&self) -> IpAddr {
        HUB.into()
    }

    /// A region's own address; the hub's, of a name that is none.
    pub fn address(&self, region: &str) -> IpAddr {
        match self.number(region) {
            Ok(n) => Ipv4Addr::new(10, 77, n, 2).into(),
            Err(_) => self.hub(),
        }
    }

    /// The command line that runs a program inside a region. It keeps its pid.
    pub fn enter(
        &self,
        region: &str,
        program: PathBuf,
        args: Vec<String>,
    ) -> (PathBuf, Vec<String>) {
        let mut line = vec![format!("--net={NAMES}/{region}"), program.display().to_string()];
        line.extend(args);
        ("nsenter".into(), line)
    }

    /// Pulls a region's cable, or puts it back.
    ///
    /// # Errors
    /// The command that failed and what it said.
    pub fn plug(&self, region: &str, plugged: bool) -> Result<(), NetnsError> {
        let n = self.number(region)?;
        let far = format!("region{n}");
        if !plugged {
            return run("ip", &["-n", region, "link", "set", &far, "down"]).map(drop);
        }
        run("ip", &["-n", region, "link", "set", &far, "up"])?;
        // Routes go with the cable.
        run("ip", &["-n", region, "route", "add", "default", "via", &format!("10.77.{n}.1")])?;
        Ok(())
    }

    /// Adds a table of rules to a region: what `matches` says, coming in or going out, is counted
    /// and dropped.
    ///
    /// # Errors
    /// What nft said.
    pub fn drop_packets(
        &self,
        region: &str,
        table: &str,
        matches: &[String],
    ) -> Result<(), NetnsError> {
        let rules: String = matches.iter().map(|m| format!("    {m} counter drop\n")).collect();
        let chain = |hook: &str| {
            format!("  chain {hook} {{\n    type filter hook {hook} priority 0;\n{rules}  }}\n")
        };
        let text = format!("table inet {table} {{\n{}{}}}\n", chain("input"), chain("output"));
        self.in_region(region, &["nft", &text])?;
        Ok(())
    }

    /// Takes a table away; how many packets it dropped.
    ///
    /// # Errors
    /// What nft said.
    pub fn let_packets(&self, region: &str, table: &str) -> Result<u64, NetnsError> {
        let listed = self.in_region(region, &["nft", "list", "table", "inet", table])?;
        self.in_region(region, &["nft", "delete", "table", "inet", table])?;
        Ok(counted(&listed))
    }

    fn in_region(&self, region: &str, words: &[&str]) -> Result<String, NetnsError> {
        self.number(region)?;
        let entry = format!("--net={NAMES}/{region}");
        run("nsenter", &[&[entry.as_str()], words].concat())
    }

    fn number(&self, region: &str) -> Result<u8, NetnsError> {
        let unknown = || NetnsError::UnknownRegion(region.to_owned());
        let at = self.regions.iter().position(|name| name == region).ok_or_else(unknown)?;
        u8::try_from(at + 1).map_err(|_| unknown())
    }
}

/// The sum of a listing's packet counters.
fn counted(listing: &str) -> u64 {
    let mut words = listing.split_whitespace();
    let mut sum = 0;
    while words.any(|word| word == "packets") {
        sum += words.next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    }
    sum
}

fn run(program: &str, words: &[&str]) -> Result<String, NetnsError> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output =
        output.map_err(|source| NetnsError::NoProgram { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(NetnsError::Failed { line: format!("{program} {}", words.join(" ")), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_all_rules_are_counted_together() {
        let listing = "table inet t {\n chain input {\n  tcp dport 1 counter packets 12 bytes 9 drop\n \
                       }\n chain output {\n  tcp sport 1 counter packets 30 bytes 1 drop\n }\n}\n";
        assert_eq!(counted(listing), 42);
        assert_eq!(counted("table inet t {\n}\n"), 0);
    }

    #[test]
    fn a_program_inside_a_region_keeps_its_words() {
        let made = Namespaces { regions: vec!["a".into(), "b".into()] };
        let (program, line) = made.enter("b", "x".into(), vec!["node".into()]);
        assert_eq!(program, PathBuf::from("nsenter"));
        assert_eq!(line, ["--net=/run/netns/b", "x", "node"]);
        assert_eq!(made.address("b"), IpAddr::from([10, 77, 2, 2]));
        assert!(matches!(made.plug("c", true), Err(NetnsError::UnknownRegion(_))));
    }
}
