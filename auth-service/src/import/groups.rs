//! Groups with their permissions, and what users hold of both. A permission is `app.codename`, and is kept whether or not an
//! access rule asks for it.

use std::collections::{HashMap, HashSet};

use access::{Clock, Result, UserId};
use django::{ImportError, Report, RowOutcome, Table};
use store::Tx;
use tokio_stream::StreamExt;

use super::{Import, PermissionSection};
use crate::{
    events::OutboxTransaction,
    groups::{self, GroupId},
    legacy,
    permissions::{self, Holder},
    users,
};

/// The longest name of a group, in characters.
const LONGEST_NAME: usize = 150;

/// When a user has come over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserOutcome {
    Now,
    Before,
    Not,
}

/// What users are to hold of groups and permissions, by the users' keys.
#[derive(Default)]
pub(super) struct Groups {
    /// The ids of the groups that are there, by their keys.
    there: HashMap<String, GroupId>,
    permissions: HashMap<String, String>,
    members: HashMap<String, Vec<String>>,
    holders: HashMap<String, Vec<String>>,
}

impl Import<'_> {
    /// Brings the groups over, and reads who is in them.
    pub(super) async fn import_groups(&mut self) -> Result<Groups, ImportError> {
        let users = self.mapping.users.table.clone();
        let mut groups = Groups { permissions: self.read_permissions().await?, ..Groups::default() };
        let join = self.mapping.user_groups.resolve(&users, "groups", "user_id", "group_id");
        groups.members = by_first(self.source.pairs(join.join()).await?);
        let join = self.mapping.user_permissions.resolve(&users, "user_permissions", "user_id", "permission_id");
        groups.holders = by_first(self.source.pairs(join.join()).await?);

        let section = self.mapping.groups.clone();
        let join = self.mapping.group_permissions.resolve(&section.table, "permissions", "group_id", "permission_id");
        let mut of_group = by_first(self.source.pairs(join.join()).await?);
        if !self.source.has(&section.table).await? {
            return Ok(groups);
        }
        self.batch.start_table("groups", self.source.count(&section.table).await?).await?;
        let columns = [&*section.name];
        let mut rows = self.source.rows(Table::new(&section.table, &section.key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(&section.key)?.unwrap_or_default();
            let group_id = GroupId::from(django::row_id(self.origin, "group", &key));
            let tx = self.batch.tx().await?;
            let outcome = if django::mark_imported(tx, group_id.into()).await? {
                insert(tx, &self.clock, group_id, &row.text(&section.name)?).await?
            } else {
                RowOutcome::AlreadyImported
            };
            let (is_new, is_skipped) = (outcome == RowOutcome::Imported, matches!(outcome, RowOutcome::Skipped(_)));
            if is_skipped {
                django::unmark(tx, group_id.into()).await?;
            } else {
                groups.there.insert(key.clone(), group_id);
            }
            self.report.entry("groups").count(&*key, outcome);
            for permission in of_group.remove(&key).unwrap_or_default() {
                let pair = format!("{key}/{permission}");
                let row_id = django::row_id(self.origin, "group_permission", &pair);
                let outcome = match groups.permissions.get(&permission) {
                    _ if is_skipped => skipped("the group was skipped"),
                    None => skipped("there is no such permission"),
                    Some(_) if !django::mark_imported(tx, row_id).await? => RowOutcome::AlreadyImported,
                    Some(_) if !is_new && groups::find(&mut **tx, group_id).await?.is_none() => {
                        django::unmark(tx, row_id).await?;
                        skipped("the group was deleted here")
                    }
                    Some(name) => {
                        permissions::give(tx, Holder::Group(group_id), name).await?;
                        if !is_new {
                            users::rights_of_members_changed(tx, group_id).await?;
                        }
                        RowOutcome::Imported
                    }
                };
                self.report.entry("group_permissions").count(pair, outcome);
            }
        }
        count_rest(&mut self.report, "group_permissions", of_group, "there is no such group");
        Ok(groups)
    }

    /// The permissions as `app.codename`, by their keys.
    async fn read_permissions(&mut self) -> Result<HashMap<String, String>, ImportError> {
        let (types, section) = (self.mapping.content_types.clone(), self.mapping.permissions.clone());
        let mut permissions = HashMap::new();
        if !self.source.has(&section.table).await? || !self.source.has(&types.table).await? {
            return Ok(permissions);
        }
        let mut labels = HashMap::new();
        let columns = [&*types.app_label];
        let mut rows = self.source.rows(Table::new(&types.table, &types.key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            labels.insert(row.key(&types.key)?.unwrap_or_default(), row.text(&types.app_label)?);
        }
        drop(rows);
        let PermissionSection { table, key, content_type, codename } = &section;
        let columns = [&**content_type, &**codename];
        let mut rows = self.source.rows(Table::new(table, key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let label = row.key(content_type)?.and_then(|content_type| labels.get(&content_type));
            if let Some(label) = label {
                permissions.insert(row.key(key)?.unwrap_or_default(), format!("{label}.{}", row.text(codename)?));
            }
        }
        Ok(permissions)
    }
}

impl Groups {
    /// Gives a user what the user holds of groups and permissions, in the transaction that the user comes with.
    pub(super) async fn join(
        &mut self,
        tx: &mut OutboxTransaction,
        report: &mut Report,
        origin: &str,
        (key, user_id): (&str, UserId),
        came: UserOutcome,
    ) -> Result<()> {
        let mut has_changed = false;
        for group in self.members.remove(key).unwrap_or_default() {
            let pair = format!("{key}/{group}");
            let row_id = django::row_id(origin, "user_group", &pair);
            let outcome = match self.there.get(&group) {
                _ if came == UserOutcome::Not => skipped("the user was skipped"),
                None => skipped("the group was skipped, or there is none"),
                Some(_) if !django::mark_imported(tx, row_id).await? => RowOutcome::AlreadyImported,
                Some(group_id) if !is_here(tx, user_id, came).await? || groups::find(&mut **tx, *group_id).await?.is_none() => {
                    django::unmark(tx, row_id).await?;
                    skipped("the user, or the group, was deleted here")
                }
                Some(group_id) => {
                    has_changed |= groups::add_member(tx, *group_id, user_id).await?;
                    RowOutcome::Imported
                }
            };
            report.entry("user_groups").count(pair, outcome);
        }
        for permission in self.holders.remove(key).unwrap_or_default() {
            let pair = format!("{key}/{permission}");
            let row_id = django::row_id(origin, "user_permission", &pair);
            let outcome = match self.permissions.get(&permission) {
                _ if came == UserOutcome::Not => skipped("the user was skipped"),
                None => skipped("there is no such permission"),
                Some(_) if !django::mark_imported(tx, row_id).await? => RowOutcome::AlreadyImported,
                Some(_) if !is_here(tx, user_id, came).await? => {
                    django::unmark(tx, row_id).await?;
                    skipped("the user was deleted here")
                }
                Some(name) => {
                    has_changed |= permissions::give(tx, Holder::User(user_id), name).await?;
                    RowOutcome::Imported
                }
            };
            report.entry("user_permissions").count(pair, outcome);
        }
        if has_changed && came == UserOutcome::Before {
            users::rights_changed(tx, user_id).await?;
        }
        Ok(())
    }

    /// Accounts for what belongs to users who are not there.
    pub(super) fn count_the_rest(self, report: &mut Report) {
        count_rest(report, "user_groups", self.members, "there is no such user");
        count_rest(report, "user_permissions", self.holders, "there is no such user");
    }
}

/// Makes a group. One of the same name that is there already may allow more: nobody becomes a member of that.
async fn insert(tx: &mut Tx, clock: &Clock, group_id: GroupId, name: &str) -> Result<RowOutcome> {
    if let Err(error) = groups::check_name("name", name) {
        return Ok(RowOutcome::Skipped(error.to_string()));
    }
    if name.chars().count() > LONGEST_NAME {
        return Ok(RowOutcome::Skipped(format!("the name has more than {LONGEST_NAME} characters")));
    }
    let now = tx.now(clock).await?;
    let made = groups::insert(tx, now, group_id, name).await?;
    Ok(made.map_or_else(|| skipped("another group has the name"), |_| RowOutcome::Imported))
}

/// False for a user who has come over before and was deleted since.
async fn is_here(tx: &mut Tx, user_id: UserId, came: UserOutcome) -> Result<bool> {
    Ok(came == UserOutcome::Now || legacy::has_user(tx, user_id).await?)
}

fn skipped(reason: &str) -> RowOutcome {
    RowOutcome::Skipped(reason.to_owned())
}

/// The second of each pair by the first, each once.
fn by_first(pairs: Vec<(String, String)>) -> HashMap<String, Vec<String>> {
    let mut seen = HashSet::new();
    let mut by_first: HashMap<String, Vec<String>> = HashMap::new();
    for pair in pairs {
        if seen.insert(pair.clone()) {
            by_first.entry(pair.0).or_default().push(pair.1);
        }
    }
    by_first
}

fn count_rest(report: &mut Report, name: &'static str, rest: HashMap<String, Vec<String>>, reason: &str) {
    for (first, seconds) in rest {
        for second in seconds {
            report.entry(name).count(format!("{first}/{second}"), RowOutcome::Skipped(reason.to_owned()));
        }
    }
}
