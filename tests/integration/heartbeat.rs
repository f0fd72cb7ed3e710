//! What sleds say of themselves, and what is made of it, together or one by one.

use db_model::{SledCpu, SledId};
use db_queries::{DataStore, SledFacts};
use harness::Database;
use std::collections::HashSet;
use uuid::Uuid;

fn facts(incarnation: Uuid) -> SledFacts {
    SledFacts {
        id: SledId::new_v4(),
        address: "127.0.0.1:1".to_string(),
        serial: "test".to_string(),
        part: "simulated-sled".to_string(),
        revision: 1,
        vcpus: 8,
        memory_bytes: 1 << 34,
        storage_bytes: 1 << 40,
        cpu: SledCpu::AmdMilan,
        incarnation,
        fences_after_ms: None,
    }
}

/// A sled that has been silent for a second, as far as is recorded.
async fn registered(database: &Database, datastore: &DataStore) -> SledFacts {
    let facts = facts(Uuid::now_v7());
    let heard = datastore.sled_heard_from(facts.clone(), true).await.unwrap();
    assert!(heard.news);
    let earlier = "UPDATE sled \
         SET time_last_heartbeat = time_last_heartbeat - INTERVAL '1 second'";
    database.try_sql(earlier).unwrap();
    facts
}

#[tokio::test]
async fn heartbeats_are_written_together_but_for_those_with_news() {
    let database = Database::create().await;
    let datastore = database.datastore();
    let mut said = Vec::new();
    for _ in 0..9 {
        said.push(registered(&database, &datastore).await);
    }
    let expunged = said[2].id;
    datastore.sled_expunge(expunged).await.unwrap();
    said[3].incarnation = Uuid::now_v7();
    said[4].address = "127.0.0.1:2".to_string();
    said[5].vcpus = 9;
    said[6].fences_after_ms = Some(1_000);
    said[7].cpu = SledCpu::AmdTurin;
    said[8].id = SledId::new_v4();
    let mut before = Vec::new();
    for facts in &said[..8] {
        before.push(datastore.sled_view(facts.id).await.unwrap());
    }

    let known = datastore.sleds_heard_again(said.clone()).await.unwrap();
    assert_eq!(known, HashSet::from([said[0].id, said[1].id]));
    for was in before {
        let now = datastore.sled_view(was.id).await.unwrap();
        let heard = now.time_last_heartbeat > was.time_last_heartbeat;
        assert_eq!(heard, known.contains(&was.id), "{was:?}, {now:?}");
        assert_eq!(now.incarnation, was.incarnation);
    }
    assert!(datastore.sleds_heard_again(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_heartbeat_of_an_earlier_process_does_not_say_where_the_sled_is() {
    let database = Database::create().await;
    let datastore = database.datastore();
    let earlier = registered(&database, &datastore).await;
    let later = SledFacts {
        address: "127.0.0.1:2".to_string(),
        incarnation: Uuid::now_v7(),
        ..earlier.clone()
    };
    datastore.sled_heard_from(later.clone(), true).await.unwrap();
    datastore.sled_heard_from(earlier, false).await.unwrap();
    let sled = datastore.sled_view(later.id).await.unwrap();
    assert_eq!(sled.address, later.address);
    assert_eq!(sled.incarnation, later.incarnation);
}
