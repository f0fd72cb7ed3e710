//! What a VMM holds of the fleet: room on its sled, its silo's quota, its place
//! in the eyes of its groups, and the blocks of its disks. Taken and given back
//! as a whole, in the transaction that makes or ends the VMM.
//!
//! The placement decided over what was then. Here everything that it relied on
//! is checked again, under the locks of what it is about: the instance's (its
//! size, its groups, its disks), its groups' (where their members are), and in
//! guarded statements on single rows (the sled's sums, the quota).

use crate::Error;
use crate::sql::{Keep, one_of, sql, statement};
use crate::together::Together;
use crate::waiting::{wake_group, wake_next, wake_quota, wake_room};
use db_model::placement::Amounts;
use db_model::schema::{
    affinity_claim, affinity_group_member, disk, instance, project, silo_quota,
    sled, sled_reservation, vmm,
};
use db_model::{
    AffinityGroupId, BlocksId, ByteCount, DiskBackend, InstanceCpuPlatform,
    InstanceId, ReservationRole, SiloId, SledCpu, SledId, SledReservation,
    VmmEndReason, VmmId,
};
use diesel::dsl::{exists, select};
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Nullable, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    OptionalExtension, PgConnection, QueryDsl, QueryResult, QueryableByName,
    RunQueryDsl,
};
use std::collections::{BTreeMap, HashMap};

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Disks {
    #[diesel(sql_type = BigInt)]
    elsewhere: i64,
    #[diesel(sql_type = BigInt)]
    unallocated_bytes: i64,
    #[diesel(sql_type = BigInt)]
    unavailable: i64,
}

/// Where a new VMM of an instance is charged, and what else it must have a place in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) silo: SiloId,
    pub(crate) has_groups: bool,
    pub(crate) has_disks: bool,
}

/// Those of these instances, whose rows are locked: whoever adds to the groups or
/// the disks of one locks it, too.
pub(crate) fn places(
    conn: &mut PgConnection,
    of: &[InstanceId],
) -> Result<HashMap<InstanceId, Place>, Error> {
    if of.is_empty() {
        return Ok(HashMap::new());
    }
    let in_groups = affinity_group_member::table
        .filter(affinity_group_member::instance_id.eq(instance::id));
    let disks =
        disk::table.filter(disk::instance_id.eq(instance::id.nullable()));
    let rows: Vec<(InstanceId, SiloId, bool, bool)> = instance::table
        .inner_join(project::table)
        .filter(one_of(instance::id, of.iter().copied()))
        .select((
            instance::id,
            project::silo_id,
            exists(in_groups),
            exists(disks),
        ))
        .load(conn)?;
    let place = |(id, silo, has_groups, has_disks)| {
        (id, Place { silo, has_groups, has_disks })
    };
    Ok(rows.into_iter().map(place).collect())
}

/// Locks the groups of an instance, for the VMM that is to hold `held`.
///
/// # Errors
///
/// `NoRoom`: its hard groups do not let it be on the sled any more.
pub(crate) fn groups_allow(
    conn: &mut PgConnection,
    held: &SledReservation,
    place: &Place,
) -> Result<(), Error> {
    if !place.has_groups {
        return Ok(());
    }
    lock_groups(conn, held.instance_id)?;
    may_be_there(conn, held)
}

/// The row of what a VMM holds, with who is charged for it.
pub(crate) fn charged(held: &SledReservation, at: &Place) -> SledReservation {
    SledReservation { silo_id: Some(at.silo), ..held.clone() }
}

/// Takes what a VMM needs of the groups and disks of its instance, once its row and
/// its reservation are there. Says what is left to be taken: the room on the sled
/// and the quota, of which many want some.
///
/// # Errors
///
/// `NoRoom`: something of what the placement relied on is not so any more.
pub(crate) fn take_own<'a>(
    conn: &mut PgConnection,
    held: &'a SledReservation,
    place: &Place,
    cpu: Option<InstanceCpuPlatform>,
) -> Result<Taking<'a>, Error> {
    if place.has_groups {
        claim(conn, held)?;
    }
    let storage = match place.has_disks {
        true => allocate_disks(conn, held)?,
        false => 0,
    };
    Ok(Taking { held, cpu, silo: place.silo, storage })
}

