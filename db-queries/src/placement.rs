//! What a placement is decided on: the instance's ask, and the fleet.
//!
//! The way of every start reads a few sleds that will probably do, by an index
//! on their room, so that its cost does not grow with the fleet. Only where none
//! is found, the whole fleet is read, to say why.

use crate::shared::{Answers, Queue, SharedStatement};
use crate::sql::{Statement, Values, one_of, statement};
use crate::{DataStore, Error};
use db_model::placement::{
    Amounts, Ask, AskedDisk, Group, OwnInstance, PlacedMember, Quota, SledRoom,
    explain,
};
use db_model::schema::{
    affinity_claim, affinity_group, affinity_group_member, disk, instance,
    project, silo_quota, sled_reservation, vmm,
};
use db_model::{
    AffinityGroupId, AffinityGroupKind, AffinityPolicy, ByteCount, Disk,
    DiskBackend, DiskId, HEARTBEAT_ALLOWANCE, Instance, InstanceCpuPlatform,
    InstanceId, Name, NewDisk, ProjectId, ReservationRole, SiloQuota, SledCpu,
    SledId, SledPolicy, SledProvisionPolicy, StartFailure, VcpuCount, VmmId,
    VmmState,
};
use diesel::dsl::{exists, select};
use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl,
    NullableExpressionMethods, OptionalExtension, PgConnection, QueryDsl,
    QueryResult, QueryableByName, RunQueryDsl, SelectableHelper,
};
use uuid::Uuid;

/// Of the sleds that would do, one look for a place reads so many that have the
/// least free vCPUs: full sleds are filled up. If any would do, one is read.
pub const FULLEST: i64 = 32;

/// And so many that it comes upon by chance: among them is one that suits well,
/// on a fleet of any size, and those who look at once read different ones.
pub const BY_CHANCE: i64 = 32;

/// It comes upon so many, of which not all would do.
pub const LOOKED_AT: i64 = 256;

/// A user's instances among which those are sought whose end would help. A
/// project may have very many on sleds; more of them help little.
const OWN_AT_MOST: i64 = 256;

/// A sled is silent. That counts only from when there was somebody to listen:
/// after an outage of ours or of the database, each has its time to be heard
/// again.
const SILENT: &str = "(GREATEST(time_last_heartbeat, ( \
         SELECT min(steady_since) FROM nexus_lease \
         WHERE taken_by IS NULL AND lease_expires > now())) \
     < clock_timestamp() - $1 * INTERVAL '1 microsecond')";

/// It takes instances, and has the vCPUs and the memory: what the index on room
/// knows.
const ROOMY: &str = "policy = 'in_service' \
     AND provision_policy = 'provisionable' \
     AND vcpus - reserved_vcpus >= $2 \
     AND memory_bytes - reserved_memory_bytes >= $3";

/// Nothing else speaks against it.
fn else_fits() -> String {
    format!(
        "storage_bytes - reserved_storage_bytes >= $4 \
         AND cpu::TEXT = ANY($5) AND NOT (id = ANY($6)) AND NOT {SILENT}"
    )
}

/// The room of sleds of a table.
fn room(of: &str) -> String {
    format!(
        "SELECT id, policy, provision_policy, cpu, vcpus, memory_bytes, \
             storage_bytes, reserved_vcpus, reserved_memory_bytes, \
             reserved_storage_bytes, {SILENT} AS silent FROM {of}"
    )
}

#[derive(QueryableByName)]
struct RoomRow {
    #[diesel(sql_type = SqlUuid)]
    id: SledId,
    #[diesel(sql_type = db_model::sql_types::SledPolicySql)]
    policy: SledPolicy,
    #[diesel(sql_type = db_model::sql_types::SledProvisionPolicySql)]
    provision_policy: SledProvisionPolicy,
    #[diesel(sql_type = db_model::sql_types::SledCpuSql)]
    cpu: SledCpu,
    #[diesel(sql_type = BigInt)]
    vcpus: i64,
    #[diesel(sql_type = BigInt)]
    memory_bytes: i64,
    #[diesel(sql_type = BigInt)]
    storage_bytes: i64,
    #[diesel(sql_type = BigInt)]
    reserved_vcpus: i64,
    #[diesel(sql_type = BigInt)]
    reserved_memory_bytes: i64,
    #[diesel(sql_type = BigInt)]
    reserved_storage_bytes: i64,
    #[diesel(sql_type = Bool)]
    silent: bool,
}

