//! The process and its tokio runtime.

use std::{fmt::Error, fs, time::Duration};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use tokio::runtime::Handle;

use super::write::{counter, gauge};

/// Reads `/proc/self` and the counters of the runtime.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

/// The fields of `/proc/self/stat` that are read (`proc_pid_stat(5)`).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    /// The time in user and system mode, in clock ticks.
    cpu_ticks: u64,
    threads: u64,
    /// The time when the process started, in clock ticks after the boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of the program may contain spaces and parentheses.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // The state, field 3, is the first one after the name.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl Collector for ProcessMetrics {
    #[expect(clippy::cast_precision_loss, reason = "the values are far below 2^53")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        // Systems without /proc have no metrics of the process.
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            counter(encoder, "process_cpu_seconds", "The CPU time in user and system mode.", stat.cpu_ticks as f64 / ticks)?;
            gauge(encoder, "process_threads", "The threads of the process.", stat.threads as f64)?;
            gauge(encoder, "process_virtual_memory_bytes", "The virtual memory.", stat.virtual_bytes as f64)?;
            let resident = stat.resident_pages as f64 * rustix::param::page_size() as f64;
            gauge(encoder, "process_resident_memory_bytes", "The resident memory.", resident)?;
            if let Some(boot) = boot_time() {
                let help = "The time when the process started, in seconds since 1970.";
                gauge(encoder, "process_start_time_seconds", help, boot + stat.start_ticks as f64 / ticks)?;
            }
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge(encoder, "process_open_fds", "The open file descriptors.", files.count() as f64)?;
        }
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            gauge(encoder, "process_max_fds", "The largest number of open file descriptors.", limit as f64)?;
        }
        let Ok(runtime) = Handle::try_current() else { return Ok(()) };
        let runtime = runtime.metrics();
        gauge(encoder, "tokio_workers", "The worker threads of the runtime.", runtime.num_workers() as f64)?;
        gauge(encoder, "tokio_tasks", "The tasks of the runtime.", runtime.num_alive_tasks() as f64)?;
        let help = "The tasks that wait in the global queue of the runtime.";
        gauge(encoder, "tokio_global_queue_tasks", help, runtime.global_queue_depth() as f64)?;
        let busy: Duration = (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker)).sum();
        counter(encoder, "tokio_busy_seconds", "The time that the worker threads were busy.", busy.as_secs_f64())
    }
}

/// Returns the time when the system was booted, in seconds since 1970.
fn boot_time() -> Option<f64> {
    fs::read_to_string("/proc/stat").ok()?.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_read_behind_any_name() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 5 0 12345 8192000 300 18446744073709551615 1 1";
        let expected = Stat { cpu_ticks: 200, threads: 5, start_ticks: 12345, virtual_bytes: 8_192_000, resident_pages: 300 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }
}
