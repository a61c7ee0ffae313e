//! Rounds into medians, medians into a table with ratios and floors.

use crate::load::Measured;
use serde::Serialize;
use std::time::Duration;

/// What one system did in every round.
#[derive(Clone, Default)]
pub struct Rounds(pub Vec<Measured>);

/// Medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    pub p50_us: f64,
    pub p99_us: f64,
    pub per_second: f64,
    pub cpu_us: f64,
}

/// Ours over the peer's, medians of the rounds' own ratios.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratios {
    pub p50: f64,
    pub p99: f64,
    pub per_second: f64,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: &'static str,
    pub clients: usize,
    pub ours: Figures,
    pub peer: Option<Figures>,
    pub ratios: Option<Ratios>,
    pub floor: Option<Floor>,
}

/// What must be reached, and what was.
#[derive(Clone, Debug, Serialize)]
pub struct Floor {
    pub text: &'static str,
    pub reached: f64,
    pub holds: bool,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub peer: Option<String>,
    pub rounds: usize,
    pub seconds: u64,
    pub cores: usize,
    /// Load average before, and after.
    pub load: [f64; 2],
    pub sync_us: f64,
    pub rows: Vec<Row>,
}

impl Rounds {
    pub fn figures(&self) -> Figures {
        let of = |what: fn(&Measured) -> f64| median(self.0.iter().map(what).collect());
        Figures {
            p50_us: of(|m| micros(m.p50)),
            p99_us: of(|m| micros(m.p99)),
            per_second: of(|m| m.per_second),
            cpu_us: of(|m| m.cpu_us),
        }
    }

    /// Round by round, so that what slowed both in one round falls out.
    pub fn over(&self, peer: &Self) -> Ratios {
        let of = |what: fn(&Measured) -> f64| {
            median(self.0.iter().zip(&peer.0).map(|(a, b)| what(a) / what(b)).collect())
        };
        Ratios {
            p50: of(|m| micros(m.p50)),
            p99: of(|m| micros(m.p99)),
            per_second: of(|m| m.per_second),
        }
    }
}

impl Floor {
    pub fn at_most(text: &'static str, bound: f64, reached: f64) -> Self {
        Self { text, reached, holds: reached <= bound }
    }

    pub fn at_least(text: &'static str, bound: f64, reached: f64) -> Self {
        Self { text, reached, holds: reached >= bound }
    }
}

impl Report {
    pub fn holds(&self) -> bool {
        self.rows.iter().filter_map(|row| row.floor.as_ref()).all(|floor| floor.holds)
    }

    /// In Markdown, as `docs/performance.md` shows it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} cores, load {:.1} before and {:.1} after; one 4 KiB write and its sync {:.0} µs; \
             medians of {} rounds of {} s\n\n\
             | what | clients | ours p50 / p99 ms, op/s, CPU µs/op | {} | p50 | p99 | op/s | floor |\n\
             |---|---|---|---|---|---|---|---|\n",
            self.cores,
            self.load[0],
            self.load[1],
            self.sync_us,
            self.rounds,
            self.seconds,
            self.peer.as_deref().unwrap_or("no peer installed"),
        );
        for row in &self.rows {
            let ratio = |of: fn(&Ratios) -> f64| {
                row.ratios.as_ref().map_or("–".to_owned(), |r| format!("{:.2} ×", of(r)))
            };
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
                row.what,
                row.clients,
                shown(&row.ours),
                row.peer.as_ref().map_or("–".to_owned(), shown),
                ratio(|r| r.p50),
                ratio(|r| r.p99),
                ratio(|r| r.per_second),
                row.floor.as_ref().map_or("–".to_owned(), |floor| format!(
                    "{}: {:.2}, {}",
                    floor.text,
                    floor.reached,
                    if floor.holds { "holds" } else { "**short**" }
                )),
            ));
        }
        text
    }
}

fn shown(figures: &Figures) -> String {
    format!(
        "{:.2} / {:.2}, {:.0}, {:.0}",
        figures.p50_us / 1e3,
        figures.p99_us / 1e3,
        figures.per_second,
        figures.cpu_us
    )
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(one), 1) => *one,
        (Some(upper), _) => (values[middle - 1] + upper) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(p50_us: u64) -> Measured {
        let p50 = Duration::from_micros(p50_us);
        Measured { p50, p99: p50 * 2, per_second: 1e6 / p50_us as f64, cpu_us: 1.0 }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_round_that_slowed_both_does_not_move_the_ratio() {
        let ours = Rounds([100, 1000, 110].map(measured).to_vec());
        let peer = Rounds([200, 2000, 220].map(measured).to_vec());
        let ratios = ours.over(&peer);
        assert_eq!((ratios.p50, ratios.per_second), (0.5, 2.0));
    }

    #[test]
    fn a_floor_that_is_missed_fails_the_report() {
        assert!(Floor::at_most("", 0.8, 0.8).holds);
        assert!(!Floor::at_least("", 3.0, 2.99).holds);
    }
}
