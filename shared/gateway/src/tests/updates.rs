//! A PATCH without an update mask writes the fields that its body names.

use http::{HeaderMap, HeaderValue, Method, header};
use prost_reflect::{DynamicMessage, ReflectMessage};
use tonic::body::Body;

use super::{EVERYTHING, compiled};
use crate::{
    body, parameters,
    routes::{Binding, Found, Routes, read},
    update_mask,
};

/// Returns the update mask and the resource that a PATCH results in.
async fn patch(query: &str, content_type: &'static str, text: &'static str) -> (Vec<String>, serde_json::Value) {
    let routes = Routes::new(read(&compiled(&["everything.proto".to_owned()], EVERYTHING)).expect("routes").into_iter());
    let Found::Route(binding, segments) = routes.find(&Method::PATCH, "/v1/things/a") else { panic!("a route") };
    let message = request(binding, &segments, query, content_type, text).await;
    let mask = message.get_field_by_name("update_mask").expect("a mask");
    let paths = mask.as_message().and_then(|mask| mask.get_field_by_name("paths")).expect("paths");
    let mut paths: Vec<_> = paths.as_list().into_iter().flatten().filter_map(|path| path.as_str().map(str::to_owned)).collect();
    paths.sort();
    let thing = message.get_field_by_name("thing").expect("a thing");
    (paths, serde_json::to_value(thing.as_message().expect("a message")).expect("JSON"))
}

async fn request(
    binding: &Binding,
    segments: &[&str],
    query: &str,
    content_type: &'static str,
    text: &'static str,
) -> DynamicMessage {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    let body = Body::new(http_body_util::Full::from(text));
    let (mut message, fields) = body::read_message(binding, &headers, body).await.expect("a message");
    parameters::set_query(&mut message, binding, query).expect("a query");
    parameters::set_path(&mut message, binding, segments).expect("a path");
    update_mask::set_default(&mut message, binding.update_mask.as_ref().expect("a mask"), fields);
    assert_eq!(message.descriptor().full_name(), "everything.v1.UpdateThingRequest");
    message
}

#[tokio::test]
async fn the_keys_of_the_body_are_the_default_mask() {
    use serde_json::json;

    for (content_type, text, paths, thing) in [
        ("application/json", r#"{"text": "", "flag": true}"#, &["flag", "text"][..], json!({ "name": "a", "flag": true })),
        ("application/json", r#"{"date": null}"#, &["date"], json!({ "name": "a" })),
        ("application/json", r#"{"byNumber": {}, "u64": "0"}"#, &["by_number", "u64"], json!({ "name": "a" })),
        ("application/json", r#"{"date": {"year": 1}}"#, &["date"], json!({ "name": "a", "date": { "year": 1 } })),
        ("application/json", "{}", &[], json!({ "name": "a" })),
        ("application/json", "", &[], json!({ "name": "a" })),
        ("application/xml", "<Thing><text/><flag>true</flag></Thing>", &["flag", "text"], json!({ "name": "a", "flag": true })),
        ("application/xml", "<Thing><date/><u64/><time/></Thing>", &["date", "time", "u64"], json!({ "name": "a" })),
        // The only element of a list clears it, and one of several is an item.
        ("application/xml", "<Thing><texts/></Thing>", &["texts"], json!({ "name": "a" })),
        (
            "application/xml",
            "<Thing><texts>b</texts><texts/></Thing>",
            &["texts", "texts"],
            json!({ "name": "a", "texts": ["b", ""] }),
        ),
        ("application/xml", "<Thing/>", &[], json!({ "name": "a" })),
    ] {
        assert_eq!(patch("", content_type, text).await, (paths.iter().map(ToString::to_string).collect(), thing), "{text}");
    }
}

#[tokio::test]
async fn a_mask_in_the_query_replaces_the_default() {
    let (paths, _) = patch("updateMask=date.year,byNumber", "application/json", r#"{"text": "b"}"#).await;
    assert_eq!(paths, ["by_number", "date.year"]);
    let (paths, _) = patch("update_mask=", "application/json", r#"{"text": "b"}"#).await;
    assert_eq!(paths, ["text"]);
}
