//! The plans of the queries.

use access::Clock;
use testing::{Engine, TestDatabase, on_both_engines};

use super::*;

/// One owner with many notes, about which the database has no statistics.
struct ManyNotes(Notes);

impl ManyNotes {
    async fn start(engine: Engine) -> Self {
        Self(Notes::create(engine, 1, 3000).await)
    }
}

/// Forty owners with fifty notes each.
struct Notes {
    engine: Engine,
    db: Db,
    owner: UserId,
    _database: TestDatabase,
}

impl Notes {
    async fn start(engine: Engine) -> Self {
        let notes = Self::create(engine, 40, 50).await;
        let mut tx = notes.db.begin().await.unwrap();
        tx.query("ANALYZE").execute().await.unwrap();
        tx.commit().await.unwrap();
        notes
    }

    /// Creates the notes. There are no statistics about them.
    async fn create(engine: Engine, owners: usize, notes_each: usize) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        migrate::migrate(&db, &crate::MIGRATIONS).await.unwrap();
        let clock = Clock::system();
        let (now, body) = (clock.now(), "b".repeat(200));
        let mut tx = db.begin().await.unwrap();
        let mut owner = UserId::new(&clock);
        for number in 0..owners {
            owner = UserId::new(&clock);
            let query = tx.query(
                "INSERT INTO profiles (user_id, username, username_key, user_version, bio, website, is_active, create_time,
                     update_time, version) VALUES ($1, $2, $3, 1, '', '', TRUE, $4, $4, 1)",
            );
            let name = format!("user{number}");
            query.bind(owner).bind(&name).bind(name.as_bytes()).bind(now).execute().await.unwrap();
            for number in 0..notes_each {
                let query = tx.query(
                    "INSERT INTO notes (user_id, note_id, title, body, visibility, create_time, update_time, version, title_key)
                     VALUES ($1, $2, $3, $4, 3, $5, $5, 1, $6)",
                );
                let title = format!("note {number}");
                let query = query.bind(owner).bind(NoteId::new(&clock)).bind(&title).bind(&body).bind(now);
                query.bind(title.as_bytes()).execute().await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        Self { engine, db, owner, _database: database }
    }

    /// Returns the lines of the plan of a query. `bind` binds its parameters.
    async fn plan(&self, sql: &str, bind: impl FnOnce(Query<'_>) -> Query<'_>) -> Vec<String> {
        let explain = if self.engine == Engine::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
        let query = bind(self.db.query(Box::leak(format!("{explain} {sql}").into_boxed_str())));
        match self.engine {
            Engine::Sqlite => {
                query.all::<(i64, i64, i64, String)>().await.unwrap().into_iter().map(|(_, _, _, line)| line).collect()
            }
            Engine::Postgres => query.all::<(String,)>().await.unwrap().into_iter().map(|(line,)| line).collect(),
        }
    }

    fn assert_reads_one_owner(&self, plan: &[String]) {
        let of_notes = |line: &&String| line.contains("notes_");
        match self.engine {
            Engine::Sqlite => {
                let notes: Vec<_> = plan.iter().filter(|line| line.contains(" n ") || line.ends_with(" n")).collect();
                assert!(!notes.is_empty() && notes.iter().all(|line| line.contains("SEARCH n USING")), "{plan:#?}");
                assert!(notes.iter().all(|line| line.contains("(user_id=?")), "{plan:#?}");
            }
            Engine::Postgres => {
                assert!(plan.iter().any(|line| of_notes(&line)), "{plan:#?}");
                assert!(!plan.iter().any(|line| line.contains("Seq Scan on notes")), "{plan:#?}");
                let conditions: Vec<_> =
                    plan.iter().skip_while(|line| !of_notes(line)).filter(|line| line.contains("Index Cond")).collect();
                assert!(conditions.first().is_some_and(|line| line.contains("user_id = ")), "{plan:#?}");
            }
        }
    }
}

on_both_engines! {
    async fn a_list_and_its_count_read_notes_of_one_owner_only(app: Notes) {
        let reader = Some(UserId::new(&Clock::system()));
        for (search, reader) in [("", reader), ("note 4", reader), ("", Some(app.owner)), ("note 4", Some(app.owner))] {
            let filter = NoteFilter { search: search.to_owned(), ..NoteFilter::all(reader, app.owner) };
            let conditions = filter.conditions();
            for field in [NoteField::CreateTime, NoteField::UpdateTime, NoteField::Title] {
                for is_descending in [false, true] {
                    let order = OrderBy { field, is_descending };
                    let sql = page_query(order, conditions);
                    let plan = app.plan(sql, |query| bind_page(query, &filter, order, None, CHUNK)).await;
                    app.assert_reads_one_owner(&plan);
                    assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "an index gives the order: {plan:#?}");
                }
            }
            let plan = app.plan(count_query(conditions), |query| filter.bind_conditions(query.bind(app.owner))).await;
            app.assert_reads_one_owner(&plan);
        }
    }

    async fn a_page_is_read_in_the_order_of_an_index_without_statistics(app: ManyNotes) {
        let stranger = Some(UserId::new(&Clock::system()));
        for reader in [stranger, Some(app.0.owner)] {
            let filter = NoteFilter::all(reader, app.0.owner);
            for field in [NoteField::CreateTime, NoteField::UpdateTime, NoteField::Title] {
                for is_descending in [false, true] {
                    let order = OrderBy { field, is_descending };
                    let sql = page_query(order, filter.conditions());
                    let plan = app.0.plan(sql, |query| bind_page(query, &filter, order, None, 1)).await;
                    assert!(!plan.iter().any(|line| line.contains("Sort") || line.contains("TEMP B-TREE")), "{plan:#?}");
                }
            }
        }
    }

    async fn missing_title_keys_are_computed_and_an_empty_title_needs_none(app: Notes) {
        let mut tx = app.db.begin().await.unwrap();
        tx.query("UPDATE notes SET title_key = ''").execute().await.unwrap();
        tx.query("UPDATE notes SET title = '' WHERE user_id = $1").bind(app.owner).execute().await.unwrap();
        tx.commit().await.unwrap();
        let mut filled = 0;
        loop {
            match fill_title_keys(app.db.clone()).await.unwrap() {
                0 => break,
                count => filled += count,
            }
            assert!(filled <= 39 * 50, "the keys of empty titles are computed again and again");
        }
        assert_eq!(filled, 39 * 50);
        let (found,) = app.db.query("SELECT COUNT(*) FROM notes WHERE title_key <> ''").one::<(i64,)>().await.unwrap();
        assert_eq!(found, 39 * 50);
    }
}
