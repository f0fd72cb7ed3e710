//! Logs: JSON by default, readable text on a terminal, both on stderr.

use slog::{
    Drain, KV, Key, Level, LevelFilter, Logger, Never, OwnedKV, OwnedKVList,
    Record, Serializer, o,
};
use std::fmt;
use std::io::{IsTerminal, LineWriter, stderr};
use std::str::FromStr;

/// What dropshot logs under this is a client's mistake, as an error.
const OF_CLIENTS: &str = "dropshot::versioning";

/// A logger that passes on `level` and above. An unknown level is `info`.
pub fn logger(level: &str) -> Logger {
    let level = Level::from_str(level).unwrap_or(Level::Info);
    if stderr().is_terminal() {
        let decorator = slog_term::TermDecorator::new().stderr().build();
        let drain = slog_term::FullFormat::new(decorator).build().fuse();
        root(LevelFilter::new(drain, level))
    } else {
        // It writes word by word.
        let json = slog_bunyan::with_name("nexus", LineWriter::new(stderr()));
        let drain = json.build().fuse();
        root(LevelFilter::new(drain, level))
    }
}

/// The logger of a server, and so of each of its requests: without dropshot's
/// line or two about every one of them, and without queries, which have codes
/// that are secret for their time.
pub fn of_requests(log: Logger) -> Logger {
    Logger::root(OfRequests(log), o!())
}

struct OfRequests(Logger);

impl Drain for OfRequests {
    type Ok = ();
    type Err = Never;

    fn log(
        &self,
        record: &Record<'_>,
        values: &OwnedKVList,
    ) -> Result<(), Never> {
        let module = record.module();
        let of_dropshot = module.starts_with("dropshot");
        let matters = record.level().is_at_least(Level::Warning);
        if of_dropshot && (!matters || module == OF_CLIENTS) {
            return Ok(());
        }
        let values = OwnedKV(WithoutQuery(values.clone())).into();
        Drain::log(&self.0, record, &values)
    }
}

/// What dropshot says of a request with each line, but for the query.
struct WithoutQuery(OwnedKVList);

impl KV for WithoutQuery {
    fn serialize(
        &self,
        record: &Record<'_>,
        to: &mut dyn Serializer,
    ) -> slog::Result {
        self.0.serialize(record, &mut UpToQuery(to))
    }
}

struct UpToQuery<'a>(&'a mut dyn Serializer);

impl Serializer for UpToQuery<'_> {
    fn emit_arguments(
        &mut self,
        key: Key,
        value: &fmt::Arguments<'_>,
    ) -> slog::Result {
        if key != "uri" {
            return self.0.emit_arguments(key, value);
        }
        let uri = value.to_string();
        let path = uri.split_once('?').map_or(&*uri, |(path, _)| path);
        self.0.emit_str(key, path)
    }
}

fn root<D>(drain: D) -> Logger
where
    D: Drain + Send + 'static,
    D::Err: std::fmt::Debug,
{
    // Never blocks a request for the sake of a log line, and says so when it
    // has dropped some.
    let drain = slog_async::Async::new(drain.fuse()).chan_size(4096).build();
    Logger::root(drain.fuse(), o!())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slog::info;
    use std::sync::{Arc, Mutex};

    /// Keeps what is logged, a line each.
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Drain for Kept {
        type Ok = ();
        type Err = Never;

        fn log(
            &self,
            record: &Record<'_>,
            values: &OwnedKVList,
        ) -> Result<(), Never> {
            let mut line = Line(record.msg().to_string());
            values.serialize(record, &mut line).expect("it is written");
            self.0.lock().expect("it is ours").push(line.0);
            Ok(())
        }
    }

    struct Line(String);

    impl Serializer for Line {
        fn emit_arguments(
            &mut self,
            key: Key,
            value: &fmt::Arguments<'_>,
        ) -> slog::Result {
            self.0 += &format!(" {key}={value}");
            Ok(())
        }
    }

    #[test]
    fn of_a_request_no_query_is_logged_and_of_dropshot_s_lines_what_matters() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let all = Logger::root(Kept(Arc::clone(&kept)), o!("nexus" => "n"));
        let log = of_requests(all).new(o!("component" => "external"));
        let log =
            log.new(o!("uri" => "/device?code=secret", "method" => "GET"));
        info!(log, "ours");
        let of_dropshot = |level, module, text: &str| {
            let place = slog::RecordLocation {
                file: "",
                line: 0,
                column: 0,
                function: "",
                module,
            };
            let of = slog::RecordStatic { location: &place, tag: "", level };
            let text = format_args!("{text}");
            log.log(&Record::new(&of, &text, slog::b!()));
        };
        of_dropshot(Level::Info, "dropshot::server", "request completed");
        of_dropshot(Level::Error, "dropshot::versioning", "no such path");
        of_dropshot(Level::Error, "dropshot::server", "handler panicked");
        let about = "method=GET uri=/device component=external nexus=n";
        let lines = kept.lock().expect("it is ours").clone();
        assert_eq!(
            lines,
            [format!("ours {about}"), format!("handler panicked {about}")]
        );
    }
}
