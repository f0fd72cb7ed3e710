//! Brings a database to this code's version of the schema.
//!
//! An empty database gets `dbinit.sql`; an older one the steps of the numbered
//! folders, each a statement of its own that may run twice. One process at a
//! time, by a lease in `db_metadata`.

use crate::{DataStore, Error};
use chrono::{DateTime, Utc};
use db_model::schema::{SCHEMA_VERSION, db_metadata};
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Nullable, Text, Timestamptz};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    PgConnection, PgExpressionMethods, QueryDsl, RunQueryDsl,
};
use std::time::Duration;
use uuid::Uuid;

const DBINIT: &str = include_str!("../../schema/dbinit.sql");

/// The way from each version to the next.
const MIGRATIONS: &[(i64, &[&str])] = &[
    (
        2,
        &[
            include_str!("../../schema/002-intended-state/up01.sql"),
            include_str!("../../schema/002-intended-state/up02.sql"),
            include_str!("../../schema/002-intended-state/up03.sql"),
            include_str!("../../schema/002-intended-state/up04.sql"),
            include_str!("../../schema/002-intended-state/up05.sql"),
            include_str!("../../schema/002-intended-state/up06.sql"),
            include_str!("../../schema/002-intended-state/up07.sql"),
            include_str!("../../schema/002-intended-state/up08.sql"),
            include_str!("../../schema/002-intended-state/up09.sql"),
            include_str!("../../schema/002-intended-state/up10.sql"),
            include_str!("../../schema/002-intended-state/up11.sql"),
        ],
    ),
    (3, &[include_str!("../../schema/003-nexus-lease/up01.sql")]),
    (
        4,
        &[
            include_str!("../../schema/004-placement/up01.sql"),
            include_str!("../../schema/004-placement/up02.sql"),
            include_str!("../../schema/004-placement/up03.sql"),
            include_str!("../../schema/004-placement/up04.sql"),
            include_str!("../../schema/004-placement/up05.sql"),
            include_str!("../../schema/004-placement/up06.sql"),
            include_str!("../../schema/004-placement/up07.sql"),
            include_str!("../../schema/004-placement/up08.sql"),
            include_str!("../../schema/004-placement/up09.sql"),
            include_str!("../../schema/004-placement/up10.sql"),
            include_str!("../../schema/004-placement/up11.sql"),
            include_str!("../../schema/004-placement/up12.sql"),
            include_str!("../../schema/004-placement/up13.sql"),
            include_str!("../../schema/004-placement/up14.sql"),
            include_str!("../../schema/004-placement/up15.sql"),
            include_str!("../../schema/004-placement/up16.sql"),
            include_str!("../../schema/004-placement/up17.sql"),
            include_str!("../../schema/004-placement/up18.sql"),
            include_str!("../../schema/004-placement/up19.sql"),
            include_str!("../../schema/004-placement/up20.sql"),
            include_str!("../../schema/004-placement/up21.sql"),
            include_str!("../../schema/004-placement/up22.sql"),
            include_str!("../../schema/004-placement/up23.sql"),
            include_str!("../../schema/004-placement/up24.sql"),
            include_str!("../../schema/004-placement/up25.sql"),
            include_str!("../../schema/004-placement/up26.sql"),
            include_str!("../../schema/004-placement/up27.sql"),
        ],
    ),
    (
        5,
        &[
            include_str!("../../schema/005-ssh-keys/up01.sql"),
            include_str!("../../schema/005-ssh-keys/up02.sql"),
            include_str!("../../schema/005-ssh-keys/up03.sql"),
            include_str!("../../schema/005-ssh-keys/up04.sql"),
        ],
    ),
    (6, &[include_str!("../../schema/006-sled-lease/up01.sql")]),
    (
        7,
        &[
            include_str!("../../schema/007-disks/up01.sql"),
            include_str!("../../schema/007-disks/up02.sql"),
            include_str!("../../schema/007-disks/up03.sql"),
            include_str!("../../schema/007-disks/up04.sql"),
            include_str!("../../schema/007-disks/up05.sql"),
            include_str!("../../schema/007-disks/up06.sql"),
            include_str!("../../schema/007-disks/up07.sql"),
            include_str!("../../schema/007-disks/up08.sql"),
            include_str!("../../schema/007-disks/up09.sql"),
            include_str!("../../schema/007-disks/up10.sql"),
            include_str!("../../schema/007-disks/up11.sql"),
            include_str!("../../schema/007-disks/up12.sql"),
            include_str!("../../schema/007-disks/up13.sql"),
            include_str!("../../schema/007-disks/up14.sql"),
            include_str!("../../schema/007-disks/up15.sql"),
            include_str!("../../schema/007-disks/up16.sql"),
            include_str!("../../schema/007-disks/up17.sql"),
            include_str!("../../schema/007-disks/up18.sql"),
            include_str!("../../schema/007-disks/up19.sql"),
            include_str!("../../schema/007-disks/up20.sql"),
            include_str!("../../schema/007-disks/up21.sql"),
            include_str!("../../schema/007-disks/up22.sql"),
            include_str!("../../schema/007-disks/up23.sql"),
            include_str!("../../schema/007-disks/up24.sql"),
            include_str!("../../schema/007-disks/up25.sql"),
            include_str!("../../schema/007-disks/up26.sql"),
            include_str!("../../schema/007-disks/up27.sql"),
            include_str!("../../schema/007-disks/up28.sql"),
        ],
    ),
    (
        8,
        &[
            include_str!("../../schema/008-idempotency/up01.sql"),
            include_str!("../../schema/008-idempotency/up02.sql"),
        ],
    ),
    (
        9,
        &[
            include_str!("../../schema/009-access/up01.sql"),
            include_str!("../../schema/009-access/up02.sql"),
            include_str!("../../schema/009-access/up03.sql"),
            include_str!("../../schema/009-access/up04.sql"),
            include_str!("../../schema/009-access/up05.sql"),
            include_str!("../../schema/009-access/up06.sql"),
            include_str!("../../schema/009-access/up07.sql"),
            include_str!("../../schema/009-access/up08.sql"),
            include_str!("../../schema/009-access/up09.sql"),
            include_str!("../../schema/009-access/up10.sql"),
            include_str!("../../schema/009-access/up11.sql"),
            include_str!("../../schema/009-access/up12.sql"),
            include_str!("../../schema/009-access/up13.sql"),
            include_str!("../../schema/009-access/up14.sql"),
            include_str!("../../schema/009-access/up15.sql"),
            include_str!("../../schema/009-access/up16.sql"),
            include_str!("../../schema/009-access/up17.sql"),
            include_str!("../../schema/009-access/up18.sql"),
            include_str!("../../schema/009-access/up19.sql"),
            include_str!("../../schema/009-access/up20.sql"),
            include_str!("../../schema/009-access/up21.sql"),
            include_str!("../../schema/009-access/up22.sql"),
            include_str!("../../schema/009-access/up23.sql"),
            include_str!("../../schema/009-access/up24.sql"),
            include_str!("../../schema/009-access/up25.sql"),
            include_str!("../../schema/009-access/up26.sql"),
            include_str!("../../schema/009-access/up27.sql"),
            include_str!("../../schema/009-access/up28.sql"),
            include_str!("../../schema/009-access/up29.sql"),
        ],
    ),
    (
        10,
        &[
            include_str!("../../schema/010-logins/up01.sql"),
            include_str!("../../schema/010-logins/up02.sql"),
        ],
    ),
];

