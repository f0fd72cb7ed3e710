//! One schema and one set of statements serve PostgreSQL and CockroachDB: no
//! SQL text in the tree uses what only one of them has, or what means something
//! else to the other. And no transaction is begun but by the helper that
//! retries it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where transactions begin, and end.
const HOME: &str = "db-queries/src/transaction.rs";

/// What may stand there alone.
const BY_HAND: &str = "a transaction by hand";

/// What is forbidden, its patterns, and an example of it. A pattern is tokens
/// that follow one another; `^` is the beginning of a statement, `*` at the end
/// of a token any end.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    // CockroachDB lacks or changes these.
    ("a trigger", &["trigger"], "CREATE TRIGGER t AFTER INSERT ON saga"),
    (
        "a stored procedure",
        &[
            "procedure",
            "create function",
            "replace function",
            "language",
            "^ call",
            "^ do",
        ],
        "CREATE OR REPLACE FUNCTION f() RETURNS INT8 AS $$ SELECT 1 $$",
    ),
    ("LISTEN/NOTIFY", &["listen", "unlisten", "notify"], "NOTIFY saga"),
    ("NOTIFY by function", &["pg_notify"], "SELECT pg_notify('a', 'b')"),
    (
        "an advisory lock",
        &["pg_advisory*", "pg_try_advisory*"],
        "SELECT pg_try_advisory_xact_lock(1)",
    ),
    (
        "a constraint that waits for the commit",
        &["deferrable", "deferred"],
        "ALTER TABLE vmm ADD UNIQUE (id) DEFERRABLE",
    ),
    (
        "an exclusion constraint",
        &["exclude using", "exclude ("],
        "CREATE TABLE t (a INT8, EXCLUDE USING gist (a WITH =))",
    ),
    (
        "inheritance",
        &["inherits", "inherit"],
        "CREATE TABLE a (b INT8) INHERITS (c)",
    ),
    (
        "a system column",
        &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"],
        "DELETE FROM saga WHERE ctid = $1",
    ),
    ("an unlogged table", &["unlogged"], "CREATE UNLOGGED TABLE t (a INT8)"),
    (
        "a cursor",
        &["cursor", "^ declare", "^ fetch"],
        "DECLARE c CURSOR FOR SELECT id FROM saga",
    ),
    (
        "DROP VALUE of an enum",
        &["drop value"],
        "ALTER TYPE vmm_state DROP VALUE 'failed'",
    ),
    (
        "a materialized view refreshed concurrently",
        &["materialized view concurrently"],
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ),
    // PostgreSQL lacks these.
    ("UPSERT", &["upsert"], "UPSERT INTO saga (id) VALUES ($1)"),
    (
        "AS OF SYSTEM TIME",
        &["as of system time"],
        "SELECT id FROM saga AS OF SYSTEM TIME '-5s'",
    ),
    ("IF()", &["if ("], "SELECT IF(a, b, c) FROM saga"),
    ("STORING", &["storing"], "CREATE INDEX i ON saga (id) STORING (dag)"),
    (
        "a hash-sharded index",
        &["using hash", "bucket_count"],
        "CREATE INDEX i ON saga (time_created) USING HASH",
    ),
    // Types that one of them lacks, or takes for another.
    (
        "an id from a sequence",
        &["identity", "sequence", "nextval", "autoincrement"],
        "CREATE TABLE t (id INT8 GENERATED ALWAYS AS IDENTITY)",
    ),
    (
        "a range",
        &[
            "int4range",
            "int8range",
            "numrange",
            "tsrange",
            "tstzrange",
            "daterange",
        ],
        "CREATE TABLE t (a TSTZRANGE)",
    ),
    ("a domain", &["create domain"], "CREATE DOMAIN d AS INT8"),
    (
        "money, xml or ltree",
        &["money", "xml", "ltree"],
        "CREATE TABLE t (a LTREE)",
    ),
    (
        "an integer of another width on each",
        &["int", "integer"],
        "ALTER TABLE t ADD COLUMN a INTEGER",
    ),
    (
        "a time without its zone",
        &["timestamp"],
        "ALTER TABLE t ADD COLUMN a TIMESTAMP",
    ),
    // Slow at any distance from the beginning.
    ("OFFSET", &["offset"], "SELECT id FROM saga LIMIT 2 OFFSET 10"),
    // DataStore::transaction retries; this does not.
    (
        BY_HAND,
        &[
            "^ begin",
            "^ start transaction",
            "^ commit",
            "^ rollback",
            "^ savepoint",
        ],
        "UPDATE t SET a = 1; COMMIT",
    ),
];

/// A question to the tokens of one statement.
type Shape = fn(&[String]) -> bool;

