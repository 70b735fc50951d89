//! Groups with their permissions, and what users hold of both. A permission is `app.codename`, and is kept whether or not an
//! access rule asks for it.

use std::collections::{HashMap, HashSet};

use shared::{
    Result, Tx, UserId,
    db::Executor,
    django::{self, Arrivals, ImportError, Outcome, Report, Table},
};
use tokio_stream::StreamExt;
use uuid::Uuid;

use super::{Import, PermissionSection};

/// The longest name of a group, in characters.
const LONGEST_NAME: usize = 150;

/// What users are to hold of groups and permissions, by the users' keys.
#[derive(Default)]
pub(super) struct Groups {
    /// The ids of the groups that are there, by their keys.
    there: HashMap<String, Uuid>,
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
        self.arrivals.expect("groups", self.source.count(&section.table).await?).await?;
        let columns = [&*section.name];
        let mut rows = self.source.rows(Table::new(&section.table, &section.key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(&section.key)?.unwrap_or_default();
            let group_id = django::row_id(self.origin, "group", &key);
            let tx = self.arrivals.tx().await?;
            let outcome = if Arrivals::is_first(tx, group_id).await? {
                let name = row.text(&section.name)?;
                insert(tx, &self.clock, group_id, &name).await?
            } else {
                Outcome::There
            };
            match outcome {
                Outcome::Skipped(_) => Arrivals::forget(tx, group_id).await?,
                _ => _ = groups.there.insert(key.clone(), group_id),
            }
            let is_skipped = matches!(outcome, Outcome::Skipped(_));
            self.report.of("groups").count(&*key, outcome);
            for permission in of_group.remove(&key).unwrap_or_default() {
                let pair = format!("{key}/{permission}");
                let outcome = match groups.permissions.get(&permission) {
                    _ if is_skipped => Outcome::Skipped("the group was skipped".to_owned()),
                    None => Outcome::Skipped("there is no such permission".to_owned()),
                    Some(name) => {
                        let row_id = django::row_id(self.origin, "group_permission", &pair);
                        let sql = "INSERT INTO group_permissions (group_id, permission) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                        hold(tx, row_id, sql, (group_id, name)).await?
                    }
                };
                self.report.of("group_permissions").count(pair, outcome);
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
        tx: &mut Tx,
        report: &mut Report,
        origin: &str,
        (key, user_id): (&str, UserId),
        may_join: bool,
    ) -> Result<()> {
        let skipped = |reason: &str| Outcome::Skipped(reason.to_owned());
        for group in self.members.remove(key).unwrap_or_default() {
            let pair = format!("{key}/{group}");
            let outcome = match self.there.get(&group) {
                _ if !may_join => skipped("the user was skipped"),
                None => skipped("the group was skipped, or there is none"),
                Some(group_id) => {
                    let row_id = django::row_id(origin, "user_group", &pair);
                    let sql = "INSERT INTO group_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    hold(tx, row_id, sql, (*group_id, user_id)).await?
                }
            };
            report.of("user_groups").count(pair, outcome);
        }
        for permission in self.holders.remove(key).unwrap_or_default() {
            let pair = format!("{key}/{permission}");
            let outcome = match self.permissions.get(&permission) {
                _ if !may_join => skipped("the user was skipped"),
                None => skipped("there is no such permission"),
                Some(name) => {
                    let row_id = django::row_id(origin, "user_permission", &pair);
                    let sql = "INSERT INTO user_permissions (user_id, permission) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    hold(tx, row_id, sql, (user_id, name)).await?
                }
            };
            report.of("user_permissions").count(pair, outcome);
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
async fn insert(tx: &mut Tx, clock: &shared::Clock, group_id: Uuid, name: &str) -> Result<Outcome> {
    if name.trim().is_empty() || name.chars().count() > LONGEST_NAME {
        return Ok(Outcome::Skipped(format!("the name has to have 1 to {LONGEST_NAME} characters")));
    }
    let now = tx.now(clock).await?;
    let query = tx.query(
        "INSERT INTO groups (group_id, name, name_key, create_time, update_time, version) VALUES ($1, $2, $3, $4, $4, 1)
         ON CONFLICT DO NOTHING",
    );
    let written = query.bind(group_id).bind(name).bind(name.as_bytes()).bind(now).execute().await?;
    if written > 0 { Ok(Outcome::Imported) } else { Ok(Outcome::Skipped("another group has the name".to_owned())) }
}

/// Writes a pair, where it has not come over before. Whatever has become of it since, stays.
async fn hold<'q, A, B>(tx: &mut Tx, row_id: Uuid, sql: &'static str, (one, other): (A, B)) -> Result<Outcome>
where
    A: shared::db::Parameter<'q>,
    B: shared::db::Parameter<'q>,
{
    if !Arrivals::is_first(tx, row_id).await? {
        return Ok(Outcome::There);
    }
    tx.query(sql).bind(one).bind(other).execute().await?;
    Ok(Outcome::Imported)
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
            report.of(name).count(format!("{first}/{second}"), Outcome::Skipped(reason.to_owned()));
        }
    }
}
