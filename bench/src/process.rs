//! The processes that are measured, and what the operating system says about them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::connection::Failure;

/// The time within which a process must serve.
const PATIENCE: Duration = Duration::from_mins(1);
/// The units of processor time in a second, as Linux shows them on every architecture.
const TICKS: f64 = 100.0;

/// A server, which is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The address on which it serves.
    pub(crate) address: String,
    /// The time of its start.
    began: Instant,
}

impl Process {
    /// Starts a server that logs `ADDRESS` after `marker`. The log is written to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path, marker: &str) -> Result<Self, Failure> {
        let mut process = Self::start_at(command, log, String::new())?;
        while process.address.is_empty() {
            let text = fs::read_to_string(log)?;
            if let Some((_, rest)) = text
                .lines()
                .filter(|line| line.contains("erving") || line.contains("istening"))
                .find_map(|line| line.split_once(marker))
            {
                rest.split([' ', '/']).next().unwrap_or_default().clone_into(&mut process.address);
            } else if process.child.try_wait()?.is_some() || process.age() > PATIENCE {
                return Err(format!("{} does not serve:\n{text}", command.get_program().display()).into());
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(process)
    }

    /// Starts a server that serves on `address`, and does not wait for it. The log of a server can be 100 milliseconds late.
    pub(crate) fn start_at(command: &mut Command, log: &Path, address: String) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(File::create(log)?).stderr(File::options().append(true).open(log)?);
        let began = Instant::now();
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, address, began })
    }

    /// Returns the processor time of the process and of the processes that it has started.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_secs_f64(self.all().iter().filter_map(|pid| ticks(*pid)).sum::<f64>() / TICKS)
    }

    /// Returns the time since its start.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Returns the part of the resident memory that the process has allocated, in bytes. The rest is the program and its libraries, which
    /// the operating system loads from their files again when it needs the memory.
    pub(crate) fn allocated_memory(&self) -> u64 {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1024
    }

    /// Returns the number of open files.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn all(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The parent first, so that it starts no other child.
        for pid in self.all() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.wait();
    }
}

/// Runs a program to its end and returns what it prints.
pub(crate) fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// The programs of the services.
#[derive(Debug, Clone)]
pub(crate) struct Programs(pub(crate) PathBuf);

impl Programs {
    /// Returns a command of a service.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        // The signing keys of a benchmark protect nothing.
        command.env("MASTER_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
        command
    }

    /// Returns the path of a program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Returns the processor time of the current thread.
pub(crate) fn thread_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

fn ticks(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses, and can contain spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}