/// What is forbidden and is more than tokens in a row, with an example of it.
const FORBIDDEN_SHAPES: &[(&str, Shape, &str)] = &[
    ("a serial id", serial_id, "CREATE TABLE t (id BIGSERIAL PRIMARY KEY)"),
    (
        "ON CONFLICT on an expression",
        conflict_on_expression,
        "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a, lower(b)) DO NOTHING",
    ),
    (
        "two arms of a statement that write the same table",
        table_written_twice,
        "WITH a AS (UPDATE vmm SET a = 1 RETURNING id) DELETE FROM vmm",
    ),
    (
        "a comparison of JSONB",
        jsonb_compared,
        "SELECT 1 FROM saga WHERE dag < $1::JSONB",
    ),
    (
        "an array of an enum",
        array_of_enum,
        "CREATE TABLE t (a vmm_state[] NOT NULL)",
    ),
];

/// What looks like something forbidden and is not.
const ALLOWED: &[&str] = &[
    "CREATE TABLE sled (id UUID PRIMARY KEY, serial VARCHAR(63) NOT NULL)",
    "SELECT sled.serial, serial, cmd FROM sled ORDER BY serial",
    "ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT8",
    "CREATE TABLE IF NOT EXISTS t (a TIMESTAMPTZ)",
    "CREATE INDEX i ON t (a) INCLUDE (b)",
    "-- no trigger\nSELECT 1 /* and no cursor */",
    "UPDATE t SET note = 'a trigger; COMMIT; and OFFSET', other = 'it''s'",
    "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a, b) DO NOTHING",
    "WITH a AS (SELECT id FROM vmm FOR UPDATE OF vmm SKIP LOCKED) \
     UPDATE vmm SET a = 1 WHERE id IN (SELECT id FROM a)",
    "WITH a AS (DELETE FROM vmm RETURNING id) \
     UPDATE saga SET a = 1 WHERE id IN (SELECT id FROM a)",
    "SELECT dag->>'a' FROM saga WHERE id = ANY($1::UUID[]) AND a < b",
    "no such sled's instance",
];

#[test]
fn every_sql_text_means_the_same_to_both_engines() {
    let texts = sql_texts();
    for known in ["CREATE TABLE instance", "SKIP LOCKED", "ADD COLUMN"] {
        let found = texts.iter().any(|(_, sql)| sql.contains(known));
        assert!(found, "the tree's SQL is not found: no {known} in it");
    }
    let mut faults = Vec::new();
    for (place, sql) in &texts {
        for what in forbidden_in(sql) {
            if what != BY_HAND || !place.starts_with(HOME) {
                faults.push(format!("{place}: {what}"));
            }
        }
    }
    // What diesel would write as OFFSET.
    for (path, source) in rust_sources(&["db-queries/src"]) {
        if parts(&source).code.contains(".offset(") {
            faults.push(format!("{}: OFFSET", path.display()));
        }
    }
    assert!(faults.is_empty(), "not for both engines: {faults:#?}");
}

#[test]
fn each_forbidden_construct_is_caught() {
    let patterns = FORBIDDEN.iter().map(|(what, _, example)| (what, example));
    let shapes =
        FORBIDDEN_SHAPES.iter().map(|(what, _, example)| (what, example));
    for (what, example) in patterns.chain(shapes) {
        let found = forbidden_in(example);
        assert!(found.contains(what), "{example:?}: only {found:?}");
        // Nor is it missed in lower case, behind something else.
        let hidden = format!("SELECT 1; {};", example.to_lowercase());
        assert!(forbidden_in(&hidden).contains(what), "{hidden:?}");
    }
    // Not only the examples': each way to write it.
    for (what, patterns, _) in FORBIDDEN {
        for pattern in *patterns {
            let sql = pattern.replace("^ ", "SELECT 1; ").replace('*', "_x");
            let found = forbidden_in(&sql);
            assert!(found.contains(what), "{sql:?}: only {found:?}");
        }
    }
    for sql in ALLOWED {
        assert_eq!(forbidden_in(sql), Vec::<&str>::new(), "{sql:?}");
    }
}

#[test]
fn no_transaction_is_begun_but_where_it_is_retried() {
    let crates = [
        "db-model/src",
        "db-queries/src",
        "nexus/src",
        "nexus-admin/src",
        "sled-agent/src",
        "sled-agent-client/src",
    ];
    let home = Path::new(HOME);
    let mut raw = Vec::new();
    for (path, source) in rust_sources(&crates) {
        if raw_transaction(&parts(&source).code) {
            raw.push(path);
        }
    }
    assert_eq!(raw, [home], "only the helper may begin a transaction");
}

