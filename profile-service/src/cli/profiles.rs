//! The commands `profile-service profiles …`, which read the profiles directly from the database.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    CliError,
    administration::{Administered, Administration, moment},
};
use crate::api::{ProfileExport, profile_message};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows a profile.
    Show(Administered<Name>),
    /// Writes all data about one user, one JSON object a line, as `ExportProfile` does.
    Export(Administered<Export>),
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// The username or the id of the user.
    user: String,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    name: Name,
    /// A file to write to, readable only by its owner. By default the data is written to standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Show(command) => show(&command.administration.open().await?, &command.arguments.user).await,
        Command::Export(command) => export(&command.administration.open().await?, &command.arguments).await,
    }
}

async fn show(service: &Administration, name: &str) -> Result<(), CliError> {
    let profile = service.profile(name).await?;
    let state = |is_active| if is_active { "ACTIVE" } else { "INACTIVE" }.to_owned();
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let fields = [
        ("Username", profile.username.clone()),
        ("Id", profile.user_id.to_string()),
        ("Profile", state(profile.is_active)),
        ("User", state(profile.user_is_active)),
        ("Bio", text(&profile.bio)),
        ("Birth date", profile.birth_date.map_or_else(|| "-".to_owned(), |date| date.to_string())),
        ("Website", text(&profile.website)),
        ("Favorite note", profile.favorite_note_id.map_or_else(|| "-".to_owned(), |note_id| note_id.to_string())),
        ("Created", moment(profile.create_time)),
        ("Updated", moment(profile.update_time)),
    ];
    let username = profile.username.clone();
    let json = service.json.value("profiles.v1.Profile", &profile_message(profile));
    Ok(service.output.show(&username, &fields, &json)?)
}

async fn export(service: &Administration, arguments: &Export) -> Result<(), CliError> {
    let profile = service.profile(&arguments.name.user).await?;
    let username = profile.username.clone();
    let mut to: Box<dyn Write> = match &arguments.output {
        None => Box::new(BufWriter::new(io::stdout())),
        Some(path) => {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            Box::new(BufWriter::new(file.map_err(|source| CliError::File { path: path.clone(), source })?))
        }
    };
    let mut export = ProfileExport::new(service.db.clone(), profile);
    let progress = if service.output.quiet { ProgressBar::hidden() } else { ProgressBar::new(export.count().await?) };
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {eta}") {
        progress.set_style(style);
    }
    progress.set_message(username.clone());
    let mut count: u64 = 0;
    while let Some(page) = export.next_page().await? {
        for item in page {
            writeln!(to, "{}", service.json.value("profiles.v1.ExportProfileResponse", &item))?;
            count += 1;
        }
        progress.set_position(count);
    }
    to.flush()?;
    progress.finish_and_clear();
    service.output.message(&format!("exported {count} item(s) about {username}"));
    Ok(())
}
