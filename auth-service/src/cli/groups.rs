//! The commands `auth-service groups …`, which change the groups directly in the database.

use access::validate;
use clap::{Args, Subcommand};
use server::command::{Column, ConfirmArgs, Row};

use super::{
    CliError,
    administration::{Administered, Administration, Nothing, day, moment},
};
use crate::{
    api::group_message,
    groups::{self, Group, Member},
    permissions::{self, Holder},
    proto,
};

/// The number of groups or members that one query reads.
const PAGE_SIZE: i64 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the groups in the order of their names.
    List(Administered<Nothing>),
    /// Shows a group, with its permissions and members.
    Show(Administered<GroupName>),
    /// Creates a group.
    Create(Administered<Create>),
    /// Deletes a group. Its members lose its permissions.
    Delete(Administered<Delete>),
    /// Makes a user a member of a group.
    AddMember(Administered<Membership>),
    /// Ends the membership of a user in a group.
    RemoveMember(Administered<Membership>),
}

#[derive(Debug, Args)]
pub(super) struct GroupName {
    /// The name or the id of the group.
    group: String,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The name of the group.
    name: String,
    /// The description of the group.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    group: GroupName,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

#[derive(Debug, Args)]
pub(super) struct Membership {
    #[command(flatten)]
    group: GroupName,
    /// The username, the e-mail address or the id of the user.
    user: String,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?).await,
        Command::Show(command) => show(&command.administration.open().await?, &command.arguments.group).await,
        Command::Create(command) => create(&command.administration.open().await?, command.arguments).await,
        Command::Delete(command) => delete(&command.administration.open().await?, &command.arguments).await,
        Command::AddMember(command) => set_member(&command.administration.open().await?, &command.arguments, true).await,
        Command::RemoveMember(command) => set_member(&command.administration.open().await?, &command.arguments, false).await,
    }
}

async fn list(service: &Administration) -> Result<(), CliError> {
    let columns = [Column::flexible("NAME"), Column::new("CREATED"), Column::flexible("PERMISSIONS"), Column::optional("ID")];
    let mut listing = service.output.list(&columns);
    let mut after = None;
    loop {
        let page = groups::list(&service.db, after.as_ref(), PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        let group_ids: Vec<_> = page.iter().map(|group| group.group_id).collect();
        let mut all = groups::permissions(&service.db, &group_ids).await?;
        for group in page {
            let permissions = all.remove(&group.group_id).unwrap_or_default();
            let shown = if permissions.is_empty() { "-".to_owned() } else { permissions.join(" ") };
            let (name, group_id) = (group.name.clone(), group.group_id.to_string());
            let cells = vec![name.clone(), day(group.create_time), shown, group_id];
            listing.push(&Row { name, cells, json: service.json("Group", &group_message(group, permissions)) })?;
        }
    }
    Ok(listing.finish()?)
}

async fn show(service: &Administration, name: &str) -> Result<(), CliError> {
    let group = service.group(name).await?;
    let permissions = permissions::given(&service.db, Holder::Group(group.group_id)).await?;
    let mut members: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let page = groups::members(&service.db, group.group_id, after.as_ref(), PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(Member::key(last));
        members.extend(page.into_iter().map(|member| member.username));
    }
    let join = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let fields = [
        ("Name", group.name.clone()),
        ("Id", group.group_id.to_string()),
        ("Description", if group.description.is_empty() { "-" } else { &group.description }.to_owned()),
        ("Permissions", join(&permissions)),
        ("Members", join(&members)),
        ("Created", moment(Some(group.create_time))),
        ("Updated", moment(Some(group.update_time))),
    ];
    let name = group.name.clone();
    let mut json = service.json("Group", &group_message(group, permissions));
    json["members"] = members.into();
    Ok(service.output.show(&name, &fields, &json)?)
}

async fn create(service: &Administration, Create { name, description }: Create) -> Result<(), CliError> {
    // The rules of the RPC that creates groups.
    let group = proto::Group { name: name.clone(), description: description.clone(), ..proto::Group::default() };
    validate::check(&proto::CreateGroupRequest { group: Some(group) })?;
    groups::check_name("name", &name)?;
    let mut change = service.begin().await?;
    let group = groups::create(&mut change, &service.clock, &name, &description).await?;
    service.commit(change, "groups create", &name).await?;
    print(service, &format!("created the group {name}"), group).await
}

async fn delete(service: &Administration, arguments: &Delete) -> Result<(), CliError> {
    let group = service.group(&arguments.group.group).await?;
    arguments.confirm.confirm(&format!("delete the group {}, whose members lose its permissions", group.name))?;
    let permissions = permissions::given(&service.db, Holder::Group(group.group_id)).await?;
    let mut change = service.begin().await?;
    let group = service.lock_group(&mut change, &group.group_id.to_string()).await?;
    groups::delete(&mut change, group.group_id).await?;
    service.commit(change, "groups delete", &group.name).await?;
    let message = format!("deleted the group {}", group.name);
    Ok(service.output.changed(&message, &service.json("Group", &group_message(group, permissions)))?)
}

async fn set_member(service: &Administration, arguments: &Membership, is_member: bool) -> Result<(), CliError> {
    let mut change = service.begin().await?;
    let group = service.lock_group(&mut change, &arguments.group.group).await?;
    let user = service.lock_user(&mut change, &arguments.user).await?;
    let has_changed = groups::set_member(&mut change, group.group_id, user.user_id, is_member).await?;
    let command = if is_member { "groups add-member" } else { "groups remove-member" };
    service.commit(change, command, &format!("{}, {}", group.name, user.username)).await?;
    let outcome = match (is_member, has_changed) {
        (true, true) => "is a member of",
        (true, false) => "is already a member of",
        (false, true) => "is no longer a member of",
        (false, false) => "is no member of",
    };
    print(service, &format!("{} {outcome} {}", user.username, group.name), group).await
}

async fn print(service: &Administration, message: &str, group: Group) -> Result<(), CliError> {
    let permissions = permissions::given(&service.db, Holder::Group(group.group_id)).await?;
    Ok(service.output.changed(message, &service.json("Group", &group_message(group, permissions)))?)
}
