//! The parts that administration commands share: their output, the confirmation of changes that cannot be undone, and the name of the
//! operating-system user who runs them.

mod confirm;
mod output;
mod table;

pub use self::{
    confirm::{ConfirmArgs, ConfirmError},
    output::{Listing, OutputArgs, Row},
    table::{Column, escape},
};

/// Returns the name of the operating-system user who runs this process, from the user database of the system, not from the environment.
/// A user without a name there, as in many containers, is `uid NUMBER`.
pub fn operating_system_user() -> String {
    whoami::username().unwrap_or_else(|_| format!("uid {}", rustix::process::geteuid().as_raw()))
}