#[test]
fn a_raw_transaction_is_caught() {
    for raw in [
        "conn.transaction(|c| f(c))",
        "let x = pooled\n    .connection\n    .transaction::<_, Error, _>(f);",
        "Connection::transaction(conn, f)",
        "conn.build_transaction().serializable().run(f)",
        "AnsiTransactionManager::begin_transaction(conn)?",
        "conn.test_transaction(f)",
    ] {
        assert!(raw_transaction(raw), "{raw}");
    }
    for helped in [
        "self.transaction(move |conn| {})",
        "datastore\n        .transaction(|conn| {})",
        "pub(crate) async fn transaction<T, F>(&self, f: F)",
        "mod transaction;",
    ] {
        assert!(!raw_transaction(helped), "{helped}");
    }
    // What stands in a comment or a string is no call.
    let parts = parts(
        "// conn.transaction(a)\n/* conn.transaction(b) */\n\
         let a = \"conn.transaction(c) \\\" d\"; let b = r#\"SELECT \"e\"\"#;\n\
         let c: &'static str = concat('\"', \"f \\\n    g\");",
    );
    assert!(!raw_transaction(&parts.code), "{}", parts.code);
    let texts: Vec<&str> = parts.texts.iter().map(|(_, t)| &**t).collect();
    let expected = ["conn.transaction(c) \" d", "SELECT \"e\"", "f g"];
    assert_eq!(texts, expected);
}

/// All that this SQL uses and must not.
fn forbidden_in(sql: &str) -> Vec<&'static str> {
    let tokens = tokens(sql);
    let mut found = Vec::new();
    for statement in tokens.split(|token| token == ";") {
        for (what, patterns, _) in FORBIDDEN {
            if patterns.iter().any(|pattern| occurs(pattern, statement)) {
                found.push(*what);
            }
        }
        for (what, shape, _) in FORBIDDEN_SHAPES {
            if shape(statement) {
                found.push(*what);
            }
        }
    }
    found
}

fn occurs(pattern: &str, statement: &[String]) -> bool {
    let (pattern, anchored) = match pattern.strip_prefix("^ ") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let pattern: Vec<&str> = pattern.split(' ').collect();
    let fits = |window: &[String]| {
        window.iter().zip(&pattern).all(|(token, p)| {
            p.strip_suffix('*').map_or(token == p, |p| token.starts_with(p))
        })
    };
    if anchored {
        statement.get(..pattern.len()).is_some_and(fits)
    } else {
        statement.windows(pattern.len()).any(fits)
    }
}

/// `serial` where a type stands, which is after a column's name.
fn serial_id(statement: &[String]) -> bool {
    const BEFORE_A_COLUMN: [&str; 10] = [
        "select",
        "by",
        "and",
        "or",
        "where",
        "set",
        "returning",
        "not",
        "on",
        "column",
    ];
    statement.windows(2).any(|pair| {
        let serial = ["serial", "bigserial", "smallserial"];
        serial.contains(&&*pair[1])
            && is_word(&pair[0])
            && !BEFORE_A_COLUMN.contains(&&*pair[0])
    })
}

/// `ON CONFLICT (…)` with more than names and commas in it.
fn conflict_on_expression(statement: &[String]) -> bool {
    statement.windows(3).enumerate().any(|(at, window)| {
        window == ["on", "conflict", "("]
            && statement[at + 3..]
                .iter()
                .take_while(|token| *token != ")")
                .any(|token| !is_word(token) && token != ",")
    })
}

/// A `WITH` in which two INSERTs, UPDATEs or DELETEs go to one table.
fn table_written_twice(statement: &[String]) -> bool {
    if statement.first().is_none_or(|first| first != "with") {
        return false;
    }
    let mut written: Vec<&String> = Vec::new();
    for (at, token) in statement.iter().enumerate() {
        let before = at.checked_sub(1).map(|i| &*statement[i]);
        let next = |n: usize| statement.get(at + n);
        let table = match &**token {
            "insert" if next(1).is_some_and(|t| t == "into") => next(2),
            "delete" if next(1).is_some_and(|t| t == "from") => next(2),
            // The others are FOR UPDATE, FOR NO KEY UPDATE and DO UPDATE.
            "update" if !matches!(before, Some("for" | "key" | "do")) => {
                next(1)
            }
            _ => None,
        };
        if let Some(table) = table {
            if written.contains(&table) {
                return true;
            }
            written.push(table);
        }
    }
    false
}

/// A value that is said to be JSONB, beside `<` or the like. What a column is,
/// this cannot know.
fn jsonb_compared(statement: &[String]) -> bool {
    const COMPARE: [&str; 5] = ["<", ">", "<=", ">=", "<>"];
    statement.iter().enumerate().any(|(at, token)| {
        let before = |n: usize| at.checked_sub(n).map(|i| &*statement[i]);
        // `::jsonb` of a name, a literal, or `$1`, which is two tokens.
        token == "jsonb"
            && before(1) == Some("::")
            && [statement.get(at + 1).map(|t| &**t), before(3), before(4)]
                .iter()
                .any(|t| t.is_some_and(|t| COMPARE.contains(&t)))
    })
}

