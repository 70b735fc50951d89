//! `createsuperuser` and `changepassword`, as Django has them. On a terminal they prompt for the values that are not given.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
};

use access::{Clock, Error, read_secret_file};
use clap::Args;
use store::DatabaseArgs;

use super::{CliError, password::read_password};
use crate::{MIGRATIONS, OTHER_SERVICES, SCHEMA, passwords::Policy};

#[derive(Debug, Args)]
pub(crate) struct Createsuperuser {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The username. On a terminal the command prompts for it if it is not given.
    #[arg(long, required_if_eq("noinput", "true"))]
    username: Option<String>,
    /// The e-mail address. On a terminal the command prompts for it if it is not given.
    #[arg(long)]
    email: Option<String>,
    /// Never prompts. The password is in `--password-file` or in the environment variable `AUTH_SUPERUSER_PASSWORD`.
    #[arg(long)]
    noinput: bool,
    /// A file with the password. Without it, the command prompts for the password, or reads it from standard input if that is not a
    /// terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The password itself. It is hidden because other users of the machine can read a command line.
    #[arg(long, env = "AUTH_SUPERUSER_PASSWORD", hide = true, hide_env_values = true)]
    password: Option<String>,
    #[command(flatten)]
    passwords: Policy,
}

#[derive(Debug, Args)]
pub(crate) struct Changepassword {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The user.
    #[arg(value_name = "USERNAME")]
    username: String,
    /// A file with the new password. Without it, the command prompts for the password, or reads it from standard input if that is not
    /// a terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    passwords: Policy,
}

/// Creates a superuser.
pub(crate) async fn create(arguments: Createsuperuser) -> Result<(), CliError> {
    let Createsuperuser { database, username, email, noinput, password_file, password, passwords } = arguments;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let prompts = !noinput && io::stdin().is_terminal();
    let username = match username {
        Some(username) => username,
        None if prompts => prompt("Username: ")?,
        None => return Err(CliError::NoUsername),
    };
    let email = match email {
        None if prompts => prompt("Email address: ")?,
        email => email.unwrap_or_default(),
    };
    let password = match (password_file, password) {
        (Some(file), _) => read_secret_file(&file)?,
        (None, Some(password)) => password,
        (None, None) if noinput => return Err(CliError::NoPassword),
        (None, None) => read_password(None)?,
    };
    crate::create_superuser(&db, &Clock::system(), &username, &email, &password, passwords).await?;
    db.close().await;
    eprintln!("Superuser created successfully.");
    Ok(())
}

/// Sets the password of a user, and ends their sessions.
pub(crate) async fn change_password(arguments: Changepassword) -> Result<(), CliError> {
    let Changepassword { database, username, password_file, passwords } = arguments;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    if password_file.is_none() && io::stdin().is_terminal() {
        eprintln!("Changing password for user '{username}'");
    }
    let password = read_password(password_file.as_deref())?;
    crate::set_password(&db, &Clock::system(), &username, &password, passwords).await.map_err(|error| match error {
        Error::NotFound(_) => CliError::NoUser(username.clone()),
        error => error.into(),
    })?;
    db.close().await;
    eprintln!("Password changed successfully for user '{username}'");
    Ok(())
}

fn prompt(text: &str) -> Result<String, CliError> {
    eprint!("{text}");
    io::stderr().flush().map_err(CliError::Prompt)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(CliError::Prompt)?;
    Ok(line.trim().to_owned())
}
