//! What programs log with already ends up in a log.

use std::fs;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use wigwag::{Address, Log, LogFormat, LogLayer, LogLevel, LogOptions, Timeout};

const GENEROUS: Timeout = Timeout::After(Duration::from_secs(60));

fn log() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let address: Address = format!("log:{}", directory.path().join("shared").display()).parse().unwrap();
    let options = LogOptions { file: directory.path().join("log"), format: LogFormat::Json, ..Default::default() };
    let log = Log::open(&address, options).unwrap();
    (directory, log)
}

fn lines(directory: &tempfile::TempDir) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(directory.path().join("log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_crate_log() {
    use log::{Level, Record};
    let (directory, log) = log();
    let backend: &dyn log::Log = &log;
    let record = |level, n: u32| {
        let pairs = [("n", n.to_string()), ("why", "because".into())];
        let mut record = Record::builder();
        record.level(level).target("app").file(Some("a.rs")).line(Some(n)).key_values(&pairs);
        backend.log(&record.args(format_args!("number {n}")).build());
    };
    record(Level::Debug, 1);
    record(Level::Warn, 2);
    backend.flush();
    let lines = lines(&directory);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((line["message"].as_str(), line["level"].as_str()), (Some("number 2"), Some("warn")));
    assert_eq!(
        (line["target"].as_str(), line["file"].as_str(), line["line"].as_u64()),
        (Some("app"), Some("a.rs"), Some(2))
    );
    assert_eq!(line["fields"], serde_json::json!({"n": "2", "why": "because"}));
    assert!(backend.enabled(&log::Metadata::builder().level(Level::Info).build()));
}

#[test]
fn a_layer_of_tracing() {
    let (directory, log) = log();
    log.set_level(LogLevel::Debug);
    let layer = LogLayer::new(log);
    let subscriber = std::sync::Arc::new(tracing_subscriber::registry().with(layer));
    tracing::subscriber::with_default(subscriber.clone(), || {
        let outer = tracing::info_span!("request");
        let _outer = outer.enter();
        let inner = tracing::info_span!("query");
        let _inner = inner.enter();
        tracing::trace!("not this");
        tracing::debug!(rows = 3u64, slow = true, name = "x", share = 0.5, "done in {}", 7);
    });
    subscriber.downcast_ref::<LogLayer>().unwrap().log().drain(GENEROUS).unwrap();
    let lines = lines(&directory);
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0]["message"].as_str(), lines[0]["level"].as_str()), (Some("done in 7"), Some("debug")));
    let fields = serde_json::json!({"rows": 3, "slow": true, "name": "x", "share": 0.5, "span": "request:query"});
    assert_eq!(lines[0]["fields"], fields);
    assert!(lines[0]["file"].as_str().unwrap().ends_with("log_backends.rs"));
}
