//! Lists of users: filters, orders and pages, and the keys by which users are searched.

use std::{collections::HashMap, sync::LazyLock};

use access::{Result, UserId};
use serde::{Deserialize, Serialize};
use store::{
    self, Db, Executor, OrderBy, Query, Tx,
    page::{TimeCursor, time_bound},
    search_key::{prefix_range, search_key, starting_with},
};

use crate::{
    groups::GroupId,
    users::{User, columns},
};

/// The number of users whose search keys one transaction computes.
const FILL_CHUNK: i64 = 200;

/// A field by which users can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum UserField {
    /// The RFC 8265 form of the username.
    Username,
    /// The time at which the user was created.
    CreateTime,
}

/// Parses `order_by` of `ListUsers`.
///
/// # Errors
///
/// Returns INVALID_ARGUMENT that names `order_by`.
pub fn order(order_by: &str) -> Result<OrderBy<UserField>> {
    let fields = [("username", UserField::Username), ("create_time", UserField::CreateTime)];
    OrderBy::parse(order_by, &fields, OrderBy { field: UserField::Username, is_descending: false })
}

/// The users who match every filter.
#[derive(Debug, Clone, Serialize)]
pub struct UserFilter {
    /// The beginning of the RFC 8265 form of the username.
    pub username_prefix: String,
    /// Whether active users match.
    pub includes_active: bool,
    /// Whether users match who are not active.
    pub includes_inactive: bool,
    /// The beginning of a username, an e-mail address, a first name or a last name, compared without regard to case.
    pub search: String,
    /// The group of which the users are members.
    pub group_id: Option<GroupId>,
}

/// The position of a user in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UserCursor {
    /// The RFC 8265 form of the username.
    Username(String),
    /// The time in microseconds since 1970, and the id.
    CreateTime(i64, UserId),
}

impl UserCursor {
    /// Returns the position of the user in a list with this order.
    pub fn of(user: &User, field: UserField) -> Self {
        match field {
            UserField::Username => Self::Username(String::from_utf8_lossy(&user.username_key).into_owned()),
            UserField::CreateTime => Self::CreateTime(user.create_time.timestamp_micros(), user.user_id),
        }
    }
}

/// The texts of a query: each combination of optional filters and each order has texts of its own, so that each has a plan of its own.
#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
struct Shape {
    has_search: bool,
    has_group: bool,
    /// The order of a page, or `None` to count.
    order: Option<(UserField, bool)>,
}

impl Shape {
    fn all() -> impl Iterator<Item = Self> {
        let orders = [UserField::Username, UserField::CreateTime].map(|field| [Some((field, false)), Some((field, true))]);
        let flags = [false, true];
        let orders: Vec<_> = orders.into_iter().flatten().chain([None]).collect();
        orders.into_iter().flat_map(move |order| {
            flags.into_iter().flat_map(move |has_search| flags.map(|has_group| Self { has_search, has_group, order }))
        })
    }

    fn sql(self) -> String {
        let mut last = 4;
        let mut next = || {
            last += 1;
            format!("${last}")
        };
        let mut condition = "username_key >= $1 AND username_key < $2 AND (is_active AND $3 OR NOT is_active AND $4)".to_owned();
        if self.has_search {
            let keys = format!("SELECT user_id FROM user_search_keys WHERE key >= {} AND key < {}", next(), next());
            condition = format!("{condition} AND user_id IN ({keys})");
        }
        if self.has_group {
            condition = format!("{condition} AND user_id IN (SELECT user_id FROM group_members WHERE group_id = {})", next());
        }
        let Some((field, is_descending)) = self.order else {
            return format!("SELECT COUNT(*) FROM users WHERE {condition}");
        };
        let (comparison, direction) = if is_descending { ("<", "DESC") } else { (">", "ASC") };
        let (after, order) = match field {
            UserField::Username => (format!("username_key {comparison} {}", next()), format!("username_key {direction}")),
            UserField::CreateTime => (
                format!("(create_time, user_id) {comparison} ({}, {})", next(), next()),
                format!("create_time {direction}, user_id {direction}"),
            ),
        };
        format!("SELECT {} FROM users WHERE {condition} AND {after} ORDER BY {order} LIMIT {}", columns!(), next())
    }
}

