//! The commands `auth-service users …`, which change the users directly in the database.

use std::path::PathBuf;

use access::{ClientInfo, validate};
use clap::{Args, Subcommand};
use server::command::{Column, ConfirmArgs, Row};
use store::OrderBy;

use super::{
    CliError,
    administration::{Administered, Administration, day, moment, state},
    password::read_password,
};
use crate::{
    api::user_message,
    groups,
    passwords::{HashPurpose, Passwords, Policy},
    permissions::{self, Holder},
    proto,
    user_lists::{self, UserCursor, UserField, UserFilter},
    users::{self, NewUser, User, UserNames},
};

/// The number of users that one query reads.
const PAGE_SIZE: i64 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the users in the order of their usernames.
    List(Administered<List>),
    /// Shows a user, with their groups and permissions.
    Show(Administered<UserName>),
    /// Creates a user.
    Create(Administered<Create>),
    /// Sets the password of a user, and ends their sessions.
    SetPassword(Administered<SetPassword>),
    /// Lets a user sign in again.
    Activate(Administered<UserName>),
    /// Ends the sessions of a user, who can then not sign in until they are activated.
    Deactivate(Administered<UserName>),
    /// Deletes a user and everything that belongs to them, in every service.
    Delete(Administered<Delete>),
    /// Makes a user a superuser, who holds every permission.
    Promote(Administered<UserName>),
    /// Makes a superuser an ordinary user. One active superuser always remains.
    Demote(Administered<UserName>),
}

#[derive(Debug, Args)]
pub(super) struct UserName {
    /// The username, the e-mail address or the id of the user.
    user: String,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Lists users whose username, e-mail address, first name or last name begins with this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    search: String,
    /// Lists the members of this group, given by name or id.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Lists active users only.
    #[arg(long, conflicts_with = "inactive")]
    active: bool,
    /// Lists users only who are not active.
    #[arg(long)]
    inactive: bool,
    /// Lists superusers only.
    #[arg(long)]
    superusers: bool,
    /// The maximum number of users.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The username.
    username: String,
    /// The e-mail address.
    #[arg(long, default_value = "")]
    email: String,
    /// The first name.
    #[arg(long, default_value = "")]
    first_name: String,
    /// The last name.
    #[arg(long, default_value = "")]
    last_name: String,
    /// A file with the password. Without it, the command prompts for the password, or reads it from standard input if that is not a
    /// terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Creates a user without a password, who cannot sign in until one is set.
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    /// The name of the group that new users join, as for `serve`.
    #[arg(long, env = "DEFAULT_GROUP", value_name = "NAME")]
    default_group: Option<String>,
    #[command(flatten)]
    passwords: Policy,
}

#[derive(Debug, Args)]
pub(super) struct SetPassword {
    #[command(flatten)]
    user: UserName,
    /// A file with the new password. Without it, the command prompts for the password, or reads it from standard input if that is not
    /// a terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    passwords: Policy,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    user: UserName,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?, command.arguments).await,
        Command::Show(command) => show(&command.administration.open().await?, &command.arguments.user).await,
        Command::Create(command) => create(&command.administration.open().await?, command.arguments).await,
        Command::SetPassword(command) => set_password(&command.administration.open().await?, command.arguments).await,
        Command::Activate(command) => set_active(&command.administration.open().await?, &command.arguments.user, true).await,
        Command::Deactivate(command) => set_active(&command.administration.open().await?, &command.arguments.user, false).await,
        Command::Delete(command) => delete(&command.administration.open().await?, &command.arguments).await,
        Command::Promote(command) => set_superuser(&command.administration.open().await?, &command.arguments.user, true).await,
        Command::Demote(command) => set_superuser(&command.administration.open().await?, &command.arguments.user, false).await,
    }
}

async fn list(service: &Administration, arguments: List) -> Result<(), CliError> {
    let group_id = match &arguments.group {
        Some(name) => Some(service.group(name).await?.group_id),
        None => None,
    };
    let filter = UserFilter {
        username_prefix: String::new(),
        includes_active: !arguments.inactive,
        includes_inactive: !arguments.active,
        search: arguments.search,
        group_id,
    };
    let columns = [
        Column::flexible("USERNAME"),
        Column::flexible("E-MAIL"),
        Column::new("STATE"),
        Column::new("SUPERUSER"),
        Column::new("CREATED"),
        Column::optional("LAST LOGIN"),
        Column::optional("ID"),
    ];
    let mut listing = service.output.list(&columns);
    let order = OrderBy { field: UserField::Username, is_descending: false };
    let (mut after, mut left) = (None, arguments.limit.unwrap_or(usize::MAX));
    loop {
        let page = user_lists::list(&service.db, &filter, order, after.as_ref(), PAGE_SIZE).await?;
        let Some(last) = page.last().filter(|_| left > 0) else { break };
        after = Some(UserCursor::of(last, order.field));
        for user in page.into_iter().filter(|user| user.is_superuser || !arguments.superusers).take(left) {
            left -= 1;
            let cells = vec![
                user.username.clone(),
                user.email.clone().unwrap_or_else(|| "-".to_owned()),
                state(user.is_active),
                if user.is_superuser { "yes" } else { "-" }.to_owned(),
                day(user.create_time),
                user.last_login_time.map_or_else(|| "-".to_owned(), day),
                user.user_id.to_string(),
            ];
            let name = user.username.clone();
            listing.push(&Row { name, cells, json: service.json("User", &user_message(user)) })?;
        }
    }
    Ok(listing.finish()?)
}

