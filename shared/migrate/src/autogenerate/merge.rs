//! `makemigrations --merge`: renumbers migrations where two developers have made the same number.

use std::{collections::BTreeMap, fmt::Write, fs};

use sqlx::{migrate::Migration as MigrationFile, postgres::PgConnectOptions};

use super::{MakeError, Report, compare, files::Sources};

/// A migration that gets another number.
struct Renumbered {
    old: i64,
    new: i64,
    description: String,
}

impl Renumbered {
    fn is_of(&self, file: &MigrationFile) -> bool {
        file.version == self.old && file.description == self.description
    }

    fn name(&self, number: i64) -> String {
        format!("{number:04}_{}", self.description.replace(' ', "_"))
    }
}

/// Renumbers the migration `name` or, without a name, every migration but the first one of each number. Before it renames the files, it
/// applies all migrations in their new order.
pub(super) async fn run(
    mut sources: Sources,
    name: Option<&str>,
    is_dry_run: bool,
    server: Option<&PgConnectOptions>,
    report: &mut Report,
) -> Result<(), MakeError> {
    let renumbered = renumber(&sources, name)?;
    if renumbered.is_empty() {
        report.output.push_str("No conflicts detected to merge.\n");
        return Ok(());
    }
    for file in sources.migrations.migrations.to_mut() {
        if let Some(change) = renumbered.iter().find(|change| change.is_of(file)) {
            file.version = change.new;
        }
    }
    for server in std::iter::once(None).chain(server.map(Some)) {
        compare(&sources, &[], server).await?;
    }
    for change in &renumbered {
        let (old, new) = (change.name(change.old), change.name(change.new));
        let _ = writeln!(report.output, "    {old} is now {new}");
        if !is_dry_run {
            rename(&sources, change, &new)?;
        }
    }
    Ok(())
}

/// Returns the migrations that get the next numbers.
fn renumber(sources: &Sources, name: Option<&str>) -> Result<Vec<Renumbered>, MakeError> {
    let mut by_number: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for file in sources.migrations.iter() {
        let descriptions = by_number.entry(file.version).or_default();
        if !descriptions.iter().any(|known| *known == file.description) {
            descriptions.push(file.description.to_string());
        }
    }
    let mut next = by_number.keys().max().map_or(1, |last| last + 1);
    let mut renumbered = Vec::new();
    for (old, mut descriptions) in by_number {
        if descriptions.len() == 1 {
            continue;
        }
        descriptions.sort();
        let is_named = |description: &String| {
            let change = Renumbered { old, new: old, description: description.clone() };
            name.is_some_and(|name| change.name(old) == name || change.description.replace(' ', "_") == name)
        };
        let moved: Vec<_> = match name {
            Some(_) => descriptions.into_iter().filter(is_named).collect(),
            None => descriptions.split_off(1),
        };
        for description in moved {
            renumbered.push(Renumbered { old, new: next, description });
            next += 1;
        }
    }
    match name {
        Some(name) if renumbered.is_empty() => Err(MakeError::NothingToMerge(name.to_owned())),
        _ => Ok(renumbered),
    }
}

/// Renames the files of a migration.
fn rename(sources: &Sources, change: &Renumbered, new: &str) -> Result<(), MakeError> {
    let folder = sources.folder.join("migrations");
    let failed = |source| MakeError::File { path: folder.clone(), source };
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let file_name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let Some((stem, kind)) = file_name.split_once('.') else { continue };
        let Some((number, description)) = stem.split_once('_') else { continue };
        if number.parse() == Ok(change.old) && description == change.description.replace(' ', "_") {
            fs::rename(folder.join(&file_name), folder.join(format!("{new}.{kind}"))).map_err(failed)?;
        }
    }
    Ok(())
}