impl UserFilter {
    /// Returns the query with the parameters of the filter.
    fn query<'c>(&self, on: impl Executor<'c>, order: Option<OrderBy<UserField>>) -> Query<'c> {
        static TEXTS: LazyLock<HashMap<Shape, String>> =
            LazyLock::new(|| Shape::all().map(|shape| (shape, shape.sql())).collect());
        let order = order.map(|order| (order.field, order.is_descending));
        let shape = Shape { has_search: !self.search.is_empty(), has_group: self.group_id.is_some(), order };
        self.bind(on.query(&TEXTS[&shape]))
    }

    /// Binds the parameters of the filter.
    fn bind<'c>(&self, query: Query<'c>) -> Query<'c> {
        let (start, end) = prefix_range(&self.username_prefix);
        let mut query = query.bind(start).bind(end).bind(self.includes_active).bind(self.includes_inactive);
        if !self.search.is_empty() {
            let (start, end) = starting_with(&self.search);
            query = query.bind(start).bind(end);
        }
        match self.group_id {
            Some(group_id) => query.bind(group_id),
            None => query,
        }
    }
}

/// Returns the users after a position.
pub async fn list(
    on: impl Executor<'_>,
    filter: &UserFilter,
    order: OrderBy<UserField>,
    after: Option<&UserCursor>,
    limit: i64,
) -> Result<Vec<User>> {
    Ok(bind_cursor(filter.query(on, Some(order)), order, after).bind(limit).all().await?)
}

/// Binds the position of the last user before the page. Without one, and for a position of another order, which only a forged page
/// token can contain, the page is the first one.
fn bind_cursor<'c>(query: Query<'c>, order: OrderBy<UserField>, after: Option<&UserCursor>) -> Query<'c> {
    match order.field {
        UserField::Username => match after {
            Some(UserCursor::Username(key)) => query.bind(key.as_bytes()),
            // No key contains the byte 0xFF.
            _ if order.is_descending => query.bind(&[0xFF_u8][..]),
            _ => query.bind(&[][..]),
        },
        UserField::CreateTime => {
            let after: Option<TimeCursor<_>> = match after {
                Some(UserCursor::CreateTime(micros, user_id)) => Some((*micros, *user_id)),
                _ => None,
            };
            let (time, user_id): (_, UserId) = time_bound(after, order.is_descending);
            query.bind(time).bind(user_id)
        }
    }
}

/// Returns the number of users who match.
pub async fn count(on: impl Executor<'_>, filter: &UserFilter) -> Result<i64> {
    let (count,) = filter.query(on, None).one::<(i64,)>().await?;
    Ok(count)
}

/// Replaces the search keys of a user, whose row must be new or locked.
pub async fn write_search_keys(tx: &mut Tx, user: &User) -> store::Result<()> {
    tx.query("DELETE FROM user_search_keys WHERE user_id = $1").bind(user.user_id).execute().await?;
    let email = user.email.as_deref().unwrap_or_default();
    let mut keys = [&user.username, email, &user.first_name, &user.last_name].map(search_key);
    // A user without a name or an e-mail address has fewer keys. The username is never empty.
    let username = keys[0].clone();
    keys.iter_mut().filter(|key| key.is_empty()).for_each(|key| key.clone_from(&username));
    let query = tx.query(
        "INSERT INTO user_search_keys (user_id, key) VALUES ($1, $2), ($1, $3), ($1, $4), ($1, $5) ON CONFLICT DO NOTHING",
    );
    keys.into_iter().fold(query.bind(user.user_id), |query, key| query.bind(key.into_bytes())).execute().await?;
    Ok(())
}

/// Computes the search keys of some users who have none, and returns their number. Users from before the table have none.
pub async fn fill_search_keys(db: Db) -> store::Result<usize> {
    let mut tx = db.begin().await?;
    let query = tx.query(concat!(
        "SELECT ",
        columns!(),
        " FROM users WHERE NOT EXISTS (SELECT 1 FROM user_search_keys WHERE user_search_keys.user_id = users.user_id)
          ORDER BY user_id LIMIT $1"
    ));
    let users: Vec<User> = query.bind(FILL_CHUNK).for_update().all().await?;
    for user in &users {
        write_search_keys(&mut tx, user).await?;
    }
    tx.commit().await?;
    Ok(users.len())
}

#[cfg(test)]
mod tests {
    use access::Clock;
    use store::Tx;
    use testing::{Engine, TestDatabase, on_both_engines};

    use super::*;