/// What a VMM is about to take, once what it needs of its groups and disks is its.
pub(crate) struct Taking<'a> {
    held: &'a SledReservation,
    cpu: Option<InstanceCpuPlatform>,
    silo: SiloId,
    storage: i64,
}

/// What a connection must have prepared for that: what is taken of which sleds, each
/// of one of these kinds (as a list), and of which quotas; and any of the VMMs. All
/// sleds are locked before all quotas, where many starts of one silo meet, and of
/// several the one with the lesser id before the other. A limit may have been lowered
/// below the use: then what is not asked for more of does not matter.
pub(crate) const PREPARE_TAKING: &str = "\
    PREPARE take_room (UUID[], INT8[], INT8[], INT8[], TEXT[], \
        UUID[], INT8[], INT8[], INT8[], UUID) AS \
    WITH sleds AS ( \
        SELECT s.id, a.vcpus, a.memory, a.storage, a.cpus \
        FROM sled s JOIN unnest($1, $2, $3, $4, $5) \
            AS a (id, vcpus, memory, storage, cpus) ON s.id = a.id \
        ORDER BY s.id FOR NO KEY UPDATE OF s), \
    room AS ( \
        UPDATE sled \
        SET reserved_vcpus = reserved_vcpus + a.vcpus, \
            reserved_memory_bytes = reserved_memory_bytes + a.memory, \
            reserved_storage_bytes = reserved_storage_bytes + a.storage \
        FROM sleds a \
        WHERE sled.id = a.id AND policy = 'in_service' \
          AND provision_policy = 'provisionable' \
          AND cpu::TEXT = ANY (string_to_array(a.cpus, ' ')) \
          AND reserved_vcpus + a.vcpus <= sled.vcpus \
          AND reserved_memory_bytes + a.memory <= memory_bytes \
          AND reserved_storage_bytes + a.storage <= storage_bytes \
        RETURNING sled.id), \
    quotas AS ( \
        SELECT q.silo_id, a.vcpus, a.memory, a.storage \
        FROM silo_quota q JOIN unnest($6, $7, $8, $9) \
            AS a (silo_id, vcpus, memory, storage) ON q.silo_id = a.silo_id \
        WHERE (SELECT count(*) FROM room) = array_length($1, 1) \
        ORDER BY q.silo_id FOR NO KEY UPDATE OF q), \
    quota AS ( \
        UPDATE silo_quota q \
        SET used_vcpus = used_vcpus + a.vcpus, \
            used_memory_bytes = used_memory_bytes + a.memory, \
            used_storage_bytes = used_storage_bytes + a.storage \
        FROM quotas a \
        WHERE q.silo_id = a.silo_id \
          AND used_vcpus + a.vcpus <= q.vcpus \
          AND used_memory_bytes + a.memory <= memory_bytes \
          AND (a.storage = 0 OR used_storage_bytes + a.storage <= storage_bytes) \
        RETURNING q.silo_id) \
    INSERT INTO sled_reservation (vmm_id, instance_id, sled_id, role, \
        vcpus, memory_bytes, time_created) \
    SELECT vmm_id, instance_id, sled_id, role, 0, memory_bytes, time_created \
    FROM sled_reservation \
    WHERE vmm_id = $10 \
      AND (SELECT count(*) FROM quota) <> array_length($6, 1)";

