//! The compact serialization (RFC 7515 section 7.1): its length, its segments and their base64url.

use access::token::TokenError;

use super::{
    Forge, Hostile, SECOND_KEY,
    forge::{base64, parts},
};

pub(super) fn hostile(forge: &Forge<'_>) -> Vec<Hostile> {
    let mut all = lengths(forge);
    for (name, token) in
        [segments(forge), characters(forge), paddings(forge), alphabets(forge), spare_bits(forge)].into_iter().flatten()
    {
        all.push(Hostile::new(format!("segments: {name}"), token, TokenError::Malformed));
    }
    all
}

fn lengths(forge: &Forge<'_>) -> Vec<Hostile> {
    let one = |name, token, refusal| Hostile::new(format!("length: {name}"), token, refusal);
    vec![
        one("8193 bytes, otherwise good", forge.of_length(8193), TokenError::TooLong),
        one("8194 bytes, otherwise good", forge.of_length(8194), TokenError::TooLong),
        one("8194 bytes in fewer characters", "é".repeat(4097), TokenError::TooLong),
        one("8193 dots", ".".repeat(8193), TokenError::TooLong),
        one("8192 dots", ".".repeat(8192), TokenError::Malformed),
        one("a mebibyte", "A".repeat(1 << 20), TokenError::TooLong),
        one("a good token many times", vec![forge.good(); 20].join("."), TokenError::TooLong),
    ]
}

