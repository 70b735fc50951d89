//! Tokens with invalid claims (RFC 7519 section 4.1, RFC 9068 section 2.2): their JSON, and the value of each claim.

use access::token::TokenError;
use serde_json::{Value, json};

use super::{
    Forge, Hostile,
    forge::{base64, nested},
};

pub(super) fn hostile(forge: &Forge<'_>) -> Vec<Hostile> {
    let subjects = [jsons, duplicates, other_types, issuers, audiences, senseless_times, early_and_late, identities, orders];
    subjects.iter().flat_map(|subject| subject(forge)).collect()
}

fn jsons(forge: &Forge<'_>) -> Vec<Hostile> {
    let good = serde_json::to_string(&forge.claims).expect("JSON");
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let not_utf_8 = [good.replace('}', r#","x":""#).as_bytes(), &[0xff, b'"', b'}']].concat();
    let all = [
        ("an array", forge.claims_of(format!("[{good}]"))),
        ("a string", forge.claims_of("\"claims\"")),
        ("a number", forge.claims_of("1")),
        ("null", forge.claims_of("null")),
        ("empty", forge.claims_of("")),
        ("base64url twice", forge.claims_of(base64(&good))),
        ("a token within", forge.claims_of(forge.good())),
        ("cut off", forge.claims_of(&good[..good.len() - 1])),
        ("text after it", forge.claims_of(format!("{good};"))),
        ("a second object after it", forge.claims_of(format!("{good}\n{{}}"))),
        ("a NUL after it", forge.claims_of(format!("{good}\0"))),
        ("a byte order mark", forge.claims_of(format!("\u{feff}{good}"))),
        ("a comma too many", forge.claims_and("")),
        ("a comment", forge.claims_of(format!("{good}// comment"))),
        ("UTF-16", forge.claims_of(utf_16)),
        ("a byte that is not UTF-8", forge.claims_of(not_utf_8)),
        ("compressed", forge.claims_of([0x1f, 0x8b, 0x08, 0x00])),
        ("a form", forge.claims_of("sub=alice&exp=4102444800")),
        ("half a surrogate pair", forge.claims_and(r#""x":"\udfff""#)),
        ("arrays 2000 deep", forge.claims_and(&format!(r#""x":{}"#, nested("[", "]", 2000)))),
        ("objects 700 deep", forge.claims_and(&format!(r#""x":{}"#, nested(r#"{"":"#, "}", 700)))),
        ("exp 1e400", forge.claim_of("exp", "1e400")),
        ("exp NaN", forge.claim_of("exp", "NaN")),
        ("exp Infinity", forge.claim_of("exp", "Infinity")),
        ("exp of 400 digits", forge.claim_of("exp", &"9".repeat(400))),
        ("exp with a zero before", forge.claim_of("exp", &format!("0{}", forge.now + 600))),
        ("exp as a sum", forge.claim_of("exp", &format!("{}+600", forge.now))),
        ("iat -1e999", forge.claim_of("iat", "-1e999")),
    ];
    all.into_iter().map(|(name, token)| Hostile::new(format!("claims: {name}"), token, TokenError::Claims)).collect()
}

fn duplicates(forge: &Forge<'_>) -> Vec<Hostile> {
    let mut all = Vec::new();
    // The value is repeated unchanged, so that the duplicate member is the only error.
    for (name, value) in &forge.claims {
        all.push((name.clone(), forge.claims_and(&format!("{name:?}:{value}"))));
    }
    let others = [
        ("exp, the later one last", format!(r#""exp":{}"#, forge.now + 3600)),
        ("aud, ours last", format!(r#""aud":"other","\u0061ud":{}"#, forge.claims["aud"])),
        ("sub, once with an escape", r#""s\u0075b":"somebody-else""#.to_owned()),
        ("scope, once with an escape", r#""sc\u006fpe":"everything""#.to_owned()),
        ("nbf", r#""nbf":1,"nbf":1"#.to_owned()),
        ("another claim", r#""x":null,"x":null"#.to_owned()),
        ("in an object of another claim", r#""x":{"a":1,"\u0061":1}"#.to_owned()),
        ("in an object in an array", r#""x":[[{"a":1,"b":2,"a":3}]]"#.to_owned()),
    ];
    all.extend(others.map(|(name, members)| (name.to_owned(), forge.claims_and(&members))));
    all.into_iter()
        .map(|(name, token)| Hostile::new(format!("duplicate in the claims: {name}"), token, TokenError::Claims))
        .collect()
}

fn other_types(forge: &Forge<'_>) -> Vec<Hostile> {
    let us = &forge.issuer.audience[0];
    let all = [
        ("scope", json!(null)),
        ("scope", json!(7)),
        ("scope", json!(["notes.read"])),
        ("scope", json!({ "notes.read": true })),
        ("groups", json!(null)),
        ("groups", json!("admins")),
        ("groups", json!([1])),
        ("groups", json!([["admins"]])),
        ("groups", json!({ "0": "admins" })),
        ("sid", json!(7)),
        ("sid", json!("not-a-uuid")),
        ("sid", json!("")),
        ("sid", json!([])),
        ("preferred_username", json!(7)),
        ("preferred_username", json!(["alice"])),
        ("actor", json!(null)),
        ("actor", json!("")),
        ("actor", json!("admin")),
        ("actor", json!("User")),
        ("actor", json!("user ")),
        ("actor", json!(0)),
        ("actor", json!(["user"])),
        ("actor", json!({ "user": null })),
        ("ver", json!(null)),
        ("ver", json!("1")),
        ("ver", json!(1.5)),
        ("ver", json!(1e30)),
        ("ver", json!(u64::MAX)),
        ("aud", json!([us, 7])),
        ("aud", json!([us, null])),
        ("aud", json!([us, [us]])),
    ];
    let mut all: Vec<_> = all.iter().map(|(claim, value)| one(forge, claim, value, TokenError::Claims)).collect();
    all.push(Hostile::new("actor: missing", forge.claims_without("actor"), TokenError::Claims));
    all
}

fn issuers(forge: &Forge<'_>) -> Vec<Hostile> {
    let name = &forge.issuer.name;
    let host = name.trim_start_matches("https://");
    let texts = [
        String::new(),
        " ".to_owned(),
        "https://attacker.test".to_owned(),
        format!("{name}/"),
        format!("{name}:443"),
        format!("{name}."),
        format!("{name}?"),
        format!("{name}#"),
        format!("{name}\0"),
        format!("{name} "),
        format!(" {name}"),
        format!("{name}\n"),
        format!("{name}.attacker.test"),
        format!("{name}@attacker.test"),
        format!("https://user@{host}"),
        format!("http://{host}"),
        host.to_owned(),
        format!("//{host}"),
        name.to_uppercase(),
        name.replacen("https", "HTTPS", 1),
        name.replacen('a', "\u{430}", 1),
        name.replacen('.', "%2e", 1),
        name.replacen('.', "\u{3002}", 1),
        name[..name.len() - 1].to_owned(),
        format!("{name},https://attacker.test"),
    ];
    let others = [json!(null), json!(0), json!(true), json!([name]), json!({ "iss": name }), json!([])];
    let values = texts.iter().map(|text| json!(text)).chain(others);
    let mut all: Vec<_> = values.map(|iss| one(forge, "iss", &iss, TokenError::Issuer)).collect();
    all.push(Hostile::new("iss: missing", forge.claims_without("iss"), TokenError::Issuer));
    all
}

fn audiences(forge: &Forge<'_>) -> Vec<Hostile> {
    let us = &forge.issuer.audience[0];
    let values = [
        json!(null),
        json!(""),
        json!([]),
        json!([[]]),
        json!([null]),
        json!([""]),
        json!(0),
        json!(true),
        json!({ us: true }),
        json!({ "aud": us }),
        json!("other"),
        json!(["other"]),
        json!(["other", "another"]),
        json!([[us]]),
        json!([{ "aud": us }]),
        json!(us[..us.len() - 1]),
        json!([us[..us.len() - 1]]),
        json!(format!("{us}s")),
        json!(format!("{us}/")),
        json!(format!("{us} ")),
        json!([format!(" {us}")]),
        json!(format!("{us}\0")),
        json!(us.to_uppercase()),
        json!([us.to_uppercase()]),
        json!(us.replacen('e', "\u{435}", 1)),
        json!(format!("{us} other")),
        json!(format!("{us},other")),
        json!(format!("[\"{us}\"]")),
        json!("*"),
        json!(["*"]),
        json!(forge.issuer.name),
        json!(vec!["other"; 500]),
    ];
    let mut all: Vec<_> = values.iter().map(|aud| one(forge, "aud", aud, TokenError::Audience)).collect();
    all.push(Hostile::new("aud: missing", forge.claims_without("aud"), TokenError::Audience));
    all
}

fn senseless_times(forge: &Forge<'_>) -> Vec<Hostile> {
    let now = forge.now;
    let mut all = Vec::new();
    for claim in ["exp", "iat", "nbf"] {
        let values = [
            json!(null),
            json!(true),
            json!(""),
            json!((now + 600).to_string()),
            json!("2099-12-31T23:59:59Z"),
            json!([now]),
            json!({ "time": now }),
            json!(-1),
            json!(-0.5),
            json!(i64::MIN),
            json!(-1e308),
            json!(4_102_444_801_i64),
            json!(now * 1000),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e308),
        ];
        all.extend(values.iter().map(|value| one(forge, claim, value, TokenError::Times)));
        let beyond_64_bits = forge.claim_of(claim, "18446744073709551616");
        all.push(Hostile::new(format!("{claim}: 2^64"), beyond_64_bits, TokenError::Times));
    }
    for claim in ["exp", "iat"] {
        all.push(Hostile::new(format!("{claim}: missing"), forge.claims_without(claim), TokenError::Times));
    }
    let pairs = [
        ("exp and iat the same", now, now),
        ("exp before iat", now, now + 1),
        ("exp and iat zero", 0, 0),
        ("a life of 24 hours and a second", now + 86_400, now - 1),
        ("a life of 24 hours and a second, expired", 86_401, 0),
        ("a life of a year", now + 31_536_000, now),
        ("a life until 2100", 4_102_444_800, now),
        ("a life since 1970", now + 600, 0),
    ];
    all.extend(pairs.map(|(name, exp, iat)| Hostile::new(format!("times: {name}"), lives(forge, exp, iat), TokenError::Times)));
    all
}

fn early_and_late(forge: &Forge<'_>) -> Vec<Hostile> {
    let now = forge.now;
    let early = |name, token| Hostile::new(format!("times: {name}"), token, TokenError::NotYetValid);
    let late = |name, token| Hostile::new(format!("times: {name}"), token, TokenError::Expired);
    vec![
        early("iat in 31 seconds", lives(forge, now + 600, now + 31)),
        early("iat in an hour", lives(forge, now + 7200, now + 3600)),
        early("iat and exp in 2099", lives(forge, 4_102_444_800, 4_102_444_799)),
        early("iat in 30 seconds and a half", forge.token(&[], &[("iat", json!(precise(now) + 30.5))])),
        early("nbf in 31 seconds", forge.claims_with("nbf", &json!(now + 31))),
        early("nbf in 30 seconds and a half", forge.claims_with("nbf", &json!(precise(now) + 30.5))),
        early("nbf after exp", forge.claims_with("nbf", &json!(now + 601))),
        early("nbf in 2100", forge.claims_with("nbf", &json!(4_102_444_800_i64))),
        late("exp 30 seconds ago", lives(forge, now - 30, now - 600)),
        late("exp 31 seconds ago", lives(forge, now - 31, now - 600)),
        late(
            "exp 30 seconds and a half ago",
            forge.token(&[], &[("exp", json!(precise(now) - 30.5)), ("iat", json!(now - 600))]),
        ),
        late("exp an hour ago", lives(forge, now - 3600, now - 7200)),
        late("exp in 1970", lives(forge, 600, 0)),
        late("exp a microsecond after iat in 1970", forge.token(&[], &[("exp", json!(1e-6)), ("iat", json!(0))])),
    ]
}

fn identities(forge: &Forge<'_>) -> Vec<Hostile> {
    let texts = [
        String::new(),
        "a".repeat(256),
        "é".repeat(128),
        "a".repeat(4000),
        "\0".to_owned(),
        "alice\0".to_owned(),
        "alice\nroot".to_owned(),
        "alice\r".to_owned(),
        "alice\tbob".to_owned(),
        "\u{1b}[2J".to_owned(),
        "alice\u{7f}".to_owned(),
        "alice\u{85}".to_owned(),
        "alice\u{9b}31m".to_owned(),
        "\u{61c}alice".to_owned(),
        "alice\u{200e}".to_owned(),
        "alice\u{200f}".to_owned(),
        "alice\u{202a}".to_owned(),
        "\u{202e}ecila".to_owned(),
        "alice\u{2066}".to_owned(),
        "alice\u{2069}".to_owned(),
    ];
    let others = [json!(null), json!(0), json!(1.5), json!(true), json!(["alice"]), json!({ "id": "alice" }), json!([])];
    let values: Vec<_> = texts.iter().map(|text| json!(text)).chain(others).collect();
    let mut all = Vec::new();
    for claim in ["sub", "jti", "client_id"] {
        all.extend(values.iter().map(|value| one(forge, claim, value, TokenError::Identity)));
        all.push(Hostile::new(format!("{claim}: missing"), forge.claims_without(claim), TokenError::Identity));
    }
    all
}

/// Returns tokens that show the order of the checks. Each token fails one check and every later one.
fn orders(forge: &Forge<'_>) -> Vec<Hostile> {
    let bad = [
        ("iss", json!("https://attacker.test"), TokenError::Issuer),
        ("aud", json!("other"), TokenError::Audience),
        ("iat", json!("yesterday"), TokenError::Times),
        ("nbf", json!(forge.now + 31), TokenError::NotYetValid),
        ("exp", json!(forge.now - 30), TokenError::Expired),
        ("sub", json!(""), TokenError::Identity),
        ("scope", json!(7), TokenError::Claims),
    ];
    let mut all = Vec::new();
    for (n, (claim, _, refusal)) in bad.iter().enumerate() {
        // The time of issue is earlier, because a token that was issued after its expiry fails another check.
        let mut changes = vec![("iat", json!(forge.now - 600))];
        changes.extend(bad[n..].iter().map(|(claim, value, _)| (*claim, value.clone())));
        all.push(Hostile::new(format!("order: {claim} and all that comes after it"), forge.token(&[], &changes), *refusal));
    }
    all
}

fn lives(forge: &Forge<'_>, exp: i64, iat: i64) -> String {
    forge.token(&[], &[("exp", json!(exp)), ("iat", json!(iat))])
}

/// Returns the seconds as a number to which a fraction can be added.
fn precise(seconds: i64) -> f64 {
    f64::from(u32::try_from(seconds).expect("a time before 2106"))
}

fn one(forge: &Forge<'_>, claim: &str, value: &Value, refusal: TokenError) -> Hostile {
    let text = value.to_string();
    let name = if text.len() > 60 {
        format!("{claim}: {} bytes as {}…", text.len(), text.chars().take(4).collect::<String>())
    } else {
        format!("{claim}: {text}")
    };
    Hostile::new(name, forge.claims_with(claim, value), refusal)
}
