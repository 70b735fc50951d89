//! Reads passwords from a file, from a terminal, or from standard input.

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use access::read_secret_file;

use super::CliError;

/// Reads a password from a file, from the terminal twice, or from standard input.
pub(super) fn read_password(file: Option<&Path>) -> Result<String, CliError> {
    if let Some(file) = file {
        return Ok(read_secret_file(file)?);
    }
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(CliError::Password)?;
        let password = line.trim_end_matches(['\r', '\n']).to_owned();
        return if password.is_empty() { Err(CliError::NoPasswordOnInput) } else { Ok(password) };
    }
    let ask = |text| rpassword::prompt_password(text).map_err(CliError::Password);
    loop {
        let password = ask("Password: ")?;
        if password.trim().is_empty() {
            eprintln!("Error: Blank passwords aren't allowed.");
        } else if ask("Password (again): ")? == password {
            return Ok(password);
        } else {
            eprintln!("Error: Your passwords didn't match.");
        }
    }
}