impl From<RoomRow> for SledRoom {
    fn from(row: RoomRow) -> SledRoom {
        SledRoom {
            id: row.id,
            policy: row.policy,
            provision_policy: row.provision_policy,
            silent: row.silent,
            cpu: row.cpu,
            total: Amounts {
                vcpus: row.vcpus,
                memory: row.memory_bytes,
                storage: row.storage_bytes,
            },
            reserved: Amounts {
                vcpus: row.reserved_vcpus,
                memory: row.reserved_memory_bytes,
                storage: row.reserved_storage_bytes,
            },
        }
    }
}

/// What a start looks at to find a place.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PlacementLook {
    pub ask: Ask,
    /// As [`DataStore::placement_candidates`] finds them.
    pub sleds: Vec<SledRoom>,
    /// Where its VMM is already.
    pub placed_on: Option<SledId>,
    /// A disk of it that cannot be used now: its blocks are not there, or it is
    /// being copied. The reservation looks again.
    pub unavailable: Option<Disk>,
}

/// All that a placement is decided on, as it was at one moment.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PlacementCase {
    pub ask: Ask,
    /// The whole fleet. What the instance itself holds there counts as free.
    pub sleds: Vec<SledRoom>,
    /// Of the project's other instances, those that hold a place.
    pub own: Vec<OwnInstance>,
    /// An earlier run of it may go on at a host that does not answer.
    pub held_back: bool,
}

impl PlacementCase {
    /// Why the instance would not start now; `None` if it would.
    pub fn explain(&self) -> Option<StartFailure> {
        match self.held_back {
            true => Some(StartFailure::held_back()),
            false => explain(&self.ask, &self.sleds, &self.own),
        }
    }
}

/// An instance that might be made: what it would ask, and what it would join.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Imagined {
    pub project: ProjectId,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
    pub cpu_platform: Option<InstanceCpuPlatform>,
    pub groups: Vec<AffinityGroupId>,
    pub new_disks: Vec<(DiskId, NewDisk)>,
    pub disks: Vec<DiskId>,
}

impl DataStore {
    /// What an instance asks of the fleet, and some sleds that would do: unless
    /// it has a VMM `placing` already, or a disk that cannot be used.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn placement_look(
        &self,
        id: InstanceId,
        placing: Option<VmmId>,
    ) -> Result<PlacementLook, Error> {
        self.ask(Look { id, placing }).await
    }

    /// Some of the sleds that would do, if any would, and of those that fulfil
    /// wishes of soft groups all. In no order that means anything.
    pub async fn placement_candidates(
        &self,
        ask: &Ask,
    ) -> Result<Vec<SledRoom>, Error> {
        let search = Search::new(ask);
        self.run(move |conn| Ok(search.run(conn)?)).await
    }

    /// All that the placement of an instance is decided on. Reads the whole
    /// fleet.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn placement_case(
        &self,
        id: InstanceId,
    ) -> Result<PlacementCase, Error> {
        self.snapshot(move |conn| {
            let look = Look { id, placing: None };
            let asked = asked(conn, &[look])?.pop();
            let Asked { row, mut ask, .. } = asked.ok_or(Error::NotFound)?;
            let mut sleds = fleet(conn)?;
            give_back_own(conn, &row, &mut ask, &mut sleds)?;
            let own = own_placed(conn, row.project_id, id)?;
            let held_back = may_run_elsewhere(conn, id)?;
            Ok(PlacementCase { ask, sleds, own, held_back })
        })
        .await
    }

    /// The same of an instance that is not there.
    pub async fn placement_case_of(
        &self,
        imagined: Imagined,
    ) -> Result<PlacementCase, Error> {
        self.snapshot(move |conn| {
            let nobody = InstanceId(Uuid::nil());
            let mut disks = disks_of(conn, Disks::These(&imagined.disks))?;
            let local = imagined
                .new_disks
                .iter()
                .filter(|(_, new)| new.kind.backend() == DiskBackend::Local);
            disks.extend(local.map(|(id, new)| AskedDisk {
                id: *id,
                name: new.name.clone(),
                size: new.size,
                sled: None,
            }));
            let ask = Ask {
                vcpus: imagined.ncpus.to_i64(),
                memory: imagined.memory,
                cpu_platform: imagined.cpu_platform,
                groups: groups_of(conn, nobody, &imagined.groups)?,
                disks,
                quota: quota_of(conn, imagined.project)?,
            };
            let sleds = fleet(conn)?;
            let own = own_placed(conn, imagined.project, nobody)?;
            Ok(PlacementCase { ask, sleds, own, held_back: false })
        })
        .await
    }
}

