//! An attached INSERT is made exactly once, with the transaction, whatever statement it is sent with.
#![allow(missing_docs)]

use store::{Db, Executor, Tx};
use testing::{Engine, TestDatabase, on_both_engines};

struct Database {
    place: TestDatabase,
    db: Db,
}

impl Database {
    async fn start(engine: Engine) -> Self {
        let place = TestDatabase::new(engine).await;
        let db = place.open();
        db.write("CREATE TABLE things (name TEXT PRIMARY KEY)").execute().await.expect("a table");
        db.write("CREATE TABLE entries (name TEXT PRIMARY KEY, note TEXT)").execute().await.expect("a table");
        Self { place, db }
    }

    async fn begin(&self) -> Tx {
        self.db.begin().await.expect("a transaction")
    }

    /// Returns the entries that another process sees.
    async fn entries(&self) -> Vec<(String, Option<String>)> {
        self.place.open().query("SELECT name, note FROM entries ORDER BY name").all().await.expect("entries")
    }
}

async fn attach(tx: &mut Tx, name: &'static str) {
    let insert = "INSERT INTO entries (name, note) VALUES ($1, $2)";
    tx.attach(insert, move |query| query.bind(name).bind("it's $1; --")).await.expect("nothing was attached before");
}

fn entry(name: &str) -> (String, Option<String>) {
    (name.to_owned(), Some("it's $1; --".to_owned()))
}

on_both_engines! {
    async fn the_next_query_returns_what_it_returns_alone(database: Database) {
        let mut tx = database.begin().await;
        attach(&mut tx, "a").await;
        let insert = tx.query("INSERT INTO things (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name").bind("one");
        assert_eq!(insert.optional::<(String,)>().await.expect("a row"), Some(("one".to_owned(),)));
        attach(&mut tx, "b").await;
        let insert = tx.query("INSERT INTO things (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name").bind("one");
        assert_eq!(insert.optional::<(String,)>().await.expect("no row"), None);
        attach(&mut tx, "c").await;
        assert_eq!(tx.query("UPDATE things SET name = $2 WHERE name = $1").bind("one").bind("two").execute().await.expect("a change"), 1);
        attach(&mut tx, "d").await;
        assert_eq!(tx.query("DELETE FROM things WHERE name = $1").bind("one").execute().await.expect("no change"), 0);
        attach(&mut tx, "e").await;
        let locked = tx.query("SELECT name FROM things WHERE name = $1").bind("two").for_update();
        assert_eq!(locked.one::<(String,)>().await.expect("a row"), ("two".to_owned(),));
        attach(&mut tx, "f").await;
        let names = tx.query("SELECT name FROM things UNION ALL SELECT 'three' ORDER BY name DESC").all::<(String,)>().await;
        assert_eq!(names.expect("two rows"), [("two".to_owned(),), ("three".to_owned(),)]);
        tx.commit().await.expect("a commit");
        assert_eq!(database.entries().await, ["a", "b", "c", "d", "e", "f"].map(entry));
    }

    async fn a_query_that_does_not_run_does_not_take_it(database: Database) {
        let mut tx = database.begin().await;
        attach(&mut tx, "one").await;
        drop(tx.query("INSERT INTO things (name) VALUES ($1)").bind("not run"));
        tx.query("INSERT INTO things (name) VALUES ($1)").bind("run").execute().await.expect("a row");
        tx.commit().await.expect("a commit");
        assert_eq!(database.entries().await, [entry("one")]);
        assert_eq!(database.db.query("SELECT name FROM things").all::<(String,)>().await.expect("a row"), [("run".to_owned(),)]);
    }

    async fn it_is_made_without_a_next_query(database: Database) {
        let mut tx = database.begin().await;
        attach(&mut tx, "first").await;
        // It sends the first one.
        attach(&mut tx, "second").await;
        tx.commit().await.expect("a commit");
        assert_eq!(database.entries().await, ["first", "second"].map(entry));
    }

    async fn nothing_is_made_without_a_commit(database: Database) {
        let mut tx = database.begin().await;
        attach(&mut tx, "dropped before a query").await;
        drop(tx);
        let mut tx = database.begin().await;
        attach(&mut tx, "dropped after a query").await;
        tx.query("INSERT INTO things (name) VALUES ($1)").bind("one").execute().await.expect("a row");
        drop(tx);
        database.db.write("INSERT INTO things (name) VALUES ($1)").bind("one").execute().await.expect("a row");
        let mut tx = database.begin().await;
        attach(&mut tx, "dropped after a failure").await;
        let failed = tx.query("INSERT INTO things (name) VALUES ($1)").bind("one").execute().await;
        assert!(failed.expect_err("a row that exists").is_unique_violation());
        drop(tx);
        assert_eq!(database.entries().await, []);
    }

    async fn its_error_is_that_of_the_next_query(database: Database) {
        let mut tx = database.begin().await;
        attach(&mut tx, "twice").await;
        tx.commit().await.expect("a commit");
        let mut tx = database.begin().await;
        attach(&mut tx, "twice").await;
        let failed = tx.query("INSERT INTO things (name) VALUES ($1)").bind("one").execute().await;
        assert!(failed.expect_err("an entry that exists").is_unique_violation());
        drop(tx);
        let mut tx = database.begin().await;
        attach(&mut tx, "twice").await;
        assert!(tx.commit().await.expect_err("an entry that exists").is_unique_violation());
        let (things,) = database.db.query("SELECT COUNT(*) FROM things").one::<(i64,)>().await.expect("a count");
        assert_eq!((things, database.entries().await), (0, vec![entry("twice")]));
    }
}
