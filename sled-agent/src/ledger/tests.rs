use super::*;
use rusqlite::types::Value;
use serde_json::json;

const ONE: Table = Table("one");
const TWO: Table = Table("two");

async fn open(path: &Utf8Path) -> Result<Ledger, FileError> {
    Ledger::open(path.to_path_buf(), &[ONE, TWO], Outlives::Host).await
}

fn place() -> (tempfile::TempDir, Utf8PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(dir.path()).unwrap().join("a.db");
    (dir, path)
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

#[tokio::test]
async fn what_was_told_is_there_for_the_next_process() {
    let (_dir, path) = place();
    let ledger = open(&path).await.unwrap();
    for n in [3, 1, 2] {
        ledger.write(vec![Change::put(ONE, id(n), &n)]).await.unwrap();
    }
    let again = vec![
        Change::put(ONE, id(3), &30),
        Change::put(TWO, id(3), &"two"),
        Change::remove(ONE, id(2)),
        Change::remove(ONE, id(9)),
    ];
    ledger.write(again).await.unwrap();
    drop(ledger);
    let ledger = open(&path).await.unwrap();
    assert_eq!(ledger.all::<u32>(ONE).await.unwrap(), [1, 30]);
    assert_eq!(ledger.all::<String>(TWO).await.unwrap(), ["two"]);
    assert_eq!(ledger.get::<u32>(ONE, id(3)).await.unwrap(), Some(30));
    assert_eq!(ledger.get::<u32>(ONE, id(2)).await.unwrap(), None);
}

#[tokio::test]
async fn many_at_once_are_all_told_and_share_commits() {
    let (_dir, path) = place();
    let ledger = open(&path).await.unwrap();
    let other = Connection::open(&path).unwrap();
    // While another process writes, they come together.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked = (0..100).map(|n| {
        let change = vec![Change::put(ONE, id(n), &n)];
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.write(change).await })
    });
    let asked: Vec<_> = asked.collect();
    tokio::task::yield_now().await;
    let log = || std::fs::metadata(format!("{path}-wal")).unwrap().len();
    let before = log();
    other.execute_batch("COMMIT").unwrap();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    // Each commit writes a page at least.
    assert!(log() - before < 50 * 4096, "{}", log() - before);
    assert_eq!(ledger.all::<u32>(ONE).await.unwrap().len(), 100);
}

#[tokio::test]
async fn what_cannot_be_written_changes_nothing_and_is_said() {
    let (_dir, path) = place();
    let ledger = open(&path).await.unwrap();
    ledger.write(vec![Change::put(ONE, id(1), &"kept")]).await.unwrap();
    let no_key = json!(null);
    let bad = std::collections::HashMap::from([((1, 2), no_key)]);
    let changes =
        vec![Change::remove(ONE, id(1)), Change::put(TWO, id(1), &bad)];
    let why = ledger.write(changes).await.unwrap_err();
    assert_eq!(why.to_string(), format!("cannot write {path}"));
    assert_eq!(ledger.all::<String>(ONE).await.unwrap(), ["kept"]);
    // And the next one is none the worse for it.
    ledger.write(vec![Change::remove(ONE, id(1))]).await.unwrap();
    assert_eq!(ledger.all::<String>(ONE).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_broken_or_of_a_later_agent_is_an_error_and_not_empty() {
    let (_dir, path) = place();
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    assert!(open(&path).await.is_err());
    std::fs::remove_file(&path).unwrap();
    drop(open(&path).await.unwrap());
    let later = Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
    let why = open(&path).await.unwrap_err();
    let why = crate::logger::chain(&why).to_string();
    assert!(why.contains("layout 2, and ours is 1"), "{why}");
}

#[tokio::test]
async fn another_process_reads_what_was_told_while_this_one_goes_on() {
    let (_dir, path) = place();
    let ledger = open(&path).await.unwrap();
    let other = Connection::open(&path).unwrap();
    for n in 0..3 {
        ledger.write(vec![Change::put(ONE, id(n), &n)]).await.unwrap();
        let sql = "SELECT count(*) FROM one";
        let seen: u32 = other.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(u128::from(seen), n + 1);
    }
}

#[test]
fn what_is_to_outlive_the_host_is_synced_and_the_rest_is_not() {
    let (_dir, path) = place();
    for (outlives, synchronous) in [(Outlives::Host, 2), (Outlives::Process, 1)]
    {
        let mut writer = connect(&path).unwrap();
        set_up(&mut writer, &[ONE], outlives).unwrap();
        let is = |what| {
            let sql = format!("PRAGMA {what}");
            writer.query_one(&sql, [], |row| row.get::<_, Value>(0)).unwrap()
        };
        assert_eq!(is("synchronous"), Value::Integer(synchronous));
        assert_eq!(is("journal_mode"), Value::Text("wal".to_string()));
    }
}