/// A start that looks for a place. Those that ask the same look at the same sleds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    id: InstanceId,
    placing: Option<VmmId>,
}

impl SharedStatement for Look {
    type Answer = PlacementLook;

    fn about(&self) -> Uuid {
        self.id.0
    }

    fn queue(of: &DataStore) -> &Queue<Look> {
        &of.looks
    }

    // What is asked for decides by which index sleds are best found.
    const PLANNED_ONCE: bool = false;

    fn ask(
        conn: &mut PgConnection,
        all: &[Look],
    ) -> Result<Answers<Look>, Error> {
        let mut answers = Answers::<Look>::new();
        let mut searched: Vec<(Search, Vec<SledRoom>)> = Vec::new();
        for Asked { row, ask, has_disks, placed_on } in asked(conn, all)? {
            let unavailable = match has_disks {
                true => crate::disk::unavailable(conn, row.id)?,
                false => None,
            };
            let mut sleds = Vec::new();
            if placed_on.is_none() && unavailable.is_none() {
                let search = Search::new(&ask);
                let known = searched.iter().find(|(known, _)| *known == search);
                sleds = match known {
                    Some((_, sleds)) => sleds.clone(),
                    None => {
                        let sleds = search.run(conn)?;
                        searched.push((search, sleds.clone()));
                        sleds
                    }
                };
            }
            let look = PlacementLook { ask, sleds, placed_on, unavailable };
            answers.insert(row.id.0, Ok(look));
        }
        Ok(answers)
    }
}

/// What an instance asks, and from what that was seen.
struct Asked {
    row: Instance,
    ask: Ask,
    has_disks: bool,
    /// Where the VMM is that was to be placed.
    placed_on: Option<SledId>,
}

/// Its own row, its silo's quota, where its VMM is, and whether it has any groups
/// and any disks.
type AskRow = (Instance, SiloQuota, Option<SledId>, bool, bool);

/// The statement that reads those, of VMMs that are these.
macro_rules! ask_rows {
    ($placed:expr) => {{
        let in_groups = affinity_group_member::table
            .filter(affinity_group_member::instance_id.eq(instance::id));
        let disks =
            disk::table.filter(disk::instance_id.eq(instance::id.nullable()));
        instance::table
            .inner_join(project::table)
            .inner_join(
                silo_quota::table.on(silo_quota::silo_id.eq(project::silo_id)),
            )
            .left_join(
                vmm::table.on($placed.and(vmm::instance_id.eq(instance::id))),
            )
            .select((
                Instance::as_select(),
                SiloQuota::as_select(),
                vmm::sled_id.nullable(),
                exists(in_groups),
                exists(disks),
            ))
    }};
}

/// What those ask that are there.
fn asked(conn: &mut PgConnection, looks: &[Look]) -> Result<Vec<Asked>, Error> {
    let rows: Vec<AskRow> = match looks {
        [Look { id, placing }] => {
            let placing = placing.unwrap_or(VmmId(Uuid::nil()));
            ask_rows!(vmm::id.eq(placing))
                .filter(instance::id.eq(id))
                .load(conn)?
        }
        looks => {
            let placing = looks.iter().filter_map(|look| look.placing);
            let ids = looks.iter().map(|look| look.id);
            ask_rows!(one_of(vmm::id, placing))
                .filter(one_of(instance::id, ids))
                .load(conn)?
        }
    };
    let asked = rows.into_iter().map(|row| {
        let (row, quota, placed_on, has_groups, has_disks) = row;
        let id = row.id;
        let groups: Vec<AffinityGroupId> = match has_groups {
            true => affinity_group_member::table
                .filter(affinity_group_member::instance_id.eq(id))
                .select(affinity_group_member::group_id)
                .load(conn)?,
            false => Vec::new(),
        };
        let ask = Ask {
            vcpus: row.ncpus.to_i64(),
            memory: row.memory_bytes,
            cpu_platform: row.cpu_platform,
            groups: groups_of(conn, id, &groups)?,
            disks: match has_disks {
                true => disks_of(conn, Disks::Of(id))?,
                false => Vec::new(),
            },
            quota: quota_in(&quota),
        };
        Ok(Asked { row, ask, has_disks, placed_on })
    });
    asked.collect()
}

