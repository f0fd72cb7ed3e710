//! What a sled is to be told of a VMM that it takes in.

use crate::fence::{self, Held};
use crate::{DataStore, Error, disk, ssh_key};
use db_model::lifecycle::steps;
use db_model::schema::{
    disk as disk_table, instance, instance_ssh_key, saga, sled, start_attempt,
    vmm,
};
use db_model::{
    Disk, Fence, InstanceId, Sled, StartAttempt, StartAttemptId, VmmId,
};
use diesel::dsl::exists;
use diesel::{
    ExpressionMethods, JoinOnDsl, OptionalExtension, QueryDsl, RunQueryDsl,
    SelectableHelper,
};
use serde_json::Value;

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

type Row = (Sled, String, Value, StartAttempt, Held, bool, bool);

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
        of: InstanceId,
        attempt: StartAttemptId,
        id: VmmId,
    ) -> Result<ToRegister, Error> {
        self.run(move |conn| {
            let has_keys = instance_ssh_key::table
                .filter(instance_ssh_key::instance_id.eq(of));
            let has_disks =
                disk_table::table.filter(disk_table::instance_id.eq(of));
            let row: Option<Row> = vmm::table
                .find(id)
                .inner_join(sled::table)
                .inner_join(instance::table.on(instance::id.eq(of)))
                .inner_join(
                    start_attempt::table.on(start_attempt::id.eq(attempt)),
                )
                .inner_join(saga::table.on(saga::id.eq(fence.saga_id)))
                .select((
                    Sled::as_select(),
                    instance::user_data,
                    instance::network_interfaces,
                    StartAttempt::as_select(),
                    fence::columns(),
                    exists(has_keys),
                    exists(has_disks),
                ))
                .first(conn)
                .optional()?;
            let (
                sled,
                user_data,
                network_interfaces,
                attempt,
                held,
                has_keys,
                has_disks,
            ) = row.ok_or(Error::NotFound)?;
            fence::judge(Some(held), &fence)?;
            steps::may_go_on(&attempt, fence.saga_id)?;
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
        })
        .await
    }
}
