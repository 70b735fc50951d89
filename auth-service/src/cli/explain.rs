//! `auth-service explain`, which reads the database directly.

use std::io::{self, Write};

use access::AccessRulesFile;
use clap::Args;
use store::DatabaseArgs;

use super::{CliError, administration::find_user};
use crate::{
    MIGRATIONS, OTHER_SERVICES, SCHEMA,
    access_explanation::{Explanation, KnownMethods, VisibleGroups},
};

/// The width of the lines of the output.
const WIDTH: usize = 80;

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The method, for example `/profiles.v1.NoteService/CreateNote`. The end of the name is enough if it is unique:
    /// `NoteService.CreateNote`.
    #[arg(value_name = "METHOD")]
    method: String,
    /// The user who would call the method: a username, an e-mail address or an id.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// The user who owns the resource that the call would name: an id, a username or an e-mail address. Without it, the resource belongs
    /// to another user.
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// A file with the access rules of another service, as for `serve`. May be given more than once.
    #[arg(long, env = "ACCESS_RULES", value_name = "FILE", value_delimiter = ',', value_parser = AccessRulesFile::read)]
    access_rules: Vec<AccessRulesFile>,
    /// Prints the explanation in JSON.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Prints only `allowed` or `refused`.
    #[arg(long)]
    quiet: bool,
}

pub(super) async fn run(arguments: Explain) -> Result<(), CliError> {
    let Explain { database, method, user, owner, access_rules, json, quiet } = arguments;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let methods = KnownMethods::new(&access_rules);
    let method = methods.find(&method)?;
    let user = find_user(&db, &user).await?;
    let owner = match owner {
        Some(owner) => Some(find_user(&db, &owner).await?.user_id),
        None => None,
    };
    let explanation = method.explain(&db, &user, owner, VisibleGroups::All).await?;
    db.close().await;
    let mut output = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut output, &explanation).map_err(io::Error::from)?;
        writeln!(output)?;
    } else if quiet {
        writeln!(output, "{}", if explanation.is_allowed { "allowed" } else { "refused" })?;
    } else {
        output.write_all(text(&explanation, &user.username).as_bytes())?;
    }
    Ok(())
}

/// Returns the explanation in lines that fit on a terminal.
fn text(explanation: &Explanation, username: &str) -> String {
    let mut lines = vec![format!("{} of {}", explanation.method, explanation.service)];
    wrap("", &explanation.rule, &mut lines);
    for condition in &explanation.conditions {
        lines.push(String::new());
        wrap(if condition.holds { "holds  " } else { "fails  " }, &condition.requirement, &mut lines);
        wrap("       ", &condition.finding, &mut lines);
        for remedy in &condition.remedies {
            wrap("       Possible change: ", &remedy.to_string(), &mut lines);
        }
    }
    lines.push(String::new());
    let verb = if explanation.is_allowed { "may" } else { "may not" };
    lines.push(format!("{} {verb} call this method.", username.escape_debug()));
    lines.join("\n") + "\n"
}

/// Adds a text in lines of at most `WIDTH` characters, if its words allow that. The first line begins with `label`, and the others are
/// indented as far.
fn wrap(label: &str, text: &str, lines: &mut Vec<String>) {
    let indent = " ".repeat(label.chars().count());
    let mut line = label.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
}
