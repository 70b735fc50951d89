//! The behavior that grpc-gateway documents, and the places where this service differs from it: the table in
//! `docs/reference/http-api.md`. Other tests of the table are in `gateway.rs`.

use serde_json::{Value, json};
use testing::{http::Answer, on_both_engines};

use crate::{
    app::{App, User},
    gateway::{JSON, XML},
};

impl User {
    async fn patches(&self, app: &App, path: &str, body: &str) -> Answer {
        let format = if body.starts_with('<') { XML } else { JSON };
        self.sends(app, &format!("PATCH {path}"), &[format], body.as_bytes()).await
    }

    async fn reads(&self, app: &App, path: &str) -> Value {
        self.sends(app, &format!("GET {path}"), &[], b"").await.json()
    }
}

const ME: &str = "/v1/profiles/me";
const FULL: &str =
    r#"{"bio": "Likes tin.", "birthDate": {"year": 1990, "month": 4, "day": 2}, "website": "https://example.org/"}"#;

fn violations(answer: &Answer) -> Vec<(String, String)> {
    let violations = answer.json()["details"][1]["fieldViolations"].as_array().cloned().unwrap_or_default();
    let text = |violation: &Value, name: &str| violation[name].as_str().unwrap_or_default().to_owned();
    violations.iter().map(|violation| (text(violation, "field"), text(violation, "reason"))).collect()
}

