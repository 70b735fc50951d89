//! Packages from `PyPI`, in virtual environments in cargo's target folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const INSTALL: &str = "It needs Python 3 with venv and pip (apt-get install python3-venv), and access to PyPI or to the index that \
                       `pip config` names.";

/// Returns cargo's target folder, which holds the running test.
pub(crate) fn target_folder() -> PathBuf {
    let program = env::current_exe().expect("the path of the test");
    let deps = program.ancestors().find(|folder| folder.ends_with("deps")).and_then(|deps| deps.parent()?.parent());
    deps.expect("a test that cargo has built").to_owned()
}

/// Returns a virtual environment with the packages of a requirements file. The first test that needs it creates it.
///
/// # Panics
///
/// Panics if Python or the packages are missing, with the command that installs Python.
pub(crate) fn virtual_environment(name: &str, requirements: &Path, pip_options: &[&str]) -> PathBuf {
    let target = target_folder();
    let folder = target.join(name);
    let lock = fs::File::create(target.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("a lock");
    let wanted = fs::read_to_string(requirements).expect("the requirements");
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]).args(pip_options);
    run(install.arg("--requirement").arg(requirements));
    fs::write(installed, wanted).expect("a list of the installed packages");
    folder
}

/// Runs a command, and panics if it fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}. {INSTALL}"));
    assert!(output.status.success(), "{command:?}: {}\n{INSTALL}", String::from_utf8_lossy(&output.stderr));
    output
}
