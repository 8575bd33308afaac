//! The metrics of the process itself, read from `/proc` at each scrape. Names and meanings are those of Prometheus'
//! client libraries.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The unit of times in `/proc`: `USER_HZ`, which is 100 on every architecture that the image is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process takes of the machine. A value that cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        let stat = read("self/stat");
        if let Some(used) = cpu_seconds(&stat) {
            let help = "Total user and system CPU time spent in seconds.";
            let counter = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(used).encode(counter)?;
        }
        let status = read("self/status");
        let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory size in bytes.", kilobytes(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", kilobytes(&status, "VmSize:")),
            ("process_threads", "Number of OS threads in the process.", number_after(&status, "Threads:")),
            // The directory that is being read is one of them.
            ("process_open_fds", "Number of open file descriptors.", open.map(|open| as_f64(open.saturating_sub(1)))),
            (
                "process_max_fds",
                "Maximum number of open file descriptors.",
                number_after(&read("self/limits"), "Max open files"),
            ),
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                start_time(&stat, &read("stat")),
            ),
        ] {
            if let Some(value) = value {
                let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)?;
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count of file descriptors")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// The number behind a word at the beginning of a line.
fn number_after(text: &str, word: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, word: &str) -> Option<f64> {
    Some(number_after(status, word)? * 1024.0)
}

/// A field of `/proc/self/stat`, counted from 3 as in its manual page. The second is a name that may contain blanks.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_time(stat: &str, machine: &str) -> Option<f64> {
    Some(number_after(machine, "btime ")? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_process_are_read_behind_its_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 1200 20000000 700";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_time(stat, "cpu 1\nbtime 1700000000\n"), Some(1_700_000_012.0));
        assert_eq!((cpu_seconds(""), start_time(stat, "")), (None, None));
    }

    #[test]
    fn sizes_and_limits_are_read_from_their_lines() {
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t3\n";
        assert_eq!((kilobytes(status, "VmRSS:"), number_after(status, "Threads:")), (Some(1_048_576.0), Some(3.0)));
        assert_eq!(number_after("Max open files   1024   4096   files\n", "Max open files"), Some(1024.0));
        assert_eq!(number_after("Max open files   unlimited\n", "Max open files"), None);
    }
}
