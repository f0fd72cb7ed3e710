//! What operators ask of the database itself, when there may be no Nexus to
//! ask. Reads alone; one method a question. Lists are bounded, and what is read
//! of a table that grows is found by an index.

use crate::facts::read;
use crate::sql::{clock_timestamp, statement};
use crate::{ById, DataStore, Error, Page, UnfinishedSaga};
use chrono::{DateTime, Utc};
use db_model::lifecycle::Facts;
use db_model::schema::{
    instance, nexus_lease, project, saga, saga_node_event, silo, sled,
    sled_reservation, start_attempt,
};
use db_model::{
    InstanceId, Name, NexusLease, ProjectId, Saga, SagaId, SagaNodeEvent,
    SagaState, SecId, Sled, SledReservation, StartAttempt,
};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, JoinOnDsl, OptionalExtension, PgConnection, QueryDsl,
    Queryable, QueryableByName, RunQueryDsl, Selectable, SelectableHelper,
};
use uuid::Uuid;

/// Unfinished sagas of one kind and state.
#[derive(Clone, Debug, QueryableByName)]
pub struct SagaCount {
    /// The kind.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The state.
    #[diesel(sql_type = db_model::sql_types::SagaStateSql)]
    pub state: SagaState,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// When the first of them was created.
    #[diesel(sql_type = Timestamptz)]
    pub oldest: DateTime<Utc>,
    /// How many of them nobody runs: their process has no live lease.
    #[diesel(sql_type = BigInt)]
    pub without_runner: i64,
}

/// A saga without its graph.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = saga)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SagaHead {
    pub id: SagaId,
    pub name: String,
    pub instance_id: InstanceId,
    pub state: SagaState,
    pub current_sec: SecId,
    pub adopt_generation: i64,
    pub time_created: DateTime<Utc>,
    pub time_ended: Option<DateTime<Utc>>,
}

/// A saga, whole.
#[derive(Clone, Debug)]
pub struct SagaRecord {
    /// Its row.
    pub saga: Saga,
    /// Its log, in order of time.
    pub log: Vec<SagaNodeEvent>,
    /// The lease of who runs it, unless that is forgotten.
    pub lease: Option<NexusLease>,
    /// The database's time of this reading.
    pub now: DateTime<Utc>,
}

/// How much there is to look at.
#[derive(Clone, Debug, QueryableByName)]
pub struct Unsettled {
    /// Instances that somebody must look at, now or later.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// Those whose time has come, and that nobody has claimed.
    #[diesel(sql_type = BigInt)]
    pub overdue: i64,
    /// When the first of those was due.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest_due: Option<DateTime<Utc>>,
    /// Those whose last look ended in an error.
    #[diesel(sql_type = BigInt)]
    pub with_errors: i64,
}

/// Where an instance is, by names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct InstancePath {
    pub silo: Name,
    pub project: Name,
    pub name: Name,
}

impl std::fmt::Display for InstancePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let InstancePath { silo, project, name } = self;
        write!(f, "{silo}/{project}/{name}")
    }
}

/// An instance whose last looks ended in errors.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Erring {
    pub id: InstanceId,
    pub path: InstancePath,
    pub reconcile_at: Option<DateTime<Utc>>,
    pub errors: i64,
    pub last_error: Option<String>,
}

/// A sled, and how much lives on it.
#[derive(Clone, Debug, QueryableByName)]
pub struct SledLoad {
    /// The sled.
    #[diesel(embed)]
    pub sled: Sled,
    /// VMMs that have not ended, abandoned ones among them.
    #[diesel(sql_type = BigInt)]
    pub vmms: i64,
    /// Those of them of which nobody knows whether they live.
    #[diesel(sql_type = BigInt)]
    pub abandoned: i64,
}

/// All that there is to know about an instance, as of one moment.
#[derive(Clone, Debug)]
pub struct InstanceRecord {
    /// Where it is.
    pub path: InstancePath,
    /// What the reconciler goes by.
    pub facts: Facts,
    /// The saga that is at work on it.
    pub saga: Option<UnfinishedSaga>,
    /// The lease of who runs that.
    pub saga_lease: Option<NexusLease>,
    /// What its VMMs hold.
    pub reservations: Vec<SledReservation>,
    /// The sleds of its VMMs.
    pub sleds: Vec<Sled>,
    /// Its last attempts, newest first.
    pub attempts: Vec<StartAttempt>,
}

impl DataStore {
    /// Connects once, for those who want to know at once why that fails; the
    /// pool tries again for as long as it may, and says that it took too long.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with what the database or libpq says.
    pub async fn reachable(&self) -> Result<(), Error> {
        let connection = self.pool.dedicated_connection().await;
        connection.map(drop).map_err(|e| Error::Unavailable(Box::new(e)))
    }

    /// The database's time.
    pub async fn database_time(&self) -> Result<DateTime<Utc>, Error> {
        self.run(now).await
    }

