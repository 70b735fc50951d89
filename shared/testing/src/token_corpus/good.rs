//! Tokens that must get in, however unusual they look.

use serde_json::{Map, Value, json};

use super::{Forge, Good, forge::nested};

pub(super) fn good(forge: &Forge<'_>) -> Vec<Good> {
    let all = [headers(forge), claims(forge), times(forge)];
    all.into_iter().flatten().map(|(name, token)| Good { name, token }).collect()
}

fn headers(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let typ = |typ: &str| forge.header_with("typ", &json!(typ));
    vec![
        ("as it is issued", forge.good()),
        ("typ in capitals", typ("AT+JWT")),
        ("typ as a media type", typ("application/at+jwt")),
        ("typ as a media type in another case", typ("Application/At+JWT")),
        ("typ with an escape", forge.header_of(r#"{"alg":"RS256","typ":"at\u002bjwt","kid":"the-key-of-the-tests"}"#)),
        ("a name with an escape", forge.header_of(r#"{"\u0061lg":"RS256","typ":"at+jwt","kid":"the-key-of-the-tests"}"#)),
        ("a header with spaces and newlines", forge.header_of(serde_json::to_string_pretty(&forge.header).expect("JSON"))),
        ("a header parameter that means nothing here", forge.header_with("x5t#S256", &json!("AAAA"))),
        ("the name of a refused parameter in another case", forge.header_with("JWK", &json!({}))),
        ("the name of a refused parameter within another", forge.header_with("x", &json!({ "crit": ["exp"] }))),
        ("the same name in two objects", forge.header_and(r#""x":{"a":1},"y":{"a":1,"alg":"none"}"#)),
        ("arrays 100 deep", forge.header_and(&format!(r#""x":{}"#, nested("[", "]", 100)))),
        ("exactly 8192 bytes", forge.of_length(8192)),
        ("exactly 8191 bytes", forge.of_length(8191)),
    ]
}

fn claims(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let us = &forge.issuer.audience[0];
    let required = ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "actor"];
    let least: Map<String, Value> = required.iter().map(|name| ((*name).to_owned(), forge.claims[*name].clone())).collect();
    let with = |name: &str, value: Value| forge.claims_with(name, &value);
    vec![
        ("aud as a string", with("aud", json!(us))),
        ("aud with others before", with("aud", json!(["other", "another", us]))),
        ("aud with us twice", with("aud", json!([us, us]))),
        ("only the claims that must be there", forge.claims_of(Value::Object(least).to_string())),
        ("claims with spaces and newlines", forge.claims_of(serde_json::to_string_pretty(&forge.claims).expect("JSON"))),
        ("claims that mean nothing here", forge.claims_and(r#""admin":true,"x":{"exp":0,"iss":[null,1e300]},"":0"#)),
        ("a surrogate pair", forge.claims_and(r#""name":"\ud83d\ude00""#)),
        ("sub of one character", with("sub", json!("a"))),
        ("sub of 255 bytes", with("sub", json!("a".repeat(255)))),
        ("jti of 254 bytes in 127 characters", with("jti", json!("é".repeat(127)))),
        ("client_id with spaces and other scripts", with("client_id", json!("Δοκιμή тест テスト אבג"))),
        ("a service's token", with("actor", json!("service"))),
        ("scope with spaces too many", with("scope", json!("  notes.read   notes.write "))),
    ]
}

fn times(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let now = forge.now;
    let lives = |exp: i64, iat: i64| forge.token(&[], &[("exp", json!(exp)), ("iat", json!(iat))]);
    vec![
        ("exp 29 seconds ago", lives(now - 29, now - 600)),
        ("iat in 30 seconds", lives(now + 600, now + 30)),
        ("nbf in 30 seconds", forge.claims_with("nbf", &json!(now + 30))),
        ("nbf in 29 seconds and a half", forge.claim_of("nbf", &format!("{}.5", now + 29))),
        ("nbf long ago", forge.claims_with("nbf", &json!(0))),
        ("a life of 24 hours", lives(now + 86_400, now)),
        ("a life of a second", lives(now + 1, now)),
        ("exp with a fraction", forge.claim_of("exp", &format!("{}.5", now + 600))),
        ("exp with a fraction of zero", forge.claim_of("exp", &format!("{}.0", now + 600))),
        ("exp with an exponent", forge.claim_of("exp", &format!("{}e2", (now + 600) / 100))),
        (
            "exp with a fraction, 29 seconds and a half ago",
            forge.token(&[], &[("exp", json!(seconds(now) - 29.5)), ("iat", json!(now - 600))]),
        ),
        ("iat with a fraction", forge.claim_of("iat", &format!("{}.25", now - 1))),
    ]
}

fn seconds(time: i64) -> f64 {
    f64::from(u32::try_from(time).expect("a time before 2106"))
}
