//! Reads the metrics of a service.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::net::TcpStream;

use crate::http;

/// The metrics of a service, as `/metrics` answered them.
#[derive(Debug, Clone)]
pub struct Metrics(String);

/// The description of a metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricInfo {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The meaning.
    pub help: String,
    /// The names of its labels.
    pub labels: Vec<String>,
}

impl Metrics {
    /// Reads the metrics of the service at `address`.
    ///
    /// # Panics
    ///
    /// Panics if the service does not answer them.
    pub async fn read(address: SocketAddr) -> Self {
        Self::from_answer(&http::send(address, "GET /metrics", &[], &[]).await)
    }

    /// Reads the metrics over a connection, which the service closes afterwards.
    ///
    /// # Panics
    ///
    /// Panics if the service does not answer them.
    pub async fn read_on(stream: TcpStream) -> Self {
        Self::from_answer(&http::send_on(stream, "GET /metrics", &[], &[]).await)
    }

    fn from_answer(answer: &http::Answer) -> Self {
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
        Self(answer.text().to_owned())
    }

    /// Returns the value of a series, such as `server_errors_total{reason="NOT_FOUND"}`.
    ///
    /// # Panics
    ///
    /// Panics if the value is not a number.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    /// Asserts the value of each series.
    ///
    /// # Panics
    ///
    /// Panics if one has another value.
    pub fn assert(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            assert_eq!(self.value(series), Some(*value), "{series}\n{}", self.0);
        }
    }

    /// Returns the description of each metric by its name.
    ///
    /// # Panics
    ///
    /// Panics if a metric has no help or no type.
    pub fn infos(&self) -> BTreeMap<String, MetricInfo> {
        let mut infos = BTreeMap::<String, MetricInfo>::new();
        let mut current = String::new();
        for line in self.0.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                name.clone_into(&mut current);
                let info = MetricInfo { help: help.to_owned(), ..MetricInfo::default() };
                assert!(infos.insert(current.clone(), info).is_none(), "{name} is served twice");
            } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                kind.clone_into(&mut infos.get_mut(&current).expect("HELP comes before TYPE").kind);
            } else if let Some((_, labels)) = line.split_once('{') {
                let info = infos.get_mut(&current).expect("HELP comes before the values");
                let labels = labels.rsplit_once('}').expect("the end of the labels").0;
                for label in labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0)) {
                    if label != "le" && !info.labels.iter().any(|known| known == label) {
                        info.labels.push(label.to_owned());
                    }
                }
            }
        }
        infos
    }
}
