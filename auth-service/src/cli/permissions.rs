//! The commands `auth-service permissions …`, which list, grant and revoke permissions directly in the database.

use access::AccessRulesFile;
use clap::{Args, Subcommand};
use serde_json::json;
use server::command::{Column, Row};

use super::{
    CliError,
    administration::{Administered, Administration},
};
use crate::{
    groups,
    permissions::{self, Catalogue, Holder},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the permissions that exist, or those of a user or a group and where each comes from.
    List(Administered<List>),
    /// Grants a permission to a user or a group.
    Grant(Administered<Grant>),
    /// Revokes a permission that a user or a group was granted.
    Revoke(Administered<Revoke>),
}

#[derive(Debug, Args)]
pub(super) struct CatalogueArgs {
    /// A file with the access rules of another service, as for `serve`. May be given more than once.
    #[arg(long, env = "ACCESS_RULES", value_name = "FILE", value_delimiter = ',', value_parser = AccessRulesFile::read)]
    access_rules: Vec<AccessRulesFile>,
    /// A permission of another service, as for `serve`. May be given more than once.
    #[arg(long = "permission", env = "PERMISSION", value_name = "APP.CODENAME", value_delimiter = ',')]
    permissions: Vec<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct List {
    /// The username, the e-mail address or the id of a user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The name or the id of a group.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    #[command(flatten)]
    catalogue: CatalogueArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct HolderArgs {
    /// The username, the e-mail address or the id of the user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The name or the id of the group.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Grant {
    /// The permission, for example `auth.view_user`.
    #[arg(value_name = "APP.CODENAME")]
    name: String,
    #[command(flatten)]
    holder: HolderArgs,
    #[command(flatten)]
    catalogue: CatalogueArgs,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The permission, for example `auth.view_user`.
    #[arg(value_name = "APP.CODENAME")]
    name: String,
    #[command(flatten)]
    holder: HolderArgs,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?, command.arguments).await,
        Command::Grant(command) => {
            let Grant { name, holder, catalogue } = command.arguments;
            permissions::check_form(&name)?;
            if !catalogue.read()?.contains(&name) {
                return Err(CliError::NoPermission(name));
            }
            set(&command.administration.open().await?, holder, &name, true).await
        }
        Command::Revoke(command) => {
            let Revoke { name, holder } = command.arguments;
            set(&command.administration.open().await?, holder, &name, false).await
        }
    }
}

impl CatalogueArgs {
    fn read(&self) -> Result<Catalogue, CliError> {
        Ok(Catalogue::new(&self.access_rules, &self.permissions)?)
    }
}

async fn list(service: &Administration, arguments: List) -> Result<(), CliError> {
    let catalogue = arguments.catalogue.read()?;
    let mut found: Vec<(String, String)> = Vec::new();
    let mut add = |permissions: Vec<String>, source: &str| {
        found.extend(permissions.into_iter().map(|permission| (permission, source.to_owned())));
    };
    if let Some(name) = &arguments.user {
        let user = service.user(name).await?;
        if user.is_superuser {
            add(catalogue.all().to_vec(), "superuser");
        }
        add(permissions::given(&service.db, Holder::User(user.user_id)).await?, "user");
        for group in groups::of_user(&service.db, user.user_id).await? {
            let source = format!("group {}", group.name);
            add(permissions::given(&service.db, Holder::Group(group.group_id)).await?, &source);
        }
    } else if let Some(name) = &arguments.group {
        let group = service.group(name).await?;
        add(permissions::given(&service.db, Holder::Group(group.group_id)).await?, "group");
    } else {
        add(catalogue.all().to_vec(), "access rules");
    }
    found.sort();
    let mut listing = service.output.list(&[Column::new("PERMISSION"), Column::flexible("FROM"), Column::new("KNOWN")]);
    for (permission, source) in found {
        let is_known = catalogue.contains(&permission);
        let cells = vec![permission.clone(), source.clone(), if is_known { "yes" } else { "no" }.to_owned()];
        let json = json!({ "permission": permission, "isKnown": is_known, "from": source });
        listing.push(&Row { name: permission, cells, json })?;
    }
    Ok(listing.finish()?)
}

async fn set(service: &Administration, holder: HolderArgs, permission: &str, is_given: bool) -> Result<(), CliError> {
    let mut change = service.begin().await?;
    let (holder, name) = match (holder.user, holder.group) {
        (Some(name), _) => {
            let user = service.lock_user(&mut change, &name).await?;
            (Holder::User(user.user_id), user.username)
        }
        (None, group) => {
            let group = service.lock_group(&mut change, &group.unwrap_or_default()).await?;
            (Holder::Group(group.group_id), format!("the group {}", group.name))
        }
    };
    let has_changed = permissions::set(&mut change, &service.clock, holder, permission, is_given).await?;
    let command = if is_given { "permissions grant" } else { "permissions revoke" };
    service.commit(change, command, &format!("{permission}, {name}")).await?;
    let outcome = match (is_given, has_changed) {
        (true, true) => format!("granted {permission} to {name}"),
        (true, false) => format!("{name} was granted {permission} already"),
        (false, true) => format!("revoked {permission} from {name}"),
        (false, false) => format!("{name} was not granted {permission}"),
    };
    let permissions = permissions::given(&service.db, holder).await?;
    Ok(service.output.changed(&outcome, &json!({ "permissions": permissions }))?)
}
