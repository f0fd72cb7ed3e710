//! What a Nexus says of itself, read as strictly as Prometheus reads it.

use crate::NexusProcess;
use std::collections::{BTreeMap, BTreeSet};

/// What the text is said to be.
const CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A Nexus's metrics at one moment.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl NexusProcess {
    /// Its metrics, with the database's or without.
    ///
    /// # Panics
    ///
    /// They are no OpenMetrics text.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.internal_client().get("/metrics").await;
        assert_eq!(answer.content_type.as_deref(), Some(CONTENT_TYPE));
        Metrics::read(answer.expect(200).as_str().unwrap())
    }
}

impl Metrics {
    /// The value of a series, given as `name{label="value",…}`, the labels in
    /// the order in which they are sent.
    ///
    /// # Panics
    ///
    /// There is no such series.
    #[track_caller]
    pub fn at(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| {
            let there: Vec<_> = self.0.keys().collect();
            panic!("no {series} in {there:#?}")
        })
    }

    /// The value of a series, if there is one.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The values of all series of this name, together.
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        self.0.iter().filter(|(s, _)| of_name(s)).map(|(_, value)| value).sum()
    }

    /// Reads a text.
    ///
    /// # Panics
    ///
    /// It is no OpenMetrics text, or says something twice.
    pub fn read(text: &str) -> Metrics {
        let body = text.strip_suffix("# EOF\n").expect("an end");
        let mut series = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut family = Family::default();
        for line in body.lines() {
            if let Some(about) = line.strip_prefix("# ") {
                let mut about = about.splitn(3, ' ');
                let (what, name) = (about.next(), about.next().unwrap());
                if name != family.name {
                    family.check();
                    family = Family::named(name);
                    assert!(families.insert(name.to_string()), "{name} twice");
                }
                let text = about.next().unwrap().to_string();
                match what {
                    Some("HELP") => family.help = text,
                    Some("TYPE") => family.kind = text,
                    Some("UNIT") => assert!(name.ends_with(&text), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').expect(line);
            let value: f64 = value.parse().expect(line);
            family.take(sample, value);
            let old = series.insert(sample.to_string(), value);
            assert_eq!(old, None, "{sample} twice");
        }
        family.check();
        Metrics(series)
    }
}

/// A family of metrics, as it is read.
#[derive(Default)]
struct Family {
    name: String,
    help: String,
    kind: String,
    /// Of a histogram: by labels without `le`, the buckets in order.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
    counts: BTreeMap<String, f64>,
}

impl Family {
    fn named(name: &str) -> Family {
        Family { name: name.to_string(), ..Family::default() }
    }

    fn take(&mut self, sample: &str, value: f64) {
        let (name, labels) = match sample.split_once('{') {
            None => (sample, Vec::new()),
            Some((name, labels)) => {
                (name, labels_of(labels.strip_suffix('}').expect(sample)))
            }
        };
        let suffix = name.strip_prefix(&self.name).expect(sample);
        let rest = |labels: &[(String, String)]| {
            let rest = labels.iter().filter(|(key, _)| key != "le");
            format!("{:?}", rest.collect::<Vec<_>>())
        };
        match (self.kind.as_str(), suffix) {
            ("gauge", "") | ("info", "_info") => (),
            ("counter", "_total") | ("histogram", "_sum") => {
                assert!(value >= 0.0, "{sample} {value}");
            }
            ("histogram", "_count") => {
                self.counts.insert(rest(&labels), value);
            }
            ("histogram", "_bucket") => {
                let le = labels.iter().find(|(key, _)| key == "le").unwrap();
                let le = le.1.parse().expect(sample);
                let buckets = self.buckets.entry(rest(&labels)).or_default();
                buckets.push((le, value));
            }
            (kind, _) => panic!("{sample} in a family of type {kind:?}"),
        }
    }

    fn check(&self) {
        assert_eq!(self.name.is_empty(), self.help.is_empty());
        assert_eq!(self.name.is_empty(), self.kind.is_empty());
        assert!(self.buckets.keys().eq(self.counts.keys()), "{}", self.name);
        for (labels, buckets) in &self.buckets {
            let rise = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            assert!(rise, "{} {labels} {buckets:?}", self.name);
            let all = Some(&(f64::INFINITY, self.counts[labels]));
            assert_eq!(buckets.last(), all, "{} {labels}", self.name);
        }
    }
}

/// `key="value",…`, of which no value holds a quote, a backslash or a comma.
fn labels_of(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .map(|label| {
            let (key, value) = label.split_once('=').expect(label);
            let value =
                value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            let value = value.expect(label);
            assert!(!value.contains(['"', '\\']), "{label}");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(!key.is_empty() && key.chars().all(plain), "{label}");
            (key.to_string(), value.to_string())
        })
        .collect()
}
