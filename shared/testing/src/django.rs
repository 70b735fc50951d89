//! A real Django project in a test: with Django and simplejwt from `PyPI`, in a virtual environment that the first test makes.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde::Deserialize;

use crate::database::{Engine, TestDatabase};

/// Where the project is.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/django");
const INSTALL: &str = "The tests of `import django` need Python with `venv` and `pip` (`apt-get install python3 python3-venv`), and PyPI \
                       or what `pip config` names in its place";

/// A Django project with users of every hasher, groups, permissions, profiles, notes and tokens.
#[derive(Debug)]
pub struct DjangoProject {
    /// What is in it.
    pub facts: Facts,
    database: TestDatabase,
    folder: tempfile::TempDir,
}

/// What is in the project, as the project itself says.
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
    /// Makes the project's database with this engine, and everything in it.
    ///
    /// # Panics
    ///
    /// Where it can't, with a sentence that says what is missing.
    pub async fn new(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut populate = Command::new(environment().join("bin/python"));
        populate.arg(Path::new(PROJECT).join("populate.py")).arg(folder.path().join("dump.json")).current_dir(PROJECT);
        populate.env("DJANGO_SETTINGS_MODULE", "origin.settings").env("PYTHONPATH", PROJECT).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = succeed(populate.env("DATABASE_URL", database.url()));
        let facts = serde_json::from_slice(&output.stdout).expect("what the project says of itself");
        Self { facts, database, folder }
    }

    /// What to import from: the database.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// What to import from: the dump of the database.
    ///
    /// # Panics
    ///
    /// Where the folder's name is no text.
    pub fn dump(&self) -> String {
        self.folder.path().join("dump.json").to_str().expect("a path in UTF-8").to_owned()
    }

    /// A file in a folder that goes with the project.
    ///
    /// # Panics
    ///
    /// Where it can't be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// The project's database.
    pub fn database(&self) -> &TestDatabase {
        &self.database
    }
}

/// The virtual environment, made by the first who needs it and kept beside what is built.
fn environment() -> PathBuf {
    let program = env::current_exe().expect("a program");
    let target = program.ancestors().find(|folder| folder.ends_with("deps")).and_then(|deps| deps.parent()?.parent());
    let target = target.expect("a test that cargo has built");
    let folder = target.join("django-venv");
    let lock = fs::File::create(target.join("django-venv.lock")).expect("a lock file");
    lock.lock().expect("a lock");
    let requirements = Path::new(PROJECT).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements");
    let made = folder.join("made-from.txt");
    if fs::read_to_string(&made).is_ok_and(|made| made == wanted) {
        return folder;
    }
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"]);
    succeed(install.arg(&requirements));
    fs::write(made, wanted).expect("a note of what it was made from");
    folder
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}. {INSTALL}"));
    assert!(output.status.success(), "{command:?}: {}\n{INSTALL}", String::from_utf8_lossy(&output.stderr));
    output
}
