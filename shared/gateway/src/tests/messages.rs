//! Each violation names the place of the invalid value in the request.

use serde_json::json;

use super::thing;
use crate::json_to_message::parse_message;

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
        (json!({ "empty": { "a": 1 } }), "empty type.empty"),
        (json!({ "any": { "@type": "type.googleapis.com/nothing.v1.Nothing" } }), "any type.any"),
    ] {
        let violation = parse_message(&thing(), body.clone()).expect_err("a refusal");
        assert_eq!(format!("{} {}", violation.field, violation.rule), refused, "{body}");
    }
}
