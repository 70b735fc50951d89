//! A real Django project for tests, with Django and simplejwt from `PyPI` in a virtual environment that the first test creates.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::{
    database::{Engine, TestDatabase},
    python,
};

/// The folder of the project.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/django");

/// A Django project with users of every hasher, groups, permissions, profiles, notes and tokens.
#[derive(Debug)]
pub struct DjangoProject {
    /// The contents of the project.
    pub facts: Facts,
    database: TestDatabase,
    folder: tempfile::TempDir,
}

/// The contents of the project, as its script prints them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
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

/// Sends requests to the views of a real simplejwt, and returns its responses. `requests` is the path of a file: see `simplejwt.py`.
///
/// # Panics
///
/// Panics if Python or the packages are missing, with the command that installs them.
pub fn simplejwt_answers(requests: &Path) -> Vec<serde_json::Value> {
    let environment = python::virtual_environment("django-venv", &Path::new(PROJECT).join("requirements.txt"), &[]);
    let mut program = Command::new(environment.join("bin/python"));
    program.arg(Path::new(PROJECT).join("simplejwt.py")).arg(requests).env("PYTHONDONTWRITEBYTECODE", "1");
    serde_json::from_slice(&python::run(&mut program).stdout).expect("the output of simplejwt.py")
}

impl DjangoProject {
    /// Creates the project with a database of this engine.
    ///
    /// # Panics
    ///
    /// Panics if Python or the packages are missing, with the command that installs them.
    pub async fn new(engine: Engine) -> Self {
        Self::with_script(engine, "populate.py").await
    }

    /// Creates the project with 2,000 odd users, and with their keys and counts only.
    ///
    /// # Panics
    ///
    /// Panics if Python or the packages are missing, with the command that installs them.
    pub async fn odd(engine: Engine) -> Self {
        Self::with_script(engine, "odd.py").await
    }

    async fn with_script(engine: Engine, script: &str) -> Self {
        let database = TestDatabase::new(engine).await;
        let folder = tempfile::tempdir().expect("a folder");
        let environment = python::virtual_environment("django-venv", &Path::new(PROJECT).join("requirements.txt"), &[]);
        let mut populate = Command::new(environment.join("bin/python"));
        populate.arg(Path::new(PROJECT).join(script)).arg(folder.path().join("dump.json")).current_dir(PROJECT);
        populate.env("DJANGO_SETTINGS_MODULE", "origin.settings").env("PYTHONPATH", PROJECT).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = python::run(populate.env("DATABASE_URL", database.url()));
        let facts = serde_json::from_slice(&output.stdout).expect("the output of the script");
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