async fn show(service: &Administration, name: &str) -> Result<(), CliError> {
    let user = service.user(name).await?;
    let groups: Vec<String> = groups::of_user(&service.db, user.user_id).await?.into_iter().map(|group| group.name).collect();
    let permissions = permissions::given(&service.db, Holder::User(user.user_id)).await?;
    let join = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let full_name = format!("{} {}", user.first_name, user.last_name);
    let fields = [
        ("Username", user.username.clone()),
        ("Id", user.user_id.to_string()),
        ("E-mail", user.email.clone().unwrap_or_else(|| "-".to_owned())),
        ("Name", if full_name.trim().is_empty() { "-" } else { full_name.trim() }.to_owned()),
        ("State", state(user.is_active)),
        ("Superuser", if user.is_superuser { "yes" } else { "no" }.to_owned()),
        ("Groups", join(&groups)),
        ("Own permissions", join(&permissions)),
        ("Created", moment(Some(user.create_time))),
        ("Updated", moment(Some(user.update_time))),
        ("Last login", moment(user.last_login_time)),
    ];
    let username = user.username.clone();
    let mut json = service.json("User", &user_message(user));
    json["groups"] = groups.into();
    json["permissions"] = permissions.into();
    Ok(service.output.show(&username, &fields, &json)?)
}

async fn create(service: &Administration, arguments: Create) -> Result<(), CliError> {
    let Create { username, email, first_name, last_name, password_file, no_password, default_group, passwords } = arguments;
    // The rules of the RPC that creates users.
    let user = proto::User {
        username: username.clone(),
        email: email.clone(),
        first_name: first_name.clone(),
        last_name: last_name.clone(),
        ..proto::User::default()
    };
    validate::check(&proto::CreateUserRequest { user: Some(user), password: String::new() })?;
    let names = UserNames::new("", &username, &email, first_name, last_name)?;
    let password_hash = if no_password {
        users::NO_PASSWORD.to_owned()
    } else {
        hash(&read_password(password_file.as_deref())?, passwords, names.weak_password_texts()).await?
    };
    let mut change = service.begin().await?;
    let new = NewUser { names, password_hash, is_superuser: false };
    let user = users::create(&mut change, &service.clock, "", &new).await?;
    if let Some(name) = default_group {
        let group_id = groups::find_by_name(&service.db, &name).await?.ok_or(CliError::NoGroup(name))?.group_id;
        groups::add_new_user(&mut change, group_id, user.user_id).await?;
    }
    service.commit(change, "users create", &username).await?;
    print(service, &format!("created the user {username}"), user)
}

async fn set_password(service: &Administration, arguments: SetPassword) -> Result<(), CliError> {
    let user = service.user(&arguments.user.user).await?;
    let password = read_password(arguments.password_file.as_deref())?;
    let names = vec![user.username, user.email.unwrap_or_default(), user.first_name, user.last_name];
    let password_hash = hash(&password, arguments.passwords, names).await?;
    let mut change = service.begin().await?;
    let user = service.lock_user(&mut change, &user.user_id.to_string()).await?;
    change.set_target("user", user.user_id, Some(&user.username));
    users::set_password(&mut change, &service.clock, user.user_id, &password_hash, None).await?;
    service.commit(change, "users set-password", &user.username).await?;
    let user = service.user(&user.user_id.to_string()).await?;
    print(service, &format!("set the password of {} and ended their sessions", user.username), user)
}

async fn set_active(service: &Administration, name: &str, is_active: bool) -> Result<(), CliError> {
    let mut change = service.begin().await?;
    let user = service.lock_user(&mut change, name).await?;
    let (username, was_active) = (user.username.clone(), user.is_active);
    let user = users::set_active(&mut change, &service.clock, user, is_active).await?;
    let (command, outcome) =
        if is_active { ("users activate", "active") } else { ("users deactivate", "inactive, and their sessions have ended") };
    service.commit(change, command, &username).await?;
    let already = if was_active == is_active { "already " } else { "" };
    print(service, &format!("{username} is {already}{outcome}"), user)
}

async fn set_superuser(service: &Administration, name: &str, is_superuser: bool) -> Result<(), CliError> {
    let mut change = service.begin().await?;
    let user = service.lock_user(&mut change, name).await?;
    let (username, was_superuser) = (user.username.clone(), user.is_superuser);
    let user = users::set_superuser(&mut change, &service.clock, user, is_superuser).await?;
    let command = if is_superuser { "users promote" } else { "users demote" };
    service.commit(change, command, &username).await?;
    let outcome = match (was_superuser, is_superuser) {
        (false, true) => "is a superuser now",
        (true, true) => "is a superuser already",
        (true, false) => "is no superuser any more",
        (false, false) => "is no superuser",
    };
    print(service, &format!("{username} {outcome}"), user)
}

async fn delete(service: &Administration, arguments: &Delete) -> Result<(), CliError> {
    let user = service.user(&arguments.user.user).await?;
    arguments.confirm.confirm(&format!("delete the user {} and everything that belongs to them", user.username))?;
    let mut change = service.begin().await?;
    let user = service.lock_user(&mut change, &user.user_id.to_string()).await?;
    users::delete(&mut change, &service.clock, &user).await?;
    service.commit(change, "users delete", &user.username).await?;
    print(service, &format!("deleted the user {}", user.username), user)
}

async fn hash(password: &str, policy: Policy, names: Vec<String>) -> Result<String, CliError> {
    let passwords = Passwords::new(policy);
    let permit = passwords.acquire(HashPurpose::PasswordChange, &ClientInfo::default())?;
    Ok(permit.hash(passwords.check_new("password", password)?, names).await?)
}

fn print(service: &Administration, message: &str, user: User) -> Result<(), CliError> {
    Ok(service.output.changed(message, &service.json("User", &user_message(user)))?)
}
