//! What a sled is to be told of a VMM that it takes in.

use crate::fence::{self, Held};
use crate::shared::{Answers, Queue, SharedStatement};
use crate::sql::one_of;
use crate::{DataStore, Error, disk, ssh_key};
use db_model::lifecycle::steps;
use db_model::schema::{
    disk as disk_table, instance, instance_ssh_key, saga, sled, start_attempt,
    vmm,
};
use db_model::{Disk, Fence, InstanceId, SagaId, Sled, StartAttempt, VmmId};
use diesel::dsl::exists;
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};
use serde_json::Value;
use uuid::Uuid;

/// See the module.
#[derive(Clone, Debug)]
pub struct ToRegister {
    /// Where it was placed.
    pub sled: Sled,
    /// base64, as its user gave it.
    pub user_data: String,
    /// As they were asked for.
    pub network_interfaces: Value,
    /// Who may log in, by the keys' names.
    pub ssh_public_keys: Vec<String>,
    /// In the order in which it tries to boot from them.
    pub disks: Vec<Disk>,
}

type Row = (
    VmmId,
    InstanceId,
    Sled,
    (String, Value),
    StartAttempt,
    (SagaId, Held),
    (bool, bool),
);

/// A VMM that a saga has placed for an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    id: VmmId,
    fence: Fence,
}

impl DataStore {
    /// What to tell the sled of a VMM that was placed, if the attempt is still
    /// this saga's to go on with. None of it changes while the VMM holds its
    /// place.
    ///
    /// # Errors
    ///
    /// `NotFound`: it was not placed; `Refused(AttemptOvertaken)`; `Fenced`.
    pub async fn vmm_to_register(
        &self,
        fence: Fence,
        id: VmmId,
    ) -> Result<ToRegister, Error> {
        self.ask(Placed { id, fence }).await
    }
}

impl SharedStatement for Placed {
    type Answer = ToRegister;

    fn about(&self) -> Uuid {
        self.id.0
    }

    fn queue(of: &DataStore) -> &Queue<Placed> {
        &of.to_register
    }

    fn ask(
        conn: &mut PgConnection,
        all: &[Placed],
    ) -> Result<Answers<Placed>, Error> {
        let has_keys = instance_ssh_key::table
            .filter(instance_ssh_key::instance_id.eq(instance::id));
        let has_disks = disk_table::table
            .filter(disk_table::instance_id.eq(instance::id.nullable()));
        let rows: Vec<Row> = vmm::table
            .inner_join(sled::table)
            .inner_join(instance::table.on(instance::id.eq(vmm::instance_id)))
            .inner_join(
                start_attempt::table
                    .on(start_attempt::id.eq(vmm::start_attempt_id)),
            )
            .inner_join(
                saga::table.on(start_attempt::saga_id.eq(saga::id.nullable())),
            )
            .filter(one_of(vmm::id, all.iter().map(|one| one.id)))
            .select((
                vmm::id,
                vmm::instance_id,
                Sled::as_select(),
                (instance::user_data, instance::network_interfaces),
                StartAttempt::as_select(),
                (saga::id, fence::columns()),
                (exists(has_keys), exists(has_disks)),
            ))
            .load(conn)?;
        let mut answers = Answers::<Placed>::new();
        for row in rows {
            if let Some(one) = all.iter().find(|one| one.id == row.0) {
                let told = match one.told_by(conn, row) {
                    told @ (Ok(_)
                    | Err(Error::Refused(_) | Error::Fenced(_))) => told,
                    Err(error) => return Err(error),
                };
                answers.insert(one.id.0, told);
            }
        }
        Ok(answers)
    }
}

impl Placed {
    fn told_by(
        &self,
        conn: &mut PgConnection,
        row: Row,
    ) -> Result<ToRegister, Error> {
        let (_, of, sled, guest, attempt, (saga, held), (has_keys, has_disks)) =
            row;
        let held = match saga == self.fence.saga_id {
            true => Some(held),
            false => saga::table
                .find(self.fence.saga_id)
                .select(fence::columns())
                .first(conn)
                .optional()?,
        };
        fence::judge(held, &self.fence)?;
        steps::may_go_on(&attempt, self.fence.saga_id)?;
        let (user_data, network_interfaces) = guest;
        Ok(ToRegister {
            sled,
            user_data,
            network_interfaces,
            ssh_public_keys: match has_keys {
                true => ssh_key::public_keys(conn, of)?,
                false => Vec::new(),
            },
            disks: match has_disks {
                true => disk::to_boot(conn, of)?,
                false => Vec::new(),
            },
        })
    }
}