/// How long a migrator is left alone. A step that takes longer is run to its
/// end all the same, and running it twice does no harm.
const LEASE_SECS: i32 = 60;

/// What there was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The database was empty.
    Initialized,
    /// It was at this older version.
    From(i64),
    /// Nothing.
    UpToDate,
}

/// Why the schema is not this code's.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database is of a newer program.
    #[error(
        "the database's schema is version {found}, newer than {known}, the \
         newest that this program knows: run the program that wrote it, or \
         a newer one"
    )]
    TooNew {
        /// The database's version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// No folder leads on from the database's version.
    #[error("the database's schema is version {found}, which is unknown")]
    Unknown {
        /// The database's version.
        found: i64,
    },
    /// The database does not answer, or refused a step.
    #[error("the schema could not be brought up to date")]
    Database(#[from] Error),
}

/// The steps to each version after the first, in order.
pub fn migrations() -> &'static [(i64, &'static [&'static str])] {
    MIGRATIONS
}

/// Brings the database to [`SCHEMA_VERSION`]. May be called by several
/// processes at once, and again after a crash.
///
/// # Errors
///
/// `TooNew` and `Unknown`: this program must not use the database.
pub async fn migrate(datastore: &DataStore) -> Result<Migrated, MigrateError> {
    let me = Uuid::new_v4();
    let mut done = Migrated::UpToDate;
    loop {
        let found = match schema_version(datastore).await? {
            None => {
                initialize(datastore).await?;
                done = Migrated::Initialized;
                continue;
            }
            Some(found) => found,
        };
        if found == SCHEMA_VERSION {
            return Ok(done);
        }
        if found > SCHEMA_VERSION {
            return Err(MigrateError::TooNew { found, known: SCHEMA_VERSION });
        }
        let (to, steps) = MIGRATIONS
            .iter()
            .find(|(to, _)| *to == found + 1)
            .ok_or(MigrateError::Unknown { found })?;
        if !take_lease(datastore, me, found, *to).await? {
            // Another is at it. This is no race of one instruction: a
            // migration takes as long as it takes.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        for step in *steps {
            run_step(datastore, step).await?;
        }
        finish(datastore, me, *to).await?;
        if done == Migrated::UpToDate {
            done = Migrated::From(found);
        }
    }
}

/// The database's version; `None` when it is empty.
///
/// # Errors
///
/// The database does not answer.
pub async fn schema_version(
    datastore: &DataStore,
) -> Result<Option<i64>, Error> {
    datastore
        .run(|conn| {
            let table: Option<String> = diesel::select(sql::<Nullable<Text>>(
                "to_regclass('db_metadata')::TEXT",
            ))
            .get_result(conn)?;
            if table.is_none() {
                return Ok(None);
            }
            Ok(Some(
                db_metadata::table.select(db_metadata::version).first(conn)?,
            ))
        })
        .await
}

/// `dbinit.sql`, in one transaction: a second process that tries at the same
/// time fails on the first table, and finds it there when it looks again.
async fn initialize(datastore: &DataStore) -> Result<(), Error> {
    datastore
        .transaction(|conn| match conn.batch_execute(DBINIT) {
            Err(e) if already_there(&e) => Err(Error::AlreadyExists),
            result => Ok(result?),
        })
        .await
        .or_else(|e| if let Error::AlreadyExists = e { Ok(()) } else { Err(e) })
}

async fn run_step(
    datastore: &DataStore,
    step: &'static str,
) -> Result<(), Error> {
    datastore
        .run_at_length(move |conn: &mut PgConnection| {
            // A data migration of a large table takes its time.
            conn.batch_execute("SET statement_timeout = 0")?;
            let result = match conn.batch_execute(step) {
                Err(e) if already_there(&e) => Ok(()),
                result => result,
            };
            conn.batch_execute("SET statement_timeout = '15s'")?;
            Ok(result?)
        })
        .await
}

/// "Already exists", for what has no IF NOT EXISTS (42710, 42P07, 42701).
fn already_there(error: &DieselError) -> bool {
    let DieselError::DatabaseError(kind, info) = error else {
        return false;
    };
    // Two CREATE TYPEs at once collide in the catalog.
    let in_catalog = matches!(kind, DatabaseErrorKind::UniqueViolation)
        && info.table_name().is_none_or(|t| t.starts_with("pg_"));
    in_catalog || info.message().contains("already exists")
}

async fn take_lease(
    datastore: &DataStore,
    me: Uuid,
    from: i64,
    to: i64,
) -> Result<bool, Error> {
    datastore
        .run(move |conn| {
            let expires = sql::<Nullable<Timestamptz>>(&format!(
                "clock_timestamp() + INTERVAL '{LEASE_SECS} seconds'"
            ));
            let hit = diesel::update(db_metadata::table)
                .filter(db_metadata::version.eq(from))
                .filter(
                    db_metadata::migrator_lease_expires
                        .is_null()
                        .or(db_metadata::migrator_lease_expires
                            .assume_not_null()
                            .lt(sql::<Timestamptz>("clock_timestamp()")))
                        .or(db_metadata::migrator_id.is_not_distinct_from(me)),
                )
                .set((
                    db_metadata::target_version.eq(to),
                    db_metadata::migrator_id.eq(me),
                    db_metadata::migrator_lease_expires.eq(expires),
                ))
                .execute(conn)?;
            Ok(hit == 1)
        })
        .await
}

async fn finish(datastore: &DataStore, me: Uuid, to: i64) -> Result<(), Error> {
    datastore
        .run(move |conn| {
            diesel::update(db_metadata::table)
                .filter(db_metadata::migrator_id.eq(me))
                .filter(db_metadata::version.eq(to - 1))
                .set((
                    db_metadata::version.eq(to),
                    db_metadata::target_version.eq(None::<i64>),
                    db_metadata::migrator_id.eq(None::<Uuid>),
                    db_metadata::migrator_lease_expires
                        .eq(None::<DateTime<Utc>>),
                    db_metadata::time_modified.eq(diesel::dsl::now),
                ))
                .execute(conn)?;
            Ok(())
        })
        .await
}
