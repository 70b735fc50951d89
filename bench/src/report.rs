//! The report: a page in Markdown, and its plots.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use crate::connection::Failure;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) measure: String,
    pub(crate) figure: String,
    /// The figure that a release should reach. Empty if there is none.
    pub(crate) goal: &'static str,
}

impl Row {
    pub(crate) fn new(measure: impl Into<String>, figure: impl Into<String>, goal: &'static str) -> Self {
        Self { measure: measure.into(), figure: figure.into(), goal }
    }
}

/// The measurements of one subject.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) text: String,
    pub(crate) rows: Vec<Row>,
    /// The names of the files of the plots, without their ending, and the plots.
    pub(crate) plots: Vec<(&'static str, String)>,
}

/// Returns the median, which exists because every measurement is made at least once.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The heading of the soak, which is the last section.
const SOAK: &str = "\n## Soak\n";

/// Replaces the soak at the end of the page `folder/benchmarks.md`.
pub(crate) fn write_soak(folder: &Path, section: &Section) -> Result<(), Failure> {
    let file = folder.join("benchmarks.md");
    let page = fs::read_to_string(&file).unwrap_or_default();
    let before = page.split_once(SOAK).map_or(page.as_str(), |(before, _)| before);
    let mut page = before.to_owned();
    add_section(&mut page, folder, section)?;
    Ok(fs::write(file, page)?)
}

/// Writes the page `folder/benchmarks.md`, and the plots next to it. A soak that is on the page stays there.
pub(crate) fn write(folder: &Path, command: &str, sections: &[Section]) -> Result<(), Failure> {
    let file = folder.join("benchmarks.md");
    let soak = fs::read_to_string(&file).ok().and_then(|page| page.split_once(SOAK).map(|(_, soak)| soak.to_owned()));
    let mut page = format!(
        "# Benchmarks\n\n\
         `{command}` measures and writes this page. Do not compare figures of different machines: compare the ratios, each of which was\n\
         measured in one run, with its parts in turn. Each figure is the median of its runs.\n\n\
         - Processor: {}\n- System: {}\n- Compiler: {}\n- Database: {}, on the same machine, without waiting for the disk (`fsync=off`)\n\n\
         The load generator, the services and the database share the processors. \"Calls a second\" is therefore what the whole machine\n\
         reaches. \"CPU a call\" is the processor time of the service alone, as the operating system counts it (`/proc/PID/stat`). The\n\
         generator begins a call at its planned time whether or not earlier calls were answered, and measures the latency from that\n\
         time, so that a slow answer also shows in the calls that it delays.\n",
        processor(),
        system(),
        output("rustc", &["--version"]),
        output_of_postgres(),
    );
    for section in sections {
        add_section(&mut page, folder, section)?;
    }
    if let Some(soak) = soak {
        page = page + SOAK + &soak;
    }
    Ok(fs::write(file, page)?)
}

fn add_section(page: &mut String, folder: &Path, section: &Section) -> Result<(), Failure> {
    let plots = folder.join("benchmarks");
    fs::create_dir_all(&plots)?;
    let _ = write!(page, "\n## {}\n\n{}\n\n", section.title, section.text.trim());
    for (name, plot) in &section.plots {
        fs::write(plots.join(format!("{name}.svg")), plot)?;
        let _ = write!(page, "![{}](benchmarks/{name}.svg)\n\n", section.title);
    }
    *page += "| measure | figure | goal |\n|---|---|---|\n";
    for Row { measure, figure, goal } in &section.rows {
        let _ = writeln!(page, "| {measure} | {figure} | {goal} |");
    }
    Ok(())
}

/// Returns the model and the number of the processors.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {count} cores", model.map_or("unknown", |(_, model)| model))
}

fn output_of_postgres() -> String {
    let newest = "ls -d /usr/lib/postgresql/*/bin/postgres $(command -v postgres) 2>/dev/null | tail -1";
    output("sh", &["-c", &format!("$({newest}) --version")])
}

/// Returns the operating system, without the suffix that a distributor or a host adds to the version.
fn system() -> String {
    let release = output("uname", &["-r"]);
    let version = release.split('-').next().unwrap_or_default();
    format!("{} {version} {}", output("uname", &["-s"]), output("uname", &["-m"]))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