fn segments(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let good = forge.good();
    let [header, payload, signature] = parts(&good);
    let jwe = base64(r#"{"alg":"RSA-OAEP","enc":"A256GCM","typ":"at+jwt"}"#);
    let flattened = format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#);
    vec![
        ("none", String::new()),
        ("one", header.to_owned()),
        ("one dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("three dots", "...".to_owned()),
        ("two", format!("{header}.{payload}")),
        ("two, the payload missing", format!("{header}.{signature}")),
        ("four", format!("{good}.{signature}")),
        ("four, the last empty", format!("{good}.")),
        ("four, the first empty", format!(".{good}")),
        ("four, an empty one within", format!("{header}..{payload}.{signature}")),
        ("five, a JWE", format!("{jwe}.AAAA.AAAA.AAAA.AAAA")),
        ("five, a JWE with a direct key", format!("{}..AAAA.AAAA.AAAA", base64(r#"{"alg":"dir","enc":"A256GCM"}"#))),
        ("six, a token twice", format!("{good}.{good}")),
        ("no signature", format!("{header}.{payload}.")),
        ("alg none, as RFC 7519 section 6 has it", format!("{}.{payload}.", base64(r#"{"alg":"none"}"#))),
        (
            "alg none, with the right type and key",
            format!("{}.{payload}.", base64(r#"{"alg":"none","typ":"at+jwt","kid":"the-key-of-the-tests"}"#)),
        ),
        ("only a signature", format!("..{signature}.")),
        ("the flattened JSON serialization", flattened.clone()),
        ("the flattened JSON serialization in base64url", base64(flattened)),
        ("a token in base64url", base64(&good)),
    ]
}

fn characters(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let good = forge.good();
    let [header, payload, signature] = parts(&good);
    let (first, rest) = good.split_at(20);
    vec![
        ("a space before", format!(" {good}")),
        ("a space after", format!("{good} ")),
        ("a newline after", format!("{good}\n")),
        ("a carriage return and a newline after", format!("{good}\r\n")),
        ("a tab after", format!("{good}\t")),
        ("a NUL after", format!("{good}\0")),
        ("a space within", format!("{first} {rest}")),
        ("a newline within", format!("{first}\n{rest}")),
        ("folded as in RFC 7515", format!("{header}\n     .\n     {payload}\n     .\n     {signature}")),
        ("a no-break space after", format!("{good}\u{a0}")),
        ("a zero width space within", format!("{first}\u{200b}{rest}")),
        ("a byte order mark before", format!("\u{feff}{good}")),
        ("in quotes", format!("\"{good}\"")),
        ("in angle brackets", format!("<{good}>")),
        ("the scheme before", format!("Bearer {good}")),
        ("a comma and a token after", format!("{good},{good}")),
        ("a semicolon after", format!("{good};")),
        ("dots in percent encoding", good.replace('.', "%2E")),
        ("a letter in percent encoding", good.replacen('e', "%65", 1)),
        ("ideographic full stops", good.replace('.', "\u{3002}")),
        ("one dot leaders", good.replace('.', "\u{2024}")),
        ("a letter of full width", good.replacen('e', "\u{ff45}", 1)),
        ("an exclamation mark within", format!("{header}.{payload}!.{signature}")),
        ("a character too many for its last byte", format!("{header}.{payload}.{signature}AAA")),
    ]
}

/// Signed as they stand, so that only the encoding is wrong.
fn paddings(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let (header, payload) = (SECOND_KEY.header(), serde_json::to_string(&forge.claims).expect("JSON"));
    // With spaces, each is one byte longer than a multiple of three, and has two characters of padding.
    let long = |text: &str| base64(format!("{text}{}", " ".repeat((4 - text.len() % 3) % 3)));
    let (header, payload) = (long(&header), long(&payload));
    let good = SECOND_KEY.sign(&format!("{header}.{payload}"));
    vec![
        ("a padded header", SECOND_KEY.sign(&format!("{header}==.{payload}"))),
        ("a padded payload", SECOND_KEY.sign(&format!("{header}.{payload}=="))),
        ("a padded signature", format!("{good}==")),
        ("half of the padding of a signature", format!("{good}=")),
        ("too much padding", format!("{good}====")),
        ("everything padded", SECOND_KEY.sign(&format!("{header}==.{payload}==")) + "=="),
        ("only padding for a signature", format!("{header}.{payload}.====")),
    ]
}

/// Signed as they stand, so that only the encoding is wrong.
fn alphabets(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let standard = |segment: &str| segment.replace('-', "+").replace('_', "/");
    let header = base64(SECOND_KEY.header().replacen('{', r#"{"x":">>>>>?????","#, 1));
    let payload = base64(serde_json::to_string(&forge.claims).expect("JSON").replacen('{', r#"{"x":">>>>>?????","#, 1));
    let good = forge.with_signature_where(|signature| base64(signature).contains('-') && base64(signature).contains('_'));
    let [good_header, good_payload, signature] = parts(&good);
    vec![
        ("a header in the standard alphabet", SECOND_KEY.sign(&format!("{}.{payload}", standard(&header)))),
        ("a payload in the standard alphabet", SECOND_KEY.sign(&format!("{header}.{}", standard(&payload)))),
        ("a signature in the standard alphabet", format!("{good_header}.{good_payload}.{}", standard(signature))),
        ("a header that is not encoded", SECOND_KEY.sign(&format!("{}.{payload}", SECOND_KEY.header()))),
    ]
}

/// Signed as they stand, so that only the encoding is wrong.
fn spare_bits(forge: &Forge<'_>) -> Vec<(&'static str, String)> {
    let (header, payload) = (SECOND_KEY.header(), serde_json::to_string(&forge.claims).expect("JSON"));
    let long = |text: &str, rest: usize| base64(format!("{text}{}", " ".repeat((3 + rest - text.len() % 3) % 3)));
    let sign = |header: &str, payload: &str| SECOND_KEY.sign(&format!("{header}.{payload}"));
    let good = sign(&base64(&header), &base64(&payload));
    vec![
        ("four bits set that stand for nothing in the header", sign(&with_spare_bits(&long(&header, 1), 15), &base64(&payload))),
        ("a bit set that stands for nothing in the header", sign(&with_spare_bits(&long(&header, 2), 1), &base64(&payload))),
        ("four bits set that stand for nothing in the payload", sign(&base64(&header), &with_spare_bits(&long(&payload, 1), 15))),
        ("a bit set that stands for nothing in the payload", sign(&base64(&header), &with_spare_bits(&long(&payload, 2), 1))),
        ("the lowest bit set that stands for nothing in the signature", with_spare_bits(&good, 1)),
        ("the highest bit set that stands for nothing in the signature", with_spare_bits(&good, 8)),
        ("all bits set that stand for nothing in the signature", with_spare_bits(&good, 15)),
    ]
}

/// Sets bits at the end that a decoder may overlook.
fn with_spare_bits(text: &str, bits: usize) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = text.split_at(text.len() - 1);
    let value = ALPHABET.find(last).expect("base64url") | bits;
    format!("{rest}{}", &ALPHABET[value..=value])
}
