//! Asks before a change that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

/// The flag of every command whose change cannot be undone.
#[derive(Debug, Clone, Copy, Args)]
pub struct ConfirmArgs {
    /// Does not ask before the change. It is required if standard input is not a terminal.
    #[arg(long, short)]
    pub yes: bool,
}

/// The reason why a change is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Nobody can be asked.
    #[error("{0}: this cannot be undone; pass --yes to do it, because standard input is not a terminal")]
    NoTerminal(String),
    /// The answer is not yes.
    #[error("nothing was changed")]
    Declined,
    /// The answer cannot be read.
    #[error("cannot read the answer: {0}")]
    Read(#[from] io::Error),
}

impl ConfirmArgs {
    /// Asks whether to do `action`, for example "delete the user alice". Asks nothing with `--yes`.
    ///
    /// # Errors
    ///
    /// Returns an error if the answer is not yes, or if standard input is not a terminal.
    pub fn confirm(self, action: &str) -> Result<(), ConfirmError> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(ConfirmError::NoTerminal(action.to_owned()));
        }
        eprint!("{action}? This cannot be undone. [y/N] ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(ConfirmError::Declined),
        }
    }
}
