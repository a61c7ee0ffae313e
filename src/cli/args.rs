//! The grammar's shared pieces; doc comments are the help text.

use clap::{Args, Subcommand, ValueEnum};
use cryptorun_core::promotion::PromotionId;
use cryptorun_core::region::RegionName;
use cryptorun_core::rules::RuleId;
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::WallTime;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What an operator can ask the cluster; the program's other processes stand beside these.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Look at, ask for, approve and follow changes of authority
    Replication(Family<crate::replication::Verb>),
    /// Read, report, export and prove the audit
    Audit(Family<crate::audit::Verb>),
    /// Found and look after the control plane
    Cluster(Family<crate::cluster::Verb>),
    /// Read warm data
    Warm(Family<crate::warm::Verb>),
    /// Check configuration files
    Config(Family<crate::config::Verb>),
    /// Show who I am to the cluster and what waits for me
    Whoami(ClientArgs),
    /// Print a completion script for a shell
    Completions(crate::completions::Completions),
}

/// A family of verbs and the settings they share.
#[derive(Clone, Debug, Args)]
pub struct Family<V: Subcommand> {
    /// The client's settings.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Which.
    #[command(subcommand)]
    pub verb: V,
}

/// How to reach the cluster and how to print.
#[derive(Clone, Debug, Default, Args)]
pub struct ClientArgs {
    /// Nodes to ask, in this order
    #[arg(
        long,
        global = true,
        env = "CRYPTORUN_ENDPOINTS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        help_heading = "Client"
    )]
    pub endpoints: Vec<String>,
    /// Certificates of the authorities to trust
    #[arg(long, global = true, env = "CRYPTORUN_CA", value_name = "FILE", help_heading = "Client")]
    pub ca: Option<PathBuf>,
    /// My certificate
    #[arg(
        long,
        global = true,
        env = "CRYPTORUN_CERT",
        value_name = "FILE",
        help_heading = "Client"
    )]
    pub cert: Option<PathBuf>,
    /// My certificate's key
    #[arg(
        long,
        global = true,
        env = "CRYPTORUN_KEY",
        value_name = "FILE",
        help_heading = "Client"
    )]
    pub key: Option<PathBuf>,
    /// How to print results
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        help_heading = "Client"
    )]
    pub output: Format,
    /// Send the change under this idempotency key, as an earlier try did
    #[arg(long, global = true, value_name = "KEY", value_parser = request_key, help_heading = "Client")]
    pub request: Option<String>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; the shapes of the HTTP API.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Names a scope.
#[derive(Clone, Debug, Args)]
pub struct ScopeArgs {
    /// The tier: hot, warm or cold
    #[arg(long, value_parser = Tier::from_str)]
    pub tier: Tier,
    /// The group inside it
    #[arg(long, default_value = "global")]
    pub group: String,
}

impl ScopeArgs {
    /// The scope.
    pub fn id(&self) -> ScopeId {
        ScopeId::new(self.tier, &self.group)
    }

    /// As a query string.
    pub fn query(&self) -> String {
        format!("tier={}&group={}", self.tier, crate::client::query(&self.group))
    }
}

/// Whether to stay until it is over.
#[derive(Clone, Debug, Default, Args)]
pub struct WaitArgs {
    /// Stay until the promotion is over; on a terminal this is the default
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the request stands
    #[arg(long)]
    pub no_wait: bool,
    /// Stop waiting after this long; the promotion goes on
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub timeout: Option<Duration>,
}

impl WaitArgs {
    /// Whether to wait, here.
    pub fn waits(&self, interactive: bool) -> bool {
        !self.no_wait && (self.wait || self.timeout.is_some() || interactive)
    }
}

/// What people can put their name to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// `P-7`.
    Promotion(PromotionId),
    /// `R-7`.
    Rule(RuleId),
}

impl FromStr for Proposal {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Rule(id));
        }
        text.parse().map(Self::Promotion).map_err(|_| {
            format!("'{text}' is neither a promotion like P-7 nor a rule change like R-7")
        })
    }
}

/// Two moments, `2025-01-01T00:00:00Z/2025-01-01T06:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From.
    pub start: WallTime,
    /// To, later than that.
    pub end: WallTime,
}

impl FromStr for Window {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) = text.split_once('/').ok_or_else(|| {
            format!(
                "'{text}' is not a window like 2025-01-01T00:00:00Z/2025-01-01T06:00:00Z: two \
                 times with a slash between them"
            )
        })?;
        let (start, end) = (WallTime::parse(start)?, WallTime::parse(end)?);
        match start < end {
            true => Ok(Self { start, end }),
            false => Err(format!("the window ends at {end}, which is not after {start}")),
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.start, self.end)
    }
}

/// A span such as `90s` or `10m`.
pub fn span(text: &str) -> Result<Duration, String> {
    cryptorun_platform::settings::parse_duration(text).map_err(|e| e.to_string())
}

fn request_key(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a key is 1 to 64 letters, digits, '-' or '_'".to_owned()),
    }
}

/// A region as typed; the server knows the names.
pub fn region(text: &str) -> Result<RegionName, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(RegionName::from(text)),
        false => Err(format!("'{text}' is not a region's name like us-east-1 or us-east")),
    }
}
