//! Imports groups with their permissions, and the groups and permissions of users. A permission has the form `app.codename`, and
//! is imported even if no access rule uses it.

use std::collections::{HashMap, HashSet};

use access::UserId;
use chrono::{DateTime, Utc};
use django::{ImportError, Importer, Report, Row, RowImport, RowOutcome, Table};
use store::Tx;

use super::{Import, Mapping};
use crate::{
    django_tokens,
    events::{EventLog, OutboxTransaction},
    groups::{self, GroupId},
    permissions::{self, Holder},
    users,
};

/// The maximum length of a group's name, in characters.
const MAX_NAME: usize = 150;

/// The groups and permissions that the import gives to users, indexed by the primary keys of the users.
#[derive(Default)]
pub(super) struct Groups {
    /// The ids of the imported groups, indexed by their primary keys in the source.
    imported: HashMap<String, GroupId>,
    permissions: HashMap<String, String>,
    members: HashMap<String, Vec<String>>,
    holders: HashMap<String, Vec<String>>,
}

impl Import {
    /// Imports the groups with their permissions, and reads the memberships.
    pub(super) async fn import_groups(&mut self) -> Result<Groups, ImportError> {
        let (mapping, importer) = (&self.mapping, &mut self.importer);
        let users = &mapping.users.table;
        let mut groups = Groups { permissions: read_permissions(mapping, importer).await?, ..Groups::default() };
        let join = mapping.user_groups.resolve(users, "groups", "user_id", "group_id");
        groups.members = by_first(importer.pairs(join.join()).await?);
        let join = mapping.user_permissions.resolve(users, "user_permissions", "user_id", "permission_id");
        groups.holders = by_first(importer.pairs(join.join()).await?);

        let section = &mapping.groups;
        let join = mapping.group_permissions.resolve(&section.table, "permissions", "group_id", "permission_id");
        let mut of_group = by_first(importer.pairs(join.join()).await?);
        if !importer.has_table("groups", &section.table).await? {
            return Ok(groups);
        }
        let columns = [&*section.name];
        let table = Table::new(&section.table, &section.key, &columns);
        let import = async |row: &Row, group: &mut RowImport<'_, EventLog>| {
            let key = group.key;
            let group_id = GroupId::from(group.row_id("group", key));
            group.set_id(group_id);
            group.set_name(row.text(&section.name)?);
            let now = group.now().await?;
            let insert = async |tx: &mut OutboxTransaction| insert(tx, now, group_id, &row.text(&section.name)?).await;
            let outcome = group.import_once(group_id.into(), insert).await?;
            if !outcome.is_skipped() {
                groups.imported.insert(key.to_owned(), group_id);
            }
            for permission in of_group.remove(key).unwrap_or_default() {
                let name = groups.permissions.get(&permission);
                give_to_group(group, (group_id, &outcome), &permission, name).await?;
            }
            Ok(outcome)
        };
        importer.import_table("groups", table, import).await?;
        count_rest(importer.report(), "group_permissions", of_group, "the group does not exist");
        Ok(groups)
    }
}

/// Gives a group one of its permissions.
async fn give_to_group(
    group: &mut RowImport<'_, EventLog>,
    (group_id, outcome): (GroupId, &RowOutcome),
    permission: &str,
    name: Option<&String>,
) -> Result<(), ImportError> {
    let pair = format!("{}/{permission}", group.key);
    let is_new = *outcome == RowOutcome::Imported;
    let outcome = match name {
        _ if outcome.is_skipped() => RowOutcome::skipped("the group was skipped"),
        None => RowOutcome::skipped("the permission does not exist"),
        Some(name) => {
            let give = async |tx: &mut OutboxTransaction| {
                if !is_new && groups::find(&mut **tx, group_id).await?.is_none() {
                    return Ok(RowOutcome::not_needed("the group was deleted here"));
                }
                permissions::give(tx, Holder::Group(group_id), name).await?;
                if !is_new {
                    users::record_member_permissions_changed(tx, group_id).await?;
                }
                Ok(RowOutcome::Imported)
            };
            group.import_once(group.row_id("group_permission", &pair), give).await?
        }
    };
    group.count("group_permissions", pair, outcome);
    Ok(())
}

