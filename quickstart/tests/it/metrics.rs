//! The list of metrics, and the dashboard and the alert rules that query them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use profile_service::proto::GetProfileRequest;
use testing::{MetricInfo, Metrics, http, on_both_engines};

use crate::pair::Pair;

const KEYWORDS: [&str; 12] =
    ["and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "inf"];

type Infos = BTreeMap<String, MetricInfo>;

/// Returns the metrics of both services, after calls that give each family a value.
async fn served(app: &Pair) -> (Infos, Infos) {
    let alice = app.user("alice").await;
    app.assert_equal().await;
    alice.profiles().get_profile(GetProfileRequest { user_id: "me".to_owned() }).await.unwrap();
    for address in [app.auth.address, app.profile.address] {
        assert_eq!(http::send(address, "GET /no/such/path", &[], &[]).await.status, 404);
    }
    (Metrics::read(app.auth.address).await.infos(), Metrics::read(app.profile.address).await.infos())
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root of the project");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the rows of a table of metrics.
fn rows<'a>(infos: impl Iterator<Item = (&'a String, &'a MetricInfo)>) -> String {
    let mut text = "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n".to_owned();
    for (name, MetricInfo { kind, help, labels }) in infos {
        let name_without_total = name.trim_end_matches("_total");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name_without_total.ends_with(unit)).unwrap_or("");
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
    }
    text
}

/// Returns the names of metrics in a query.
fn names(query: &str) -> BTreeSet<String> {
    let mut plain = String::new();
    let mut rest = query;
    // Removes label matchers and ranges.
    while let Some(start) = rest.find(['{', '[']) {
        let end = if rest[start..].starts_with('{') { '}' } else { ']' };
        plain.push_str(&rest[..start]);
        plain.push(' ');
        rest = &rest[start + rest[start..].find(end).expect("a bracket that is closed") + 1..];
    }
    plain.push_str(rest);
    // Removes the labels of groupings.
    for grouping in ["by", "without", "on", "ignoring"] {
        while let Some(start) = plain.find(&format!("{grouping} (")) {
            let end = start + plain[start..].find(')').expect("a parenthesis that is closed");
            plain.replace_range(start..=end, " ");
        }
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = plain.as_str();
    while let Some(start) = rest.find(is_word) {
        let word = rest[start..].split(|c| !is_word(c)).next().expect("a word");
        rest = &rest[start + word.len()..];
        let is_function = rest.trim_start().starts_with('(');
        if !is_function && !KEYWORDS.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(word.to_owned());
        }
    }
    found
}

/// Returns every text of a member `expr` in the dashboard.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            found.extend(members.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            members.values().for_each(|member| expressions(member, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

on_both_engines! {
    #[expect(clippy::disallowed_methods, reason = "UPDATE=1 writes the file")]
    async fn the_reference_lists_the_metrics_that_are_served(app: Pair) {
        let (auth, profile) = served(&app).await;
        let both = rows(auth.iter().filter(|(name, _)| profile.contains_key(*name)));
        let of_auth = rows(auth.iter().filter(|(name, _)| !profile.contains_key(*name)));
        let of_profile = rows(profile.iter().filter(|(name, _)| !auth.contains_key(*name)));
        let path = "docs/reference/metrics.md";
        let text = read(path);
        let preface = text.split("## Both services").next().expect("a preface");
        let expected = format!(
            "{preface}## Both services\n\n{both}\n## auth-service\n\n{of_auth}\n## profile-service\n\n{of_profile}"
        );
        if std::env::var("UPDATE").is_ok() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path), &expected).unwrap();
        } else {
            assert_eq!(text, expected, "run `UPDATE=1 cargo test -p quickstart --test it metrics`");
        }
    }

    async fn the_dashboard_and_the_rules_query_metrics_that_are_served(app: Pair) {
        let (mut infos, profile) = served(&app).await;
        infos.extend(profile);
        let mut queries = Vec::new();
        expressions(&serde_json::from_str(&read("deploy/monitoring/dashboard.json")).unwrap(), &mut queries);
        assert!(queries.len() > 20, "{}", queries.len());
        let rules = read("deploy/monitoring/alerts.yml");
        let in_rules: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
        assert_eq!(in_rules.len(), rules.matches("- alert: ").count(), "each alert has its expression on one line");
        queries.extend(in_rules);
        for query in queries {
            let names = names(&query);
            assert!(!names.is_empty(), "{query}");
            for name in names {
                let is_served = infos.get(&name).is_some_and(|info| info.kind != "histogram")
                    || ["_bucket", "_count", "_sum"].iter().any(|suffix| {
                        name.strip_suffix(suffix).and_then(|name| infos.get(name)).is_some_and(|info| info.kind == "histogram")
                    });
                assert!(is_served || name == "up", "{name} is not served: {query}");
            }
        }
    }
}

#[test]
fn the_names_of_a_query_are_found() {
    let query =
        "histogram_quantile(0.99, sum by (le, job) (rate(a_bucket{x=\"y\"}[5m]))) > 1 and on (job) up == 0 or b / ignoring (c) d";
    assert_eq!(names(query).into_iter().collect::<Vec<_>>(), ["a_bucket", "b", "d", "up"]);
}
