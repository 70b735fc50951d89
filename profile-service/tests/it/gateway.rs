//! Features of HTTP that gRPC does not have: methods, content types, conditional requests, streams of lines and events, XML, and
//! errors that only an HTTP request can have.

use serde_json::{Value, json};
use testing::http::{Answer, send};
use testing::on_both_engines;

use crate::app::{App, User};

pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const XML: (&str, &str) = ("content-type", "application/xml");

impl User {
    pub async fn sends(&self, app: &App, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = [&[("authorization", self.bearer.as_str())], headers].concat();
        send(app.address, line, &headers, body).await
    }

    pub async fn posts(&self, app: &App, path: &str, body: &str) -> Answer {
        self.sends(app, &format!("POST {path}"), &[JSON], body.as_bytes()).await
    }
}

/// Asserts that the response is an error with this status, this reason, and this field and rule as its first violation.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, reason: &str, violation: Option<(&str, &str)>) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(body["details"][0]["reason"], reason, "{body}");
    let found = &body["details"][1]["fieldViolations"][0];
    let found = found.as_object().map(|found| (found["field"].as_str().unwrap(), found["reason"].as_str().unwrap()));
    assert_eq!(found, violation, "{body}");
}

on_both_engines! {
    async fn what_is_wrong_with_a_request_is_said(app: App) {
        let alice = app.user("alice").await;
        let deep = format!("{{\"title\": {}1{}}}", "[".repeat(100), "]".repeat(100));
        for (body, field, rule) in [
            (r#"{"title": "a", "title": "b"}"#, "note.title", "JSON_DUPLICATE_KEY"),
            (r#"{"title": "a", "t\u0069tle": "b"}"#, "note.title", "JSON_DUPLICATE_KEY"),
            (r#"{"titel": "a"}"#, "note.titel", "FIELD_UNKNOWN"),
            (r#"{"title": 1}"#, "note.title", "TYPE_STRING"),
            (r#"{"title": "a", "visibility": "PUBLIC"}"#, "note.visibility", "TYPE_ENUM"),
            (r#"{"title": "a", "visibility": 1e400}"#, "note.visibility", "JSON_NUMBER"),
            (r#"{"title": "a", "visibility": 1.5}"#, "note.visibility", "TYPE_ENUM"),
            (r#"{"title": "a", "createTime": "yesterday"}"#, "note.create_time", "TYPE_TIMESTAMP"),
            (r#"{"noteId": "x", "note_id": "y", "title": "a"}"#, "note.note_id", "FIELD_TWICE"),
            ("[]", "note", "TYPE_MESSAGE"),
            (r#""title""#, "note", "TYPE_MESSAGE"),
        ] {
            assert_refused(&alice.posts(&app, "/v1/profiles/me/notes", body).await, 400, "FIELD_INVALID", Some((field, rule)));
        }
        let answer = alice.posts(&app, "/v1/profiles/me/notes", &deep).await;
        assert_eq!((answer.status, answer.json()["details"][1]["fieldViolations"][0]["reason"].clone()), (400, json!("JSON_DEPTH")));
        for body in ["{", "{]", "{\"title\": \"a\"} trailing", "title=a", "{\"title\": \"\u{0}\"}"] {
            let answer = alice.posts(&app, "/v1/profiles/me/notes", body).await;
            assert_eq!((answer.status, answer.json()["details"][0]["reason"].clone()), (400, json!("MESSAGE_MALFORMED")), "{body}");
        }
        for (query, field, rule) in [
            ("page_siz=1", "page_siz", "QUERY_UNKNOWN"),
            ("pageSize=one", "page_size", "TYPE_INT32"),
            ("pageSize=1e400", "page_size", "TYPE_INT32"),
            ("page_size=1&pageSize=2", "page_size", "QUERY_TWICE"),
            ("user_id=x", "user_id", "QUERY_BOUND"),
            ("page_token.x=1", "page_token.x", "QUERY_UNKNOWN"),
            ("page_token=%ff", "page_token", "TYPE_STRING"),
        ] {
            let answer = alice.sends(&app, &format!("GET /v1/profiles/me/notes?{query}"), &[], b"").await;
            assert_refused(&answer, 400, "FIELD_INVALID", Some((field, rule)));
        }
        let update = |query: &str| format!("PATCH /v1/profiles/me?{query}");
        let answer = alice.sends(&app, &update("profile.bio=x"), &[JSON], b"{}").await;
        assert_refused(&answer, 400, "FIELD_INVALID", Some(("profile.bio", "QUERY_BOUND")));
        let answer = alice.sends(&app, "GET /v1/profiles/%ff", &[], b"").await;
        assert_refused(&answer, 400, "FIELD_INVALID", Some(("user_id", "TYPE_STRING")));
        let answer = alice.sends(&app, "GET /v1/profiles/me", &[JSON], b"{}").await;
        assert_refused(&answer, 400, "FIELD_INVALID", Some(("body", "BODY_NONE")));
    }

    async fn what_there_is_not_is_said(app: App) {
        let alice = app.user("alice").await;
        for path in ["/v1", "/v1/profile/me", "/v1/profiles/me/notes/", "/v1//profiles", "/profiles.v1.NoteService/ListNotes"] {
            assert_refused(&alice.sends(&app, &format!("GET {path}"), &[], b"").await, 404, "METHOD_UNKNOWN", None);
        }
        for (line, allow) in [
            ("DELETE /v1/profiles/me", "GET, HEAD, OPTIONS, PATCH"),
            ("PUT /v1/profiles/me/notes", "GET, HEAD, OPTIONS, POST"),
            ("PATCH /v1/profiles:batchGet", "GET, HEAD, OPTIONS"),
            ("TRACE /v1/profiles", "GET, HEAD, OPTIONS"),
        ] {
            let answer = alice.sends(&app, line, &[], b"").await;
            assert_refused(&answer, 405, "METHOD_UNKNOWN", None);
            assert_eq!(answer.header("allow"), allow, "{line}");
        }
        let answer = send(app.address, "OPTIONS /v1/profiles/me/notes", &[], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (204, "GET, HEAD, OPTIONS, POST"));

        for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "multipart/form-data"] {
            let answer = alice.sends(&app, "POST /v1/profiles/me/notes", &[("content-type", content_type)], b"{}").await;
            assert_refused(&answer, 415, "MESSAGE_MALFORMED", None);
        }
        let overridden = [JSON, ("x-http-method-override", "PATCH")];
        assert_refused(&alice.sends(&app, "POST /v1/profiles/me", &overridden, b"{}").await, 405, "METHOD_UNKNOWN", None);
        let answer = alice.sends(&app, "POST /v1/profiles/me/notes", &[], b"{}").await;
        assert_refused(&answer, 415, "MESSAGE_MALFORMED", None);
        let answer = alice.sends(&app, "POST /v1/profiles/me/notes", &[JSON, ("content-encoding", "br")], b"{}").await;
        assert_refused(&answer, 415, "MESSAGE_MALFORMED", None);

        let large = format!("{{\"title\": \"{}\"}}", "x".repeat(1 << 20));
        assert_refused(&alice.posts(&app, "/v1/profiles/me/notes", &large).await, 413, "MESSAGE_TOO_LARGE", None);
        let large = "x".repeat(17_000);
        let answer = alice.sends(&app, "GET /v1/profiles/me", &[("x-large", &large)], b"").await;
        assert_refused(&answer, 431, "MESSAGE_TOO_LARGE", None);
    }

    async fn a_stranger_is_refused_before_the_body_is_looked_at(app: App) {
        let answer = send(app.address, "POST /v1/profiles/me/notes", &[JSON], b"{nonsense").await;
        assert_refused(&answer, 401, "ACCESS_TOKEN_INVALID", None);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        let alice = app.user("alice").await;
        let twice = [("authorization", alice.bearer.as_str()), ("authorization", alice.bearer.as_str())];
        assert_refused(&send(app.address, "GET /v1/profiles/me", &twice, b"").await, 401, "ACCESS_TOKEN_INVALID", None);
        let smuggled = [("grpc-metadata-authorization", alice.bearer.as_str())];
        assert_refused(&send(app.address, "GET /v1/profiles/me", &smuggled, b"").await, 401, "ACCESS_TOKEN_INVALID", None);
    }

    async fn an_etag_is_a_header_too(app: App) {
        let alice = app.user("alice").await;
        let created = alice.posts(&app, "/v1/profiles/me/notes", r#"{"title": "Hello"}"#).await;
        let note: Value = created.json();
        assert_eq!((created.status, created.header("etag"), created.header("cache-control")), (200, "\"1\"", "no-store"));
        let path = format!("/v1/profiles/me/notes/{}", note["noteId"].as_str().unwrap());

        let known = alice.sends(&app, &format!("GET {path}"), &[("if-none-match", "W/\"7\", \"1\"")], b"").await;
        assert_eq!((known.status, known.header("etag"), known.body.len()), (304, "\"1\"", 0));
        let other = alice.sends(&app, &format!("GET {path}"), &[("if-none-match", "\"2\"")], b"").await;
        assert_eq!((other.status, other.json()), (200, note.clone()));

        let update = format!("PATCH {path}?update_mask=title");
        let stale = alice.sends(&app, &update, &[JSON, ("if-match", "\"7\"")], br#"{"title": "x"}"#).await;
        assert_refused(&stale, 412, "ETAG_STALE", Some(("note.etag", "ETAG_CURRENT")));
        let in_body = alice.sends(&app, &update, &[JSON], br#"{"title": "x", "etag": "\"7\""}"#).await;
        assert_refused(&in_body, 409, "ETAG_STALE", Some(("note.etag", "ETAG_CURRENT")));
        let both = alice.sends(&app, &update, &[JSON, ("if-match", "\"1\"")], br#"{"title": "x", "etag": "\"7\""}"#).await;
        assert_refused(&both, 400, "FIELD_INVALID", Some(("if-match", "HEADER_ETAG")));
        let current = alice.sends(&app, &update, &[JSON, ("if-match", "\"1\"")], br#"{"title": "x"}"#).await;
        assert_eq!((current.status, current.header("etag")), (200, "\"2\""));

        let stale = alice.sends(&app, &format!("DELETE {path}"), &[("if-match", "\"1\"")], b"").await;
        assert_refused(&stale, 412, "ETAG_STALE", Some(("etag", "ETAG_CURRENT")));
        let unknown = alice.sends(&app, "POST /v1/profiles/me:activate", &[JSON, ("if-match", "\"1\"")], b"{}").await;
        assert_refused(&unknown, 400, "FIELD_INVALID", Some(("if-match", "HEADER_UNSUPPORTED")));
        let deleted = alice.sends(&app, &format!("DELETE {path}"), &[("if-match", "\"2\"")], b"").await;
        assert_eq!((deleted.status, deleted.text()), (200, "{}"));
    }

    async fn a_head_is_a_get_without_the_body(app: App) {
        let alice = app.user("alice").await;
        let get = alice.sends(&app, "GET /v1/profiles/me", &[], b"").await;
        let head = alice.sends(&app, "HEAD /v1/profiles/me", &[], b"").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for header in ["content-length", "content-type", "etag"] {
            assert_eq!(head.header(header), get.header(header), "{header}");
        }
        assert_eq!(alice.sends(&app, "HEAD /v1/nothing", &[], b"").await.status, 404);
    }

    async fn a_stream_is_lines_or_events_or_a_document(app: App) {
        let alice = app.user("alice").await;
        alice.posts(&app, "/v1/profiles/me/notes", r#"{"title": "One & two"}"#).await;
        let export = async |accept: &str| alice.sends(&app, "GET /v1/profiles/me:export", &[("accept", accept)], b"").await;

        let lines = export("*/*").await;
        assert_eq!((lines.status, lines.header("content-type")), (200, "application/x-ndjson"));
        let items: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(items.len(), 2);
        assert_eq!((&items[0]["result"]["profile"]["displayName"], &items[1]["result"]["note"]["title"]), (&json!("alice"), &json!("One & two")));

        let events = export("text/event-stream").await;
        assert_eq!(events.header("content-type"), "text/event-stream");
        let data: Vec<Value> = events.text().split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(|data| serde_json::from_str(data).unwrap()).collect();
        assert_eq!(data, items.iter().map(|item| item["result"].clone()).collect::<Vec<_>>());

        let document = export("application/xml").await;
        assert_eq!(document.header("content-type"), "application/xml");
        assert!(document.text().contains("<title>One &amp; two</title>"), "{}", document.text());
        assert!(document.text().ends_with("</ExportProfileResponse></stream>"), "{}", document.text());
    }

    async fn xml_is_read_and_checked_as_json_is(app: App) {
        let alice = app.user("alice").await;
        let post = async |body: &str| alice.sends(&app, "POST /v1/profiles/me/notes", &[XML, ("accept", "application/xml")], body.as_bytes()).await;
        let created = post("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Note>\n  <title>A &lt;b&gt; &#x41;</title>\n  <visibility>VISIBILITY_PUBLIC</visibility>\n</Note>").await;
        assert_eq!((created.status, created.header("content-type")), (200, "application/xml"), "{}", created.text());
        assert!(created.text().contains("<title>A &lt;b&gt; A</title><visibility>VISIBILITY_PUBLIC</visibility>"), "{}", created.text());

        let deep = format!("{}{}", "<Note>".repeat(100), "</Note>".repeat(100));
        for (body, field, rule) in [
            ("<Note><titel>x</titel></Note>", "note.titel", "FIELD_UNKNOWN"),
            ("<Note><title>x</title><title>y</title></Note>", "note.title", "FIELD_TWICE"),
            ("<Note><title>x</title><visibility>PUBLIC</visibility></Note>", "note.visibility", "TYPE_ENUM"),
            ("<Note><title><b>x</b></title></Note>", "note.title", "TYPE_TEXT"),
            ("<Note>text</Note>", "note", "TYPE_MESSAGE"),
            ("<Profile/>", "body", "XML_ROOT"),
            ("<Note lang=\"en\"/>", "Note", "XML_ATTRIBUTE"),
            ("<Note><title>x", "body", "XML_SYNTAX"),
            ("<Note><title>\u{1}</title></Note>", "body", "XML_SYNTAX"),
            ("<Note><title>&#0;</title></Note>", "body", "XML_SYNTAX"),
            ("<!DOCTYPE Note [<!ENTITY a \"aaa\">]><Note><title>&a;</title></Note>", "body", "XML_FORBIDDEN"),
            ("<Note><title>&a;</title></Note>", "body", "XML_FORBIDDEN"),
            ("<?xml-stylesheet href=\"x\"?><Note/>", "body", "XML_FORBIDDEN"),
            ("<?xml version=\"1.0\" encoding=\"utf-16\"?><Note/>", "body", "XML_FORBIDDEN"),
            (deep.as_str(), "body", "XML_DEPTH"),
        ] {
            let answer = alice.sends(&app, "POST /v1/profiles/me/notes", &[XML], body.as_bytes()).await;
            let answer = answer.json();
            let found = &answer["details"][1]["fieldViolations"][0];
            let field = if matches!(rule, "XML_ATTRIBUTE") { format!("note.{field}") } else { field.to_owned() };
            assert_eq!((found["field"].as_str(), found["reason"].as_str()), (Some(field.as_str()), Some(rule)), "{body}: {answer}");
        }
        let refused = post("<Note/>").await;
        assert_eq!(refused.status, 400);
        assert!(refused.text().contains("<Status><code>3</code>") && refused.text().contains("<field>note.title</field>"), "{}", refused.text());
    }

    async fn a_call_over_http_is_one_call(app: App) {
        let alice = app.user("alice").await;
        let answer = alice.sends(&app, "GET /v1/profiles/me", &[("x-request-id", "order-17")], b"").await;
        assert_eq!((answer.status, answer.header("x-request-id")), (200, "order-17"));
        // No origin is configured, so the response has no CORS header.
        let foreign = alice.sends(&app, "GET /v1/profiles/me", &[("origin", "https://evil.test")], b"").await;
        assert_eq!(foreign.header("access-control-allow-origin"), "");
    }

    async fn what_is_large_is_packed_for_whoever_unpacks_it(app: App) {
        let alice = app.user("alice").await;
        let note = json!({ "title": "Long", "body": "many words ".repeat(500) }).to_string();
        assert_eq!(alice.posts(&app, "/v1/profiles/me/notes", &note).await.status, 200);
        let plain = alice.sends(&app, "GET /v1/profiles/me/notes", &[], b"").await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept, accept-encoding"));
        let packed = alice.sends(&app, "GET /v1/profiles/me/notes", &[("accept-encoding", "br, gzip;q=0.5")], b"").await;
        assert_eq!(packed.header("content-encoding"), "gzip");
        assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < plain.body.len() / 4);
        let refused = alice.sends(&app, "GET /v1/profiles/me/notes", &[("accept-encoding", "gzip;q=0")], b"").await;
        assert_eq!(refused.body, plain.body);
        // Compressed requests are decompressed.
        let broken = alice.sends(&app, "POST /v1/profiles/me/notes", &[JSON, ("content-encoding", "gzip")], &packed.body[..20]).await;
        assert_refused(&broken, 400, "FIELD_INVALID", Some(("body", "BODY_GZIP")));
    }
}
