//! `warm get`: candles from a region's worker.

use crate::Ended;
use crate::client::query;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::Table;
use crate::render::text::moment;
use crate::screen::Facts;
use clap::Args;
use cryptorun_core::region::{RegionName, resolve};
use cryptorun_core::scope::{ScopeId, Tier};
use cryptorun_core::time::WallTime;
use cryptorun_core::wire::{Candles, RegionStatus, SessionStatus};
use std::time::Duration;

/// How long a copy may take to reach `--min-position`: less than one attempt of the client.
const WAIT: Duration = Duration::from_secs(8);

#[derive(Clone, Debug, Args)]
pub struct Get {
    /// Which, as BTC/USD
    #[arg(long)]
    symbol: String,
    /// Where it trades
    #[arg(long)]
    venue: Option<String>,
    /// The group the symbol belongs to
    #[arg(long, default_value = "global")]
    group: String,
    /// Read this region's copy instead of the primary's
    #[arg(long, value_name = "REGION", value_parser = crate::args::region)]
    region: Option<RegionName>,
    /// From this moment on
    #[arg(long, value_name = "TIME", value_parser = WallTime::parse)]
    since: Option<WallTime>,
    /// Up to this moment
    #[arg(long, value_name = "TIME", value_parser = WallTime::parse)]
    until: Option<WallTime>,
    /// At most so many rows, the latest
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Wait for this position, as an earlier answer named it
    #[arg(long, value_name = "N")]
    min_position: Option<u64>,
    /// Refuse data older than this
    #[arg(long, value_name = "SPAN", value_parser = crate::args::span)]
    max_staleness: Option<Duration>,
}

pub async fn run(args: Get, context: &mut Context) -> Ended {
    let scope = ScopeId::new(Tier::Warm, &args.group);
    let worker = worker(&scope, args.region.as_ref(), context).await?;
    let mut path = format!(
        "/v1/warm/candles?group={}&symbol={}&limit={}",
        query(&args.group),
        query(&args.symbol),
        args.limit
    );
    if let Some(venue) = &args.venue {
        path.push_str(&format!("&venue={}", query(venue)));
    }
    for (name, at) in [("since", args.since), ("until", args.until)] {
        if let Some(at) = at {
            path.push_str(&format!("&{name}={at}"));
        }
    }
    if let Some(position) = args.min_position {
        path.push_str(&format!("&min_position={position}&wait_ms={}", WAIT.as_millis()));
    }
    if let Some(span) = args.max_staleness {
        path.push_str(&format!("&max_staleness_ms={}", span.as_millis()));
    }
    let candles: Candles = context.client.at(&worker).get(&path).await?;
    context.show(&candles, |candles, screen| table(candles, &screen.facts))?;
    Ok(Exit::Done)
}

/// The worker to ask: the region's, or else the scope's holder.
async fn worker(
    scope: &ScopeId,
    region: Option<&RegionName>,
    context: &Context,
) -> Result<String, Failure> {
    let region = match region {
        None => None,
        Some(typed) => {
            let regions: Vec<RegionStatus> = context.client.get("/v1/regions").await?;
            let known = regions.into_iter().map(|r| (r.region, r.aliases)).collect();
            Some(resolve(typed.as_str(), &known).map_err(Failure::usage)?)
        }
    };
    let sessions: Vec<SessionStatus> = context.client.get("/v1/sessions").await?;
    let fits = |s: &&SessionStatus| match &region {
        Some(region) => s.region == *region,
        None => s.holds.iter().any(|lease| lease.scope == *scope),
    };
    let found = sessions.iter().filter(|s| !s.barred).filter(fits).min_by_key(|s| s.renewed);
    found.map(|s| s.addresses.api.clone()).ok_or_else(|| Failure::Check {
        message: match &region {
            Some(region) => format!("no worker of {region} has a session"),
            None => format!("nobody holds {scope}"),
        },
        hint: Some(
            "read another region's copy: --region; see: cryptorun replication status".into(),
        ),
    })
}

fn table(candles: &Candles, facts: &Facts) -> String {
    let mut text = format!(
        "{} · token {} · position {} · {} old · complete to {}\n",
        candles.authority,
        candles.token,
        candles.position,
        candles.staleness,
        moment(candles.watermark)
    );
    if candles.rows.is_empty() {
        return text + "no rows\n";
    }
    let mut table = Table::default();
    for title in ["OPENED", "VENUE", "SYMBOL", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "TRADES"] {
        table = table.column(title);
    }
    table = table.column("STATE");
    for row in &candles.rows {
        let state = match row.revision {
            0 => row.state.clone(),
            n => format!("{} ({n})", row.state),
        };
        table.row(vec![
            moment(row.open_time).into(),
            (&row.venue).into(),
            (&row.symbol).into(),
            (&row.open).into(),
            (&row.high).into(),
            (&row.low).into(),
            (&row.close).into(),
            (&row.volume).into(),
            row.trades.into(),
            state.into(),
        ]);
    }
    text.push_str(&table.draw(facts));
    text
}