type GroupRow = (AffinityGroupId, Name, AffinityGroupKind, AffinityPolicy);

/// Groups, and where their members are, but for the instance itself.
fn groups_of(
    conn: &mut PgConnection,
    but: InstanceId,
    ids: &[AffinityGroupId],
) -> Result<Vec<Group>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<GroupRow> = affinity_group::table
        .filter(affinity_group::id.eq_any(ids))
        .filter(affinity_group::time_deleted.is_null())
        .order(affinity_group::id)
        .select((
            affinity_group::id,
            affinity_group::name,
            affinity_group::kind,
            affinity_group::policy,
        ))
        .load(conn)?;
    let placed: Vec<(AffinityGroupId, InstanceId, Name, SledId)> =
        affinity_claim::table
            .inner_join(
                instance::table
                    .on(instance::id.eq(affinity_claim::instance_id)),
            )
            .filter(affinity_claim::group_id.eq_any(ids))
            .filter(affinity_claim::instance_id.ne(but))
            .order((instance::name, instance::id))
            .select((
                affinity_claim::group_id,
                instance::id,
                instance::name,
                affinity_claim::sled_id,
            ))
            .load(conn)?;
    let members = |of: AffinityGroupId| {
        placed
            .iter()
            .filter(|(group, ..)| *group == of)
            .map(|(_, id, name, sled)| PlacedMember {
                id: *id,
                name: name.clone(),
                sled: *sled,
            })
            .collect()
    };
    Ok(rows
        .into_iter()
        .map(|(id, name, kind, policy)| Group {
            id,
            name,
            kind,
            policy,
            placed: members(id),
        })
        .collect())
}

/// Which disks.
enum Disks<'a> {
    Of(InstanceId),
    These(&'a [DiskId]),
}

fn disks_of(
    conn: &mut PgConnection,
    which: Disks<'_>,
) -> Result<Vec<AskedDisk>, Error> {
    let query = disk::table
        .filter(disk::backend.eq(DiskBackend::Local))
        .order(disk::id)
        .select((disk::id, disk::name, disk::size_bytes, disk::sled_id))
        .into_boxed();
    let query = match which {
        Disks::Of(instance) => query.filter(disk::instance_id.eq(instance)),
        Disks::These(ids) => query.filter(disk::id.eq_any(ids)),
    };
    let rows: Vec<(DiskId, Name, ByteCount, Option<SledId>)> =
        query.load(conn)?;
    Ok(rows
        .into_iter()
        .map(|(id, name, size, sled)| AskedDisk { id, name, size, sled })
        .collect())
}

fn quota_of(
    conn: &mut PgConnection,
    project: ProjectId,
) -> Result<Quota, Error> {
    let row: SiloQuota = silo_quota::table
        .inner_join(project::table.on(project::silo_id.eq(silo_quota::silo_id)))
        .filter(project::id.eq(project))
        .select(SiloQuota::as_select())
        .first(conn)?;
    Ok(quota_in(&row))
}

fn quota_in(row: &SiloQuota) -> Quota {
    Quota {
        limit: Amounts {
            vcpus: row.vcpus,
            memory: row.memory_bytes.to_i64(),
            storage: row.storage_bytes.to_i64(),
        },
        used: Amounts {
            vcpus: row.used_vcpus,
            memory: row.used_memory_bytes.to_i64(),
            storage: row.used_storage_bytes.to_i64(),
        },
    }
}

