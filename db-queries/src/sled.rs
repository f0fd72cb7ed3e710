//! Sleds: registered by their agents, set by operators.

use crate::placement::allowance_micros;
use crate::sql::{Keep, Sql, clock_timestamp, sql, statement};
use crate::waiting::wake_room;
use crate::{ById, DataStore, Error, Page};
use chrono::{DateTime, Utc};
use db_model::schema::{instance, project, silo, sled, sled_reservation, vmm};
use db_model::{
    Instance, Name, ReservationRole, Sled, SledCpu, SledId, SledInstance,
    SledPolicy, SledProvisionPolicy, Vmm, run_state,
};
use diesel::sql_types::{
    Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{
    ExpressionMethods, IntoSql, JoinOnDsl, OptionalExtension, QueryDsl,
    QueryableByName, RunQueryDsl, SelectableHelper,
};
use std::collections::HashSet;
use uuid::Uuid;

/// What an agent says of its sled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SledFacts {
    pub id: SledId,
    /// ip:port of its agent.
    pub address: String,
    pub serial: String,
    pub part: String,
    pub revision: i64,
    pub vcpus: i64,
    pub memory_bytes: i64,
    pub storage_bytes: i64,
    pub cpu: SledCpu,
    pub incarnation: Uuid,
    /// See [`Sled::promise`].
    pub fences_after_ms: Option<i64>,
}

/// What came of hearing from a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeardFrom {
    /// It is not ours any more: its agent is to stop its guests.
    pub expunged: bool,
    /// It is new, or is back, or is another process: ask it for its VMMs.
    pub news: bool,
}

/// A sled, and what time it is.
#[diesel::dsl::auto_type(no_type_alias)]
fn with_time(id: SledId) -> _ {
    let columns: diesel::dsl::AsSelect<Sled, diesel::pg::Pg> =
        Sled::as_select();
    let now: Sql<Timestamptz> = sql("clock_timestamp()");
    sled::table.find(id).select((columns, now))
}

impl DataStore {
    /// A sled's agent says that it is there: registration, with `new_too`, and
    /// heartbeat. The sled's size follows what is said, except that it never
    /// falls below what is reserved on it: what runs there, runs there.
    ///
    /// # Errors
    ///
    /// `NotFound`: never registered, and not `new_too`.
    pub async fn sled_heard_from(
        &self,
        facts: SledFacts,
        new_too: bool,
    ) -> Result<HeardFrom, Error> {
        self.transaction(move |conn| {
            let before: Option<(Sled, DateTime<Utc>)> = with_time(facts.id)
                .for_no_key_update()
                .first(conn)
                .optional()?;
            let Some((old, now)) = before else {
                if !new_too {
                    return Err(Error::NotFound);
                }
                insert(conn, &facts)?;
                wake_room(conn, facts.id)?;
                return Ok(HeardFrom { expunged: false, news: true });
            };
            let expunged = old.policy == SledPolicy::Expunged;
            // An earlier process, heard late, is not where the sled is now.
            let process = old.process_after(facts.incarnation);
            let address = match process == facts.incarnation {
                true => &facts.address,
                false => &old.address,
            };
            let news = old.silent(now) || old.incarnation != facts.incarnation;
            let vcpus = facts.vcpus.max(old.reserved_vcpus);
            let memory =
                facts.memory_bytes.max(old.reserved_memory_bytes.to_i64());
            let storage =
                facts.storage_bytes.max(old.reserved_storage_bytes.to_i64());
            diesel::update(sled::table.find(facts.id))
                .set((
                    sled::time_last_heartbeat.eq(now),
                    sled::fences_after_ms.eq(old.promise(
                        facts.fences_after_ms,
                        facts.incarnation,
                        now,
                    )),
                    sled::address.eq(address),
                    sled::serial.eq(&facts.serial),
                    sled::part.eq(&facts.part),
                    sled::revision.eq(facts.revision),
                    sled::incarnation.eq(process),
                    sled::vcpus.eq(vcpus),
                    sled::memory_bytes.eq(memory.into_sql::<BigInt>()),
                    sled::storage_bytes.eq(storage.into_sql::<BigInt>()),
                    sled::cpu.eq(facts.cpu),
                ))
                .kept()
                .execute(conn)?;
            let grown = vcpus > old.vcpus
                || memory > old.memory_bytes.to_i64()
                || storage > old.storage_bytes.to_i64();
            if news || grown || facts.cpu != old.cpu {
                wake_room(conn, facts.id)?;
            }
            Ok(HeardFrom { expunged, news })
        })
        .await
    }