on_both_engines! {
    async fn a_patch_without_a_mask_writes_the_fields_that_the_body_names(app: App) {
        let alice = app.user("alice").await;
        let date = json!({ "year": 1990, "month": 4, "day": 2 });
        for (body, cleared) in [
            (r#"{"bio": ""}"#, vec!["bio"]),
            (r#"{"birthDate": null}"#, vec!["birthDate"]),
            (r#"{"birth_date": null, "website": null}"#, vec!["birthDate", "website"]),
            ("<Profile><bio/></Profile>", vec!["bio"]),
            ("<Profile><birthDate/><website></website></Profile>", vec!["birthDate", "website"]),
            ("{}", vec![]),
            ("<Profile/>", vec![]),
        ] {
            assert_eq!(alice.patches(&app, ME, FULL).await.status, 200);
            let answer = alice.patches(&app, ME, body).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.text());
            let profile = alice.reads(&app, ME).await;
            let expected = |name: &str, full: Value, empty: Value| if cleared.contains(&name) { empty } else { full };
            assert_eq!(profile["bio"], expected("bio", json!("Likes tin."), json!("")), "{body}");
            assert_eq!(profile["website"], expected("website", json!("https://example.org/"), json!("")), "{body}");
            assert_eq!(profile["birthDate"], expected("birthDate", date.clone(), Value::Null), "{body}");
        }
    }

    async fn a_mask_may_name_every_key_of_a_resource(app: App) {
        let alice = app.user("alice").await;
        alice.patches(&app, ME, FULL).await;
        // A grpc-gateway in front sends a mask with the path of every value in the body.
        let mask = "userId,displayName,bio,birthDate.year,birthDate.month,birthDate.day,website,isActive,createTime,updateTime,etag";
        for (path, bio) in [(ME.to_owned(), "Again."), (format!("{ME}?updateMask={mask}"), "Once more.")] {
            let mut profile = alice.reads(&app, ME).await;
            profile["bio"] = json!(bio);
            let answer = alice.patches(&app, &path, &profile.to_string()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let updated = answer.json();
            assert_eq!((&updated["bio"], &updated["birthDate"]["year"]), (&json!(bio), &json!(1990)));
            assert_ne!(updated["etag"], profile["etag"]);
        }
    }

    async fn an_update_that_changes_nothing_writes_nothing(app: App) {
        let alice = app.user("alice").await;
        alice.patches(&app, ME, FULL).await;
        let note = alice.posts(&app, "/v1/profiles/me/notes", r#"{"title": "Hello"}"#).await.json();
        let note_path = format!("/v1/profiles/me/notes/{}", note["noteId"].as_str().unwrap());
        let profile = alice.reads(&app, ME).await;
        app.later();
        for (path, body, before) in [
            (ME, FULL, &profile),
            (ME, r#"{"displayName": "mallory", "isActive": false, "createTime": null}"#, &profile),
            (&note_path, r#"{"title": "Hello", "body": ""}"#, &note),
            (&note_path, r#"{"createTime": "2001-02-03T04:05:06Z", "userId": ""}"#, &note),
        ] {
            let answer = alice.patches(&app, path, body).await;
            assert_eq!((answer.status, &answer.json()), (200, before), "{body}");
            assert_eq!(&alice.reads(&app, path).await, before, "{body}");
        }
    }

    async fn fields_with_default_values_are_written(app: App) {
        let alice = app.user("alice").await;
        assert_eq!(alice.reads(&app, "/v1/profiles/me/notes").await, json!({ "notes": [], "nextPageToken": "" }));
        let profile = alice.reads(&app, ME).await;
        assert_eq!((&profile["bio"], &profile["website"], &profile["isActive"]), (&json!(""), &json!(""), &json!(true)));
        // A message that is not set is absent, and not null.
        assert!(profile.get("birthDate").is_none() && profile.get("favoriteNote").is_none(), "{profile}");
        let inactive = alice.posts(&app, &format!("{ME}:deactivate"), "{}").await.json();
        assert_eq!(inactive["isActive"], json!(false));
    }

    async fn names_numbers_null_and_dates_are_read(app: App) {
        let alice = app.user("alice").await;
        let note = alice.posts(&app, "/v1/profiles/me/notes", "\u{feff}{\"title\": \"a\", \"visibility\": 3, \"body\": null}").await;
        assert_eq!((note.status, note.json()["visibility"].clone()), (200, json!("VISIBILITY_PUBLIC")), "{}", note.text());
        for query in ["page_size=1", "pageSize=1"] {
            assert_eq!(alice.sends(&app, &format!("GET /v1/profiles/me/notes?{query}"), &[], b"").await.status, 200, "{query}");
        }
        for body in [r#"{"birth_date": "1990-04-02"}"#, "<Profile><birthDate>1990-04-02</birthDate></Profile>"] {
            let answer = alice.patches(&app, ME, body).await;
            assert_eq!((answer.status, &answer.json()["birthDate"]), (200, &json!({ "year": 1990, "month": 4, "day": 2 })), "{body}");
            alice.patches(&app, ME, r#"{"birthDate": null}"#).await;
        }
    }

    async fn all_violations_are_reported_at_once(app: App) {
        let alice = app.user("alice").await;
        let long = "x".repeat(2001);
        let body = json!({ "bio": long, "website": "x", "birthDate": "2001-02-30", "etag": "\"1\"" }).to_string();
        let expected = [
            ("profile.bio", "STRING_MAX_LEN"),
            ("update_mask", "UPDATE_MASK_PATH"),
            ("profile.website", "WEBSITE_HTTP_URL"),
            ("profile.birth_date", "DATE_REAL"),
        ];
        let expected = expected.map(|(field, rule)| (field.to_owned(), rule.to_owned()));
        let answer = alice.patches(&app, &format!("{ME}?update_mask=biography"), &body).await;
        assert_eq!((answer.status, violations(&answer)), (400, expected.to_vec()), "{}", answer.text());
        let answer = alice.posts(&app, "/v1/profiles/me/notes", r#"{"title": " ", "visibility": 9}"#).await;
        let expected = [("note.visibility", "ENUM_DEFINED_ONLY"), ("note.title", "TITLE_NOT_BLANK")];
        assert_eq!(violations(&answer), expected.map(|(field, rule)| (field.to_owned(), rule.to_owned())), "{}", answer.text());
    }
}
