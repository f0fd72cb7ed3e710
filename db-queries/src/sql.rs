//! SQL that diesel has no words for. Diesel's own `sql` and `sql_query` would do,
//! but it takes their text for one that is never the same again, and has the
//! server parse and plan it anew each time. These are prepared once for each
//! connection, as all other statements are. Neither does diesel prepare what
//! changes rows, for fear that there are too many texts of it: [`Keep`].

use diesel::expression::{
    AppearsOnTable, Expression, SelectableExpression, ValidGrouping,
    is_aggregate,
};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{
    Array, BigInt, Bool, HasSqlType, SingleValue, Untyped, Uuid as SqlUuid,
};
use diesel::{PgConnection, QueryResult, RunQueryDsl, define_sql_function};
use std::marker::PhantomData;
use uuid::Uuid;

/// An expression of type `ST` in SQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql<ST, B = ()> {
    text: &'static str,
    values: B,
    of_type: PhantomData<ST>,
}

/// What `text` says; its parameters are as those of a [`statement`].
pub(crate) fn sql<ST>(text: &'static str) -> Sql<ST> {
    Sql { text, values: (), of_type: PhantomData }
}

impl<ST, B> Sql<ST, B> {
    /// Gives the next parameter its value.
    pub(crate) fn bind<T, V>(self, value: V) -> Sql<ST, (B, Bound<T, V>)> {
        let values = (self.values, Bound { value, of_type: PhantomData });
        Sql { text: self.text, values, of_type: PhantomData }
    }
}

impl<ST: SingleValue, B> Expression for Sql<ST, B> {
    type SqlType = ST;
}

impl<ST, B: Values> QueryFragment<Pg> for Sql<ST, B> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        say(self.text, &self.values, out)
    }
}

impl<ST, B> QueryId for Sql<ST, B> {
    type QueryId = ();
    // It is its text that tells it from others.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST, B, GB> ValidGrouping<GB> for Sql<ST, B> {
    type IsAggregate = is_aggregate::Never;
}

impl<ST: SingleValue, B, QS> SelectableExpression<QS> for Sql<ST, B> {}

impl<ST: SingleValue, B, QS> AppearsOnTable<QS> for Sql<ST, B> {}

define_sql_function! {
    /// The database's time. That it is one type, and not [`sql`]'s text, spares the
    /// making of the statement's text where that is all that was in the way.
    fn clock_timestamp() -> Timestamptz;
}

/// Is this column one of these ids? The server is not shown how many there are: it
/// would reckon that it is worth while to plan for that anew each time.
pub(crate) fn one_of<C, T>(
    column: C,
    ids: impl IntoIterator<Item = T>,
) -> OneOf<C>
where
    C: Expression<SqlType = SqlUuid>,
    T: Into<Uuid>,
{
    OneOf { column, ids: ids.into_iter().map(Into::into).collect() }
}

/// See [`one_of`].
#[derive(Clone, Debug)]
pub(crate) struct OneOf<C> {
    column: C,
    ids: Vec<Uuid>,
}

impl<C> Expression for OneOf<C> {
    type SqlType = Bool;
}

impl<C: QueryFragment<Pg>> QueryFragment<Pg> for OneOf<C> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.column.walk_ast(out.reborrow())?;
        out.push_sql(" = ANY (ARRAY(SELECT unnest(");
        out.push_bind_param::<Array<SqlUuid>, _>(&self.ids)?;
        out.push_sql("::UUID[])))");
        Ok(())
    }
}

impl<C: QueryId> QueryId for OneOf<C> {
    type QueryId = OneOf<C::QueryId>;
    const HAS_STATIC_QUERY_ID: bool = C::HAS_STATIC_QUERY_ID;
}

impl<C, GB> ValidGrouping<GB> for OneOf<C> {
    type IsAggregate = is_aggregate::Never;
}

impl<C: SelectableExpression<QS>, QS> SelectableExpression<QS> for OneOf<C> {}

impl<C: AppearsOnTable<QS>, QS> AppearsOnTable<QS> for OneOf<C> {}

/// A whole statement in SQL; its rows are read by the names of their columns.
#[derive(Clone, Debug)]
pub(crate) struct Statement<B> {
    text: String,
    values: B,
}

/// A value for a parameter of type `ST`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<ST, V> {
    value: V,
    of_type: PhantomData<ST>,
}

/// The statement `text`. Its parameters are `$1`, `$2` and so on, each wherever
/// and as often as one likes, but for within quotes.
pub(crate) fn statement(text: impl Into<String>) -> Statement<()> {
    Statement { text: text.into(), values: () }
}

impl<B> Statement<B> {
    /// Gives the next parameter its value.
    pub(crate) fn bind<ST, V>(self, value: V) -> Statement<(B, Bound<ST, V>)> {
        let bound = Bound { value, of_type: PhantomData };
        Statement { text: self.text, values: (self.values, bound) }
    }
}

