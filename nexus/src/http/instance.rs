//! Instances: handlers and views.

use std::time::Duration;

use db_model::{InstanceView, NameOrId, NewInstance, NewInstanceDisk};
use dropshot::{
    HttpError, HttpResponseAccepted, HttpResponseCreated, HttpResponseDeleted,
    HttpResponseOk, ResultsPage,
};

use super::extract::{Header, Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::idempotency::{Repeatable, answer, keyed};
use super::pagination::{Listing, PagesById, PagesByNameOrId};
use super::types::{
    IdempotencyHeaders, Instance, InstanceCreate, InstanceLastFailure,
    InstanceNotRunning, InstancePath, InstanceReference, InstanceStartFailure,
    InstanceUpdate, InstanceViewParams, OptionalProjectSelector,
    ProjectSelector,
};
use crate::app::InstanceSelector;
use crate::error::Error;

/// How long a request waits for a change unless it says.
const WAIT_DEFAULT_SECS: u32 = 30;

/// The longest that a request may wait: most proxies on the way give up on a
/// silent connection after a minute.
const WAIT_MAX_SECS: u32 = 60;

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<ProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<Instance>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = &list.within.project;
    let instances = app.instance_list(&opctx, project, list.page()).await?;
    list.answer(instances, Instance::from, |at, i| at.after(&i.name, i.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    query: Query<ProjectSelector>,
    headers: Header<IdempotencyHeaders>,
    body: TypedBody<InstanceCreate>,
) -> Result<HttpResponseCreated<Repeatable<Instance>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let request = keyed(&rqctx, &opctx, headers, body.canonical())?;
    let project = query.into_inner().project;
    let new: NewInstance = body.into_inner().try_into()?;
    // Copies take their time.
    if new.disks.iter().any(has_blocks) {
        rqctx.step_aside()?;
    }
    let done =
        app.instance_create(&opctx, &project, new, request.clone()).await?;
    Ok(HttpResponseCreated(answer(app, request, done).await?))
}

/// Are blocks made for the disk as its instance is made?
fn has_blocks(disk: &NewInstanceDisk) -> bool {
    match disk {
        NewInstanceDisk::Create(new) => new.kind.blocks_source().is_some(),
        NewInstanceDisk::Attach(_) => false,
    }
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<InstanceViewParams>,
) -> Result<HttpResponseOk<Instance>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let query = query.into_inner();
    let wait = wait(&query)?;
    let which = select(path, query.project);
    let instance = match wait {
        None => app.instance_view(&opctx, &which).await?,
        Some((seen, timeout)) => {
            rqctx.wait_aside(timeout)?;
            app.instance_wait_for_change(&opctx, &which, seen, timeout).await?
        }
    };
    Ok(HttpResponseOk(instance.into()))
}

pub(super) async fn update(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<InstanceUpdate>,
) -> Result<HttpResponseOk<Instance>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query.into_inner().project);
    let body = body.into_inner();
    let boot = body.boot_disk.0.clone();
    let change = body.try_into()?;
    let instance =
        app.instance_update(&opctx, &which, change, boot.as_ref()).await?;
    Ok(HttpResponseOk(instance.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query.into_inner().project);
    app.instance_delete(&opctx, &which).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn start(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
    headers: Header<IdempotencyHeaders>,
) -> Result<HttpResponseAccepted<Repeatable<Instance>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let request = keyed(&rqctx, &opctx, headers, None)?;
    let which = select(path, query.into_inner().project);
    let done = app.instance_start(&opctx, &which, request.clone()).await?;
    Ok(HttpResponseAccepted(answer(app, request, done).await?))
}

pub(super) async fn stop(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseAccepted<Instance>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query.into_inner().project);
    let instance = app.instance_stop(&opctx, &which).await?;
    Ok(HttpResponseAccepted(instance.into()))
}

pub(super) async fn reboot(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseAccepted<Instance>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query.into_inner().project);
    let aside = || rqctx.step_aside();
    let instance = app.instance_reboot(&opctx, &which, aside).await?;
    Ok(HttpResponseAccepted(instance.into()))
}

pub(super) async fn not_running(
    rqctx: Admitted,
    query: PagesById<ProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<InstanceNotRunning>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = &list.within.project;
    let rows = app.start_failure_list(&opctx, project, list.page()).await?;
    list.answer(rows, InstanceNotRunning::from, |at, i| at.after(i.instance.id))
}

