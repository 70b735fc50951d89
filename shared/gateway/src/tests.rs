//! The gateway's parts with messages of every kind, with random messages of the services, and with arbitrary input.

use std::{fs, path::Path, sync::LazyLock};

use http::{HeaderMap, Method};
use proptest::{collection::vec, prelude::*, test_runner::TestRng};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use serde_json::json;

use super::{
    json as strict, json_to_message, parameters,
    routes::{Body, Found, Routes, read},
    xml,
};
use testing::rounds;

/// Messages with everything that protos have.
const EVERYTHING: &str = r#"
syntax = "proto3";
package everything.v1;
import "google/api/annotations.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";

service ThingService {
  rpc GetThing(Thing) returns (Things) {
    option (google.api.http) = {
      get: "/v1/{name=shelves/*/things/*}"
      response_body: "things"
      additional_bindings { get: "/v1/things/{text}" }
      additional_bindings { post: "/v1/{inner.name=files/**}:read" body: "inner" }
      additional_bindings { custom: { kind: "LINK" path: "/v1/things/{text}:link" } }
    };
  }
  rpc ListThings(Thing) returns (Things) {
    option (google.api.http) = { get: "/v1/things/all" };
  }
}

message Things { repeated Thing things = 1; }

enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; COLOUR_BLUE = 2; }

message Inner { string name = 1; Inner inner = 2; repeated int32 numbers = 3; }

message Thing {
  string name = 1;
  string text = 2;
  Inner inner = 3;
  repeated Inner inners = 4;
  map<string, string> labels = 5;
  map<int64, Inner> by_number = 6;
  map<bool, Colour> by_flag = 7;
  Colour colour = 8;
  repeated Colour colours = 9;
  bool flag = 10;
  bytes data = 11;
  int32 i32 = 12;
  int64 i64 = 13;
  uint32 u32 = 14;
  uint64 u64 = 15;
  sint32 s32 = 16;
  fixed64 f64 = 17;
  sfixed32 sf32 = 18;
  float single = 19;
  double twice = 20;
  optional string maybe = 21;
  oneof choice { string one = 22; Inner other = 23; bool neither = 24; }
  google.protobuf.Timestamp time = 25;
  google.protobuf.Duration span = 26;
  google.protobuf.FieldMask mask = 27;
  google.protobuf.StringValue string_value = 28;
  google.protobuf.BoolValue bool_value = 29;
  google.protobuf.Int64Value int64_value = 30;
  google.protobuf.DoubleValue double_value = 31;
  google.protobuf.BytesValue bytes_value = 32;
  google.protobuf.Struct struct = 33;
  google.protobuf.Value value = 34;
  google.protobuf.ListValue list = 35;
  google.protobuf.Empty empty = 36;
  google.protobuf.Any any = 37;
  google.type.Date date = 38;
  repeated string texts = 39;
  repeated google.protobuf.Timestamp times = 40;
}
"#;

struct InMemory;

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "everything.proto" { File::from_source(name, EVERYTHING) } else { Err(protox::Error::file_not_found(name)) }
    }
}

fn compiled(files: &[String]) -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory);
    resolver.add(IncludeFileResolver::new(protos::DIR.into()));
    resolver.add(IncludeFileResolver::new(protos::THIRD_PARTY_DIR.into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(files).expect("protos that compile");
    compiler.encode_file_descriptor_set()
}

/// The messages of both services, and those with everything.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let services = ["auth/v1", "profiles/v1"].into_iter().flat_map(|folder| {
        let files = fs::read_dir(Path::new(protos::DIR).join(folder)).expect("a folder of protos");
        files.map(move |file| format!("{folder}/{}", file.expect("a file").file_name().to_string_lossy()))
    });
    let files: Vec<_> = services.chain(["everything.proto".to_owned()]).collect();
    DescriptorPool::decode(compiled(&files).as_slice()).expect("descriptors")
});

fn messages() -> Vec<MessageDescriptor> {
    let is_ours = |message: &MessageDescriptor| ["auth.v1", "profiles.v1", "everything.v1"].contains(&message.package_name());
    POOL.all_messages().filter(|message| is_ours(message) && !message.is_map_entry()).collect()
}

fn thing() -> MessageDescriptor {
    POOL.get_message_by_name("everything.v1.Thing").expect("a thing")
}