/// The values of a statement's parameters.
pub(crate) trait Values {
    /// How many there are.
    const COUNT: usize;

    /// Pushes the `n`th, which is the first for 1.
    fn push<'b>(
        &'b self,
        n: usize,
        out: &mut AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()>;
}

impl Values for () {
    const COUNT: usize = 0;

    fn push<'b>(
        &'b self,
        n: usize,
        _: &mut AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        Err(diesel::result::Error::QueryBuilderError(
            format!("there is no value for parameter ${n}").into(),
        ))
    }
}

impl<B, ST, V> Values for (B, Bound<ST, V>)
where
    B: Values,
    V: ToSql<ST, Pg>,
    Pg: HasSqlType<ST>,
{
    const COUNT: usize = B::COUNT + 1;

    fn push<'b>(
        &'b self,
        n: usize,
        out: &mut AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        match n == Self::COUNT {
            true => out.push_bind_param(&self.1.value),
            false => self.0.push(n, out),
        }
    }
}

/// A text with its parameters. One that comes twice is sent twice: a value is
/// numbered by its place.
fn say<'b>(
    text: &'b str,
    values: &'b impl Values,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    let mut pieces = text.split('$');
    out.push_sql(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        values.push(number.parse().unwrap_or(0), &mut out)?;
        out.push_sql(rest);
    }
    Ok(())
}

impl<B: Values> QueryFragment<Pg> for Statement<B> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        say(&self.text, &self.values, out)
    }
}

impl<B> QueryId for Statement<B> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<B> Query for Statement<B> {
    type SqlType = Untyped;
}

impl<B> RunQueryDsl<PgConnection> for Statement<B> {}

/// A statement of diesel's that is prepared once for each connection, whatever
/// diesel thinks of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<Q>(Q);

/// For what changes rows, but for inserts of any number of rows at once, of which
/// each has a text of its own.
pub(crate) trait Keep: Sized {
    /// See [`Kept`].
    fn kept(self) -> Kept<Self> {
        Kept(self)
    }
}

impl<Q: QueryFragment<Pg>> Keep for Q {}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Kept<Q> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for Kept<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Kept<Q> {
    type SqlType = Q::SqlType;
}

impl<Q> RunQueryDsl<PgConnection> for Kept<Q> {}

impl<Q: QueryFragment<Pg>> Kept<Q> {
    /// Runs what returns nothing; how many rows it changed. Diesel's own does not
    /// ask [`Kept`] whether it is to be prepared, as it does of what returns rows.
    pub(crate) fn execute(self, conn: &mut PgConnection) -> QueryResult<usize> {
        let rows: i64 = Kept(Counted(self.0)).get_result(conn)?;
        Ok(usize::try_from(rows).unwrap_or(0))
    }
}

/// A change, as a statement that returns how many rows it has changed.
struct Counted<Q>(Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Counted<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH change AS (");
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" RETURNING 1) SELECT count(*) FROM change");
        Ok(())
    }
}

impl<Q> QueryId for Counted<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q> Query for Counted<Q> {
    type SqlType = BigInt;
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::debug_query;
    use diesel::sql_types::Text;

    #[test]
    fn a_parameter_may_come_twice_and_in_any_order() {
        let text = "SELECT $2, $1 FROM t WHERE a = $1 || '%'";
        let query =
            statement(text).bind::<Text, _>("one").bind::<BigInt, _>(2_i64);
        assert_eq!(
            debug_query(&query).to_string(),
            "SELECT $1, $2 FROM t WHERE a = $3 || '%' \
             -- binds: [2, \"one\", \"one\"]"
        );
    }

    #[test]
    fn how_many_ids_there_are_is_one_statement_and_of_what_another() {
        use db_model::schema::{instance, vmm};
        fn id<T: QueryId>(_: T) -> Option<std::any::TypeId> {
            T::query_id()
        }
        let two = [Uuid::nil(), Uuid::max()];
        let of_two = id(one_of(instance::id, two));
        assert!(of_two.is_some());
        assert_eq!(of_two, id(one_of(instance::id, [Uuid::nil()])));
        assert_ne!(of_two, id(one_of(vmm::id, two)));
    }

    #[test]
    fn a_parameter_without_a_value_is_an_error() {
        let query = statement("SELECT $2").bind::<BigInt, _>(1_i64);
        assert!(query.to_sql_text().is_err());
    }

    impl<B: Values> Statement<B> {
        fn to_sql_text(&self) -> QueryResult<String> {
            use diesel::query_builder::QueryBuilder;
            let mut builder = diesel::pg::PgQueryBuilder::default();
            self.to_sql(&mut builder, &Pg).map(|()| builder.finish())
        }
    }
}
