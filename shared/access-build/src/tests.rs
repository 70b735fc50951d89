//! The build fails for invalid protos with an error message that names the declaration.

use std::{fs, path::Path};

use contract::{FieldBehavior, FieldRules};
use prost_reflect::{FieldDescriptor, Kind};

use crate::{Protos, pool};

/// Compiles one service whose method has `options`, and whose request has `field`.
fn compile(options: &str, field: &str) -> Result<String, String> {
    compile_with("", options, field)
}

/// As [`compile`], with a further declaration in the package.
fn compile_with(declaration: &str, options: &str, field: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let proto = format!(
        r#"syntax = "proto3";
        package test.v1;
        import "access/v1/access.proto";
        import "buf/validate/validate.proto";
        service TestService {{ rpc Try(TryRequest) returns (TryResponse) {{ {options} }} }}
        message TryRequest {{ {field} }}
        message TryResponse {{}}
        {declaration}"#
    );
    fs::write(folder.path().join("test.proto"), proto).expect("a file");
    let out = tempfile::tempdir().expect("a folder");
    Protos::new(folder.path())
        .domain("test-service")
        .compile_to(out.path(), &["test.proto"])
        .map_err(|error| error.to_string())?;
    Ok(fs::read_to_string(out.path().join("test.v1.rs")).expect("the generated code"))
}

const PUBLIC: &str = "option (access.v1.rule) = {public: true};";

#[test]
fn a_method_without_a_rule_does_not_build() {
    let error = compile("", "").expect_err("a method without a rule");
    assert_eq!(error, "test.v1.TestService.Try: no (access.v1.rule): every method must declare who may call it");
}

