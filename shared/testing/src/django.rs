//! A real Django project for tests, with Django and simplejwt from `PyPI` in a virtual environment that the first test creates.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;

use crate::database::{Engine, TestDatabase};

/// The folder of the project.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/django");
const INSTALL: &str = "The tests of `import django` need Python 3 with venv and pip (apt-get install python3-venv), and access to PyPI \
                       or to the index that `pip config` names.";

/// A Django project with users of every hasher, groups, permissions, profiles, notes and tokens.
#[derive(Debug)]
pub struct DjangoProject {
    /// The contents of the project.
    pub facts: Facts,
    database: TestDatabase,
    folder: tempfile::TempDir,
}

/// The contents of the project, as its `populate.py` prints them.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "see `populate.py`")]
pub struct Facts {
    pub passwords: BTreeMap<String, String>,
    pub hashes: BTreeMap<String, String>,
    pub keys: BTreeMap<String, String>,
    pub refresh: BTreeMap<String, String>,
    pub blacklisted: String,
    pub access: BTreeMap<String, String>,
    pub verifying_key: String,
    pub signing_key: String,
    pub hs256: String,
    pub notes: BTreeMap<String, String>,
    pub counts: BTreeMap<String, u64>,
}

impl DjangoProject {
    /// Creates the project with a database of this engine.
    ///
    /// # Panics
    ///
    /// Panics if Python or the packages are missing, with the command that installs them.
    pub async fn new(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut populate = Command::new(environment().join("bin/python"));
        populate.arg(Path::new(PROJECT).join("populate.py")).arg(folder.path().join("dump.json")).current_dir(PROJECT);
        populate.env("DJANGO_SETTINGS_MODULE", "origin.settings").env("PYTHONPATH", PROJECT).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = succeed(populate.env("DATABASE_URL", database.url()));
        let facts = serde_json::from_slice(&output.stdout).expect("the output of populate.py");
        Self { facts, database, folder }
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// Returns the path of the dump of the database.
    ///
    /// # Panics
    ///
    /// Panics if the path is not UTF-8.
    pub fn dump(&self) -> String {
        self.folder.path().join("dump.json").to_str().expect("a path in UTF-8").to_owned()
    }

    /// Writes a file that is deleted with the project, and returns its path.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Returns the database.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }
}

/// Returns the virtual environment in the target folder. The first test that needs it creates it.
fn environment() -> PathBuf {
    let target = target_folder();
    let folder = target.join("django-venv");
    let lock = fs::File::create(target.join("django-venv.lock")).expect("a lock file");
    lock.lock().expect("a lock");
    let requirements = Path::new(PROJECT).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements");
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return folder;
    }
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]);
    succeed(install.arg(&requirements));
    fs::write(installed, wanted).expect("a list of the installed packages");
    folder
}

/// Returns cargo's target folder, which holds the running test.
pub(crate) fn target_folder() -> PathBuf {
    let program = env::current_exe().expect("the path of the test");
    let deps = program.ancestors().find(|folder| folder.ends_with("deps")).and_then(|deps| deps.parent()?.parent());
    deps.expect("a test that cargo has built").to_owned()
}

/// Runs a command, and panics if it fails.
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}. {INSTALL}"));
    assert!(output.status.success(), "{command:?}: {}\n{INSTALL}", String::from_utf8_lossy(&output.stderr));
    output
}