impl<'a> Taking<'a> {
    /// Whose it is going to be.
    pub(crate) fn held(&self) -> &'a SledReservation {
        self.held
    }

    /// The statement that takes room on the sleds and of the quotas, if all of it is
    /// there and the sleds take such instances: else [`Taking::refused`] knows its
    /// error. `None`: there is nothing to take.
    pub(crate) fn statement(all: &[Taking<'_>]) -> Option<String> {
        let vmm = all.first()?.held.vmm_id;
        let mut sleds: BTreeMap<SledId, (Amounts, Vec<SledCpu>)> =
            BTreeMap::new();
        let mut quotas: BTreeMap<SiloId, Amounts> = BTreeMap::new();
        for Taking { held, cpu, silo, storage } in all {
            let amounts = Amounts {
                vcpus: held.vcpus,
                memory: held.memory_bytes.to_i64(),
                storage: *storage,
            };
            let (sum, cpus) = sleds
                .entry(held.sled_id)
                .or_insert_with(|| (Amounts::default(), SledCpu::ALL.to_vec()));
            *sum = *sum + amounts;
            if let Some(cpu) = cpu {
                cpus.retain(|kind| cpu.runs_on().contains(kind));
            }
            let sum = quotas.entry(*silo).or_default();
            *sum = *sum + amounts;
        }
        let of_sleds: Vec<_> = sleds.values().map(|(sum, _)| *sum).collect();
        let of_quotas: Vec<_> = quotas.values().copied().collect();
        let cpus = sleds.values().map(|(_, cpus)| {
            let names: Vec<_> = cpus.iter().map(|c| c.as_str()).collect();
            format!("\"{}\"", names.join(" "))
        });
        Some(format!(
            "EXECUTE take_room ({}, {}, {}, {}, '{vmm}')",
            list(sleds.keys()),
            lists_of(&of_sleds),
            list(cpus),
            [list(quotas.keys()), lists_of(&of_quotas)].join(", "),
        ))
    }

    /// What an error of that statement means.
    pub(crate) fn refused(error: Error) -> Error {
        if let Error::Internal(DieselError::DatabaseError(_, info)) = &error
            && info.constraint_name() == Some(HAS_A_SIZE)
        {
            return Error::NoRoom;
        }
        error
    }
}

/// An array, in SQL.
fn list(of: impl Iterator<Item = impl ToString>) -> String {
    let each: Vec<_> = of.map(|one| one.to_string()).collect();
    format!("'{{{}}}'", each.join(","))
}

/// One of vCPUs, one of memory, and one of storage.
fn lists_of(amounts: &[Amounts]) -> String {
    let vcpus = list(amounts.iter().map(|a| a.vcpus));
    let memory = list(amounts.iter().map(|a| a.memory));
    let storage = list(amounts.iter().map(|a| a.storage));
    format!("{vcpus}, {memory}, {storage}")
}

/// No reservation is without vCPUs: one is tried where there is no room.
const HAS_A_SIZE: &str = "sled_reservation_has_a_size";