/// A random message: every field is there or not, and has an ordinary value or one at an edge.
struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.below(values.len() as u64)).expect("an index")].clone()
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 24] = [
            "",
            "a",
            "note",
            " ",
            "  ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "&",
            "<b>",
            "]]>",
            "\"'",
            "&amp;",
            "\\u0000",
            "\\",
            "\0",
            "\u{1}\u{1f}",
            "\u{7f}\u{85}",
            "\u{fffe}\u{ffff}",
            "é\u{301}",
            "\u{1F980}",
            "\u{2028}",
            "\u{feff}",
        ];
        (0..self.below(5)).map(|_| self.pick(&PIECES)).collect()
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(name) = json_to_message::well_known_name(descriptor.full_name()) {
            self.well_known(&mut message, name, depth);
            return message;
        }
        for field in descriptor.fields() {
            if self.below(3) > 0 && depth < 4 {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Field {
        let kind = field.kind();
        if field.is_map() {
            let entry = kind.as_message().expect("an entry").clone();
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let entries = (0..self.below(4)).map(|_| (self.key(&key), self.value(&value, depth)));
            return Field::Map(entries.collect());
        }
        if field.is_list() {
            return Field::List((0..self.below(4)).map(|_| self.value(&kind, depth)).collect());
        }
        self.value(&kind, depth)
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        match kind {
            Kind::String => MapKey::String(self.text()),
            Kind::Bool => MapKey::Bool(self.below(2) == 0),
            _ => MapKey::I64(self.0.next_u64().cast_signed()),
        }
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Field {
        let bits = self.0.next_u64();
        let small = u32::try_from(bits >> 32).expect("32 bits");
        match kind {
            Kind::Double => {
                Field::F64(self.pick(&[0.0, -0.5, 1e300, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, f64::NEG_INFINITY]))
            }
            Kind::Float => Field::F32(self.pick(&[0.0, 0.1, 1e-40, f32::MAX, f32::NEG_INFINITY, 16_777_217.0])),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                Field::I32(self.pick(&[0, -1, i32::MIN, i32::MAX, small.cast_signed()]))
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Field::I64(self.pick(&[0, -1, i64::MIN, i64::MAX, bits.cast_signed()]))
            }
            Kind::Uint32 | Kind::Fixed32 => Field::U32(self.pick(&[0, u32::MAX, small])),
            Kind::Uint64 | Kind::Fixed64 => Field::U64(self.pick(&[0, u64::MAX, bits])),
            Kind::Bool => Field::Bool(bits.is_multiple_of(2)),
            Kind::String => Field::String(self.text()),
            Kind::Bytes => Field::Bytes(bits.to_be_bytes()[..usize::try_from(bits % 9).expect("a length")].to_vec().into()),
            Kind::Enum(descriptor) => {
                let numbers: Vec<_> = descriptor.values().map(|value| value.number()).chain([77, -1]).collect();
                Field::EnumNumber(self.pick(&numbers))
            }
            Kind::Message(descriptor) => Field::Message(self.message(descriptor, depth + 1)),
        }
    }

    fn well_known(&mut self, message: &mut DynamicMessage, name: &str, depth: u32) {
        let tree = match name {
            "Timestamp" => {
                json!(self.pick(&["0001-01-01T00:00:00Z", "2001-02-03T04:05:06.000007Z", "9999-12-31T23:59:59.999999999Z"]))
            }
            "Duration" => json!(self.pick(&["0s", "-3.500s", "315576000000s", "0.000000001s"])),
            "FieldMask" => json!(self.pick(&["", "bio", "bio,birthDate", "note.title"])),
            "Any" => {
                let text = self.text();
                self.pick(&[
                    json!({ "@type": "type.googleapis.com/everything.v1.Inner", "name": text, "numbers": [1, 2] }),
                    json!({ "@type": "type.googleapis.com/google.protobuf.Duration", "value": "2s" }),
                    json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": { "a": [text] } }),
                ])
            }
            "Struct" => json!({ self.text(): self.tree(depth), "b": self.tree(depth) }),
            "ListValue" => json!([self.tree(depth), self.tree(depth)]),
            "Value" => self.tree(depth),
            "Empty" => json!({}),
            _ => {
                let field = message.descriptor().get_field(1).expect("a wrapper");
                // `prost-reflect` writes an infinite wrapper as null.
                let value = match field.kind() {
                    Kind::Double => Field::F64(-0.5),
                    Kind::Float => Field::F32(0.1),
                    kind => self.value(&kind, depth),
                };
                message.set_field(&field, value);
                return;
            }
        };
        *message = serde::de::DeserializeSeed::deserialize(message.descriptor(), tree).expect("JSON of a well-known type");
    }

    fn tree(&mut self, depth: u32) -> serde_json::Value {
        let text = self.text();
        match self.below(if depth < 4 { 8 } else { 5 }) {
            0 => json!(null),
            1 => json!(true),
            2 => json!(-1.5),
            3 => json!(7.0),
            4 | 5 => json!(text),
            6 => json!([self.tree(depth + 1), text]),
            _ => json!({ text: self.tree(depth + 1) }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: u32::try_from(rounds(20)).expect("rounds"), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_the_same_after_xml_and_after_json(seed in any::<[u8; 32]>()) {
        let mut random = Random(TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed));
        for descriptor in messages() {
            let message = random.message(&descriptor, 0);
            // What is equal on the wire is one message: a field without presence that holds its default is not there.
            let same = |message: &DynamicMessage| DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).expect("a message");
            let message = same(&message);
            let document = xml::document(&message).expect("XML");
            let read = xml::message(&descriptor, document.as_bytes());
            prop_assert!(read.as_ref().ok().map(same).as_ref() == Some(&message), "{} {:?}", document, read.err());
            let text = serde_json::to_vec(&message).expect("JSON");
            let read = strict::parse(&text).and_then(|tree| json_to_message::message(&descriptor, tree));
            prop_assert!(read.as_ref().ok().map(same).as_ref() == Some(&message), "{} {:?}", String::from_utf8_lossy(&text), read.err());
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Text that is nearly XML.
fn nearly_xml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<Thing>"),
        Just("</Thing>"),
        Just("<Thing/>"),
        Just("<name>"),
        Just("</name>"),
        Just("<inner>"),
        Just("</inner>"),
        Just("<labels key=\"a\">"),
        Just("</labels>"),
        Just("<!--"),
        Just("-->"),
        Just("<![CDATA["),
        Just("]]>"),
        Just("&amp;"),
        Just("&#"),
        Just("x41;"),
        Just("<?xml version=\"1.0\"?>"),
        Just("<!DOCTYPE a>"),
        Just(" key="),
        Just("\""),
        Just("\0"),
        Just("\u{fffe}"),
        Just("é"),
        Just("<"),
        Just(">"),
        Just("1"),
        Just("\r\n"),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Text that is nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"name\""),
        Just("\"inner\""),
        Just("\"labels\""),
        Just("\"u64\""),
        Just("\"any\""),
        Just("\"@type\""),
        Just("1e400"),
        Just("-0"),
        Just("null"),
        Just("true"),
        Just("\"\\ud800\""),
        Just("\"\\u0000\""),
        Just("18446744073709551616"),
        Just(" "),
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_body_of_anything_is_a_message_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        let _ = strict::parse(&bytes).and_then(|tree| json_to_message::message(&thing(), tree));
        prop_assert!(xml::message(&thing(), &bytes).is_err());
    }

    #[test]
    fn what_is_nearly_json_is_a_message_or_refused(text in nearly_json()) {
        if let Ok(message) = strict::parse(text.as_bytes()).and_then(|tree| json_to_message::message(&thing(), tree)) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            prop_assert!(serde_json::to_string(&message).is_ok());
        }
    }

    #[test]
    fn what_is_nearly_xml_is_a_message_or_refused(text in nearly_xml()) {
        if let Ok(message) = xml::message(&thing(), text.as_bytes()) {
            let document = xml::document(&message).expect("XML");
            prop_assert!(xml::message(&thing(), document.as_bytes()).map(|read| read.encode_to_vec()).ok() == Some(message.encode_to_vec()), "{}", document);
        }
    }

    #[test]
    fn an_arbitrary_path_and_query_are_a_message_or_refused(path in "/v1/[a-z*:%/.é]{0,20}", query in "[a-z0-9=&%+.é_]{0,60}") {
        if let Found::Route(binding, segments) = ROUTES.find(&Method::GET, &path) {
            let mut message = DynamicMessage::new(binding.input.clone());
            let _ = parameters::set_query(&mut message, binding, &query);
            let _ = parameters::set_path(&mut message, binding, &segments);
            prop_assert!(message.encode_to_vec().len() < 1000);
        }
    }
}

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let descriptors = compiled(&["everything.proto".to_owned()]);
    Routes::new(read(&descriptors).expect("routes").into_iter())
});

