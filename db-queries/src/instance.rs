//! Instances: what users ask of them, what sagas do to them, how they look.

use crate::idempotency;
use crate::pagination::begun_at;
use crate::sql::{Keep, clock_timestamp, one_of};
use crate::{
    ById, ByNameOrId, DataStore, Error, Page, affinity_group, disk, ssh_key,
};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, Refusal, requests, steps};
use db_model::schema::{instance, project, sled, start_attempt, vmm};
use db_model::{
    Fence, Instance, InstanceChange, InstanceId, InstanceState, InstanceView,
    Joins, KeyedRequest, Name, NewInstance, ProjectId, SagaId, SiloId,
    SiloUserId, StartAttempt, StartAttemptId, Vmm,
};
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    QueryDsl, RunQueryDsl, SelectableHelper,
};

type ViewRow = (
    Instance,
    SiloId,
    Option<Vmm>,
    Option<StartAttempt>,
    Option<DateTime<Utc>>,
    DateTime<Utc>,
);

/// The statement that reads instances with what their views are made from.
macro_rules! views {
    () => {
        instance::table
            .inner_join(project::table)
            .left_join(
                vmm::table.on(instance::active_vmm_id.eq(vmm::id.nullable())),
            )
            .left_join(sled::table.on(vmm::sled_id.eq(sled::id)))
            .left_join(
                start_attempt::table.on(instance::latest_start_attempt_id
                    .eq(start_attempt::id.nullable())),
            )
            .select((
                Instance::as_select(),
                project::silo_id,
                Option::<Vmm>::as_select(),
                Option::<StartAttempt>::as_select(),
                sled::time_last_heartbeat.nullable(),
                clock_timestamp(),
            ))
    };
}

fn view(
    (instance, silo_id, vmm, latest_attempt, sled_last_seen, now): ViewRow,
) -> InstanceView {
    InstanceView { instance, silo_id, vmm, latest_attempt, sled_last_seen, now }
}