#[test]
fn a_rule_that_says_nothing_or_two_things_does_not_build() {
    for (rule, expected) in [
        ("{}", "(access.v1.rule) is empty"),
        ("{public: true, authenticated: true}", "contradicts itself"),
        ("{public: true, owner: \"user_id\"}", "contradicts itself"),
        ("{authenticated: true, permission: \"a.b\"}", "contradicts itself"),
        ("{public: true, actors: [ACTOR_USER]}", "is public and names actors"),
        ("{public: true, revocation: REVOCATION_STRICT}", "is public and asks for fresh revocations"),
        ("{authenticated: true, actors: [ACTOR_UNSPECIFIED]}", "names an unknown actor"),
        (
            "{public: true, reasons: \"TOO_HIGH\"}",
            "the reason \"TOO_HIGH\", which neither test.v1.Reason nor access.v1.Reason has",
        ),
        ("{permission: \"change_note\"}", "not of the form `app.codename`"),
        ("{public: true, audit_target: \"user_id\"}", "names an audit_target without audit"),
        (
            "{public: true, audit: true, audit_target: \"nobody\"}",
            "the audit_target \"nobody\" is not the path of a string field",
        ),
        ("{owner: \"nobody\"}", "the owner \"nobody\" is not the path of a string field of test.v1.TryRequest"),
        ("{owner: \"count\"}", "the owner \"count\" is not the path"),
    ] {
        let error =
            compile(&format!("option (access.v1.rule) = {rule};"), "string user_id = 1; int32 count = 2;").expect_err(rule);
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

#[test]
fn a_validation_rule_that_is_not_understood_does_not_build() {
    for (field, expected) in [
        (
            "string name = 1 [(buf.validate.field).string.pattern = \"a+\"];",
            "test.v1.TryRequest.name: `string.pattern` of buf.validate is not supported",
        ),
        ("string name = 1 [(buf.validate.field).cel = {id: \"x\", expression: \"true\"}];", "`cel`"),
        ("map<string, string> names = 1 [(buf.validate.field).map.min_pairs = 1];", "`map`"),
        ("oneof one { string name = 1 [(buf.validate.field).required = true]; }", "`required` or `ignore` in a oneof"),
        ("option (buf.validate.message).cel = {id: \"x\", expression: \"true\"};", "(buf.validate.message) is not supported"),
    ] {
        let error = compile(PUBLIC, field).expect_err(field);
        assert!(error.contains(expected), "{field}: {error}");
    }
}

#[test]
fn what_is_declared_is_generated() {
    let rule = "option (access.v1.rule) = {permission: \"test.try_it\", owner: \"user_id\", actors: [ACTOR_SERVICE], revocation: REVOCATION_STRICT};";
    let code = compile(rule, "string user_id = 1 [(buf.validate.field).string.uuid = true];").expect("the generated code");
    for expected in [
        r#"policy: AccessPolicy::OwnerOrPermissionHolder(::std::borrow::Cow::Borrowed("test.try_it"))"#,
        "actors: ::std::borrow::Cow::Borrowed(&[super::__access::Actor::Service])",
        "revocation: RevocationMode::Strict",
    ] {
        assert!(code.contains(expected), "{expected}: {code}");
    }
    assert_eq!(code.matches("::access ").count(), 1, "generated code names the crate once: {code}");
    assert!(code.contains("|request| Some(&mut request.user_id)"), "{code}");
    assert!(code.contains("into.string_uuid(at, value);"), "{code}");
}

#[test]
fn what_stands_in_a_oneof_or_a_map_is_checked_too() {
    let fields = "oneof one { option (buf.validate.oneof).required = true; string name = 1 [(buf.validate.field).string.min_len = 1]; Inner inner = 2; }
        map<string, Inner> inners = 3;
        message Inner { string text = 1 [(buf.validate.field).string.max_len = 5]; }";
    let code = compile(PUBLIC, fields).expect("the generated code");
    for expected in [
        "if let Some(self::try_request::One::Name(value)) = &self.one",
        "into.string_min_len(at, value, 1);",
        "if self.one.is_none() { into.required(&at.field(\"one\")); }",
        "if let Some(self::try_request::One::Inner(value)) = &self.one",
        "for (key, value) in &self.inners",
        "into.string_no_nul(at, key);",
        "Validate::validate(value, at, into);",
    ] {
        assert!(code.contains(expected), "{expected}: {code}");
    }
}

#[test]
fn a_service_publishes_reasons_of_its_own() {
    let reasons = "enum Reason { REASON_UNSPECIFIED = 0; REASON_TOO_HIGH = 1; }";
    let rule = "option (access.v1.rule) = {public: true, reasons: [\"TOO_HIGH\", \"OVERLOADED\"]};";
    let code = compile_with(reasons, rule, "").expect("the generated code");
    for expected in [
        "impl From<Reason> for __access::error::ErrorReason",
        "Self::new(\"test-service\", reason.as_str_name().trim_start_matches(\"REASON_\"))",
        "reasons: ::std::borrow::Cow::Borrowed(&[::std::borrow::Cow::Borrowed(\"TOO_HIGH\"), ::std::borrow::Cow::Borrowed(\"OVERLOADED\")])",
    ] {
        assert!(code.contains(expected), "{expected}: {code}");
    }
}

/// Returns every field of every message of the services.
fn service_fields() -> Vec<FieldDescriptor> {
    let names = ["auth/v1", "profiles/v1"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(Path::new(protos::DIR).join(folder)).expect("a folder");
        entries.map(move |entry| format!("{folder}/{}", entry.expect("an entry").file_name().display()))
    });
    let names: Vec<_> = names.collect();
    let parsed = Protos::built_in().parse(&names.iter().map(String::as_str).collect::<Vec<_>>()).expect("valid protos");
    let pool = pool(&parsed).expect("descriptors");
    let messages = pool.all_messages().filter(|message| matches!(message.package_name(), "auth.v1" | "profiles.v1"));
    messages.flat_map(|message| message.fields().collect::<Vec<_>>()).collect()
}

#[test]
fn every_field_declares_its_behavior() {
    let fields = service_fields();
    assert!(fields.len() > 200, "{}", fields.len());
    for field in fields {
        let behavior = FieldBehavior::read(&field);
        assert_eq!(behavior.len(), 1, "{} declares {behavior:?}", field.full_name());
    }
}

#[test]
fn a_field_of_a_request_is_required_exactly_if_validation_refuses_its_default() {
    let requests = service_fields().into_iter().filter(|field| field.parent_message().name().ends_with("Request"));
    for field in requests.filter(|field| field.containing_oneof().is_none()) {
        let rules = FieldRules::read(&field).expect("supported rules");
        let refuses_empty = |name: &str| matches!(name, "uuid" | "email" | "min_len" | "min_items" | "gt");
        let refuses_default = rules.required || !rules.ignore_zero && rules.value.iter().any(|rule| refuses_empty(&rule.name));
        let expected = if refuses_default { FieldBehavior::Required } else { FieldBehavior::Optional };
        assert_eq!(FieldBehavior::read(&field), [expected], "{}", field.full_name());
    }
}

#[test]
fn a_message_that_only_responses_contain_has_no_field_for_requests() {
    let responses = service_fields().into_iter().filter(|field| field.parent_message().name().ends_with("Response"));
    for field in responses {
        assert_eq!(FieldBehavior::read(&field), [FieldBehavior::OutputOnly], "{}", field.full_name());
        assert!(!matches!(field.kind(), Kind::Message(inner) if inner.name().ends_with("Request")), "{}", field.full_name());
    }
}
