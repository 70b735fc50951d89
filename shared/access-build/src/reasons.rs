//! Makes the enum `Reason` of a package usable as the reason of an error.

use std::fmt::Write;

use prost_reflect::EnumDescriptor;

use crate::{ACCESS_ALIAS, Error};

/// The prefix that buf requires of the values, and that `google.rpc.ErrorInfo` does not carry.
const PREFIX: &str = "REASON_";

pub(crate) fn generate(reasons: &EnumDescriptor, domain: &str, code: &mut String) -> Result<(), Error> {
    if let Some(value) = reasons.values().find(|value| !value.name().starts_with(PREFIX)) {
        return Err(format!("{}: the name of a reason begins with {PREFIX}", value.full_name()).into());
    }
    let (access, name) = (ACCESS_ALIAS, reasons.name());
    write!(
        code,
        r#"
impl From<{name}> for {access}::error::ErrorReason {{
    fn from(reason: {name}) -> Self {{
        Self::new({domain:?}, reason.as_str_name().trim_start_matches("{PREFIX}"))
    }}
}}
"#
    )?;
    Ok(())
}
