//! Paths and queries find their route and set fields.

use std::sync::LazyLock;

use access::error::Violation;
use http::Method;
use prost_reflect::{DynamicMessage, FieldDescriptor};
use serde_json::json;

use super::{EVERYTHING, POOL, compiled};
use crate::{
    format::Format,
    json_to_message::parse_message,
    parameters, response,
    routes::{Body, Found, Routes, read},
    xml,
};

/// The routes of `everything.proto`.
pub(super) static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let descriptors = compiled(&["everything.proto".to_owned()], EVERYTHING);
    Routes::new(read(&descriptors).expect("routes").into_iter())
});

/// Returns the message that a URL sets, or the violation, or the allowed methods.
fn request_message(method: &str, url: &str) -> Result<serde_json::Value, String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let (binding, segments) = match ROUTES.find(&method, path) {
        Found::Route(binding, segments) => (binding, segments),
        Found::OtherMethods(allow) => return Err(allow),
        Found::Nothing => return Err(String::new()),
    };
    let mut message = DynamicMessage::new(binding.input.clone());
    let rejected = |violation: Violation| format!("{} {}", violation.field, violation.rule);
    parameters::set_query(&mut message, binding, query).map_err(rejected)?;
    parameters::set_path(&mut message, binding, &segments).map_err(rejected)?;
    Ok(serde_json::to_value(message).expect("JSON"))
}

#[test]
fn a_path_finds_its_route_and_its_fields() {
    for (method, url, expected) in [
        ("GET", "/v1/shelves/1/things/a%20b", Ok(json!({ "name": "shelves/1/things/a b" }))),
        ("GET", "/v1/shelves/1/things/a%2Fb", Ok(json!({ "name": "shelves/1/things/a%2Fb" }))),
        ("GET", "/v1/things/a%2Fb", Ok(json!({ "text": "a/b" }))),
        ("GET", "/v1/things/a:b", Ok(json!({ "text": "a:b" }))),
        ("LINK", "/v1/things/a:link", Ok(json!({ "text": "a" }))),
        ("POST", "/v1/files/a/b/c:read", Ok(json!({ "inner": { "name": "files/a/b/c" } }))),
        ("POST", "/v1/files:read", Ok(json!({ "inner": { "name": "files" } }))),
        // A literal segment has precedence over a variable.
        ("GET", "/v1/things/all", Ok(json!({}))),
        ("GET", "/v1/shelves//things/1", Err("")),
        ("GET", "/v1/shelves/1/things", Err("")),
        ("PUT", "/v1/things/a", Err("GET, HEAD, OPTIONS, PATCH")),
        ("GET", "/v1/things/a%ff", Err("text type.string")),
    ] {
        assert_eq!(request_message(method, url), expected.map_err(str::to_owned), "{method} {url}");
    }
}

#[test]
fn a_query_reaches_every_kind_of_field() {
    for (query, expected) in [
        ("inner.inner.name=a+b%2B", json!({ "inner": { "inner": { "name": "a b+" } } })),
        ("texts=a&texts=b&texts=", json!({ "texts": ["a", "b", ""] })),
        ("inner.numbers=1&inner.numbers=-2", json!({ "inner": { "numbers": [1, -2] } })),
        ("color=COLOR_RED&colors=2&colors=COLOR_RED", json!({ "color": "COLOR_RED", "colors": ["COLOR_BLUE", "COLOR_RED"] })),
        ("flag=true&bool_value=false", json!({ "flag": true, "boolValue": false })),
        ("u64=18446744073709551615&int64Value=-1", json!({ "u64": "18446744073709551615", "int64Value": "-1" })),
        (
            "stringValue=&doubleValue=1.5&single=-Infinity",
            json!({ "stringValue": "", "doubleValue": 1.5, "single": "-Infinity" }),
        ),
        (
            "time=2001-02-03T04:05:06Z&times=2001-02-03T04:05:06Z",
            json!({ "time": "2001-02-03T04:05:06Z", "times": ["2001-02-03T04:05:06Z"] }),
        ),
        ("span=3.5s&mask=a.bC,d_e", json!({ "span": "3.500s", "mask": "a.bC,dE" })),
        ("date=2001-02-03", json!({ "date": { "year": 2001, "month": 2, "day": 3 } })),
        ("date.year=2001&date.month=2", json!({ "date": { "year": 2001, "month": 2 } })),
        ("data=_-8&bytesValue=%2F%2B8%3D", json!({ "data": "/+8=", "bytesValue": "/+8=" })),
    ] {
        assert_eq!(request_message("GET", &format!("/v1/things/all?{query}")), Ok(expected), "{query}");
    }
    for (query, refused) in [
        ("nothing=1", "nothing query.unknown"),
        ("inner.nothing=1", "inner.nothing query.unknown"),
        ("inner=1", "inner query.message"),
        ("inners.name=1", "inners.name query.unknown"),
        ("labels=1", "labels query.map"),
        ("flag=yes", "flag type.bool"),
        ("color=RED", "color type.enum"),
        ("i32=2147483648", "i32 type.int32"),
        ("u32=-1", "u32 type.uint32"),
        ("twice=1e400", "twice type.double"),
        ("single=1e39", "single type.float"),
        ("time=now", "time type.timestamp"),
        ("date=2001-2-3", "date type.date"),
        ("data=!", "data type.bytes"),
        ("flag=true&flag=true", "flag query.twice"),
        ("one=a&neither=true", "neither field.oneof"),
        ("one=a&other.name=b", "other.name field.oneof"),
        ("time=2001-02-03T04:05:60Z", "time type.timestamp"),
        ("struct=1", "struct query.message"),
    ] {
        assert_eq!(request_message("GET", &format!("/v1/things/all?{query}")), Err(refused.to_owned()), "{query}");
    }
}

#[test]
fn a_body_can_be_one_field() {
    let Found::Route(read, _) = ROUTES.find(&Method::POST, "/v1/files/a:read") else { panic!("a route") };
    assert!(matches!(&read.body, Body::Field(field) if field.name() == "inner"));
    let Found::Route(get, _) = ROUTES.find(&Method::GET, "/v1/shelves/1/things/1") else { panic!("a route") };
    assert_eq!(get.response_body.as_ref().map(FieldDescriptor::name), Some("things"));

    let things = POOL.get_message_by_name("everything.v1.Things").expect("things");
    let answer = |tree| parse_message(&things, tree).expect("things");
    let (some, none) = (answer(json!({ "things": [{ "text": "a" }, {}] })), answer(json!({})));
    let render = |message, format| response::render(get, message, format).expect("a text");
    let read: serde_json::Value = serde_json::from_str(&render(&some, Format::Json)).expect("JSON");
    assert_eq!(read.as_array().map(Vec::len), Some(2));
    assert_eq!((&read[0]["text"], &read[1]["text"]), (&json!("a"), &json!("")));
    assert_eq!(render(&none, Format::Json), "[]");
    let document = render(&some, Format::Xml);
    assert!(document.ends_with("<things><item><text>a</text></item><item/></things>"), "{document}");
    let read = xml::parse_field(&things.get_field(1).expect("things"), document.as_bytes()).expect("a list");
    assert_eq!(read.as_list().map(<[_]>::len), Some(2));
}