/// An array of anything but what every database has.
fn array_of_enum(statement: &[String]) -> bool {
    const PLAIN: [&str; 6] =
        ["uuid", "int8", "text", "bool", "timestamptz", "bigint"];
    statement.windows(3).any(|window| {
        window[1..] == ["[", "]"]
            && is_word(&window[0])
            && !PLAIN.contains(&&*window[0])
    })
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// A statement's words in lower case, and its signs. Comments are left out, and
/// a quoted value is only `'`: what is data is no construct.
fn tokens(sql: &str) -> Vec<String> {
    const SIGNS: [&str; 6] = ["::", "<=", ">=", "<>", "->>", "->"];
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if c == '\'' {
            // An odd one is an apostrophe, since not every text here is SQL.
            rest = after.find('\'').map_or(after, |end| &after[end + 1..]);
            tokens.push(c.to_string());
        } else if c.is_ascii_alphanumeric() || c == '_' {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            tokens.push(rest[..end].to_lowercase());
            rest = &rest[end..];
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s))
        {
            tokens.push((*sign).to_string());
            rest = &rest[sign.len()..];
        } else {
            // A quoted name is as good as a plain one.
            if !c.is_whitespace() && c != '"' {
                tokens.push(c.to_string());
            }
            rest = after;
        }
    }
    tokens
}

/// Is a transaction begun here by other than `DataStore::transaction`?
fn raw_transaction(code: &str) -> bool {
    let raw = ["build_transaction(", "begin_transaction(", "test_transaction("];
    if raw.iter().any(|call| code.contains(call)) {
        return true;
    }
    code.match_indices("transaction").any(|(at, word)| {
        let before = code[..at].trim_end();
        let after = &code[at + word.len()..];
        if !after.starts_with(['(', ':']) {
            return false;
        }
        if before.ends_with("::") {
            return true;
        }
        let Some(receiver) = before.strip_suffix('.') else { return false };
        let receiver = receiver.trim_end();
        let start = receiver
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(0, |i| i + 1);
        !["self", "datastore"].contains(&&receiver[start..])
    })
}

/// Every SQL text of the tree with its place. All strings of the crate that
/// speaks SQL are taken for it: those that are not are few.
fn sql_texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in files("schema", "sql") {
        let sql = read(&path);
        texts.push((path.display().to_string(), sql));
    }
    for (path, source) in rust_sources(&["db-queries/src"]) {
        for (line, text) in parts(&source).texts {
            texts.push((format!("{}:{line}", path.display()), text));
        }
    }
    texts
}

fn rust_sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let paths = folders.iter().flat_map(|folder| files(folder, "rs"));
    paths.map(|path| (path.clone(), read(&path))).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The files in this folder and below it, from the root of the tree.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} in {folder}");
    found
}

/// A Rust source, taken apart.
struct Parts {
    /// What is left without comments, and with its strings emptied.
    code: String,
    /// The strings, unescaped as far as it matters, each with its line.
    texts: Vec<(usize, String)>,
}

fn parts(source: &str) -> Parts {
    let mut parts = Parts { code: String::new(), texts: Vec::new() };
    let mut rest = source;
    let line = |rest: &str| {
        source[..source.len() - rest.len()].matches('\n').count() + 1
    };
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|r| {
            let hashes = r.len() - r.trim_start_matches('#').len();
            (hashes, &r[hashes..])
        });
        // The `r` at the end of a name begins no raw string.
        let in_word = parts
            .code
            .ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some((hashes, body)) = raw
            && !in_word
            && let Some(body) = body.strip_prefix('"')
        {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = body.find(&close).unwrap();
            parts.texts.push((line(rest), body[..end].to_string()));
            parts.code.push_str("\"\"");
            rest = &body[end + close.len()..];
        } else if c == '"' {
            let (text, after) = quoted(&rest[1..]);
            parts.texts.push((line(rest), text));
            parts.code.push_str("\"\"");
            rest = after;
        } else if let Some(quote) = ["'\"'", "'\\\"'", "'\\''"]
            .iter()
            .find(|quote| rest.starts_with(**quote))
        {
            rest = &rest[quote.len()..];
        } else {
            parts.code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    parts
}

/// A string up to its closing quote, and what follows it.
fn quoted(body: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = body;
    loop {
        let c = rest.chars().next().unwrap();
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return (text, rest),
            '\\' => {
                let escaped = rest.chars().next().unwrap();
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    '\n' => rest = rest.trim_start(),
                    'n' => text.push('\n'),
                    other => text.push(other),
                }
            }
            c => text.push(c),
        }
    }
}