impl DataStore {
    /// The instance of this id, for its view; deleted ones too.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_view(
        &self,
        id: InstanceId,
    ) -> Result<InstanceView, Error> {
        self.run(move |conn| {
            let row: ViewRow =
                views!().filter(instance::id.eq(id)).first(conn)?;
            Ok(view(row))
        })
        .await
    }

    /// Those of these that there are, for their views, in no order; deleted ones
    /// too.
    pub async fn instance_views(
        &self,
        ids: Vec<InstanceId>,
    ) -> Result<Vec<InstanceView>, Error> {
        self.run(move |conn| {
            let query =
                views!().filter(one_of(instance::id, ids.iter().copied()));
            let rows: Vec<ViewRow> = query.load(conn)?;
            Ok(rows.into_iter().map(view).collect())
        })
        .await
    }

    /// A project's instances.
    pub async fn instance_list(
        &self,
        project: ProjectId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<InstanceView>, Error> {
        self.run(move |conn| {
            let query = views!()
                .filter(instance::project_id.eq(project))
                .filter(instance::time_deleted.is_null())
                .limit(page.limit)
                .into_boxed();
            let query = begun_at!(query, page.by, instance);
            let rows: Vec<ViewRow> = query.load(conn)?;
            Ok(rows.into_iter().map(view).collect())
        })
        .await
    }

    /// Those of a project's instances that should run and do not.
    pub async fn start_failure_list(
        &self,
        project: ProjectId,
        page: Page<ById>,
    ) -> Result<Vec<InstanceView>, Error> {
        self.run(move |conn| {
            let query = views!()
                .filter(instance::project_id.eq(project))
                .filter(instance::time_deleted.is_null())
                .filter(instance::state.eq(InstanceState::Failed))
                .order(instance::id.asc())
                .limit(page.limit)
                .into_boxed();
            let query = match page.by.after {
                Some(after) => query.filter(instance::id.gt(after)),
                None => query,
            };
            let rows: Vec<ViewRow> = query.load(conn)?;
            Ok(rows.into_iter().map(view).collect())
        })
        .await
    }

    /// The live instance of this name in a project.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_id_by_name(
        &self,
        project: ProjectId,
        name: Name,
    ) -> Result<InstanceId, Error> {
        self.run(move |conn| {
            Ok(instance::table
                .filter(instance::project_id.eq(project))
                .filter(instance::name.eq(&name))
                .filter(instance::time_deleted.is_null())
                .select(instance::id)
                .first(conn)?)
        })
        .await
    }

    /// The create saga's first step: the instance, what it comes with, and the
    /// attempt to start it, and the key of the request that wants it. Idempotent
    /// by id. Locks out the project's deletion. All that it joins is the
    /// project's, and its keys and its disks' sources are what the user to whom
    /// it was `granted`, and that silo, have.
    ///
    /// # Errors
    ///
    /// `KeyUsed`; `NotFound`: the project is gone, or a group or a disk or a
    /// key is, or they are another's;
    /// `InUse`: a disk is attached elsewhere; `DiskState`: its blocks are not
    /// there; `TooMany`; `AlreadyExists`: the name is taken, or a new disk's;
    /// `StorageExceeded`.
    #[expect(clippy::too_many_arguments, reason = "all that it comes with")]
    pub async fn instance_insert(
        &self,
        fence: Fence,
        granted: Option<(SiloId, SiloUserId)>,
        new: NewInstance,
        joins: Joins,
        id: InstanceId,
        project_id: ProjectId,
        attempt: Option<(StartAttemptId, SiloUserId)>,
        request: Option<KeyedRequest>,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let there: Option<InstanceId> = instance::table
                .find(id)
                .select(instance::id)
                .first(conn)
                .optional()?;
            if there.is_some() {
                return Ok(());
            }
            // Before all else, so that a repeat is told that it is one.
            if let Some(request) = &request {
                idempotency::claim(conn, request, id)?;
            }
            let silo = granted.map(|(silo, _)| silo);
            let now = crate::project::keep(conn, silo, project_id)?.1;
            let (mut row, attempt) =
                requests::create(&new, id, project_id, attempt, now);
            row.boot_disk_id = joins.boot;
            diesel::insert_into(instance::table)
                .values(&row)
                .kept()
                .execute(conn)?;
            if let Some(attempt) = &attempt {
                diesel::insert_into(start_attempt::table)
                    .values(attempt)
                    .kept()
                    .execute(conn)?;
            }
            // In one order, so that two who join the same do not deadlock.
            let mut groups = joins.groups.clone();
            groups.sort_unstable();
            for group in &groups {
                affinity_group::join(conn, id, project_id, *group)?;
            }
            let user = granted.map(|(_, user)| user);
            ssh_key::link(conn, id, user, &joins.ssh_keys)?;
            let mut disks = joins.attached.clone();
            disks.sort_unstable();
            for disk in &disks {
                disk::attach(conn, id, project_id, *disk)?;
            }
            for (made, new) in &joins.made {
                disk::insert(conn, project_id, *made, new, now)?;
                disk::link(conn, id, *made)?;
            }
            if let Some(boot) = joins.boot
                && disk::attached_to(conn, boot)? != Some(id)
            {
                return Err(Error::NotFound);
            }
            disk::charge(conn, project_id, joins.made.iter().map(|(_, d)| d))
        })
        .await
    }

    /// The create saga is through.
    pub async fn instance_created(
        &self,
        fence: Fence,
        id: InstanceId,
    ) -> Result<(), Error> {
        self.transition(Some(fence), id, |facts| {
            Ok((steps::created(facts), ()))
        })
        .await
    }

    /// The create saga is undone, and its request's key is free. Of an instance that was never inserted,
    /// nothing is to undo.
    pub async fn instance_create_undone(
        &self,
        fence: Fence,
        id: InstanceId,
        request: Option<KeyedRequest>,
    ) -> Result<(), Error> {
        let incident = fence.saga_id;
        let undone = self
            .lifecycle(Some(fence), id, move |conn, facts| {
                let changes = steps::create_undone(facts, incident);
                if !changes.is_empty() {
                    let made_at = facts.instance.time_created;
                    disk::delete_made_with(conn, id, made_at)?;
                }
                if let Some(request) = &request {
                    idempotency::release(conn, request, id)?;
                }
                Ok((changes, ()))
            })
            .await;
        match undone {
            Err(Error::NotFound) => Ok(()),
            undone => undone,
        }
    }

    /// A create saga was given up by an operator: what it made is deleted, as
    /// its undo would have done.
    pub async fn instance_create_given_up(
        &self,
        id: InstanceId,
        saga: SagaId,
    ) -> Result<(), Error> {
        self.transition(None, id, move |facts| {
            Ok((steps::create_given_up(facts, saga), ()))
        })
        .await
    }

    /// The `view_gen` of each of these that is there, deleted ones too: the
    /// least that tells whether a view of it would be another one by now.
    pub async fn instance_view_gens(
        &self,
        ids: Vec<InstanceId>,
    ) -> Result<Vec<(InstanceId, i64)>, Error> {
        self.run(move |conn| {
            Ok(instance::table
                .filter(one_of(instance::id, ids.iter().copied()))
                .select((instance::id, instance::view_gen))
                .load(conn)?)
        })
        .await
    }

    /// The system starts it again.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Refused`: see [`requests::auto_restart`].
    pub async fn instance_auto_restart(
        &self,
        id: InstanceId,
        attempt: StartAttemptId,
    ) -> Result<(), Error> {
        self.request(id, move |facts| requests::auto_restart(facts, attempt))
            .await
    }

    /// The retry that was planned for `planned` comes later.
    ///
    /// # Errors
    ///
    /// `Refused`: see [`requests::postpone_retry`].
    pub async fn instance_postpone_retry(
        &self,
        id: InstanceId,
        planned: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        self.request(id, move |f| requests::postpone_retry(f, planned)).await
    }

    /// The retry that was planned for `planned` comes only when something has
    /// changed.
    ///
    /// # Errors
    ///
    /// `Refused`: see [`requests::call_off_retry`].
    pub async fn instance_call_off_retry(
        &self,
        id: InstanceId,
        planned: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        self.request(id, move |f| requests::call_off_retry(f, planned)).await
    }

    /// Its retry is due.
    ///
    /// # Errors
    ///
    /// `Refused`: see [`requests::retry_now`].
    pub async fn instance_retry_now(
        &self,
        id: InstanceId,
    ) -> Result<(), Error> {
        self.request(id, requests::retry_now).await
    }

    /// A user asks for it not to run.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Refused`: see [`requests::stop`].
    pub async fn instance_stop(&self, id: InstanceId) -> Result<(), Error> {
        self.request(id, requests::stop).await
    }

    /// A user asks for it not to be.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Refused`: see [`requests::delete`].
    pub async fn instance_delete(&self, id: InstanceId) -> Result<(), Error> {
        self.request(id, requests::delete).await
    }

    /// A user changes it.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Refused`: see [`requests::change`]; `InUse`: the boot disk is
    /// not attached to it.
    pub async fn instance_change(
        &self,
        id: InstanceId,
        change: InstanceChange,
    ) -> Result<(), Error> {
        self.lifecycle(None, id, move |conn, facts| {
            match requests::change(facts, &change) {
                Ok(changes) => {
                    if let Some(boot) = change.boot_disk {
                        disk::is_of(conn, boot, id)?;
                    }
                    Ok((changes, ()))
                }
                Err(Refusal::Deleted) => Err(Error::NotFound),
                Err(refusal) => Err(Error::Refused(refusal)),
            }
        })
        .await
    }

    /// Which VMM a reboot goes to. Writes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Refused`: see [`requests::reboot`].
    pub async fn instance_to_reboot(
        &self,
        id: InstanceId,
    ) -> Result<Vmm, Error> {
        self.transition(None, id, |facts| {
            Ok((Changes::default(), requests::reboot(facts)?))
        })
        .await
    }

    /// The delete saga's step.
    ///
    /// # Errors
    ///
    /// `Refused(NotStopped)` while anything of it is left.
    pub async fn instance_destroyed(
        &self,
        fence: Fence,
        id: InstanceId,
    ) -> Result<(), Error> {
        self.lifecycle(Some(fence), id, move |conn, facts| {
            let changes = steps::destroyed(facts)?;
            disk::detach_all(conn, id)?;
            Ok((changes, ()))
        })
        .await
    }

    async fn request(
        &self,
        id: InstanceId,
        decide: impl Fn(&db_model::lifecycle::Facts) -> Result<Changes, Refusal>
        + Send
        + 'static,
    ) -> Result<(), Error> {
        self.transition(None, id, move |facts| match decide(facts) {
            Ok(changes) => Ok((changes, ())),
            Err(Refusal::Deleted) => Err(Error::NotFound),
            Err(refusal) => Err(Error::Refused(refusal)),
        })
        .await
    }
}