fn fleet(conn: &mut PgConnection) -> Result<Vec<SledRoom>, Error> {
    let rows: Vec<RoomRow> = statement(room("sled"))
        .bind::<BigInt, _>(allowance_micros())
        .load(conn)?;
    Ok(rows.into_iter().map(SledRoom::from).collect())
}

pub(crate) fn allowance_micros() -> i64 {
    HEARTBEAT_ALLOWANCE.num_microseconds().unwrap_or(i64::MAX)
}

/// What the instance holds itself is free for itself: the question is where it
/// would go if it were started now.
fn give_back_own(
    conn: &mut PgConnection,
    row: &Instance,
    ask: &mut Ask,
    sleds: &mut [SledRoom],
) -> Result<(), Error> {
    let held: Option<(SledId, i64, ByteCount, Option<Uuid>)> =
        sled_reservation::table
            .filter(sled_reservation::instance_id.eq(row.id))
            .filter(sled_reservation::role.ne(ReservationRole::Abandoned))
            .select((
                sled_reservation::sled_id,
                sled_reservation::vcpus,
                sled_reservation::memory_bytes,
                sled_reservation::silo_id,
            ))
            .first(conn)
            .optional()?;
    let Some((at, vcpus, memory, charged)) = held else { return Ok(()) };
    let own = Amounts { vcpus, memory: memory.to_i64(), storage: 0 };
    for sled in sleds.iter_mut().filter(|s| s.id == at) {
        sled.reserved = sled.reserved - own;
    }
    if charged.is_some() {
        ask.quota.used = ask.quota.used - own;
    }
    Ok(())
}

fn may_run_elsewhere(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<bool, Error> {
    let abandoned = vmm::table
        .filter(vmm::instance_id.eq(id))
        .filter(vmm::time_ended.is_null())
        .filter(vmm::state.eq(VmmState::Abandoned))
        .filter(vmm::may_run);
    Ok(select(exists(abandoned)).get_result(conn)?)
}

fn own_placed(
    conn: &mut PgConnection,
    of: ProjectId,
    but: InstanceId,
) -> Result<Vec<OwnInstance>, Error> {
    let rows: Vec<(InstanceId, Name, SledId, i64, ByteCount)> = instance::table
        .inner_join(
            sled_reservation::table
                .on(sled_reservation::instance_id.eq(instance::id)),
        )
        .filter(instance::project_id.eq(of))
        .filter(instance::time_deleted.is_null())
        .filter(instance::intended_state.eq(db_model::IntendedState::Running))
        .filter(instance::id.ne(but))
        .filter(sled_reservation::role.ne(ReservationRole::Abandoned))
        .order(instance::id)
        .limit(OWN_AT_MOST)
        .select((
            instance::id,
            instance::name,
            sled_reservation::sled_id,
            sled_reservation::vcpus,
            sled_reservation::memory_bytes,
        ))
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|(id, name, sled, vcpus, memory)| OwnInstance {
            id,
            name,
            sled,
            size: Amounts { vcpus, memory: memory.to_i64(), storage: 0 },
        })
        .collect())
}

/// A search for some sleds that would do. `fits` of `db_model::placement`, as
/// SQL: that both say the same, a test sees to.
#[derive(PartialEq, Eq)]
struct Search {
    size: Amounts,
    cpus: Vec<&'static str>,
    /// It can be on this one only: of its hard affinity groups, or its disks.
    only: Option<Vec<Uuid>>,
    /// Its hard anti-affinity groups keep it from these.
    not: Vec<Uuid>,
    /// Its soft affinity groups would have it on these.
    rather: Vec<Uuid>,
    /// Its soft anti-affinity groups would not have it on these.
    rather_not: Vec<Uuid>,
}