    /// The processes' leases: those that are not taken first, then by age, the
    /// newest first.
    pub async fn lease_list(
        &self,
        limit: i64,
    ) -> Result<Vec<NexusLease>, Error> {
        self.run(move |conn| {
            Ok(nexus_lease::table
                .order((
                    nexus_lease::time_taken.is_not_null().asc(),
                    nexus_lease::time_started.desc(),
                ))
                .limit(limit)
                .select(NexusLease::as_select())
                .load(conn)?)
        })
        .await
    }

    /// How many sagas are unfinished, by kind and state.
    pub async fn saga_unfinished_counts(
        &self,
    ) -> Result<Vec<SagaCount>, Error> {
        self.run(|conn| {
            Ok(statement(
                "SELECT s.name, s.state, count(*) AS count, \
                     min(s.time_created) AS oldest, \
                     count(*) FILTER (WHERE l.id IS NULL) AS without_runner \
                 FROM saga s \
                 LEFT JOIN nexus_lease l ON l.id = s.current_sec \
                     AND l.taken_by IS NULL \
                     AND l.lease_expires > clock_timestamp() \
                 WHERE s.time_ended IS NULL \
                 GROUP BY s.name, s.state \
                 ORDER BY s.name, s.state",
            )
            .load(conn)?)
        })
        .await
    }

    /// Unfinished sagas, each with the lease of who runs it, oldest first.
    /// `state` and `instance` narrow it down.
    pub async fn saga_unfinished_list(
        &self,
        state: Option<SagaState>,
        instance: Option<InstanceId>,
        limit: i64,
    ) -> Result<Vec<(SagaHead, Option<NexusLease>)>, Error> {
        self.run(move |conn| {
            let mut query = saga::table
                .left_join(
                    nexus_lease::table
                        .on(nexus_lease::id.eq(saga::current_sec)),
                )
                .filter(saga::time_ended.is_null())
                .order(saga::time_created.asc())
                .limit(limit)
                .select((
                    SagaHead::as_select(),
                    Option::<NexusLease>::as_select(),
                ))
                .into_boxed();
            if let Some(state) = state {
                query = query.filter(saga::state.eq(state));
            }
            if let Some(instance) = instance {
                query = query.filter(saga::instance_id.eq(instance));
            }
            Ok(query.load(conn)?)
        })
        .await
    }