/// The message that a URL is, of the first binding that takes it.
fn asked(method: &str, url: &str) -> Result<serde_json::Value, String> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let (binding, segments) = match ROUTES.find(&method, path) {
        Found::Route(binding, segments) => (binding, segments),
        Found::OtherMethods(allow) => return Err(allow),
        Found::Nothing => return Err(String::new()),
    };
    let mut message = DynamicMessage::new(binding.input.clone());
    let refused = |violation: access::error::Violation| format!("{} {}", violation.field, violation.rule);
    parameters::set_query(&mut message, binding, query).map_err(refused)?;
    parameters::set_path(&mut message, binding, &segments).map_err(refused)?;
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
        // The literal stands before the variable.
        ("GET", "/v1/things/all", Ok(json!({}))),
        ("GET", "/v1/shelves//things/1", Err("")),
        ("GET", "/v1/shelves/1/things", Err("")),
        ("PUT", "/v1/things/a", Err("GET, HEAD, OPTIONS")),
        ("GET", "/v1/things/a%ff", Err("text type.string")),
    ] {
        assert_eq!(asked(method, url), expected.map_err(str::to_owned), "{method} {url}");
    }
}

#[test]
fn a_query_reaches_every_kind_of_field() {
    for (query, expected) in [
        ("inner.inner.name=a+b%2B", json!({ "inner": { "inner": { "name": "a b+" } } })),
        ("texts=a&texts=b&texts=", json!({ "texts": ["a", "b", ""] })),
        ("inner.numbers=1&inner.numbers=-2", json!({ "inner": { "numbers": [1, -2] } })),
        (
            "colour=COLOUR_RED&colours=2&colours=COLOUR_RED",
            json!({ "colour": "COLOUR_RED", "colours": ["COLOUR_BLUE", "COLOUR_RED"] }),
        ),
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
        assert_eq!(asked("GET", &format!("/v1/things/all?{query}")), Ok(expected), "{query}");
    }
    for (query, refused) in [
        ("nothing=1", "nothing query.unknown"),
        ("inner.nothing=1", "inner.nothing query.unknown"),
        ("inner=1", "inner query.message"),
        ("inners.name=1", "inners.name query.unknown"),
        ("labels=1", "labels query.map"),
        ("flag=yes", "flag type.bool"),
        ("colour=RED", "colour type.enum"),
        ("i32=2147483648", "i32 type.int32"),
        ("u32=-1", "u32 type.uint32"),
        ("twice=1e400", "twice type.double"),
        ("single=1e39", "single type.float"),
        ("time=now", "time type.timestamp"),
        ("date=2001-2-3", "date type.date"),
        ("data=!", "data type.bytes"),
        ("flag=true&flag=true", "flag query.twice"),
        ("struct=1", "struct query.message"),
    ] {
        assert_eq!(asked("GET", &format!("/v1/things/all?{query}")), Err(refused.to_owned()), "{query}");
    }
}

