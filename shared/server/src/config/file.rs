//! The configuration file, whose values replace the defaults of the flags.

use std::{
    collections::BTreeMap,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{CONFIG, ConfigError};

/// The values of a configuration file, by the name of the flag.
pub(super) struct ConfigFile {
    path: PathBuf,
    values: BTreeMap<String, Vec<String>>,
}

/// Returns the file that `--config` or `CONFIG_FILE` names. It ignores errors, because the second parse reports them.
pub(super) fn find(command: &Command, arguments: &[OsString]) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    let mut matches = &matches;
    while let Some((_, subcommand)) = matches.subcommand() {
        matches = subcommand;
    }
    matches.try_get_one(CONFIG).ok().flatten().cloned()
}

impl ConfigFile {
    /// Reads a file. The error names the file, the key and the reason.
    pub(super) fn read(path: PathBuf) -> Result<Self, String> {
        let failed = |reason: String| format!("{}: {reason}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let table = text.parse::<toml::Table>().map_err(|error| failed(error.to_string()))?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            let found = match &value {
                toml::Value::Array(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>(),
                value => scalar(value).map(|value| vec![value]),
            };
            let expected = || failed(format!("`{key}` must be a string, a number, a boolean, or an array of them"));
            values.insert(key.replace('_', "-"), found.ok_or_else(expected)?);
        }
        Ok(Self { path, values })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file has a value for the flag.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.values.contains_key(flag)
    }

    /// Makes the values the defaults of the flags. The error names a key that is no flag.
    pub(super) fn apply(&self, mut command: Command) -> Result<Command, String> {
        for (flag, values) in &self.values {
            let mut is_known = false;
            command = replace_default(command, flag, values, &mut is_known);
            if !is_known {
                return Err(format!("{}: there is no setting `{flag}`", self.path.display()));
            }
        }
        Ok(command)
    }

    /// Returns an error that names the file and the key, if a value of the file has caused the error of the command line.
    pub(super) fn explain(&self, error: clap::Error) -> ConfigError {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let flag =
            context(ContextKind::InvalidArg).and_then(|argument| argument.strip_prefix("--")?.split([' ', '=', '[']).next());
        let (Some(flag), Some(value)) = (flag, context(ContextKind::InvalidValue)) else {
            return ConfigError::CommandLine(error);
        };
        if !self.values.get(flag).is_some_and(|values| values.iter().any(|known| known == value)) {
            return ConfigError::CommandLine(error);
        }
        let reason = match (error.kind(), error.get(ContextKind::ValidValue), error.source()) {
            (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid)), _) => format!("expected {}", valid.join(", ")),
            (_, _, Some(source)) => source.to_string(),
            _ => "it is not accepted".to_owned(),
        };
        ConfigError::File(format!("{}: `{flag}` has the wrong value `{value}`: {reason}", self.path.display()))
    }
}

/// Replaces the default of the flag in the command and in every subcommand.
fn replace_default(command: Command, flag: &str, values: &[String], is_known: &mut bool) -> Command {
    let command = command.mut_args(|argument| {
        if argument.get_long() != Some(flag) || argument.get_id() == CONFIG {
            return argument;
        }
        *is_known = true;
        argument.required(false).default_values(values.to_vec())
    });
    command.mut_subcommands(|subcommand| replace_default(subcommand, flag, values, is_known))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}
