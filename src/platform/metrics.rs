//! Metrics: every name the program reports, declared once, and the page Prometheus reads.
//!
//! The page is the classic text format (`text/plain; version=0.0.4`), written here: the client
//! library speaks OpenMetrics, which calls a counter's family by another name than its samples,
//! leaves families without samples out, and orders series by hash.
//!
//! What always holds:
//!  1. each family appears on the page with its help and type from the first moment on;
//!  2. two renderings of the same values are the same bytes;
//!  3. a family holds at most `SERIES_MAX` series: label values come from enums and configured
//!     names, never from the wire, and a mistake about that costs a counter, not the memory.
//!
//! Next: `docs/metrics.md` for what each name means to an operator.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Content type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Three tiers × three regions × a few sources is dozens; a thousand is a label gone wrong.
const SERIES_MAX: usize = 1000;

macro_rules! families {
    ($($(#[doc = $help:literal])+ $kind:ident $field:ident = $name:literal [$($label:literal),*];)*) => {
        /// All families. Cheap to clone; clones share the values.
        #[derive(Clone)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $kind<{ arity(&[$($label),*]) }>,)*
            collectors: Arc<Mutex<Vec<Collector>>>,
            dropped: Arc<AtomicU64>,
        }

        /// Every family's name, kind and labels, in the order of the page.
        pub const DECLARED: &[(&str, &str, &[&str])] =
            &[$(($name, stringify!($kind), &[$($label),*])),*];

        impl Metrics {
            pub fn new() -> Self {
                let dropped = Arc::new(AtomicU64::new(0));
                Self {
                    $($field: $kind(Arc::new(Family::new(
                        $name, concat!($($help),+), $kind::<0>::TYPE, [$($label),*], &dropped,
                    ))),)*
                    collectors: Arc::default(),
                    dropped,
                }
            }

            fn write_families(&self, page: &mut String) {
                $(self.$field.0.write(page);)*
            }
        }
    };
}

families! {
    /// Age of the newest data applied in a region, by the source it came from.
    Gauge replication_lag_seconds = "cryptorun_replication_lag_seconds" ["tier", "region", "source"];
    /// Steps of promotions carried out.
    Counter replication_plan_steps_total = "cryptorun_replication_plan_steps_total" ["tier", "from", "to"];
    /// Steps of promotions that failed.
    Counter replication_step_failures_total = "cryptorun_replication_step_failures_total" ["tier", "from", "to", "reason"];
    /// Consistency checks that found a difference.
    Counter data_consistency_errors_total = "cryptorun_data_consistency_errors_total" ["check"];
    /// Records set aside and kept out of readers' way.
    Counter quarantine_total = "cryptorun_quarantine_total" ["tier", "region", "kind"];
    /// Health of a region from 0 to 1: the minimum of its inputs.
    Gauge region_health_score = "cryptorun_region_health_score" ["region"];
    /// Round trip between two regions over an open connection.
    Gauge cross_region_rtt_seconds = "cryptorun_cross_region_rtt_seconds" ["from", "to"];
    /// How far a region's clock is off, as all its neighbours agree at least.
    Gauge clock_offset_seconds = "cryptorun_clock_offset_seconds" ["region"];
    /// Confirmed diagnoses: how many of a class there are, by how serious it is.
    Gauge diagnoses = "cryptorun_diagnoses" ["class", "severity"];
    /// Writes turned away because their token was no longer the highest.
    Counter fenced_writes_total = "cryptorun_fenced_writes_total" ["tier", "region"];
    /// Epoch of the token that holds a scope.
    Gauge authority_epoch = "cryptorun_authority_epoch" ["tier", "group"];
    /// Time until a scope's lease runs out if nobody renews it.
    Gauge lease_remaining_seconds = "cryptorun_lease_remaining_seconds" ["tier", "group"];
    /// Data the primary is known to have had and a region lacks.
    Gauge behind_seconds = "cryptorun_behind_seconds" ["tier", "group", "region"];
    /// People still needed before an open request may go on.
    Gauge people_missing = "cryptorun_people_missing" ["tier", "group"];
    /// 1 while a region has no quorum and queues its changes.
    Gauge partition_mode = "cryptorun_partition_mode" ["region"];
    /// Time since a scope's holder last reported progress.
    Gauge no_progress_seconds = "cryptorun_no_progress_seconds" ["tier", "group"];
    /// Unix time at which this process's certificate ends, by the class of its identity.
    Gauge certificate_expiry_seconds = "cryptorun_certificate_expiry_seconds" ["class"];
    /// Connections refused before their first request.
    Counter tls_refused_total = "cryptorun_tls_refused_total" ["reason"];
    /// Renewals of a worker's session: answered at the first attempt, at a later one, or lost.
    Counter renewals_total = "cryptorun_renewals_total" ["outcome"];
    /// Commands that another node forwarded and the leader turned away.
    Counter forwards_refused_total = "cryptorun_forwards_refused_total" ["reason"];
    /// Answers of the admin API, by status class.
    Counter api_answers_total = "cryptorun_api_answers_total" ["class"];
    /// Times that a node's state differed from the leader's.
    Counter state_divergence_total = "cryptorun_state_divergence_total" [];
    /// Samples dropped because a family already held its limit of series.
    Counter metric_series_dropped_total = "cryptorun_metric_series_dropped_total" [];
}

const fn arity(labels: &[&str]) -> usize {
    labels.len()
}

type Collector = Box<dyn Fn(&Metrics) + Send + Sync>;

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Has `collect` run before each rendering: for values that somebody else already counts.
    pub fn on_render(&self, collect: impl Fn(&Metrics) + Send + Sync + 'static) {
        lock(&self.collectors).push(Box::new(collect));
    }

    /// The page, whole.
    pub fn render(&self) -> String {
        for collect in lock(&self.collectors).iter() {
            collect(self);
        }
        self.metric_series_dropped_total.record([], self.dropped.load(Ordering::Relaxed));
        let mut page = String::with_capacity(8 * 1024);
        self.write_families(&mut page);
        page
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge<const N: usize>(Arc<Family<N>>);

/// A value that only grows while the process lives.
#[derive(Clone)]
pub struct Counter<const N: usize>(Arc<Family<N>>);

impl Gauge<0> {
    const TYPE: &str = "gauge";
}

impl Counter<0> {
    const TYPE: &str = "counter";
}

impl<const N: usize> Gauge<N> {
    pub fn set(&self, labels: [&str; N], value: f64) {
        self.0.with(labels, |cell| cell.store(value.to_bits(), Ordering::Relaxed));
    }

    /// Takes a series off the page: its subject is gone (a released lease, a removed region).
    pub fn remove(&self, labels: [&str; N]) {
        lock(&self.0.series).remove(&labels.map(str::to_owned));
    }

    /// Takes all series off the page, so that what follows is the whole truth.
    pub fn clear(&self) {
        lock(&self.0.series).clear();
    }

    pub fn get(&self, labels: [&str; N]) -> Option<f64> {
        self.0.get(labels).map(f64::from_bits)
    }
}

impl<const N: usize> Counter<N> {
    pub fn inc(&self, labels: [&str; N]) {
        self.add(labels, 1);
    }

    pub fn add(&self, labels: [&str; N], by: u64) {
        self.0.with(labels, |cell| {
            cell.fetch_add(by, Ordering::Relaxed);
        });
    }

    /// Raises the counter to a total that is counted elsewhere; a lower one is ignored.
    pub fn record(&self, labels: [&str; N], total: u64) {
        self.0.with(labels, |cell| {
            cell.fetch_max(total, Ordering::Relaxed);
        });
    }

    pub fn get(&self, labels: [&str; N]) -> u64 {
        self.0.get(labels).unwrap_or(0)
    }
}

struct Family<const N: usize> {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    labels: [&'static str; N],
    /// Gauges keep the bits of an `f64`, counters the number itself.
    series: Mutex<BTreeMap<[String; N], AtomicU64>>,
    /// Of all families together.
    dropped: Arc<AtomicU64>,
}

impl<const N: usize> Family<N> {
    fn new(
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: [&'static str; N],
        dropped: &Arc<AtomicU64>,
    ) -> Self {
        let dropped = Arc::clone(dropped);
        Self { name, help: help.trim(), kind, labels, series: Mutex::default(), dropped }
    }

    fn with(&self, labels: [&str; N], act: impl FnOnce(&AtomicU64)) {
        let mut series = lock(&self.series);
        let key = labels.map(str::to_owned);
        if let Some(cell) = series.get(&key) {
            return act(cell);
        }
        if series.len() >= SERIES_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        act(series.entry(key).or_default());
    }

    fn get(&self, labels: [&str; N]) -> Option<u64> {
        lock(&self.series).get(&labels.map(str::to_owned)).map(|cell| cell.load(Ordering::Relaxed))
    }

    fn write(&self, page: &mut String) {
        let Self { name, help, kind, labels, series, .. } = self;
        // Writing to a string cannot fail.
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (values, cell) in lock(series).iter() {
            page.push_str(name);
            for (at, (label, value)) in labels.iter().zip(values).enumerate() {
                page.push(if at == 0 { '{' } else { ',' });
                let _ = write!(page, "{label}=\"{}\"", Escaped(value));
            }
            if N > 0 {
                page.push('}');
            }
            let bits = cell.load(Ordering::Relaxed);
            let _ = match *kind {
                "gauge" => writeln!(page, " {}", Number(f64::from_bits(bits))),
                _ => writeln!(page, " {bits}"),
            };
        }
    }
}

struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            x if x == f64::INFINITY => f.write_str("+Inf"),
            x if x == f64::NEG_INFINITY => f.write_str("-Inf"),
            x if x.is_nan() => f.write_str("NaN"),
            x => write!(f, "{x}"),
        }
    }
}

/// A panic while counting leaves numbers, not broken promises: go on with them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_first_request_are_declared_with_their_labels() {
        let asked: [(&str, &[&str]); 7] = [
            ("cryptorun_replication_lag_seconds", &["tier", "region", "source"]),
            ("cryptorun_replication_plan_steps_total", &["tier", "from", "to"]),
            ("cryptorun_replication_step_failures_total", &["tier", "from", "to", "reason"]),
            ("cryptorun_data_consistency_errors_total", &["check"]),
            ("cryptorun_quarantine_total", &["tier", "region", "kind"]),
            ("cryptorun_region_health_score", &["region"]),
            ("cryptorun_cross_region_rtt_seconds", &["from", "to"]),
        ];
        for (name, labels) in asked {
            let found = DECLARED.iter().find(|(declared, ..)| *declared == name);
            assert_eq!(found.map(|(_, _, labels)| *labels), Some(labels), "{name}");
        }
        for (name, kind, _) in DECLARED {
            assert_eq!(*kind == "Counter", name.ends_with("_total"), "{name} is a {kind}");
        }
    }

    #[test]
    fn every_family_is_on_the_page_before_its_first_sample() {
        let page = Metrics::new().render();
        for (name, kind, _) in DECLARED {
            let kind = kind.to_lowercase();
            assert_eq!(page.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
            assert_eq!(page.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}");
        }
    }

    #[test]
    fn a_page_shows_values_in_a_stable_order_with_labels_escaped() {
        let metrics = Metrics::new();
        metrics.region_health_score.set(["us-west-2"], 0.25);
        metrics.region_health_score.set(["eu\"west\\1\n"], 1.0);
        metrics.quarantine_total.add(["warm", "us-east-1", "gap"], 3);
        let page = metrics.render();
        let values: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                r#"cryptorun_quarantine_total{tier="warm",region="us-east-1",kind="gap"} 3"#,
                r#"cryptorun_region_health_score{region="eu\"west\\1\n"} 1"#,
                r#"cryptorun_region_health_score{region="us-west-2"} 0.25"#,
                "cryptorun_metric_series_dropped_total 0",
            ]
        );
        assert_eq!(page, metrics.render());
    }

    #[test]
    fn a_family_holds_a_bounded_number_of_series() {
        let metrics = Metrics::new();
        for n in 0..SERIES_MAX + 5 {
            metrics.data_consistency_errors_total.inc([&n.to_string()]);
        }
        let page = metrics.render();
        let held = page.matches("\ncryptorun_data_consistency_errors_total{").count();
        assert_eq!(held, SERIES_MAX);
        assert!(page.ends_with("cryptorun_metric_series_dropped_total 5\n"));
    }

    #[test]
    fn values_counted_elsewhere_are_read_at_each_rendering() {
        let metrics = Metrics::new();
        let seen = Arc::new(AtomicU64::new(7));
        let source = Arc::clone(&seen);
        metrics.on_render(move |m| {
            m.tls_refused_total.record(["expired"], source.load(Ordering::Relaxed));
        });
        assert!(metrics.render().contains("cryptorun_tls_refused_total{reason=\"expired\"} 7\n"));
        seen.store(9, Ordering::Relaxed);
        assert!(metrics.render().contains("cryptorun_tls_refused_total{reason=\"expired\"} 9\n"));
    }
}
