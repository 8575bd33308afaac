//! Metrics: registration, what every process has, and the two text formats.

use std::{collections::BTreeMap, fmt::Write as _};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use super::process::ProcessMetrics;

/// The version of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildLabel {
    /// Such as `0.1.0`.
    pub version: &'static str,
}

/// The label `what`: one of a closed set, which each metric tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WhatLabel {
    /// What is counted.
    pub what: &'static str,
}

/// One process's part of a gauge that several of one program may share, as simulated agents do. It is subtracted again when
/// the process ends.
#[derive(Debug)]
pub struct GaugePart {
    whole: Family<WhatLabel, Gauge>,
    counted: BTreeMap<&'static str, i64>,
}

impl GaugePart {
    /// Nothing yet.
    #[must_use]
    pub fn new(whole: &Family<WhatLabel, Gauge>) -> Self {
        GaugePart { whole: whole.clone(), counted: BTreeMap::new() }
    }

    /// There are so many of these.
    pub fn set(&mut self, what: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let before = self.counted.insert(what, count);
        if before != Some(count) {
            self.whole.get_or_create(&WhatLabel { what }).inc_by(count - before.unwrap_or_default());
        }
    }
}

impl Drop for GaugePart {
    fn drop(&mut self) {
        for (what, count) in &self.counted {
            self.whole.get_or_create(&WhatLabel { what }).dec_by(*count);
        }
    }
}

/// Creates a metric and registers it.
pub fn registered<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// A registry with the metrics that every process has: its version, and what it takes of the machine.
#[must_use]
pub fn process_registry() -> Registry {
    let mut all = Registry::default();
    all.register_collector(Box::new(ProcessMetrics));
    let registry = all.sub_registry_with_prefix("multibond");
    let build: Family<BuildLabel, Gauge> = registered(registry, "build_info", "1, with the version of the program");
    build.get_or_create(&BuildLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
    all
}

/// The format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// The format that a scraper asks for with `Accept`: `OpenMetrics` if it names it, and does not prefer the other.
    pub(super) fn asked_for(accept: &str) -> Self {
        let quality = |media_type: &str| {
            let of = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                if !parts.next()?.eq_ignore_ascii_case(media_type) {
                    return None;
                }
                let quality = parts.find_map(|parameter| parameter.strip_prefix("q="));
                Some(quality.and_then(|quality| quality.trim().parse().ok()).unwrap_or(1.0_f32))
            };
            accept.split(',').find_map(of).unwrap_or(0.0)
        };
        let openmetrics = quality("application/openmetrics-text");
        if openmetrics > 0.0 && openmetrics >= quality("text/plain") { Format::OpenMetrics } else { Format::Plain }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All metrics of a registry; `None` if one of them cannot be written.
    pub(super) fn exposition(self, registry: &Registry) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, registry).ok()?;
        Some(match self {
            Format::OpenMetrics => text,
            Format::Plain => plain(&text),
        })
    }
}

/// `OpenMetrics` as the older text format: without units and end, and a counter is named as its samples are.
fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|comment| comment.split_once(' '));
        match comment {
            None if line == "# EOF" => {}
            Some(("UNIT", _)) => {}
            Some(("HELP", rest)) => help = rest.split_once(' ').map(|(_, help)| help),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some(help) = help.take() {
                    let _ = writeln!(text, "# HELP {name}{suffix} {help}");
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("", Format::Plain),
            ("*/*", Format::Plain),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.1", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
        ] {
            assert_eq!(Format::asked_for(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_plain_format_names_counters_as_their_samples() {
        let mut registry = Registry::default();
        let counter: Counter = registered(&mut registry, "logins", "Logins");
        counter.inc();
        let text = Format::Plain.exposition(&registry).unwrap();
        assert_eq!(text, "# HELP logins_total Logins.\n# TYPE logins_total counter\nlogins_total 1\n");
        assert!(Format::OpenMetrics.exposition(&registry).unwrap().ends_with("# EOF\n"));
    }

    #[test]
    fn every_process_has_its_version_and_the_metrics_of_the_process() {
        let text = Format::Plain.exposition(&process_registry()).unwrap();
        let build = concat!("multibond_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n");
        for line in [
            build,
            "\nprocess_cpu_seconds_total ",
            "\nprocess_resident_memory_bytes ",
            "\nprocess_open_fds ",
            "\nprocess_max_fds ",
            "\nprocess_start_time_seconds ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
