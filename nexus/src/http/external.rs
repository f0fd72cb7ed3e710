//! The external API, each operation led to the handler of its noun.

use db_model::AffinityGroupKind;
use dropshot::{
    Body, HttpError, HttpResponseAccepted, HttpResponseCreated,
    HttpResponseDeleted, HttpResponseOk, HttpResponseUpdatedNoContent,
    ResultsPage, WebsocketEndpointResult,
};

use http::Response;

use super::api::ExternalApi;
use super::audit_log::{self, PagesByCompletion};
use super::extract::{Form, Header, Path, Query, TypedBody, Websocket};
use super::handler::{ApiContext, Request, admitted, timed};
use super::idempotency::Repeatable;
use super::pagination::{Everything, PagesById, PagesByNameOrId, PagesByTime};
use super::types::*;
use super::{
    affinity_group, device, disk, disk_import, group, image, instance,
    measurement, networking, ping, placement, policy, project, rack,
    serial_console, session, silo, silo_quota, sled, snapshot, ssh_key,
    start_attempt, user,
};
use crate::app::PolicyOf;

type Answer<T> = Result<HttpResponseOk<T>, HttpError>;
type Accepted<T> = Result<HttpResponseAccepted<T>, HttpError>;
type Created<T> = Result<HttpResponseCreated<T>, HttpError>;
type Done = Result<HttpResponseUpdatedNoContent, HttpError>;
type Deleted = Result<HttpResponseDeleted, HttpError>;

/// The external API over an [`App`](crate::app::App).
#[derive(Debug)]
pub enum ExternalApiImpl {}

impl ExternalApi for ExternalApiImpl {
    type Context = ApiContext;

    async fn ping(rqctx: Request) -> Answer<Ping> {
        timed(&rqctx, ping::view()).await
    }

    async fn current_user_view(rqctx: Request) -> Answer<CurrentUser> {
        admitted(rqctx, user::view).await
    }

    async fn current_user_ssh_key_list(
        rqctx: Request,
        query: PagesByNameOrId<Everything>,
    ) -> Answer<ResultsPage<SshKey>> {
        admitted(rqctx, |rqctx| ssh_key::list(rqctx, query)).await
    }

    async fn current_user_ssh_key_create(
        rqctx: Request,
        body: TypedBody<SshKeyCreate>,
    ) -> Created<SshKey> {
        admitted(rqctx, |rqctx| ssh_key::create(rqctx, body)).await
    }

    async fn current_user_ssh_key_view(
        rqctx: Request,
        path: Path<SshKeyPath>,
    ) -> Answer<SshKey> {
        admitted(rqctx, |rqctx| ssh_key::view(rqctx, path)).await
    }