/// Keeps others from placing members of the instance's groups meanwhile.
fn lock_groups(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), Error> {
    statement(
        "SELECT id FROM affinity_group \
         WHERE id IN (SELECT group_id FROM affinity_group_member \
                      WHERE instance_id = $1) \
         ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(instance)
    .execute(conn)?;
    Ok(())
}

/// Do its hard groups let the instance be on the sled?
fn may_be_there(
    conn: &mut PgConnection,
    held: &SledReservation,
) -> Result<(), Error> {
    let against: Count = statement(
        "SELECT count(*) AS n \
         FROM affinity_group_member m \
         JOIN affinity_group g ON g.id = m.group_id \
         JOIN affinity_claim c ON c.group_id = m.group_id \
         WHERE m.instance_id = $1 AND c.instance_id <> $1 \
           AND g.policy = 'fail' \
           AND (g.kind = 'anti_affinity') = (c.sled_id = $2)",
    )
    .bind::<SqlUuid, _>(held.instance_id)
    .bind::<SqlUuid, _>(held.sled_id)
    .get_result(conn)?;
    if against.n == 0 { Ok(()) } else { Err(Error::NoRoom) }
}

/// Its disks can be used, and the blocks of the local ones are on the sled, or
/// will be. Says how much that takes.
fn allocate_disks(
    conn: &mut PgConnection,
    held: &SledReservation,
) -> Result<i64, Error> {
    let disks: Disks = statement(
        "SELECT \
             count(CASE WHEN sled_id <> $2 THEN 1 END) AS elsewhere, \
             COALESCE(sum(CASE WHEN backend = 'local' AND sled_id IS NULL \
                 THEN size_bytes END), 0)::INT8 AS unallocated_bytes, \
             count(CASE WHEN state <> 'ready' OR EXISTS ( \
                 SELECT 1 FROM snapshot s WHERE s.disk_id = disk.id \
                     AND NOT s.made AND s.time_deleted IS NULL) \
                 THEN 1 END) AS unavailable \
         FROM disk WHERE instance_id = $1",
    )
    .bind::<SqlUuid, _>(held.instance_id)
    .bind::<SqlUuid, _>(held.sled_id)
    .get_result(conn)?;
    if disks.elsewhere > 0 || disks.unavailable > 0 {
        return Err(Error::NoRoom);
    }
    if disks.unallocated_bytes > 0 {
        diesel::update(
            disk::table
                .filter(disk::instance_id.eq(held.instance_id))
                .filter(disk::backend.eq(DiskBackend::Local))
                .filter(disk::sled_id.is_null()),
        )
        .set((
            // Never the name of blocks that a sled may still have, of a VMM
            // that did not run.
            disk::blocks_id.eq(sql::<Nullable<SqlUuid>>("gen_random_uuid()")),
            disk::sled_id.eq(held.sled_id),
            disk::allocated_by.eq(held.vmm_id),
        ))
        .kept()
        .execute(conn)?;
    }
    Ok(disks.unallocated_bytes)
}

/// The VMM takes its place in the eyes of its groups.
fn claim(conn: &mut PgConnection, held: &SledReservation) -> QueryResult<()> {
    statement(
        "INSERT INTO affinity_claim \
             (group_id, vmm_id, instance_id, sled_id, exclusive) \
         SELECT g.id, $1, $2, $3, \
             g.kind = 'anti_affinity' AND g.policy = 'fail' \
         FROM affinity_group_member m \
         JOIN affinity_group g ON g.id = m.group_id \
         WHERE m.instance_id = $2",
    )
    .bind::<SqlUuid, _>(held.vmm_id)
    .bind::<SqlUuid, _>(held.instance_id)
    .bind::<SqlUuid, _>(held.sled_id)
    .execute(conn)?;
    Ok(())
}

/// Gives back what a VMM held, and wakes who waited for it. Blocks that were
/// allocated for it stay, if it ran: there may be something in them.
pub(crate) fn release(
    conn: &mut PgConnection,
    vmm: VmmId,
) -> Result<(), Error> {
    let groups = unclaim(conn, vmm)?;
    let held: Option<(SledId, i64, ByteCount, Option<SiloId>)> =
        diesel::delete(sled_reservation::table.find(vmm))
            .returning((
                sled_reservation::sled_id,
                sled_reservation::vcpus,
                sled_reservation::memory_bytes,
                sled_reservation::silo_id,
            ))
            .get_result(conn)
            .optional()?;
    let Some((sled, vcpus, memory, silo)) = held else { return Ok(()) };
    let storage = free_blocks(conn, vmm)?;
    give_back(conn, sled, silo, (vcpus, memory.to_i64(), storage))?;
    wake_room(conn, sled)?;
    if let Some(silo) = silo {
        wake_quota(conn, silo)?;
    }
    for group in groups {
        wake_group(conn, group)?;
    }
    Ok(())
}

/// A VMM is given up that may still be on its sled: it keeps its room there. If
/// it was never told to run it has no place in its groups any more, and no
/// disks: the instance may be started elsewhere.
pub(crate) fn abandon(
    conn: &mut PgConnection,
    vmm_id: VmmId,
) -> Result<(), Error> {
    let held: (SledId, Option<SiloId>) =
        diesel::update(sled_reservation::table.find(vmm_id))
            .set(sled_reservation::role.eq(ReservationRole::Abandoned))
            .returning((sled_reservation::sled_id, sled_reservation::silo_id))
            .kept()
            .get_result(conn)?;
    let may_run: bool =
        vmm::table.find(vmm_id).select(vmm::may_run).first(conn)?;
    if may_run {
        return Ok(());
    }
    let groups = unclaim(conn, vmm_id)?;
    let storage = free_blocks(conn, vmm_id)?;
    if storage > 0 {
        give_back(conn, held.0, held.1, (0, 0, storage))?;
        wake_room(conn, held.0)?;
        if let Some(silo) = held.1 {
            wake_quota(conn, silo)?;
        }
    }
    for group in groups {
        wake_group(conn, group)?;
    }
    Ok(())
}

/// Gives up a VMM's place in its groups; which they are.
fn unclaim(
    conn: &mut PgConnection,
    vmm: VmmId,
) -> QueryResult<Vec<AffinityGroupId>> {
    let mine = affinity_claim::table.filter(affinity_claim::vmm_id.eq(vmm));
    diesel::delete(mine).returning(affinity_claim::group_id).load(conn)
}

/// The blocks that were allocated for a VMM that never ran are nowhere again;
/// how many bytes that frees. One that was allowed to run and of whose end its
/// sled knows nothing may have run, and there may be something in them.
fn free_blocks(conn: &mut PgConnection, vmm_id: VmmId) -> QueryResult<i64> {
    let may_have_run: bool = select(exists(
        vmm::table.find(vmm_id).filter(vmm::may_run).filter(
            vmm::ever_ran.or(vmm::end_reason
                .eq_any([VmmEndReason::Gone, VmmEndReason::Fenced])
                .assume_not_null()),
        ),
    ))
    .get_result(conn)?;
    if may_have_run {
        return Ok(0);
    }
    let (no_sled, no_vmm): (Option<SledId>, Option<VmmId>) = (None, None);
    let no_blocks: Option<BlocksId> = None;
    let freed: Vec<ByteCount> =
        diesel::update(disk::table.filter(disk::allocated_by.eq(vmm_id)))
            .set((
                disk::sled_id.eq(no_sled),
                disk::allocated_by.eq(no_vmm),
                disk::blocks_id.eq(no_blocks),
            ))
            .returning(disk::size_bytes)
            .kept()
            .load(conn)?;
    Ok(freed.into_iter().map(ByteCount::to_i64).sum())
}

/// Lowers the sums of a sled and of a quota, by vCPUs and bytes of memory and
/// of storage.
pub(crate) fn give_back(
    conn: &mut PgConnection,
    sled: SledId,
    silo: Option<SiloId>,
    (vcpus, memory, storage): (i64, i64, i64),
) -> Result<(), Error> {
    let mut together = Together::default();
    together.add(diesel::update(sled::table.find(sled)).set((
        sled::reserved_vcpus.eq(sled::reserved_vcpus - vcpus),
        sled::reserved_memory_bytes.eq(sled::reserved_memory_bytes - memory),
        sled::reserved_storage_bytes.eq(sled::reserved_storage_bytes - storage),
    )));
    // None: placed before there were quotas, by a program that knew of none.
    if let Some(silo) = silo {
        together.add(
            diesel::update(silo_quota::table.find(silo)).set((
                silo_quota::used_vcpus.eq(silo_quota::used_vcpus - vcpus),
                silo_quota::used_memory_bytes
                    .eq(silo_quota::used_memory_bytes - memory),
                silo_quota::used_storage_bytes
                    .eq(silo_quota::used_storage_bytes - storage),
            )),
        );
    }
    together.make(conn)?;
    Ok(())
}

/// A start of the system's own has got its place, and there may be more room
/// there, and more of the quota: the next who waits for either is woken.
pub(crate) fn wake_who_is_next(
    conn: &mut PgConnection,
    held: &SledReservation,
) -> Result<(), Error> {
    wake_next(conn, held.sled_id, held.instance_id)
}
