//! Each violation names the place of the invalid value in the request.

use serde_json::json;

use super::thing;
use crate::{json, json_to_message::parse_message, xml};

#[test]
fn a_wrong_type_is_named_with_its_place() {
    for (body, refused) in [
        (json!({ "inners": [{}, { "numbers": [1, "x"] }] }), "inners[1].numbers[1] type.int32"),
        (json!({ "labels": { "a": 1 } }), "labels[\"a\"] type.string"),
        (json!({ "byNumber": { "x": {} } }), "by_number[\"x\"] type.int64"),
        (json!({ "byFlag": { "yes": 1 } }), "by_flag[\"yes\"] type.bool"),
        (json!({ "texts": "a" }), "texts type.list"),
        (json!({ "texts": [null] }), "texts[0] type.string"),
        (json!({ "one": "a", "neither": true }), "neither field.oneof"),
        (json!({ "flag": "true" }), "flag type.bool"),
        (json!({ "i64": 1.5 }), "i64 type.int64"),
        (json!({ "u64": -1 }), "u64 type.uint64"),
        (json!({ "int64Value": {} }), "int64_value type.int64"),
        (json!({ "span": "1" }), "span type.duration"),
        (json!({ "span": "1.0000000001s" }), "span type.duration"),
        (json!({ "time": "2001-02-03T04:05:06.0000000001Z" }), "time type.timestamp"),
        (json!({ "time": "2001-02-03T23:59:60Z" }), "time type.timestamp"),
        (json!({ "date": "2001-2-3" }), "date type.date"),
        (json!({ "date": "2001-02-03T00:00:00Z" }), "date type.date"),
        (json!({ "empty": { "a": 1 } }), "empty type.empty"),
        (json!({ "any": { "@type": "type.googleapis.com/nothing.v1.Nothing" } }), "any type.any"),
    ] {
        let violation = parse_message(&thing(), body.clone()).expect_err("a refusal");
        assert_eq!(format!("{} {}", violation.field, violation.rule), refused, "{body}");
    }
}

#[test]
fn a_date_is_an_object_or_a_text() {
    let expected = parse_message(&thing(), json!({ "date": { "year": 1990, "month": 4, "day": 2 } })).expect("a thing");
    assert_eq!(parse_message(&thing(), json!({ "date": "1990-04-02" })).expect("a thing"), expected);
    let document = b"<Thing><date> 1990-04-02 </date></Thing>";
    assert_eq!(xml::parse_message(&thing(), document).expect("a thing"), expected);
}

#[test]
fn nine_digits_of_a_fraction_are_read() {
    for body in [json!({ "time": "2001-02-03T04:05:06.123456789Z" }), json!({ "span": "1.123456789s" })] {
        assert!(parse_message(&thing(), body.clone()).is_ok(), "{body}");
    }
}

#[test]
fn fields_with_default_values_are_written_and_absent_fields_are_not() {
    let message = parse_message(&thing(), json!({ "text": "a", "maybe": "", "inner": {} })).expect("a thing");
    let written = json::to_value(&message).expect("JSON");
    for (field, expected) in [
        ("text", json!("a")),
        ("name", json!("")),
        ("i64", json!("0")),
        ("flag", json!(false)),
        ("color", json!("COLOR_UNSPECIFIED")),
        ("texts", json!([])),
        ("labels", json!({})),
        ("data", json!("")),
        // `optional` fields and messages are written if they are set.
        ("maybe", json!("")),
        ("inner", json!({ "name": "", "numbers": [] })),
    ] {
        assert_eq!(written.get(field), Some(&expected), "{field}");
    }
    for absent in ["time", "stringValue", "date", "one", "other", "neither"] {
        assert_eq!(written.get(absent), None, "{absent}");
    }
    let text = json::to_string(&message).expect("JSON");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), written);
}

/// The sizes from which lists determine the length of a page are never too small.
#[test]
fn no_text_is_longer_than_its_size() {
    let inner = |text: &str| {
        let descriptor = thing().parent_pool().get_message_by_name("everything.v1.Inner").expect("a message");
        let mut message = prost_reflect::DynamicMessage::new(descriptor);
        message.set_field_by_name("name", prost_reflect::Value::String(text.to_owned()));
        message
    };
    let tags = "<Inner><name escape=\"json\"></name></Inner>".len();
    let chars = (0..0x3000).chain(0xd700..=0x1_00ff).chain([0x1_f980, 0x10_ffff]).filter_map(char::from_u32);
    for c in chars {
        // With a control character, XML escapes the whole text as JSON.
        for text in [c.to_string(), format!("{c}\u{1}")] {
            let size = access::text_size::of_text(&text);
            let json = serde_json::to_string(&text).expect("JSON").len() - 2;
            let xml = xml::message_element(&inner(&text)).expect("XML").len();
            assert!(json <= size && xml <= tags + size, "{text:?}: {json} and {xml}, not {size}");
        }
    }
}