#[test]
fn a_binding_may_be_of_one_field() {
    let Found::Route(read, _) = ROUTES.find(&Method::POST, "/v1/files/a:read") else { panic!("a route") };
    assert!(matches!(&read.body, Body::Field(field) if field.name() == "inner"));
    let Found::Route(get, _) = ROUTES.find(&Method::GET, "/v1/shelves/1/things/1") else { panic!("a route") };
    assert_eq!(get.response_body.as_ref().map(FieldDescriptor::name), Some("things"));

    let things = POOL.get_message_by_name("everything.v1.Things").expect("things");
    let answer = |tree| json_to_message::message(&things, tree).expect("things");
    let (some, none) = (answer(json!({ "things": [{ "text": "a" }, {}] })), answer(json!({})));
    let render = |message, format| super::response::render(get, message, format).expect("a text");
    assert_eq!(render(&some, super::Format::Json), r#"[{"text":"a"},{}]"#);
    assert_eq!(render(&none, super::Format::Json), "[]");
    let document = render(&some, super::Format::Xml);
    assert!(document.ends_with("<things><item><text>a</text></item><item/></things>"), "{document}");
    let read = xml::body(&things.get_field(1).expect("things"), document.as_bytes()).expect("a list");
    assert_eq!(read.as_list().map(<[_]>::len), Some(2));
}

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
        let violation = json_to_message::message(&thing(), body.clone()).expect_err("a refusal");
        assert_eq!(format!("{} {}", violation.field, violation.rule), refused, "{body}");
    }
}

#[test]
fn an_accepted_encoding_is_the_one_that_is_named() {
    for (value, expected) in
        [("gzip", true), ("br, GZIP", true), ("gzip;q=0", false), ("gzip;q=0.001", true), ("deflate", false), ("", false)]
    {
        let headers = HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, value.parse().expect("a header"))]);
        assert_eq!(super::gzip::is_taken(&headers), expected, "{value}");
    }
}
