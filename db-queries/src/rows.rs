//! Rows of a table, any number of them, written by one text: so the server knows
//! the statement, however many there are. (A null of JSON is one of SQL here.)

use crate::Error;
use crate::sql::{Statement, Values, statement};
use db_model::{Instance, SledReservation, StartAttempt, Vmm};
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// A row, which as JSON is its columns by name.
pub(crate) trait Row: Serialize {
    /// Its table.
    const TABLE: &'static str;

    /// Its key.
    fn id(&self) -> Uuid;
}

impl Row for Instance {
    const TABLE: &'static str = "instance";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for StartAttempt {
    const TABLE: &'static str = "start_attempt";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for Vmm {
    const TABLE: &'static str = "vmm";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Row for SledReservation {
    const TABLE: &'static str = "sled_reservation";

    fn id(&self) -> Uuid {
        self.vmm_id.0
    }
}

/// A column that is not theirs, and what is written to it.
type Beside = (&'static str, &'static str);

/// The statement that inserts them.
pub(crate) fn insert<R: Row>(
    rows: &[&R],
) -> Result<Statement<impl Values + use<R>>, Error> {
    let (columns, rows) = taken_apart(rows)?;
    let (into, list) = (R::TABLE, columns.join(", "));
    let text = format!(
        "INSERT INTO {into} ({list}) \
         SELECT {list} FROM jsonb_populate_recordset(NULL::{into}, $1::JSONB)"
    );
    Ok(statement(text).bind::<Text, _>(rows))
}

/// The statement that inserts those that are not there, with something beside.
pub(crate) fn insert_new<R: Row>(
    rows: &[&R],
    (column, value): Beside,
) -> Result<Statement<impl Values + use<R>>, Error> {
    let (columns, rows) = taken_apart(rows)?;
    let (into, list) = (R::TABLE, columns.join(", "));
    let text = format!(
        "INSERT INTO {into} ({list}, {column}) SELECT {list}, {value} \
         FROM jsonb_populate_recordset(NULL::{into}, $1::JSONB) \
         ON CONFLICT (id) DO NOTHING"
    );
    Ok(statement(text).bind::<Text, _>(rows))
}

/// The statement that writes those whole which are there, by their id.
pub(crate) fn update<R: Row>(
    rows: &[&R],
) -> Result<Statement<impl Values + use<R>>, Error> {
    update_where(rows, None, "TRUE")
}

/// The same, and something beside, of those of which this is so.
pub(crate) fn update_where<R: Row>(
    rows: &[&R],
    beside: Option<Beside>,
    is_so: &str,
) -> Result<Statement<impl Values + use<R>>, Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    let (columns, rows) = taken_apart(rows)?;
    let (of, set) = (R::TABLE, set(&columns, "said"));
    let beside = beside
        .map(|(column, value)| format!(", {column} = {value}"))
        .unwrap_or_default();
    let text = format!(
        "UPDATE {of} SET {set}{beside} \
         FROM jsonb_populate_recordset(NULL::{of}, $1::JSONB) AS said \
         WHERE {of}.id = ANY (ARRAY(SELECT unnest($2::UUID[]))) \
           AND {of}.id = said.id AND {is_so}"
    );
    let statement = statement(text).bind::<Text, _>(rows);
    Ok(statement.bind::<Array<SqlUuid>, _>(ids))
}

/// The statement that inserts those that are not there, and writes those that are,
/// and of which this is so.
pub(crate) fn put<R: Row>(
    rows: &[&R],
    is_so: &str,
) -> Result<Statement<impl Values + use<R>>, Error> {
    let (columns, rows) = taken_apart(rows)?;
    let (into, list) = (R::TABLE, columns.join(", "));
    let set = set(&columns, "excluded");
    let text = format!(
        "INSERT INTO {into} ({list}) \
         SELECT {list} FROM jsonb_populate_recordset(NULL::{into}, $1::JSONB) \
         ON CONFLICT (id) DO UPDATE SET {set} WHERE {is_so}"
    );
    Ok(statement(text).bind::<Text, _>(rows))
}

fn set(columns: &[String], from: &str) -> String {
    let columns = columns.iter().filter(|column| *column != "id");
    let each = columns.map(|column| format!("{column} = {from}.{column}"));
    each.collect::<Vec<_>>().join(", ")
}

/// The columns' names, and the rows as one text.
fn taken_apart<R: Row>(rows: &[&R]) -> Result<(Vec<String>, String), Error> {
    let json = |error: serde_json::Error| {
        Error::Internal(diesel::result::Error::SerializationError(Box::new(
            error,
        )))
    };
    let columns = match rows.first().map(serde_json::to_value).transpose() {
        Ok(Some(Value::Object(first))) => {
            first.into_iter().map(|(column, _)| column).collect()
        }
        Ok(_) => Vec::new(),
        Err(error) => return Err(json(error)),
    };
    Ok((columns, serde_json::to_string(rows).map_err(json)?))
}
