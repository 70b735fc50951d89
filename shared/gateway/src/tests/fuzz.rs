//! Random messages survive both formats, and arbitrary input never causes a panic.

use http::Method;
use proptest::{collection::vec, prelude::*, test_runner::TestRng};
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage};
use testing::rounds;

use super::{messages, random_message::RandomMessage, routes::ROUTES, thing};
use crate::{json, json_to_message::parse_message, parameters, routes::Found, xml};

proptest! {
    #![proptest_config(ProptestConfig { cases: u32::try_from(rounds(20)).expect("rounds"), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_the_same_after_xml_and_after_json(seed in any::<[u8; 32]>()) {
        let mut random = RandomMessage(TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed));
        for descriptor in messages() {
            let message = random.message(&descriptor, 0);
            // Messages are compared in their encoded form, where a field without presence that has its default value is absent.
            let same = |message: &DynamicMessage| DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).expect("a message");
            let message = same(&message);
            let document = xml::document(&message).expect("XML");
            let read = xml::parse_message(&descriptor, document.as_bytes());
            prop_assert!(read.as_ref().ok().map(same).as_ref() == Some(&message), "{} {:?}", document, read.err());
            let text = json::to_string(&message).expect("JSON").into_bytes();
            let read = json::parse(&text).and_then(|tree| parse_message(&descriptor, tree));
            prop_assert!(read.as_ref().ok().map(same).as_ref() == Some(&message), "{} {:?}", String::from_utf8_lossy(&text), read.err());
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Returns text that resembles XML.
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

/// Returns text that resembles JSON.
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
    fn a_body_of_anything_is_a_message_or_rejected(bytes in vec(any::<u8>(), 0..300)) {
        let _ = json::parse(&bytes).and_then(|tree| parse_message(&thing(), tree));
        prop_assert!(xml::parse_message(&thing(), &bytes).is_err());
    }

    #[test]
    fn malformed_json_is_a_message_or_rejected(text in nearly_json()) {
        if let Ok(message) = json::parse(text.as_bytes()).and_then(|tree| parse_message(&thing(), tree)) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            prop_assert!(serde_json::to_string(&message).is_ok());
        }
    }

    #[test]
    fn malformed_xml_is_a_message_or_rejected(text in nearly_xml()) {
        if let Ok(message) = xml::parse_message(&thing(), text.as_bytes()) {
            let document = xml::document(&message).expect("XML");
            prop_assert!(xml::parse_message(&thing(), document.as_bytes()).map(|read| read.encode_to_vec()).ok() == Some(message.encode_to_vec()), "{}", document);
        }
    }

    #[test]
    fn an_arbitrary_path_and_query_are_a_message_or_rejected(path in "/v1/[a-z*:%/.é]{0,20}", query in "[a-z0-9=&%+.é_]{0,60}") {
        if let Found::Route(binding, segments) = ROUTES.find(&Method::GET, &path) {
            let mut message = DynamicMessage::new(binding.input.clone());
            let _ = parameters::set_query(&mut message, binding, &query);
            let _ = parameters::set_path(&mut message, binding, &segments);
            prop_assert!(message.encode_to_vec().len() < 1000);
        }
    }
}