    /// Writes down that sleds were heard which say what they have said before, as
    /// nearly all do: in one statement, which does nothing about those of which
    /// there is more to say. Says which it was written down of.
    pub async fn sleds_heard_again(
        &self,
        said: Vec<SledFacts>,
    ) -> Result<HashSet<SledId>, Error> {
        self.run(move |conn| heard_again(conn, &said)).await
    }

    /// Sleds, by id.
    pub async fn sled_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<Sled>, Error> {
        self.run(move |conn| {
            let query = sled::table
                .order(sled::id.asc())
                .limit(page.limit)
                .select(Sled::as_select())
                .into_boxed();
            let query = match page.by.after {
                Some(after) => query.filter(sled::id.gt(SledId(after))),
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// The sled of this id.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn sled_view(&self, id: SledId) -> Result<Sled, Error> {
        self.run(move |conn| {
            Ok(sled::table.find(id).select(Sled::as_select()).first(conn)?)
        })
        .await
    }

    /// The rack that all sleds are in.
    pub async fn rack_id(&self) -> Result<Uuid, Error> {
        use db_model::schema::db_metadata;
        self.run(|conn| {
            Ok(db_metadata::table.select(db_metadata::rack_id).first(conn)?)
        })
        .await
    }

    /// The instances that hold something of a sled, by id; abandoned runs are
    /// not listed.
    pub async fn sled_instance_list(
        &self,
        id: SledId,
        page: Page<ById>,
    ) -> Result<Vec<SledInstance>, Error> {
        self.run(move |conn| {
            let query = sled_reservation::table
                .inner_join(
                    instance::table
                        .on(sled_reservation::instance_id.eq(instance::id)),
                )
                .inner_join(
                    project::table.on(instance::project_id.eq(project::id)),
                )
                .inner_join(silo::table.on(project::silo_id.eq(silo::id)))
                .inner_join(vmm::table.on(sled_reservation::vmm_id.eq(vmm::id)))
                .filter(sled_reservation::sled_id.eq(id))
                .filter(sled_reservation::role.ne(ReservationRole::Abandoned))
                .order(instance::id.asc())
                .limit(page.limit)
                .select((
                    Instance::as_select(),
                    Vmm::as_select(),
                    project::name,
                    silo::name,
                ))
                .into_boxed();
            let query = match page.by.after {
                Some(after) => {
                    query.filter(instance::id.gt(db_model::InstanceId(after)))
                }
                None => query,
            };
            let rows: Vec<(Instance, Vmm, Name, Name)> = query.load(conn)?;
            Ok(rows
                .into_iter()
                .map(|(i, vmm, project_name, silo_name)| SledInstance {
                    id: i.id,
                    sled_id: id,
                    state: run_state(&i, Some(&vmm)),
                    name: i.name,
                    project_name,
                    silo_name,
                    ncpus: i.ncpus,
                    memory: i.memory_bytes,
                    time_created: i.time_created,
                    time_modified: i.time_modified,
                })
                .collect())
        })
        .await
    }

    /// Opens a sled to new instances or closes it; says what it was before.
    /// What runs there is not disturbed.
    ///
    /// # Errors
    ///
    /// `NotFound`; `NoRoom` when the sled is expunged.
    pub async fn sled_set_provision_policy(
        &self,
        id: SledId,
        policy: SledProvisionPolicy,
    ) -> Result<SledProvisionPolicy, Error> {
        self.transaction(move |conn| {
            let old: (SledPolicy, SledProvisionPolicy) = sled::table
                .find(id)
                .select((sled::policy, sled::provision_policy))
                .for_no_key_update()
                .first(conn)?;
            if old.0 == SledPolicy::Expunged {
                return Err(Error::NoRoom);
            }
            diesel::update(sled::table.find(id))
                .set((
                    sled::provision_policy.eq(policy),
                    sled::time_modified.eq(diesel::dsl::now),
                ))
                .kept()
                .execute(conn)?;
            if old.1 != policy && policy == SledProvisionPolicy::Provisionable {
                wake_room(conn, id)?;
            }
            Ok(old.1)
        })
        .await
    }

    /// A sled is off for good. Idempotent. Its VMMs end by and by, by the
    /// watcher, since there may be many.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn sled_expunge(&self, id: SledId) -> Result<(), Error> {
        self.run(move |conn| {
            let hit = diesel::update(sled::table.find(id))
                .set((
                    sled::policy.eq(SledPolicy::Expunged),
                    sled::time_modified.eq(diesel::dsl::now),
                ))
                .kept()
                .execute(conn)?;
            if hit == 1 { Ok(()) } else { Err(Error::NotFound) }
        })
        .await
    }
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: SledId,
}

/// See [`DataStore::sleds_heard_again`]. Waits for no sled that somebody else
/// writes to: all others would wait with it.
fn heard_again(
    conn: &mut diesel::PgConnection,
    said: &[SledFacts],
) -> Result<HashSet<SledId>, Error> {
    fn all<'a, T>(
        said: &'a [SledFacts],
        of: impl Fn(&'a SledFacts) -> T,
    ) -> Vec<T> {
        said.iter().map(of).collect()
    }
    let heard: Vec<Id> = statement(
        "WITH same AS ( \
             SELECT sled.id FROM sled \
             JOIN unnest($2::UUID[], $3::UUID[], $4::INT8[], $5::TEXT[], \
                 $6::TEXT[], $7::TEXT[], $8::INT8[], $9::TEXT[], \
                 $10::INT8[], $11::INT8[], $12::INT8[]) \
                 AS said (id, incarnation, fences_after_ms, address, serial, \
                     part, revision, cpu, vcpus, memory_bytes, storage_bytes) \
               ON sled.id = said.id \
             WHERE sled.policy = 'in_service' \
               AND sled.time_last_heartbeat > \
                   clock_timestamp() - $1 * INTERVAL '1 microsecond' \
               AND sled.incarnation = said.incarnation \
               AND sled.fences_after_ms \
                   IS NOT DISTINCT FROM said.fences_after_ms \
               AND sled.address = said.address \
               AND sled.serial = said.serial \
               AND sled.part = said.part \
               AND sled.revision = said.revision \
               AND sled.cpu::TEXT = said.cpu \
               AND sled.vcpus = said.vcpus \
               AND sled.memory_bytes = said.memory_bytes \
               AND sled.storage_bytes = said.storage_bytes \
             FOR NO KEY UPDATE OF sled SKIP LOCKED) \
         UPDATE sled SET time_last_heartbeat = clock_timestamp() \
         FROM same WHERE sled.id = same.id \
         RETURNING sled.id",
    )
    .bind::<BigInt, _>(allowance_micros())
    .bind::<Array<SqlUuid>, _>(all(said, |s| s.id))
    .bind::<Array<SqlUuid>, _>(all(said, |s| s.incarnation))
    .bind::<Array<Nullable<BigInt>>, _>(all(said, |s| s.fences_after_ms))
    .bind::<Array<Text>, _>(all(said, |s| s.address.as_str()))
    .bind::<Array<Text>, _>(all(said, |s| s.serial.as_str()))
    .bind::<Array<Text>, _>(all(said, |s| s.part.as_str()))
    .bind::<Array<BigInt>, _>(all(said, |s| s.revision))
    .bind::<Array<Text>, _>(all(said, |s| s.cpu.as_str()))
    .bind::<Array<BigInt>, _>(all(said, |s| s.vcpus))
    .bind::<Array<BigInt>, _>(all(said, |s| s.memory_bytes))
    .bind::<Array<BigInt>, _>(all(said, |s| s.storage_bytes))
    .load(conn)?;
    Ok(heard.into_iter().map(|sled| sled.id).collect())
}

/// A sled, and what time it is.
pub(crate) fn read_sled(
    conn: &mut diesel::PgConnection,
    id: SledId,
) -> Result<(Sled, DateTime<Utc>), Error> {
    Ok(with_time(id).first(conn)?)
}

fn insert(
    conn: &mut diesel::PgConnection,
    facts: &SledFacts,
) -> Result<(), Error> {
    let bytes = |n: i64| {
        db_model::ByteCount::try_from(n.max(0))
            .unwrap_or(db_model::ByteCount::ZERO)
    };
    let at: DateTime<Utc> =
        diesel::select(clock_timestamp()).get_result(conn)?;
    let row = Sled {
        id: facts.id,
        address: facts.address.clone(),
        serial: facts.serial.clone(),
        part: facts.part.clone(),
        revision: facts.revision,
        policy: SledPolicy::InService,
        provision_policy: SledProvisionPolicy::Provisionable,
        incarnation: facts.incarnation,
        vcpus: facts.vcpus,
        memory_bytes: bytes(facts.memory_bytes),
        storage_bytes: bytes(facts.storage_bytes),
        reserved_vcpus: 0,
        reserved_memory_bytes: db_model::ByteCount::ZERO,
        time_last_heartbeat: at,
        time_created: at,
        time_modified: at,
        cpu: facts.cpu,
        reserved_storage_bytes: db_model::ByteCount::ZERO,
        fences_after_ms: facts.fences_after_ms,
    };
    diesel::insert_into(sled::table).values(&row).kept().execute(conn)?;
    Ok(())
}