    #[test]
    fn each_text_numbers_its_parameters_without_a_gap() {
        for shape in Shape::all() {
            let sql = shape.sql();
            let numbers = (1..100).take_while(|number| sql.contains(&format!("${number}"))).count();
            let own = [2 * usize::from(shape.has_search), usize::from(shape.has_group)].iter().sum::<usize>();
            let of_page = match shape.order {
                Some((UserField::Username, _)) => 2,
                Some((UserField::CreateTime, _)) => 3,
                None => 0,
            };
            assert_eq!((numbers, sql.matches('$').count()), (4 + own + of_page, 4 + own + of_page), "{sql}");
        }
        assert_eq!(Shape::all().collect::<std::collections::HashSet<_>>().len(), 20);
    }

    /// Two thousand users, a group of three, and a group of all others.
    struct Users {
        engine: Engine,
        db: Db,
        group_id: GroupId,
        _database: TestDatabase,
    }

    impl Users {
        async fn start(engine: Engine) -> Self {
            let database = TestDatabase::new(engine).await;
            let db = database.open();
            migrate::migrate(&db, &crate::MIGRATIONS).await.unwrap();
            let clock = Clock::system();
            let group_id = GroupId::new(&clock);
            let mut tx = db.begin().await.unwrap();
            let others = GroupId::new(&clock);
            insert_group(&mut tx, group_id, "few").await;
            insert_group(&mut tx, others, "others").await;
            for number in 0..2000 {
                let user_id = UserId::new(&clock);
                let query = tx.query(
                    "INSERT INTO users (user_id, username, username_key, first_name, last_name, password_hash, is_active,
                         is_superuser, create_time, update_time, version) VALUES ($1, $2, $3, '', '', '!', TRUE, FALSE, $4, $4, 1)",
                );
                let name = format!("user{number}");
                query.bind(user_id).bind(&name).bind(name.as_bytes()).bind(clock.now()).execute().await.unwrap();
                let query = tx.query("INSERT INTO user_search_keys (user_id, key) VALUES ($1, $2)");
                query.bind(user_id).bind(name.as_bytes()).execute().await.unwrap();
                let query = tx.query("INSERT INTO group_members (group_id, user_id) VALUES ($1, $2)");
                let group_id = if number < 3 { group_id } else { others };
                query.bind(group_id).bind(user_id).execute().await.unwrap();
            }
            tx.commit().await.unwrap();
            let mut tx = db.begin().await.unwrap();
            tx.query("ANALYZE").execute().await.unwrap();
            tx.commit().await.unwrap();
            Self { engine, db, group_id, _database: database }
        }
    }

    async fn insert_group(tx: &mut Tx, group_id: GroupId, name: &str) {
        let query = tx.query(
            "INSERT INTO groups (group_id, name, name_key, create_time, update_time, version) VALUES ($1, $2, $3, $4, $4, 1)",
        );
        query.bind(group_id).bind(name).bind(name.as_bytes()).bind(Clock::system().now()).execute().await.unwrap();
    }

    on_both_engines! {
        async fn no_page_reads_every_user(app: Users) {
            for (search, group_id) in [("", None), ("user199", None), ("", Some(app.group_id)), ("user199", Some(app.group_id))] {
                for field in [UserField::Username, UserField::CreateTime] {
                    for is_descending in [false, true] {
                        let shape = Shape { has_search: !search.is_empty(), has_group: group_id.is_some(), order: Some((field, is_descending)) };
                        let filter = UserFilter {
                            username_prefix: String::new(),
                            includes_active: true,
                            includes_inactive: false,
                            search: search.to_owned(),
                            group_id,
                        };
                        let explain = if app.engine == Engine::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
                        let sql: &'static str = Box::leak(format!("{explain} {}", shape.sql()).into_boxed_str());
                        let order = OrderBy { field, is_descending };
                        let query = bind_cursor(filter.bind(app.db.query(sql)), order, None).bind(51_i64);
                        let plan: Vec<String> = match app.engine {
                            Engine::Sqlite => {
                                query.all::<(i64, i64, i64, String)>().await.unwrap().into_iter().map(|row| row.3).collect()
                            }
                            Engine::Postgres => query.all::<(String,)>().await.unwrap().into_iter().map(|row| row.0).collect(),
                        };
                        let scans = ["SCAN users", "SCAN user_search_keys", "SCAN group_members", "Seq Scan on users", "Seq Scan on user_search_keys"];
                        assert!(!plan.iter().any(|line| scans.iter().any(|scan| line.contains(scan))), "{shape:?}: {plan:#?}");
                    }
                }
            }
        }
    }
}