impl Search {
    fn new(ask: &Ask) -> Search {
        let placed = |kind: AffinityGroupKind, policy: AffinityPolicy| {
            let mut at: Vec<Uuid> = ask
                .groups
                .iter()
                .filter(|g| g.kind == kind && g.policy == policy)
                .flat_map(|g| g.placed.iter().map(|m| m.sled.0))
                .collect();
            at.sort_unstable();
            at.dedup();
            at
        };
        use AffinityGroupKind::{Affinity, AntiAffinity};
        use AffinityPolicy::{Allow, Fail};
        let disks = ask.disks.iter().filter_map(|d| d.sled.map(|s| s.0));
        let mut tied: Vec<Uuid> =
            placed(Affinity, Fail).into_iter().chain(disks).collect();
        tied.sort_unstable();
        tied.dedup();
        let only = match tied.len() {
            0 => None,
            1 => Some(tied),
            // It cannot be on two.
            _ => Some(Vec::new()),
        };
        let cpus =
            ask.cpu_platform.map_or(SledCpu::ALL, InstanceCpuPlatform::runs_on);
        Search {
            size: ask.size(),
            cpus: cpus.iter().map(|c| c.as_str()).collect(),
            only,
            not: placed(AntiAffinity, Fail),
            rather: placed(Affinity, Allow),
            rather_not: placed(AntiAffinity, Allow),
        }
    }

    fn run(&self, conn: &mut PgConnection) -> QueryResult<Vec<SledRoom>> {
        if let Some(only) = &self.only {
            return self.these(conn, only, &self.not);
        }
        let mut found = Vec::new();
        if !self.rather.is_empty() {
            found = self.these(conn, &self.rather, &self.not)?;
        }
        let shunned = [self.not.as_slice(), &self.rather_not].concat();
        found.extend(self.any(conn, &shunned)?);
        if found.is_empty() && !self.rather_not.is_empty() {
            found = self.these(conn, &self.rather_not, &self.not)?;
        }
        found.sort_unstable_by_key(|sled| sled.id);
        found.dedup_by_key(|sled| sled.id);
        Ok(found)
    }

    /// All of these that would do, but none of those.
    fn these(
        &self,
        conn: &mut PgConnection,
        these: &[Uuid],
        not: &[Uuid],
    ) -> QueryResult<Vec<SledRoom>> {
        let sql = format!(
            "{} WHERE id = ANY($7) AND {ROOMY} AND {}",
            room("sled"),
            else_fits()
        );
        let rows: Vec<RoomRow> =
            self.bind(sql, not).bind::<Array<SqlUuid>, _>(these).load(conn)?;
        Ok(rows.into_iter().map(SledRoom::from).collect())
    }

    /// Some that would do, but none of those: by an index on their room, and
    /// from somewhere on by their ids.
    fn any(
        &self,
        conn: &mut PgConnection,
        not: &[Uuid],
    ) -> QueryResult<Vec<SledRoom>> {
        // What the index on room does not know stands in one condition of
        // which the planner takes for granted that it holds. Where it expects
        // few rows to be left, it reads and sorts the whole fleet.
        let fullest = format!(
            "{} WHERE {ROOMY} \
               AND CASE WHEN {} THEN TRUE END IS NOT NULL \
             ORDER BY vcpus - reserved_vcpus, \
                 memory_bytes - reserved_memory_bytes LIMIT {FULLEST}",
            room("sled"),
            else_fits()
        );
        // Ids are random: neighbours have nothing else in common.
        let by_chance = format!(
            "{} WHERE {ROOMY} AND {} LIMIT {BY_CHANCE}",
            room(&format!(
                "(SELECT * FROM sled WHERE id >= $7 \
                  ORDER BY id LIMIT {LOOKED_AT}) AS neighbours"
            )),
            else_fits()
        );
        let sql = format!("({fullest}) UNION ALL ({by_chance})");
        let rows: Vec<RoomRow> = self
            .bind(sql, not)
            .bind::<SqlUuid, _>(Uuid::new_v4())
            .load(conn)?;
        Ok(rows.into_iter().map(SledRoom::from).collect())
    }

    fn bind<'a>(
        &'a self,
        sql: String,
        not: &'a [Uuid],
    ) -> Statement<impl Values + use<'a>> {
        statement(sql)
            .bind::<BigInt, _>(allowance_micros())
            .bind::<BigInt, _>(self.size.vcpus)
            .bind::<BigInt, _>(self.size.memory)
            .bind::<BigInt, _>(self.size.storage)
            .bind::<Array<Text>, _>(&self.cpus)
            .bind::<Array<SqlUuid>, _>(not)
    }
}