/// Reads the permissions as `app.codename`, indexed by their primary keys.
async fn read_permissions(mapping: &Mapping, importer: &mut Importer<EventLog>) -> Result<HashMap<String, String>, ImportError> {
    let (types, section) = (&mapping.content_types, &mapping.permissions);
    let (mut labels, mut permissions) = (HashMap::new(), HashMap::new());
    if !importer.has_table("permissions", &section.table).await? || !importer.has_table("content_types", &types.table).await? {
        return Ok(permissions);
    }
    let columns = [&*types.app_label];
    let read_label = |key, row: &Row| {
        labels.insert(key, row.text(&types.app_label)?);
        Ok(())
    };
    importer.read_table("content_types", Table::new(&types.table, &types.key, &columns), read_label).await?;
    let columns = [&*section.content_type, &*section.codename];
    let read_permission = |key, row: &Row| {
        if let Some(label) = row.key(&section.content_type)?.and_then(|content_type| labels.get(&content_type)) {
            permissions.insert(key, format!("{label}.{}", row.text(&section.codename)?));
        }
        Ok(())
    };
    importer.read_table("permissions", Table::new(&section.table, &section.key, &columns), read_permission).await?;
    Ok(permissions)
}

impl Groups {
    /// Gives a user their groups and permissions, in the transaction that imports the user. `outcome` is the outcome of that
    /// import.
    pub(super) async fn join(
        &mut self,
        user: &mut RowImport<'_, EventLog>,
        user_id: UserId,
        outcome: &RowOutcome,
    ) -> Result<(), ImportError> {
        let is_new = *outcome == RowOutcome::Imported;
        let mut has_changed = false;
        for group in self.members.remove(user.key).unwrap_or_default() {
            let pair = format!("{}/{group}", user.key);
            let outcome = match self.imported.get(&group) {
                _ if outcome.is_skipped() => RowOutcome::skipped("the user was skipped"),
                None => RowOutcome::skipped("the group was skipped or does not exist"),
                Some(group_id) => {
                    let join = async |tx: &mut OutboxTransaction| {
                        if !exists(tx, user_id, is_new).await? || groups::find(&mut **tx, *group_id).await?.is_none() {
                            return Ok(RowOutcome::not_needed("the user or the group was deleted here"));
                        }
                        has_changed |= groups::add_member(tx, *group_id, user_id).await?;
                        Ok(RowOutcome::Imported)
                    };
                    user.import_once(user.row_id("user_group", &pair), join).await?
                }
            };
            user.count("user_groups", pair, outcome);
        }
        for permission in self.holders.remove(user.key).unwrap_or_default() {
            let pair = format!("{}/{permission}", user.key);
            let outcome = match self.permissions.get(&permission) {
                _ if outcome.is_skipped() => RowOutcome::skipped("the user was skipped"),
                None => RowOutcome::skipped("the permission does not exist"),
                Some(name) => {
                    let give = async |tx: &mut OutboxTransaction| {
                        if !exists(tx, user_id, is_new).await? {
                            return Ok(RowOutcome::not_needed("the user was deleted here"));
                        }
                        has_changed |= permissions::give(tx, Holder::User(user_id), name).await?;
                        Ok(RowOutcome::Imported)
                    };
                    user.import_once(user.row_id("user_permission", &pair), give).await?
                }
            };
            user.count("user_permissions", pair, outcome);
        }
        if has_changed && !is_new {
            users::record_permissions_changed(user.tx, user_id).await?;
        }
        Ok(())
    }

    /// Counts the rows that refer to users who are not in the source.
    pub(super) fn count_rest(self, report: &mut Report) {
        count_rest(report, "user_groups", self.members, "the user does not exist");
        count_rest(report, "user_permissions", self.holders, "the user does not exist");
    }
}

/// Creates a group. Skips it if the name is taken: the existing group may have other permissions, so the import adds no members
/// to it.
async fn insert(tx: &mut Tx, now: DateTime<Utc>, group_id: GroupId, name: &str) -> Result<RowOutcome, ImportError> {
    if let Err(error) = groups::check_name("name", name) {
        return Ok(RowOutcome::skipped(error.to_string()));
    }
    if name.chars().count() > MAX_NAME {
        return Ok(RowOutcome::skipped(format!("the name has more than {MAX_NAME} characters")));
    }
    let group = groups::insert(tx, now, group_id, name, "").await?;
    Ok(group.map_or_else(|| RowOutcome::skipped("another group has the name"), |_| RowOutcome::Imported))
}

/// Returns false if an earlier import created the user, and the user has been deleted since then.
async fn exists(tx: &mut Tx, user_id: UserId, is_new: bool) -> Result<bool, ImportError> {
    Ok(is_new || django_tokens::has_user(tx, user_id).await?)
}

/// Returns, for each first key of the pairs, the second keys without duplicates.
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
            report.entry(name).count(format!("{first}/{second}"), "", RowOutcome::skipped(reason));
        }
    }
}