fn select(
    path: Path<InstancePath>,
    project: Option<NameOrId>,
) -> InstanceSelector {
    InstanceSelector { project, instance: path.into_inner().instance }
}

/// What to wait for and how long, if the request wants to wait.
fn wait(query: &InstanceViewParams) -> Result<Option<(i64, Duration)>, Error> {
    let time = wait_time(query.wait_seconds)?;
    let Some(seen) = query.wait_for_change else {
        return Ok(None);
    };
    let seen = i64::try_from(seen).map_err(|_| {
        let message = format!("{seen} is no view_gen that was ever shown");
        Error::invalid_value("wait_for_change", message)
    })?;
    Ok(Some((seen, time)))
}

/// How long a request that waits may wait.
pub(super) fn wait_time(secs: Option<u32>) -> Result<Duration, Error> {
    let secs = secs.unwrap_or(WAIT_DEFAULT_SECS);
    if !(1..=WAIT_MAX_SECS).contains(&secs) {
        return Err(Error::invalid_value(
            "wait_seconds",
            format!("{secs} is not from 1 to {WAIT_MAX_SECS}"),
        ));
    }
    Ok(Duration::from_secs(secs.into()))
}

impl From<InstanceView> for Instance {
    fn from(view: InstanceView) -> Self {
        let run_state = view.run_state();
        let time_run_state_updated = time_run_state_updated(&view);
        let state_unconfirmed_since = view.state_unconfirmed_since();
        let start_failure = start_failure(&view);
        let row = view.instance;
        Self {
            last_failure: last_failure(&row),
            auto_restart_enabled: row.auto_restart_enabled(),
            auto_restart_cooldown_expiration: row
                .cooldown_expiration()
                .filter(|expiration| *expiration > view.now),
            id: row.id,
            name: row.name,
            description: row.description,
            project_id: row.project_id,
            hostname: row.hostname,
            ncpus: row.ncpus,
            memory: row.memory_bytes,
            boot_disk_id: row.boot_disk_id,
            cpu_platform: row.cpu_platform,
            enable_jumbo_frames: false,
            intended_state: row.intended_state,
            run_state,
            time_run_state_updated,
            state_unconfirmed_since,
            start_failure,
            view_gen: row.view_gen.unsigned_abs(),
            auto_restart_policy: row.auto_restart_policy,
            time_last_auto_restarted: row.time_last_auto_restarted,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

impl From<InstanceView> for InstanceNotRunning {
    fn from(view: InstanceView) -> Self {
        Self {
            run_state: view.run_state(),
            since: time_run_state_updated(&view),
            start_failure: start_failure(&view),
            last_failure: last_failure(&view.instance),
            auto_restart_enabled: view.instance.auto_restart_enabled(),
            instance: InstanceReference {
                id: view.instance.id,
                name: view.instance.name,
                project_id: view.instance.project_id,
            },
        }
    }
}

fn time_run_state_updated(
    view: &InstanceView,
) -> chrono::DateTime<chrono::Utc> {
    let instance = view.instance.time_state_updated;
    let vmm = view.vmm.as_ref().map(|vmm| vmm.time_state_updated);
    vmm.map_or(instance, |vmm| vmm.max(instance))
}

fn start_failure(view: &InstanceView) -> Option<InstanceStartFailure> {
    let (attempt, failure) = view.start_failure()?;
    Some(InstanceStartFailure {
        attempt_id: attempt.id,
        failure,
        next_retry_at: view.instance.next_retry_at,
        time: attempt.time_ended?,
    })
}

fn last_failure(row: &db_model::Instance) -> Option<InstanceLastFailure> {
    Some(InstanceLastFailure {
        kind: row.last_failure_kind?,
        message: row.last_failure_message.clone()?,
        time: row.time_last_failure?,
    })
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use db_model::{
        ByteCount, NewInstance, SagaId, StartFailure, VcpuCount, VmmEndReason,
        lifecycle,
    };
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    const ID: Uuid = Uuid::from_u128(1);

    fn now() -> DateTime<Utc> {
        "2026-01-02T03:04:05Z".parse().expect("a time")
    }

    /// An instance that its creator wanted to run, after `change`.
    fn row(
        change: impl FnOnce(&mut InstanceView, db_model::StartAttempt),
    ) -> InstanceView {
        let new = NewInstance {
            cpu_platform: None,
            anti_affinity_groups: Vec::new(),
            disks: Vec::new(),
            boot_disk: None,
            name: "db".parse().expect("a name"),
            description: String::new(),
            hostname: "db".parse().expect("a hostname"),
            ncpus: VcpuCount::new(2),
            memory: ByteCount::GIB,
            user_data: String::new(),
            ssh_public_keys: None,
            network_interfaces: json!({ "type": "none" }),
            auto_restart_policy: None,
            start: true,
        };
        let ids = (ID.into(), ID.into());
        let (instance, attempt) = lifecycle::requests::create(
            &new,
            ID.into(),
            ID.into(),
            Some(ids),
            now(),
        );
        let mut view = InstanceView {
            instance,
            silo_id: ID.into(),
            vmm: None,
            latest_attempt: None,
            sled_last_seen: None,
            now: now(),
        };
        change(&mut view, attempt.expect("it was to start"));
        view
    }

    fn shown(view: InstanceView) -> Value {
        serde_json::to_value(Instance::from(view)).expect("it is plain data")
    }

    #[test]
    fn a_failed_start_is_shown_with_its_attempt_and_the_next() {
        let retry = now() + TimeDelta::seconds(5);
        let view = row(|view, attempt| {
            let failure = StartFailure::internal(SagaId::from(ID));
            view.latest_attempt = Some(attempt.failed(&failure, None, now()));
            view.instance.pending_start_attempt_id = None;
            view.instance.state = db_model::InstanceState::Failed;
            view.instance.failed_starts = 1;
            view.instance.next_retry_at = Some(retry);
        });
        let shown = shown(view);
        assert_eq!(shown["run_state"], "failed");
        assert_eq!(shown["intended_state"], "running");
        let failure = &shown["start_failure"];
        assert_eq!(failure["attempt_id"], ID.to_string());
        assert_eq!(failure["kind"], "internal");
        assert_eq!(failure["details"]["incident_id"], ID.to_string());
        assert_eq!(failure["next_retry_at"], "2026-01-02T03:04:10Z");
        assert_eq!(failure["time"], "2026-01-02T03:04:05Z");
    }

    #[test]
    fn how_the_last_run_ended_is_shown_until_it_is_cleared() {
        let view = row(|view, _| {
            view.instance.last_failure_kind = Some(VmmEndReason::Panic);
            view.instance.last_failure_message = Some("It fell.".to_owned());
            view.instance.time_last_failure = Some(now());
        });
        assert_eq!(
            shown(view)["last_failure"],
            json!({
                "kind": "panic",
                "message": "It fell.",
                "time": "2026-01-02T03:04:05Z",
            }),
        );
        assert_eq!(shown(row(|_, _| ()))["last_failure"], Value::Null);
    }

    #[test]
    fn a_cooldown_that_is_over_is_not_shown() {
        for (secs_ago, expiration) in [
            (0, json!("2026-01-02T03:09:05Z")),
            (299, json!("2026-01-02T03:04:06Z")),
            (300, Value::Null),
        ] {
            let view = row(|view, _| {
                view.instance.time_last_auto_restarted =
                    Some(now() - TimeDelta::seconds(secs_ago));
            });
            let shown = shown(view);
            assert_eq!(shown["auto_restart_cooldown_expiration"], expiration);
        }
    }

    fn params(
        wait_for_change: Option<u64>,
        wait_seconds: Option<u32>,
    ) -> InstanceViewParams {
        InstanceViewParams { project: None, wait_for_change, wait_seconds }
    }

    #[test]
    fn a_request_waits_only_if_it_says_for_what() {
        let secs = Duration::from_secs;
        for (query, expected) in [
            (params(None, None), None),
            (params(None, Some(5)), None),
            (params(Some(7), None), Some((7, secs(30)))),
            (params(Some(7), Some(60)), Some((7, secs(60)))),
        ] {
            assert_eq!(wait(&query).expect("valid"), expected);
        }
    }

    #[test]
    fn a_wait_that_cannot_be_is_refused_by_name() {
        for (query, field) in [
            (params(Some(7), Some(0)), "wait_seconds: 0"),
            (params(Some(7), Some(61)), "wait_seconds: 61"),
            (params(Some(u64::MAX), None), "wait_for_change: "),
        ] {
            let message = wait(&query).expect_err(field).to_string();
            assert!(message.starts_with(field), "{message}");
        }
    }
}