    /// Sagas, over or not, by id: no index knows when finished ones were made,
    /// so who looks for some of them reads all, a page at a time.
    pub async fn saga_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<(SagaHead, Option<NexusLease>)>, Error> {
        self.run(move |conn| {
            let query = saga::table
                .left_join(
                    nexus_lease::table
                        .on(nexus_lease::id.eq(saga::current_sec)),
                )
                .order(saga::id.asc())
                .limit(page.limit)
                .select((
                    SagaHead::as_select(),
                    Option::<NexusLease>::as_select(),
                ))
                .into_boxed();
            let query = match page.by.after {
                Some(after) => query.filter(saga::id.gt(SagaId(after))),
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A saga with its log, and the lease of who runs it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn saga_whole(&self, id: SagaId) -> Result<SagaRecord, Error> {
        self.snapshot(move |conn| {
            let saga: Saga =
                saga::table.find(id).select(Saga::as_select()).first(conn)?;
            let log = saga_node_event::table
                .filter(saga_node_event::saga_id.eq(id))
                .order(saga_node_event::event_time.asc())
                .select(SagaNodeEvent::as_select())
                .load(conn)?;
            let lease = lease(conn, saga.current_sec)?;
            Ok(SagaRecord { saga, log, lease, now: now(conn)? })
        })
        .await
    }

    /// How many instances are unsettled.
    pub async fn instance_unsettled(&self) -> Result<Unsettled, Error> {
        self.run(|conn| {
            Ok(statement(
                "SELECT count(*) AS count, \
                     count(*) FILTER (WHERE reconcile_at <= now()) AS overdue, \
                     min(reconcile_at) FILTER (WHERE reconcile_at <= now()) \
                         AS oldest_due, \
                     count(*) FILTER (WHERE reconcile_errors > 0) \
                         AS with_errors \
                 FROM instance WHERE reconcile_at IS NOT NULL",
            )
            .get_result(conn)?)
        })
        .await
    }

    /// The unsettled instances with most looks in a row that ended in errors.
    pub async fn instance_erring(
        &self,
        limit: i64,
    ) -> Result<Vec<Erring>, Error> {
        self.run(move |conn| {
            type Row = (
                InstanceId,
                (Name, Name, Name),
                Option<DateTime<Utc>>,
                i64,
                Option<String>,
            );
            let rows: Vec<Row> = instance::table
                .inner_join(project::table.inner_join(silo::table))
                .filter(instance::reconcile_at.is_not_null())
                .filter(instance::reconcile_errors.gt(0))
                .order((instance::reconcile_errors.desc(), instance::id.asc()))
                .limit(limit)
                .select((
                    instance::id,
                    (silo::name, project::name, instance::name),
                    instance::reconcile_at,
                    instance::reconcile_errors,
                    instance::reconcile_last_error,
                ))
                .load(conn)?;
            let erring = |(id, names, reconcile_at, errors, last_error)| {
                let path = path(names);
                Erring { id, path, reconcile_at, errors, last_error }
            };
            Ok(rows.into_iter().map(erring).collect())
        })
        .await
    }

    /// The live instance of these names.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_id_by_path(
        &self,
        path: InstancePath,
    ) -> Result<InstanceId, Error> {
        self.run(move |conn| {
            let project: ProjectId = project::table
                .inner_join(silo::table)
                .filter(silo::name.eq(&path.silo))
                .filter(silo::time_deleted.is_null())
                .filter(project::name.eq(&path.project))
                .filter(project::time_deleted.is_null())
                .select(project::id)
                .first(conn)?;
            Ok(instance::table
                .filter(instance::project_id.eq(project))
                .filter(instance::name.eq(&path.name))
                .filter(instance::time_deleted.is_null())
                .select(instance::id)
                .first(conn)?)
        })
        .await
    }

    /// Where these instances are; without those that are not there or deleted.
    pub async fn instance_paths(
        &self,
        ids: Vec<InstanceId>,
    ) -> Result<Vec<(InstanceId, InstancePath)>, Error> {
        self.run(move |conn| {
            let rows: Vec<(InstanceId, (Name, Name, Name))> = instance::table
                .inner_join(project::table.inner_join(silo::table))
                .filter(instance::id.eq_any(&ids))
                .filter(instance::time_deleted.is_null())
                .select((
                    instance::id,
                    (silo::name, project::name, instance::name),
                ))
                .load(conn)?;
            Ok(rows.into_iter().map(|(id, names)| (id, path(names))).collect())
        })
        .await
    }

    /// All about an instance, deleted or not, with at most so many of its
    /// attempts.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_whole(
        &self,
        id: InstanceId,
        attempts: i64,
    ) -> Result<InstanceRecord, Error> {
        self.snapshot(move |conn| {
            let (facts, saga) = read(conn, id)?;
            let (silo, project) = project::table
                .inner_join(silo::table)
                .filter(project::id.eq(facts.instance.project_id))
                .select((silo::name, project::name))
                .first(conn)?;
            let name = facts.instance.name.clone();
            let vmms: Vec<_> = facts.vmms.iter().map(|v| v.id).collect();
            let sleds: Vec<_> = facts.vmms.iter().map(|v| v.sled_id).collect();
            let reservations = sled_reservation::table
                .filter(sled_reservation::vmm_id.eq_any(vmms))
                .select(SledReservation::as_select())
                .load(conn)?;
            let sleds = sled::table
                .filter(sled::id.eq_any(sleds))
                .select(Sled::as_select())
                .load(conn)?;
            let attempts = start_attempt::table
                .filter(start_attempt::instance_id.eq(id))
                .order((
                    start_attempt::time_started.desc(),
                    start_attempt::id.desc(),
                ))
                .limit(attempts)
                .select(StartAttempt::as_select())
                .load(conn)?;
            let saga_lease = match &saga {
                Some(saga) => lease(conn, saga.current_sec)?,
                None => None,
            };
            Ok(InstanceRecord {
                path: path((silo, project, name)),
                facts,
                saga,
                saga_lease,
                reservations,
                sleds,
                attempts,
            })
        })
        .await
    }

    /// Sleds, by id, with how much lives on each.
    pub async fn sled_load_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<SledLoad>, Error> {
        self.run(move |conn| {
            Ok(statement(
                "SELECT sled.*, v.vmms, v.abandoned \
                 FROM (SELECT * FROM sled \
                       WHERE $1::UUID IS NULL OR id > $1 \
                       ORDER BY id LIMIT $2) sled \
                 LEFT JOIN LATERAL ( \
                     SELECT count(*) AS vmms, \
                         count(*) FILTER (WHERE vmm.state = 'abandoned') \
                             AS abandoned \
                     FROM vmm \
                     WHERE vmm.sled_id = sled.id \
                       AND vmm.time_ended IS NULL) v ON TRUE \
                 ORDER BY sled.id",
            )
            .bind::<Nullable<SqlUuid>, Option<Uuid>>(page.by.after)
            .bind::<BigInt, _>(page.limit)
            .load(conn)?)
        })
        .await
    }
}

fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    Ok(diesel::select(clock_timestamp()).get_result(conn)?)
}

fn lease(
    conn: &mut PgConnection,
    sec: SecId,
) -> Result<Option<NexusLease>, Error> {
    Ok(nexus_lease::table
        .find(sec)
        .select(NexusLease::as_select())
        .first(conn)
        .optional()?)
}

fn path((silo, project, name): (Name, Name, Name)) -> InstancePath {
    InstancePath { silo, project, name }
}