    async fn current_user_ssh_key_delete(
        rqctx: Request,
        path: Path<SshKeyPath>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| ssh_key::delete(rqctx, path)).await
    }

    async fn project_list(
        rqctx: Request,
        query: PagesByNameOrId<Everything>,
    ) -> Answer<ResultsPage<Project>> {
        admitted(rqctx, |rqctx| project::list(rqctx, query)).await
    }

    async fn project_create(
        rqctx: Request,
        body: TypedBody<ProjectCreate>,
    ) -> Created<Project> {
        admitted(rqctx, |rqctx| project::create(rqctx, body)).await
    }

    async fn project_view(
        rqctx: Request,
        path: Path<ProjectPath>,
    ) -> Answer<Project> {
        admitted(rqctx, |rqctx| project::view(rqctx, path)).await
    }

    async fn project_update(
        rqctx: Request,
        path: Path<ProjectPath>,
        body: TypedBody<ProjectUpdate>,
    ) -> Answer<Project> {
        admitted(rqctx, |rqctx| project::update(rqctx, path, body)).await
    }

    async fn project_delete(
        rqctx: Request,
        path: Path<ProjectPath>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| project::delete(rqctx, path)).await
    }

    async fn instance_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<Instance>> {
        admitted(rqctx, |rqctx| instance::list(rqctx, query)).await
    }

    async fn instance_create(
        rqctx: Request,
        query: Query<ProjectSelector>,
        headers: Header<IdempotencyHeaders>,
        body: TypedBody<InstanceCreate>,
    ) -> Created<Repeatable<Instance>> {
        admitted(rqctx, |rqctx| instance::create(rqctx, query, headers, body))
            .await
    }

    async fn instance_view(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<InstanceViewParams>,
    ) -> Answer<Instance> {
        admitted(rqctx, |rqctx| instance::view(rqctx, path, query)).await
    }

    async fn instance_update(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<InstanceUpdate>,
    ) -> Answer<Instance> {
        admitted(rqctx, |rqctx| instance::update(rqctx, path, query, body))
            .await
    }

    async fn instance_delete(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| instance::delete(rqctx, path, query)).await
    }

    async fn instance_start(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        headers: Header<IdempotencyHeaders>,
    ) -> Accepted<Repeatable<Instance>> {
        admitted(rqctx, |rqctx| instance::start(rqctx, path, query, headers))
            .await
    }

    async fn instance_stop(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Accepted<Instance> {
        admitted(rqctx, |rqctx| instance::stop(rqctx, path, query)).await
    }

    async fn instance_reboot(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Accepted<Instance> {
        admitted(rqctx, |rqctx| instance::reboot(rqctx, path, query)).await
    }

    async fn instance_ssh_public_key_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<SshKey>> {
        admitted(rqctx, |rqctx| ssh_key::of_instance(rqctx, path, query)).await
    }

    async fn instance_serial_console(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<InstanceSerialConsoleParams>,
    ) -> Answer<InstanceSerialConsoleData> {
        admitted(rqctx, |rqctx| serial_console::view(rqctx, path, query)).await
    }

    async fn instance_serial_console_stream(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<InstanceSerialConsoleStreamParams>,
        websocket: Websocket,
    ) -> WebsocketEndpointResult {
        admitted(rqctx, |rqctx| {
            serial_console::stream(rqctx, path, query, websocket)
        })
        .await
    }

    async fn instance_placement_view(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<PlacementCheck> {
        admitted(rqctx, |rqctx| placement::of_instance(rqctx, path, query))
            .await
    }

    async fn placement_check(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<InstanceCreate>,
    ) -> Answer<PlacementCheck> {
        admitted(rqctx, |rqctx| placement::check(rqctx, query, body)).await
    }

    async fn instance_start_attempt_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: PagesByTime<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<StartAttempt>> {
        admitted(rqctx, |rqctx| start_attempt::list(rqctx, path, query)).await
    }

    async fn instance_start_attempt_view(
        rqctx: Request,
        path: Path<StartAttemptPath>,
        query: Query<StartAttemptViewParams>,
    ) -> Answer<StartAttempt> {
        admitted(rqctx, |rqctx| start_attempt::view(rqctx, path, query)).await
    }

    async fn start_failure_list(
        rqctx: Request,
        query: PagesById<ProjectSelector>,
    ) -> Answer<ResultsPage<InstanceNotRunning>> {
        admitted(rqctx, |rqctx| instance::not_running(rqctx, query)).await
    }

    async fn anti_affinity_group_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroup>> {
        admitted(rqctx, |rqctx| {
            affinity_group::list(rqctx, AffinityGroupKind::AntiAffinity, query)
        })
        .await
    }

    async fn anti_affinity_group_create(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<AffinityGroupCreate>,
    ) -> Created<AffinityGroup> {
        admitted(rqctx, |rqctx| {
            affinity_group::create(
                rqctx,
                AffinityGroupKind::AntiAffinity,
                query,
                body,
            )
        })
        .await
    }

    async fn anti_affinity_group_view(
        rqctx: Request,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<AffinityGroup> {
        admitted(rqctx, |rqctx| affinity_group::view(rqctx, path, query)).await
    }

    async fn anti_affinity_group_update(
        rqctx: Request,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<AffinityGroupUpdate>,
    ) -> Answer<AffinityGroup> {
        admitted(rqctx, |rqctx| {
            affinity_group::update(rqctx, path, query, body)
        })
        .await
    }

    async fn anti_affinity_group_delete(
        rqctx: Request,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| affinity_group::delete(rqctx, path, query))
            .await
    }

    async fn anti_affinity_group_member_list(
        rqctx: Request,
        path: Path<AntiAffinityGroupPath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroupMember>> {
        admitted(rqctx, |rqctx| affinity_group::member_list(rqctx, path, query))
            .await
    }

    async fn anti_affinity_group_member_instance_view(
        rqctx: Request,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<AffinityGroupMember> {
        admitted(rqctx, |rqctx| affinity_group::member_view(rqctx, path, query))
            .await
    }

    async fn anti_affinity_group_member_instance_add(
        rqctx: Request,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Created<AffinityGroupMember> {
        admitted(rqctx, |rqctx| affinity_group::member_add(rqctx, path, query))
            .await
    }

    async fn anti_affinity_group_member_instance_delete(
        rqctx: Request,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| {
            affinity_group::member_remove(rqctx, path, query)
        })
        .await
    }

    async fn affinity_group_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroup>> {
        admitted(rqctx, |rqctx| {
            affinity_group::list(rqctx, AffinityGroupKind::Affinity, query)
        })
        .await
    }

    async fn affinity_group_create(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<AffinityGroupCreate>,
    ) -> Created<AffinityGroup> {
        admitted(rqctx, |rqctx| {
            affinity_group::create(
                rqctx,
                AffinityGroupKind::Affinity,
                query,
                body,
            )
        })
        .await
    }

    async fn affinity_group_view(
        rqctx: Request,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<AffinityGroup> {
        admitted(rqctx, |rqctx| affinity_group::view(rqctx, path, query)).await
    }

    async fn affinity_group_update(
        rqctx: Request,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<AffinityGroupUpdate>,
    ) -> Answer<AffinityGroup> {
        admitted(rqctx, |rqctx| {
            affinity_group::update(rqctx, path, query, body)
        })
        .await
    }

    async fn affinity_group_delete(
        rqctx: Request,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| affinity_group::delete(rqctx, path, query))
            .await
    }

    async fn affinity_group_member_list(
        rqctx: Request,
        path: Path<AffinityGroupPath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroupMember>> {
        admitted(rqctx, |rqctx| affinity_group::member_list(rqctx, path, query))
            .await
    }

    async fn affinity_group_member_instance_view(
        rqctx: Request,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<AffinityGroupMember> {
        admitted(rqctx, |rqctx| affinity_group::member_view(rqctx, path, query))
            .await
    }

    async fn affinity_group_member_instance_add(
        rqctx: Request,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Created<AffinityGroupMember> {
        admitted(rqctx, |rqctx| affinity_group::member_add(rqctx, path, query))
            .await
    }

    async fn affinity_group_member_instance_delete(
        rqctx: Request,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| {
            affinity_group::member_remove(rqctx, path, query)
        })
        .await
    }

    async fn instance_anti_affinity_group_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroup>> {
        admitted(rqctx, |rqctx| {
            affinity_group::of_instance(
                rqctx,
                AffinityGroupKind::AntiAffinity,
                path,
                query,
            )
        })
        .await
    }

    async fn instance_affinity_group_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<AffinityGroup>> {
        admitted(rqctx, |rqctx| {
            affinity_group::of_instance(
                rqctx,
                AffinityGroupKind::Affinity,
                path,
                query,
            )
        })
        .await
    }

    async fn disk_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<Disk>> {
        admitted(rqctx, |rqctx| disk::list(rqctx, query)).await
    }

    async fn disk_create(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<DiskCreate>,
    ) -> Created<Disk> {
        admitted(rqctx, |rqctx| disk::create(rqctx, query, body)).await
    }

    async fn disk_view(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<Disk> {
        admitted(rqctx, |rqctx| disk::view(rqctx, path, query)).await
    }

    async fn disk_delete(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| disk::delete(rqctx, path, query)).await
    }

    async fn disk_bulk_write_import_start(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Done {
        admitted(rqctx, |rqctx| disk_import::start(rqctx, path, query)).await
    }

    async fn disk_bulk_write_import(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<ImportBlocksBulkWrite>,
    ) -> Done {
        admitted(rqctx, |rqctx| disk_import::write(rqctx, path, query, body))
            .await
    }

    async fn disk_bulk_write_import_stop(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Done {
        admitted(rqctx, |rqctx| disk_import::stop(rqctx, path, query)).await
    }

    async fn disk_finalize_import(
        rqctx: Request,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<FinalizeDisk>,
    ) -> Done {
        admitted(rqctx, |rqctx| disk_import::finalize(rqctx, path, query, body))
            .await
    }

    async fn snapshot_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<Snapshot>> {
        admitted(rqctx, |rqctx| snapshot::list(rqctx, query)).await
    }

    async fn snapshot_create(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<SnapshotCreate>,
    ) -> Created<Snapshot> {
        admitted(rqctx, |rqctx| snapshot::create(rqctx, query, body)).await
    }

    async fn snapshot_view(
        rqctx: Request,
        path: Path<SnapshotPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<Snapshot> {
        admitted(rqctx, |rqctx| snapshot::view(rqctx, path, query)).await
    }

    async fn snapshot_delete(
        rqctx: Request,
        path: Path<SnapshotPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| snapshot::delete(rqctx, path, query)).await
    }

    async fn image_list(
        rqctx: Request,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<Image>> {
        admitted(rqctx, |rqctx| image::list(rqctx, query)).await
    }

    async fn image_create(
        rqctx: Request,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<ImageCreate>,
    ) -> Created<Image> {
        admitted(rqctx, |rqctx| image::create(rqctx, query, body)).await
    }

    async fn image_view(
        rqctx: Request,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<Image> {
        admitted(rqctx, |rqctx| image::view(rqctx, path, query)).await
    }

    async fn image_delete(
        rqctx: Request,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| image::delete(rqctx, path, query)).await
    }

    async fn image_promote(
        rqctx: Request,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Accepted<Image> {
        admitted(rqctx, |rqctx| image::promote(rqctx, path, query)).await
    }

    async fn image_demote(
        rqctx: Request,
        path: Path<ImagePath>,
        query: Query<ProjectSelector>,
    ) -> Accepted<Image> {
        admitted(rqctx, |rqctx| image::demote(rqctx, path, query)).await
    }

    async fn instance_disk_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<Disk>> {
        admitted(rqctx, |rqctx| disk::list_of_instance(rqctx, path, query))
            .await
    }

    async fn instance_disk_attach(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<DiskPath>,
    ) -> Accepted<Disk> {
        admitted(rqctx, |rqctx| disk::attach(rqctx, path, query, body)).await
    }

    async fn instance_disk_detach(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<DiskPath>,
    ) -> Accepted<Disk> {
        admitted(rqctx, |rqctx| disk::detach(rqctx, path, query, body)).await
    }

    async fn audit_log_list(
        rqctx: Request,
        query: PagesByCompletion,
    ) -> Answer<ResultsPage<AuditLogEntry>> {
        admitted(rqctx, |rqctx| audit_log::list(rqctx, query)).await
    }

    async fn sled_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<Sled>> {
        admitted(rqctx, |rqctx| sled::list(rqctx, query)).await
    }

    async fn sled_view(rqctx: Request, path: Path<SledPath>) -> Answer<Sled> {
        admitted(rqctx, |rqctx| sled::view(rqctx, path)).await
    }

    async fn sled_instance_list(
        rqctx: Request,
        path: Path<SledPath>,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<SledInstance>> {
        admitted(rqctx, |rqctx| sled::instance_list(rqctx, path, query)).await
    }

    async fn sled_set_provision_policy(
        rqctx: Request,
        path: Path<SledPath>,
        body: TypedBody<SledProvisionPolicyParams>,
    ) -> Answer<SledProvisionPolicyResponse> {
        admitted(rqctx, |rqctx| sled::set_provision_policy(rqctx, path, body))
            .await
    }

    async fn utilization_view(rqctx: Request) -> Answer<Utilization> {
        admitted(rqctx, silo_quota::utilization).await
    }

    async fn system_quotas_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<SiloQuotas>> {
        admitted(rqctx, |rqctx| silo_quota::list(rqctx, query)).await
    }

    async fn silo_quotas_view(
        rqctx: Request,
        path: Path<SiloPath>,
    ) -> Answer<SiloQuotas> {
        admitted(rqctx, |rqctx| silo_quota::view(rqctx, path)).await
    }

    async fn silo_quotas_update(
        rqctx: Request,
        path: Path<SiloPath>,
        body: TypedBody<SiloQuotasUpdate>,
    ) -> Answer<SiloQuotas> {
        admitted(rqctx, |rqctx| silo_quota::update(rqctx, path, body)).await
    }

    async fn silo_utilization_list(
        rqctx: Request,
        query: PagesByNameOrId<Everything>,
    ) -> Answer<ResultsPage<SiloUtilization>> {
        admitted(rqctx, |rqctx| silo_quota::utilization_list(rqctx, query))
            .await
    }

    async fn silo_utilization_view(
        rqctx: Request,
        path: Path<SiloPath>,
    ) -> Answer<SiloUtilization> {
        admitted(rqctx, |rqctx| silo_quota::utilization_view(rqctx, path)).await
    }

    // What this server has none of, but for the rack.

    async fn current_user_groups(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<Group>> {
        admitted(rqctx, |rqctx| group::list(rqctx, query)).await
    }

    async fn group_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<Group>> {
        admitted(rqctx, |rqctx| group::list(rqctx, query)).await
    }

    async fn group_view(
        rqctx: Request,
        path: Path<GroupPath>,
    ) -> Answer<Group> {
        admitted(rqctx, |rqctx| group::view(rqctx, path)).await
    }

    async fn silo_identity_provider_list(
        rqctx: Request,
        query: PagesByNameOrId<OptionalSiloSelector>,
    ) -> Answer<ResultsPage<IdentityProvider>> {
        admitted(rqctx, |rqctx| group::identity_provider_list(rqctx, query))
            .await
    }

    async fn instance_external_ip_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<ExternalIp>> {
        admitted(rqctx, |rqctx| networking::of_instance(rqctx, path, query))
            .await
    }

    async fn instance_external_subnet_list(
        rqctx: Request,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<ResultsPage<ExternalSubnet>> {
        admitted(rqctx, |rqctx| networking::of_instance(rqctx, path, query))
            .await
    }

    async fn instance_network_interface_list(
        rqctx: Request,
        query: PagesByNameOrId<InterfacesOf>,
    ) -> Answer<ResultsPage<InstanceNetworkInterface>> {
        admitted(rqctx, |rqctx| networking::interface_list(rqctx, query)).await
    }

    async fn instance_network_interface_view(
        rqctx: Request,
        path: Path<InterfacePath>,
        query: Query<OptionalInstanceSelector>,
    ) -> Answer<InstanceNetworkInterface> {
        admitted(rqctx, |rqctx| networking::interface_view(rqctx, path, query))
            .await
    }

    async fn external_subnet_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<ExternalSubnet>> {
        admitted(rqctx, |rqctx| networking::in_project(rqctx, query)).await
    }

    async fn floating_ip_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<FloatingIp>> {
        admitted(rqctx, |rqctx| networking::in_project(rqctx, query)).await
    }

    async fn ip_pool_list(
        rqctx: Request,
        query: PagesByNameOrId<PoolsOf>,
    ) -> Answer<ResultsPage<SiloIpPool>> {
        admitted(rqctx, |rqctx| networking::pool_list(rqctx, query)).await
    }

    async fn ip_pool_view(
        rqctx: Request,
        path: Path<PoolPath>,
    ) -> Answer<SiloIpPool> {
        admitted(rqctx, |rqctx| networking::pool_view(rqctx, path)).await
    }

    async fn silo_ip_pool_list(
        rqctx: Request,
        path: Path<SiloPath>,
        query: PagesByNameOrId<Everything>,
    ) -> Answer<ResultsPage<SiloIpPool>> {
        admitted(rqctx, |rqctx| networking::pools_of_silo(rqctx, path, query))
            .await
    }

    async fn vpc_list(
        rqctx: Request,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Answer<ResultsPage<Vpc>> {
        admitted(rqctx, |rqctx| networking::in_project(rqctx, query)).await
    }

    async fn vpc_view(
        rqctx: Request,
        path: Path<VpcPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Answer<Vpc> {
        admitted(rqctx, |rqctx| networking::vpc_view(rqctx, path, query)).await
    }

    async fn vpc_subnet_list(
        rqctx: Request,
        query: PagesByNameOrId<OptionalVpcSelector>,
    ) -> Answer<ResultsPage<VpcSubnet>> {
        admitted(rqctx, |rqctx| networking::subnet_list(rqctx, query)).await
    }

    async fn vpc_subnet_view(
        rqctx: Request,
        path: Path<SubnetPath>,
        query: Query<OptionalVpcSelector>,
    ) -> Answer<VpcSubnet> {
        admitted(rqctx, |rqctx| networking::subnet_view(rqctx, path, query))
            .await
    }

    async fn timeseries_query(
        rqctx: Request,
        query: Query<ProjectSelector>,
        body: TypedBody<TimeseriesQuery>,
    ) -> Answer<OxqlQueryResult> {
        admitted(rqctx, |rqctx| measurement::query(rqctx, query, body)).await
    }

    async fn silo_metric(
        rqctx: Request,
        path: Path<MetricPath>,
        query: PagesById<SiloMetricSelector>,
    ) -> Answer<ResultsPage<Measurement>> {
        admitted(rqctx, |rqctx| measurement::of_silo(rqctx, path, query)).await
    }

    async fn system_metric(
        rqctx: Request,
        path: Path<MetricPath>,
        query: PagesById<SystemMetricSelector>,
    ) -> Answer<ResultsPage<Measurement>> {
        admitted(rqctx, |rqctx| measurement::of_fleet(rqctx, path, query)).await
    }

    async fn system_timeseries_schema_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<TimeseriesSchema>> {
        admitted(rqctx, |rqctx| measurement::schema_list(rqctx, query)).await
    }

    async fn rack_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<Rack>> {
        admitted(rqctx, |rqctx| rack::list(rqctx, query)).await
    }

    async fn rack_view(rqctx: Request, path: Path<RackPath>) -> Answer<Rack> {
        admitted(rqctx, |rqctx| rack::view(rqctx, path)).await
    }

    async fn sled_list_uninitialized(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<UninitializedSled>> {
        admitted(rqctx, |rqctx| rack::uninitialized_sled_list(rqctx, query))
            .await
    }

    async fn physical_disk_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<PhysicalDisk>> {
        admitted(rqctx, |rqctx| rack::disk_list(rqctx, query)).await
    }

    async fn physical_disk_view(
        rqctx: Request,
        path: Path<PhysicalDiskPath>,
    ) -> Answer<PhysicalDisk> {
        admitted(rqctx, |rqctx| rack::disk_view(rqctx, path)).await
    }

    async fn sled_physical_disk_list(
        rqctx: Request,
        path: Path<SledPath>,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<PhysicalDisk>> {
        admitted(rqctx, |rqctx| rack::disks_of_sled(rqctx, path, query)).await
    }

    async fn silo_list(
        rqctx: Request,
        query: PagesByNameOrId<Everything>,
    ) -> Answer<ResultsPage<Silo>> {
        admitted(rqctx, |rqctx| silo::list(rqctx, query)).await
    }

    async fn silo_create(
        rqctx: Request,
        body: TypedBody<SiloCreate>,
    ) -> Created<Silo> {
        admitted(rqctx, |rqctx| silo::create(rqctx, body)).await
    }

    async fn silo_view(rqctx: Request, path: Path<SiloPath>) -> Answer<Silo> {
        admitted(rqctx, |rqctx| silo::view(rqctx, path)).await
    }

    async fn silo_delete(rqctx: Request, path: Path<SiloPath>) -> Deleted {
        admitted(rqctx, |rqctx| silo::delete(rqctx, path)).await
    }

    async fn silo_user_list(
        rqctx: Request,
        query: PagesById<OptionalSiloSelector>,
    ) -> Answer<ResultsPage<User>> {
        admitted(rqctx, |rqctx| user::list_of_silo(rqctx, query)).await
    }

    async fn silo_user_view(
        rqctx: Request,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
    ) -> Answer<User> {
        admitted(rqctx, |rqctx| user::view_of_silo(rqctx, path, query)).await
    }

    async fn local_idp_user_create(
        rqctx: Request,
        query: Query<SiloSelector>,
        body: TypedBody<UserCreate>,
    ) -> Created<User> {
        admitted(rqctx, |rqctx| user::create_local(rqctx, query, body)).await
    }

    async fn local_idp_user_delete(
        rqctx: Request,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| user::delete_local(rqctx, path, query)).await
    }

    async fn local_idp_user_set_password(
        rqctx: Request,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
        body: TypedBody<UserPassword>,
    ) -> Done {
        admitted(rqctx, |rqctx| {
            user::set_local_password(rqctx, path, query, body)
        })
        .await
    }

    async fn user_list(
        rqctx: Request,
        query: PagesById<UsersOf>,
    ) -> Answer<ResultsPage<User>> {
        admitted(rqctx, |rqctx| user::list(rqctx, query)).await
    }

    async fn user_view(rqctx: Request, path: Path<UserPath>) -> Answer<User> {
        admitted(rqctx, |rqctx| user::view_other(rqctx, path)).await
    }

    async fn user_token_list(
        rqctx: Request,
        path: Path<UserPath>,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<DeviceAccessToken>> {
        admitted(rqctx, |rqctx| user::tokens(rqctx, path, query)).await
    }

    async fn user_session_list(
        rqctx: Request,
        path: Path<UserPath>,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<ConsoleSession>> {
        admitted(rqctx, |rqctx| user::sessions(rqctx, path, query)).await
    }

    async fn user_logout(rqctx: Request, path: Path<UserPath>) -> Done {
        admitted(rqctx, |rqctx| user::logout(rqctx, path)).await
    }

    async fn auth_settings_view(rqctx: Request) -> Answer<SiloAuthSettings> {
        admitted(rqctx, silo::auth_settings_view).await
    }

    async fn auth_settings_update(
        rqctx: Request,
        body: TypedBody<SiloAuthSettingsUpdate>,
    ) -> Answer<SiloAuthSettings> {
        admitted(rqctx, |rqctx| silo::auth_settings_update(rqctx, body)).await
    }

    async fn current_user_access_token_list(
        rqctx: Request,
        query: PagesById<Everything>,
    ) -> Answer<ResultsPage<DeviceAccessToken>> {
        admitted(rqctx, |rqctx| user::own_tokens(rqctx, query)).await
    }

    async fn current_user_access_token_delete(
        rqctx: Request,
        path: Path<TokenPath>,
    ) -> Deleted {
        admitted(rqctx, |rqctx| user::delete_own_token(rqctx, path)).await
    }

    async fn login_local(
        rqctx: Request,
        path: Path<LoginPath>,
        body: TypedBody<UsernamePasswordCredentials>,
    ) -> Result<session::WithCookie, HttpError> {
        admitted(rqctx, |rqctx| session::login(rqctx, path, body)).await
    }

    async fn logout(rqctx: Request) -> Result<session::WithCookie, HttpError> {
        admitted(rqctx, session::logout).await
    }

    async fn device_auth_request(
        rqctx: Request,
        body: Form<DeviceAuthRequest>,
    ) -> Result<Response<Body>, HttpError> {
        device::oauth(rqctx, |rqctx| device::request(rqctx, body)).await
    }

    async fn device_access_token(
        rqctx: Request,
        body: Form<DeviceAccessTokenRequest>,
    ) -> Result<Response<Body>, HttpError> {
        device::oauth(rqctx, |rqctx| device::token(rqctx, body)).await
    }

    async fn device_auth_confirm(
        rqctx: Request,
        body: TypedBody<DeviceAuthVerify>,
    ) -> Done {
        admitted(rqctx, |rqctx| device::confirm(rqctx, body)).await
    }

    async fn policy_view(rqctx: Request) -> Answer<Policy<SiloRole>> {
        let of = PolicyOf::OwnSilo;
        admitted(rqctx, |rqctx| policy::view(rqctx, of)).await
    }

    async fn policy_update(
        rqctx: Request,
        body: TypedBody<Policy<SiloRole>>,
    ) -> Answer<Policy<SiloRole>> {
        let of = PolicyOf::OwnSilo;
        admitted(rqctx, |rqctx| policy::update(rqctx, of, body)).await
    }

    async fn project_policy_view(
        rqctx: Request,
        path: Path<ProjectPath>,
    ) -> Answer<Policy<ProjectRole>> {
        let of = PolicyOf::Project(path.into_inner().project);
        admitted(rqctx, |rqctx| policy::view(rqctx, of)).await
    }

    async fn project_policy_update(
        rqctx: Request,
        path: Path<ProjectPath>,
        body: TypedBody<Policy<ProjectRole>>,
    ) -> Answer<Policy<ProjectRole>> {
        let of = PolicyOf::Project(path.into_inner().project);
        admitted(rqctx, |rqctx| policy::update(rqctx, of, body)).await
    }

    async fn system_policy_view(rqctx: Request) -> Answer<Policy<FleetRole>> {
        let of = PolicyOf::Fleet;
        admitted(rqctx, |rqctx| policy::view(rqctx, of)).await
    }

    async fn system_policy_update(
        rqctx: Request,
        body: TypedBody<Policy<FleetRole>>,
    ) -> Answer<Policy<FleetRole>> {
        let of = PolicyOf::Fleet;
        admitted(rqctx, |rqctx| policy::update(rqctx, of, body)).await
    }

    async fn silo_policy_view(
        rqctx: Request,
        path: Path<SiloPath>,
    ) -> Answer<Policy<SiloRole>> {
        let of = PolicyOf::Silo(path.into_inner().silo);
        admitted(rqctx, |rqctx| policy::view(rqctx, of)).await
    }

    async fn silo_policy_update(
        rqctx: Request,
        path: Path<SiloPath>,
        body: TypedBody<Policy<SiloRole>>,
    ) -> Answer<Policy<SiloRole>> {
        let of = PolicyOf::Silo(path.into_inner().silo);
        admitted(rqctx, |rqctx| policy::update(rqctx, of, body)).await
    }
}
