//! The external API, whole.
//!
//! Where an operation exists in Oxide's API its path, parameters, bodies and
//! statuses are the same there, so that clients of the one work with the
//! other.

use dropshot::{
    Body, HttpError, HttpResponseAccepted, HttpResponseCreated,
    HttpResponseDeleted, HttpResponseHeaders, HttpResponseOk,
    HttpResponseUpdatedNoContent, RequestContext, ResultsPage,
    WebsocketEndpointResult,
};

use http::Response;

use super::audit_log::PagesByCompletion;
use super::extract::{Form, Header, Path, Query, TypedBody, Websocket};
use super::idempotency::Repeatable;
use super::pagination::{Everything, PagesById, PagesByNameOrId, PagesByTime};
use super::types::*;

/// What users may ask of Nexus.
///
/// Every operation but `ping`, `login_local`, `logout` and those by which a device
/// asks to be let in needs an access token, as a bearer token, or the cookie of a
/// console session (else 401). What the caller's silo does not own is not found
/// (404). What a browser asks by its cookie and changes something must be asked
/// from a page of this server's own (else 403).
#[dropshot::api_description {
    tag_config = {
        allow_other_tags = false,
        policy = dropshot::EndpointTagPolicy::ExactlyOne,
        tags = {
            "affinity" = {
                description = "Which instances share a host, and which do not"
            },
            "current-user" = { description = "Who is asking" },
            "disks" = { description = "What instances keep their data on" },
            "login" = { description = "Sessions of the console, and devices" },
            "images" = { description = "What disks may begin with" },
            "instances" = { description = "Virtual machines" },
            "metrics" = { description = "What was measured" },
            "networking" = { description = "How instances are reached" },
            "policy" = { description = "Who may what in the fleet" },
            "projects" = { description = "What instances are kept in" },
            "silos" = { description = "Tenants, as their users see them" },
            "snapshots" = { description = "What disks held" },
            "system/audit-log" = { description = "Who changed what" },
            "tokens" = { description = "By what programs show whose they are" },
            "system/hardware" = { description = "The fleet's hosts" },
            "system/silos" = { description = "Tenants, as operators see them" },
            "system/status" = { description = "Whether the API is there" },
        },
    },
}]
pub trait ExternalApi {
    /// What the implementation keeps.
    type Context;

    /// Ping the API
    #[endpoint {
        method = GET,
        path = "/v1/ping",
        tags = ["system/status"],
    }]
    async fn ping(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<Ping>, HttpError>;

    /// Fetch the user whose token this is
    #[endpoint {
        method = GET,
        path = "/v1/me",
        tags = ["current-user"],
    }]
    async fn current_user_view(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<CurrentUser>, HttpError>;

    /// List the caller's SSH keys
    #[endpoint {
        method = GET,
        path = "/v1/me/ssh-keys",
        tags = ["current-user"],
    }]
    async fn current_user_ssh_key_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<SshKey>>, HttpError>;

    /// Keep an SSH key of the caller's
    #[endpoint {
        method = POST,
        path = "/v1/me/ssh-keys",
        tags = ["current-user"],
    }]
    async fn current_user_ssh_key_create(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<SshKeyCreate>,
    ) -> Result<HttpResponseCreated<SshKey>, HttpError>;

    /// Fetch an SSH key of the caller's
    #[endpoint {
        method = GET,
        path = "/v1/me/ssh-keys/{ssh_key}",
        tags = ["current-user"],
    }]
    async fn current_user_ssh_key_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SshKeyPath>,
    ) -> Result<HttpResponseOk<SshKey>, HttpError>;

    /// Delete an SSH key of the caller's
    ///
    /// Instances that were given it have it no more. Guests that have booted
    /// with it are not changed.
    #[endpoint {
        method = DELETE,
        path = "/v1/me/ssh-keys/{ssh_key}",
        tags = ["current-user"],
    }]
    async fn current_user_ssh_key_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<SshKeyPath>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List projects
    #[endpoint {
        method = GET,
        path = "/v1/projects",
        tags = ["projects"],
    }]
    async fn project_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Project>>, HttpError>;

    /// Create a project
    #[endpoint {
        method = POST,
        path = "/v1/projects",
        tags = ["projects"],
    }]
    async fn project_create(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<ProjectCreate>,
    ) -> Result<HttpResponseCreated<Project>, HttpError>;

    /// Fetch a project
    #[endpoint {
        method = GET,
        path = "/v1/projects/{project}",
        tags = ["projects"],
    }]
    async fn project_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<ProjectPath>,
    ) -> Result<HttpResponseOk<Project>, HttpError>;

    /// Update a project
    #[endpoint {
        method = PUT,
        path = "/v1/projects/{project}",
        tags = ["projects"],
    }]
    async fn project_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<ProjectPath>,
        body: TypedBody<ProjectUpdate>,
    ) -> Result<HttpResponseOk<Project>, HttpError>;

    /// Delete a project
    ///
    /// It must be empty.
    #[endpoint {
        method = DELETE,
        path = "/v1/projects/{project}",
        tags = ["projects"],
    }]
    async fn project_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<ProjectPath>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List instances
    #[endpoint {
        method = GET,
        path = "/v1/instances",
        tags = ["instances"],
    }]
    async fn instance_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Instance>>, HttpError>;

    /// Create an instance
    ///
    /// Answers when the instance exists. Whether it could be started, if it
    /// was to be, shows in the instance later.
    #[endpoint {
        method = POST,
        path = "/v1/instances",
        tags = ["instances"],
    }]
    async fn instance_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        headers: Header<IdempotencyHeaders>,
        body: TypedBody<InstanceCreate>,
    ) -> Result<HttpResponseCreated<Repeatable<Instance>>, HttpError>;

    /// Fetch an instance
    ///
    /// At once, or when it has changed.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}",
        tags = ["instances"],
    }]
    async fn instance_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<InstanceViewParams>,
    ) -> Result<HttpResponseOk<Instance>, HttpError>;

    /// Update an instance
    ///
    /// Its size and its CPU platform change only while it does not run (else
    /// 409), all else at any time.
    #[endpoint {
        method = PUT,
        path = "/v1/instances/{instance}",
        tags = ["instances"],
    }]
    async fn instance_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<InstanceUpdate>,
    ) -> Result<HttpResponseOk<Instance>, HttpError>;

    /// Delete an instance
    ///
    /// It must be stopped or failed. It is gone, and its name free, at once.
    #[endpoint {
        method = DELETE,
        path = "/v1/instances/{instance}",
        tags = ["instances"],
    }]
    async fn instance_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// Start an instance
    ///
    /// Answers as soon as the wish cannot be lost any more. If the instance
    /// cannot be started, it says why (`start_failure`), and so does the
    /// attempt. Of one that runs or is being started nothing changes.
    #[endpoint {
        method = POST,
        path = "/v1/instances/{instance}/start",
        tags = ["instances"],
    }]
    async fn instance_start(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        headers: Header<IdempotencyHeaders>,
    ) -> Result<HttpResponseAccepted<Repeatable<Instance>>, HttpError>;

    /// Stop an instance
    ///
    /// Answers as soon as the wish cannot be lost any more. It overtakes a
    /// start that is under way.
    #[endpoint {
        method = POST,
        path = "/v1/instances/{instance}/stop",
        tags = ["instances"],
    }]
    async fn instance_stop(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseAccepted<Instance>, HttpError>;

    /// Reboot an instance
    ///
    /// Answers when its host has taken the order.
    #[endpoint {
        method = POST,
        path = "/v1/instances/{instance}/reboot",
        tags = ["instances"],
    }]
    async fn instance_reboot(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseAccepted<Instance>, HttpError>;

    /// List the SSH keys that an instance was given
    ///
    /// When it was made; without those that were deleted since.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/ssh-public-keys",
        tags = ["instances"],
    }]
    async fn instance_ssh_public_key_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<SshKey>>, HttpError>;

    /// Fetch a part of what an instance printed on its serial console
    ///
    /// In its last run, which may go on. Of a run that is over, too, for as
    /// long as its host keeps it (404 when it does not).
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/serial-console",
        tags = ["instances"],
    }]
    async fn instance_serial_console(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<InstanceSerialConsoleParams>,
    ) -> Result<HttpResponseOk<InstanceSerialConsoleData>, HttpError>;

    /// Stream an instance's serial console, and type on it
    ///
    /// A websocket, both ways in binary messages: what was printed in its last
    /// run, what is printed from now on, and what is typed. It ends with a
    /// normal close frame when the instance has stopped. A client that is slow
    /// misses what is overwritten meanwhile.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/serial-console/stream",
        tags = ["instances"],
    }]
    async fn instance_serial_console_stream(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<InstanceSerialConsoleStreamParams>,
        websocket: Websocket,
    ) -> WebsocketEndpointResult;

    /// Ask whether an instance would start now
    ///
    /// Says why not, and what would help, as the start itself would. Reserves
    /// nothing. Of one that runs it says whether it would start again.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/placement",
        tags = ["instances"],
    }]
    async fn instance_placement_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<PlacementCheck>, HttpError>;

    /// Ask whether an instance would start, if it were made now
    ///
    /// Takes what `instance_create` takes, and refuses what that refuses but for
    /// a name that is taken. Says why the instance would not start, and what
    /// would help, as its start would. Makes and reserves nothing.
    #[endpoint {
        method = POST,
        path = "/v1/placement/check",
        tags = ["instances"],
    }]
    async fn placement_check(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<InstanceCreate>,
    ) -> Result<HttpResponseOk<PlacementCheck>, HttpError>;

    /// List the attempts to start an instance
    ///
    /// The newest first. The history of a deleted instance is found by its id.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/start-attempts",
        tags = ["instances"],
    }]
    async fn instance_start_attempt_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: PagesByTime<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<StartAttempt>>, HttpError>;

    /// Fetch an attempt to start an instance
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/start-attempts/{attempt}",
        tags = ["instances"],
    }]
    async fn instance_start_attempt_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<StartAttemptPath>,
        query: Query<StartAttemptViewParams>,
    ) -> Result<HttpResponseOk<StartAttempt>, HttpError>;

    /// List the instances that should run and do not
    ///
    /// As it is now, with the reason of each.
    #[endpoint {
        method = GET,
        path = "/v1/start-failures",
        tags = ["instances"],
    }]
    async fn start_failure_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<InstanceNotRunning>>, HttpError>;

    /// List anti-affinity groups
    #[endpoint {
        method = GET,
        path = "/v1/anti-affinity-groups",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError>;

    /// Create an anti-affinity group
    #[endpoint {
        method = POST,
        path = "/v1/anti-affinity-groups",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<AffinityGroupCreate>,
    ) -> Result<HttpResponseCreated<AffinityGroup>, HttpError>;

    /// Fetch an anti-affinity group
    #[endpoint {
        method = GET,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<AffinityGroup>, HttpError>;

    /// Update an anti-affinity group
    #[endpoint {
        method = PUT,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<AffinityGroupUpdate>,
    ) -> Result<HttpResponseOk<AffinityGroup>, HttpError>;

    /// Delete an anti-affinity group
    ///
    /// Its members stay as they are.
    #[endpoint {
        method = DELETE,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List the members of an anti-affinity group
    #[endpoint {
        method = GET,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}/members",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_member_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupPath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroupMember>>, HttpError>;

    /// Fetch a member of an anti-affinity group
    #[endpoint {
        method = GET,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_member_instance_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<AffinityGroupMember>, HttpError>;

    /// Add an instance to an anti-affinity group
    ///
    /// It must be of the same project, and be stopped or failed.
    #[endpoint {
        method = POST,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_member_instance_add(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseCreated<AffinityGroupMember>, HttpError>;

    /// Remove an instance from an anti-affinity group
    ///
    /// Whatever it does.
    #[endpoint {
        method = DELETE,
        path = "/v1/anti-affinity-groups/{anti_affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn anti_affinity_group_member_instance_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<AntiAffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List affinity groups
    #[endpoint {
        method = GET,
        path = "/v1/affinity-groups",
        tags = ["affinity"],
    }]
    async fn affinity_group_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError>;

    /// Create an affinity group
    #[endpoint {
        method = POST,
        path = "/v1/affinity-groups",
        tags = ["affinity"],
    }]
    async fn affinity_group_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<AffinityGroupCreate>,
    ) -> Result<HttpResponseCreated<AffinityGroup>, HttpError>;

    /// Fetch an affinity group
    #[endpoint {
        method = GET,
        path = "/v1/affinity-groups/{affinity_group}",
        tags = ["affinity"],
    }]
    async fn affinity_group_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<AffinityGroup>, HttpError>;

    /// Update an affinity group
    #[endpoint {
        method = PUT,
        path = "/v1/affinity-groups/{affinity_group}",
        tags = ["affinity"],
    }]
    async fn affinity_group_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<AffinityGroupUpdate>,
    ) -> Result<HttpResponseOk<AffinityGroup>, HttpError>;

    /// Delete an affinity group
    ///
    /// Its members stay as they are.
    #[endpoint {
        method = DELETE,
        path = "/v1/affinity-groups/{affinity_group}",
        tags = ["affinity"],
    }]
    async fn affinity_group_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List the members of an affinity group
    #[endpoint {
        method = GET,
        path = "/v1/affinity-groups/{affinity_group}/members",
        tags = ["affinity"],
    }]
    async fn affinity_group_member_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupPath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroupMember>>, HttpError>;

    /// Fetch a member of an affinity group
    #[endpoint {
        method = GET,
        path = "/v1/affinity-groups/{affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn affinity_group_member_instance_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<AffinityGroupMember>, HttpError>;

    /// Add an instance to an affinity group
    ///
    /// It must be of the same project, and be stopped or failed.
    #[endpoint {
        method = POST,
        path = "/v1/affinity-groups/{affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn affinity_group_member_instance_add(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseCreated<AffinityGroupMember>, HttpError>;

    /// Remove an instance from an affinity group
    ///
    /// Whatever it does.
    #[endpoint {
        method = DELETE,
        path = "/v1/affinity-groups/{affinity_group}/members/instance/{instance}",
        tags = ["affinity"],
    }]
    async fn affinity_group_member_instance_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<AffinityGroupMemberPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List the anti-affinity groups that an instance is in
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/anti-affinity-groups",
        tags = ["instances"],
    }]
    async fn instance_anti_affinity_group_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError>;

    /// List the affinity groups that an instance is in
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/affinity-groups",
        tags = ["instances"],
    }]
    async fn instance_affinity_group_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError>;

    /// List disks
    #[endpoint {
        method = GET,
        path = "/v1/disks",
        tags = ["disks"],
    }]
    async fn disk_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Disk>>, HttpError>;

    /// Create a disk
    ///
    /// A local one takes no room yet: that is found when an instance with it is
    /// first started. If making the contents of a distributed one takes long, the
    /// answer is a disk that is `creating` still.
    #[endpoint {
        method = POST,
        path = "/v1/disks",
        tags = ["disks"],
    }]
    async fn disk_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<DiskCreate>,
    ) -> Result<HttpResponseCreated<Disk>, HttpError>;

    /// Fetch a disk
    #[endpoint {
        method = GET,
        path = "/v1/disks/{disk}",
        tags = ["disks"],
    }]
    async fn disk_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<Disk>, HttpError>;

    /// Delete a disk
    ///
    /// It must be detached. What is on it is gone, and its room is free.
    #[endpoint {
        method = DELETE,
        path = "/v1/disks/{disk}",
        tags = ["disks"],
    }]
    async fn disk_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// Let a disk's contents be sent
    ///
    /// The disk must be `import_ready`.
    #[endpoint {
        method = POST,
        path = "/v1/disks/{disk}/bulk-write-start",
        tags = ["disks"],
    }]
    async fn disk_bulk_write_import_start(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Send a part of a disk's contents
    ///
    /// In any order, any number of times, several at once. What is not sent
    /// reads as zeroes. It is durable when this answers.
    #[endpoint {
        method = POST,
        path = "/v1/disks/{disk}/bulk-write",
        tags = ["disks"],
        request_body_max_bytes = CHUNK_BODY_MAX_BYTES,
    }]
    async fn disk_bulk_write_import(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<ImportBlocksBulkWrite>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Let no more of a disk's contents be sent
    #[endpoint {
        method = POST,
        path = "/v1/disks/{disk}/bulk-write-stop",
        tags = ["disks"],
    }]
    async fn disk_bulk_write_import_stop(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Take what was sent for all of a disk's contents
    ///
    /// From then on it can be attached. If that takes long, it is `finalizing`
    /// for a while.
    #[endpoint {
        method = POST,
        path = "/v1/disks/{disk}/finalize",
        tags = ["disks"],
    }]
    async fn disk_finalize_import(
        rqctx: RequestContext<Self::Context>,
        path: Path<DiskPath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<FinalizeDisk>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// List snapshots
    #[endpoint {
        method = GET,
        path = "/v1/snapshots",
        tags = ["snapshots"],
    }]
    async fn snapshot_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Snapshot>>, HttpError>;

    /// Create a snapshot
    ///
    /// Of a disk that nobody writes to. If copying it takes long, the answer is
    /// a snapshot that is `creating` still.
    #[endpoint {
        method = POST,
        path = "/v1/snapshots",
        tags = ["snapshots"],
    }]
    async fn snapshot_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<SnapshotCreate>,
    ) -> Result<HttpResponseCreated<Snapshot>, HttpError>;

    /// Fetch a snapshot
    #[endpoint {
        method = GET,
        path = "/v1/snapshots/{snapshot}",
        tags = ["snapshots"],
    }]
    async fn snapshot_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SnapshotPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<Snapshot>, HttpError>;

    /// Delete a snapshot
    ///
    /// Disks and images that were made from it stay.
    #[endpoint {
        method = DELETE,
        path = "/v1/snapshots/{snapshot}",
        tags = ["snapshots"],
    }]
    async fn snapshot_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<SnapshotPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List images
    ///
    /// Those of a project; with none named, the silo's own, which all its
    /// projects see.
    #[endpoint {
        method = GET,
        path = "/v1/images",
        tags = ["images"],
    }]
    async fn image_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Image>>, HttpError>;

    /// Create an image
    ///
    /// In a project; with none named, as the silo's own.
    #[endpoint {
        method = POST,
        path = "/v1/images",
        tags = ["images"],
    }]
    async fn image_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<ImageCreate>,
    ) -> Result<HttpResponseCreated<Image>, HttpError>;

    /// Fetch an image
    #[endpoint {
        method = GET,
        path = "/v1/images/{image}",
        tags = ["images"],
    }]
    async fn image_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<Image>, HttpError>;

    /// Delete an image
    ///
    /// Disks that were made from it stay.
    #[endpoint {
        method = DELETE,
        path = "/v1/images/{image}",
        tags = ["images"],
    }]
    async fn image_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// Make a project's image the silo's own
    #[endpoint {
        method = POST,
        path = "/v1/images/{image}/promote",
        tags = ["images"],
    }]
    async fn image_promote(
        rqctx: RequestContext<Self::Context>,
        path: Path<ImagePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseAccepted<Image>, HttpError>;

    /// Make the silo's image a project's own
    #[endpoint {
        method = POST,
        path = "/v1/images/{image}/demote",
        tags = ["images"],
    }]
    async fn image_demote(
        rqctx: RequestContext<Self::Context>,
        path: Path<ImagePath>,
        query: Query<ProjectSelector>,
    ) -> Result<HttpResponseAccepted<Image>, HttpError>;

    /// List the disks of an instance
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/disks",
        tags = ["instances"],
    }]
    async fn instance_disk_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: PagesByNameOrId<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Disk>>, HttpError>;

    /// Attach a disk to an instance
    ///
    /// The instance must be at rest, and the disk be of its project and
    /// attached to no other. A failed instance is tried again with it.
    #[endpoint {
        method = POST,
        path = "/v1/instances/{instance}/disks/attach",
        tags = ["instances"],
    }]
    async fn instance_disk_attach(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<DiskPath>,
    ) -> Result<HttpResponseAccepted<Disk>, HttpError>;

    /// Detach a disk from an instance
    ///
    /// The instance must be at rest. What is on the disk stays, and stays where
    /// it is. A failed instance is tried again without it.
    #[endpoint {
        method = POST,
        path = "/v1/instances/{instance}/disks/detach",
        tags = ["instances"],
    }]
    async fn instance_disk_detach(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
        body: TypedBody<DiskPath>,
    ) -> Result<HttpResponseAccepted<Disk>, HttpError>;

    /// List what was changed, and what was refused
    ///
    /// By the time of completion. An entry appears ten seconds after it, so
    /// that a time that lies back further is complete. Needs fleet viewer.
    #[endpoint {
        method = GET,
        path = "/v1/system/audit-log",
        tags = ["system/audit-log"],
    }]
    async fn audit_log_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByCompletion,
    ) -> Result<HttpResponseOk<ResultsPage<AuditLogEntry>>, HttpError>;

    /// List sleds
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/sleds",
        tags = ["system/hardware"],
    }]
    async fn sled_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Sled>>, HttpError>;

    /// Fetch a sled
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/sleds/{sled_id}",
        tags = ["system/hardware"],
    }]
    async fn sled_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
    ) -> Result<HttpResponseOk<Sled>, HttpError>;

    /// List the instances on a sled
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/sleds/{sled_id}/instances",
        tags = ["system/hardware"],
    }]
    async fn sled_instance_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<SledInstance>>, HttpError>;

    /// Say whether new instances may be placed on a sled
    ///
    /// What runs there stays.
    #[endpoint {
        method = PUT,
        path = "/v1/system/hardware/sleds/{sled_id}/provision-policy",
        tags = ["system/hardware"],
    }]
    async fn sled_set_provision_policy(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        body: TypedBody<SledProvisionPolicyParams>,
    ) -> Result<HttpResponseOk<SledProvisionPolicyResponse>, HttpError>;

    /// Fetch what the caller's silo may have and has
    #[endpoint {
        method = GET,
        path = "/v1/utilization",
        tags = ["silos"],
    }]
    async fn utilization_view(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<Utilization>, HttpError>;

    /// List what silos may have
    #[endpoint {
        method = GET,
        path = "/v1/system/silo-quotas",
        tags = ["system/silos"],
    }]
    async fn system_quotas_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<SiloQuotas>>, HttpError>;

    /// Fetch what a silo may have
    #[endpoint {
        method = GET,
        path = "/v1/system/silos/{silo}/quotas",
        tags = ["system/silos"],
    }]
    async fn silo_quotas_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
    ) -> Result<HttpResponseOk<SiloQuotas>, HttpError>;

    /// Say what a silo may have
    ///
    /// What is not named stays as it is. A limit may be set below what the silo
    /// has: that stays, and nothing more starts.
    #[endpoint {
        method = PUT,
        path = "/v1/system/silos/{silo}/quotas",
        tags = ["system/silos"],
    }]
    async fn silo_quotas_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
        body: TypedBody<SiloQuotasUpdate>,
    ) -> Result<HttpResponseOk<SiloQuotas>, HttpError>;

    /// List what silos may have and have
    #[endpoint {
        method = GET,
        path = "/v1/system/utilization/silos",
        tags = ["system/silos"],
    }]
    async fn silo_utilization_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<SiloUtilization>>, HttpError>;

    /// Fetch what a silo may have and has
    #[endpoint {
        method = GET,
        path = "/v1/system/utilization/silos/{silo}",
        tags = ["system/silos"],
    }]
    async fn silo_utilization_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
    ) -> Result<HttpResponseOk<SiloUtilization>, HttpError>;

    // What this server has none of, but for the rack.

    /// List the groups of the user whose token this is
    ///
    /// There are no groups yet.
    #[endpoint {
        method = GET,
        path = "/v1/me/groups",
        tags = ["current-user"],
    }]
    async fn current_user_groups(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Group>>, HttpError>;

    /// List groups of users
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/groups",
        tags = ["silos"],
    }]
    async fn group_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Group>>, HttpError>;

    /// Fetch a group of users
    ///
    /// There is none yet.
    #[endpoint {
        method = GET,
        path = "/v1/groups/{group_id}",
        tags = ["silos"],
    }]
    async fn group_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<GroupPath>,
    ) -> Result<HttpResponseOk<Group>, HttpError>;

    /// List the identity providers of a silo
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/system/identity-providers",
        tags = ["system/silos"],
    }]
    async fn silo_identity_provider_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<OptionalSiloSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<IdentityProvider>>, HttpError>;

    /// List an instance's external addresses
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/external-ips",
        tags = ["instances"],
    }]
    async fn instance_external_ip_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<ExternalIp>>, HttpError>;

    /// List an instance's external subnets
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/instances/{instance}/external-subnets",
        tags = ["instances"],
    }]
    async fn instance_external_subnet_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<InstancePath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<ExternalSubnet>>, HttpError>;

    /// List an instance's network interfaces
    ///
    /// None is shown yet: the one that an instance has is in no VPC, which is what
    /// an interface is told by.
    #[endpoint {
        method = GET,
        path = "/v1/network-interfaces",
        tags = ["instances"],
    }]
    async fn instance_network_interface_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<InterfacesOf>,
    ) -> Result<HttpResponseOk<ResultsPage<InstanceNetworkInterface>>, HttpError>;

    /// Fetch a network interface
    ///
    /// None is shown yet.
    #[endpoint {
        method = GET,
        path = "/v1/network-interfaces/{interface}",
        tags = ["instances"],
    }]
    async fn instance_network_interface_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<InterfacePath>,
        query: Query<OptionalInstanceSelector>,
    ) -> Result<HttpResponseOk<InstanceNetworkInterface>, HttpError>;

    /// List external subnets
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/external-subnets",
        tags = ["networking"],
    }]
    async fn external_subnet_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<ExternalSubnet>>, HttpError>;

    /// List floating addresses
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/floating-ips",
        tags = ["networking"],
    }]
    async fn floating_ip_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<FloatingIp>>, HttpError>;

    /// List pools of addresses
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/ip-pools",
        tags = ["networking"],
    }]
    async fn ip_pool_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<PoolsOf>,
    ) -> Result<HttpResponseOk<ResultsPage<SiloIpPool>>, HttpError>;

    /// Fetch a pool of addresses
    ///
    /// There is none yet.
    #[endpoint {
        method = GET,
        path = "/v1/ip-pools/{pool}",
        tags = ["networking"],
    }]
    async fn ip_pool_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<PoolPath>,
    ) -> Result<HttpResponseOk<SiloIpPool>, HttpError>;

    /// List the pools of addresses of a silo
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/system/silos/{silo}/ip-pools",
        tags = ["system/silos"],
    }]
    async fn silo_ip_pool_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
        query: PagesByNameOrId<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<SiloIpPool>>, HttpError>;

    /// List VPCs
    ///
    /// There are none yet.
    #[endpoint {
        method = GET,
        path = "/v1/vpcs",
        tags = ["networking"],
    }]
    async fn vpc_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<ProjectSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Vpc>>, HttpError>;

    /// Fetch a VPC
    ///
    /// There is none yet.
    #[endpoint {
        method = GET,
        path = "/v1/vpcs/{vpc}",
        tags = ["networking"],
    }]
    async fn vpc_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<VpcPath>,
        query: Query<OptionalProjectSelector>,
    ) -> Result<HttpResponseOk<Vpc>, HttpError>;

    /// List the subnets of a VPC
    ///
    /// There are none yet, and no VPC that they could be in.
    #[endpoint {
        method = GET,
        path = "/v1/vpc-subnets",
        tags = ["networking"],
    }]
    async fn vpc_subnet_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<OptionalVpcSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<VpcSubnet>>, HttpError>;

    /// Fetch a subnet
    ///
    /// There is none yet.
    #[endpoint {
        method = GET,
        path = "/v1/vpc-subnets/{subnet}",
        tags = ["networking"],
    }]
    async fn vpc_subnet_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SubnetPath>,
        query: Query<OptionalVpcSelector>,
    ) -> Result<HttpResponseOk<VpcSubnet>, HttpError>;

    /// Ask what was measured in a project
    ///
    /// Nothing is yet: the table of what was asked for is empty.
    #[endpoint {
        method = POST,
        path = "/v1/timeseries/query",
        tags = ["metrics"],
    }]
    async fn timeseries_query(
        rqctx: RequestContext<Self::Context>,
        query: Query<ProjectSelector>,
        body: TypedBody<TimeseriesQuery>,
    ) -> Result<HttpResponseOk<OxqlQueryResult>, HttpError>;

    /// Read what was measured in the caller's silo
    ///
    /// Nothing is yet.
    #[endpoint {
        method = GET,
        path = "/v1/metrics/{metric_name}",
        tags = ["metrics"],
    }]
    async fn silo_metric(
        rqctx: RequestContext<Self::Context>,
        path: Path<MetricPath>,
        query: PagesById<SiloMetricSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Measurement>>, HttpError>;

    /// Read what was measured in the fleet
    ///
    /// Nothing is yet.
    #[endpoint {
        method = GET,
        path = "/v1/system/metrics/{metric_name}",
        tags = ["metrics"],
    }]
    async fn system_metric(
        rqctx: RequestContext<Self::Context>,
        path: Path<MetricPath>,
        query: PagesById<SystemMetricSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<Measurement>>, HttpError>;

    /// List what is measured
    ///
    /// Nothing is yet.
    #[endpoint {
        method = GET,
        path = "/v1/system/timeseries/schemas",
        tags = ["metrics"],
    }]
    async fn system_timeseries_schema_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<TimeseriesSchema>>, HttpError>;

    /// List racks
    ///
    /// There is one.
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/racks",
        tags = ["system/hardware"],
    }]
    async fn rack_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Rack>>, HttpError>;

    /// Fetch a rack
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/racks/{rack_id}",
        tags = ["system/hardware"],
    }]
    async fn rack_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<RackPath>,
    ) -> Result<HttpResponseOk<Rack>, HttpError>;

    /// List the sleds that are not in use yet
    ///
    /// A sled that registers is in use, so there are none.
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/sleds-uninitialized",
        tags = ["system/hardware"],
    }]
    async fn sled_list_uninitialized(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<UninitializedSled>>, HttpError>;

    /// List physical disks
    ///
    /// Sleds tell how much room their disks have, and not which they are: so
    /// none.
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/disks",
        tags = ["system/hardware"],
    }]
    async fn physical_disk_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<PhysicalDisk>>, HttpError>;

    /// Fetch a physical disk
    ///
    /// None is known.
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/disks/{disk_id}",
        tags = ["system/hardware"],
    }]
    async fn physical_disk_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<PhysicalDiskPath>,
    ) -> Result<HttpResponseOk<PhysicalDisk>, HttpError>;

    /// List the physical disks of a sled
    ///
    /// None is known.
    #[endpoint {
        method = GET,
        path = "/v1/system/hardware/sleds/{sled_id}/disks",
        tags = ["system/hardware"],
    }]
    async fn sled_physical_disk_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<PhysicalDisk>>, HttpError>;

    /// List silos
    #[endpoint {
        method = GET,
        path = "/v1/system/silos",
        tags = ["system/silos"],
    }]
    async fn silo_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesByNameOrId<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<Silo>>, HttpError>;

    /// Create a silo
    ///
    /// Nobody is in it yet: make users for it.
    #[endpoint {
        method = POST,
        path = "/v1/system/silos",
        tags = ["system/silos"],
    }]
    async fn silo_create(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<SiloCreate>,
    ) -> Result<HttpResponseCreated<Silo>, HttpError>;

    /// Fetch a silo
    #[endpoint {
        method = GET,
        path = "/v1/system/silos/{silo}",
        tags = ["system/silos"],
    }]
    async fn silo_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
    ) -> Result<HttpResponseOk<Silo>, HttpError>;

    /// Delete a silo
    ///
    /// One without projects and images. Its users, their tokens and sessions go
    /// with it.
    #[endpoint {
        method = DELETE,
        path = "/v1/system/silos/{silo}",
        tags = ["system/silos"],
    }]
    async fn silo_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// List the users of a silo
    ///
    /// Or of all silos.
    #[endpoint {
        method = GET,
        path = "/v1/system/users",
        tags = ["system/silos"],
    }]
    async fn silo_user_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<OptionalSiloSelector>,
    ) -> Result<HttpResponseOk<ResultsPage<User>>, HttpError>;

    /// Fetch a user of a silo
    #[endpoint {
        method = GET,
        path = "/v1/system/users/{user_id}",
        tags = ["system/silos"],
    }]
    async fn silo_user_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
    ) -> Result<HttpResponseOk<User>, HttpError>;

    /// Create a user
    ///
    /// It has no role yet.
    #[endpoint {
        method = POST,
        path = "/v1/system/identity-providers/local/users",
        tags = ["system/silos"],
    }]
    async fn local_idp_user_create(
        rqctx: RequestContext<Self::Context>,
        query: Query<SiloSelector>,
        body: TypedBody<UserCreate>,
    ) -> Result<HttpResponseCreated<User>, HttpError>;

    /// Delete a user
    ///
    /// Its tokens, sessions and roles go with it; what it made stays.
    #[endpoint {
        method = DELETE,
        path = "/v1/system/identity-providers/local/users/{user_id}",
        tags = ["system/silos"],
    }]
    async fn local_idp_user_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// Set a user's password, or take it away
    ///
    /// Ends the user's sessions. Its tokens stay.
    #[endpoint {
        method = POST,
        path = "/v1/system/identity-providers/local/users/{user_id}/set-password",
        tags = ["system/silos"],
    }]
    async fn local_idp_user_set_password(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
        query: Query<SiloSelector>,
        body: TypedBody<UserPassword>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// List the users of the caller's silo
    #[endpoint {
        method = GET,
        path = "/v1/users",
        tags = ["silos"],
    }]
    async fn user_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<UsersOf>,
    ) -> Result<HttpResponseOk<ResultsPage<User>>, HttpError>;

    /// Fetch a user of the caller's silo
    #[endpoint {
        method = GET,
        path = "/v1/users/{user_id}",
        tags = ["silos"],
    }]
    async fn user_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
    ) -> Result<HttpResponseOk<User>, HttpError>;

    /// List a user's access tokens
    #[endpoint {
        method = GET,
        path = "/v1/users/{user_id}/access-tokens",
        tags = ["silos"],
    }]
    async fn user_token_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<DeviceAccessToken>>, HttpError>;

    /// List a user's console sessions
    #[endpoint {
        method = GET,
        path = "/v1/users/{user_id}/sessions",
        tags = ["silos"],
    }]
    async fn user_session_list(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<ConsoleSession>>, HttpError>;

    /// Log a user out
    ///
    /// Ends its console sessions, and deletes its access tokens.
    #[endpoint {
        method = POST,
        path = "/v1/users/{user_id}/logout",
        tags = ["silos"],
    }]
    async fn user_logout(
        rqctx: RequestContext<Self::Context>,
        path: Path<UserPath>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Fetch how the users of the caller's silo show who they are
    #[endpoint {
        method = GET,
        path = "/v1/auth-settings",
        tags = ["silos"],
    }]
    async fn auth_settings_view(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<SiloAuthSettings>, HttpError>;

    /// Change how the users of the caller's silo show who they are
    #[endpoint {
        method = PUT,
        path = "/v1/auth-settings",
        tags = ["silos"],
    }]
    async fn auth_settings_update(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<SiloAuthSettingsUpdate>,
    ) -> Result<HttpResponseOk<SiloAuthSettings>, HttpError>;

    /// List the caller's access tokens
    #[endpoint {
        method = GET,
        path = "/v1/me/access-tokens",
        tags = ["tokens"],
    }]
    async fn current_user_access_token_list(
        rqctx: RequestContext<Self::Context>,
        query: PagesById<Everything>,
    ) -> Result<HttpResponseOk<ResultsPage<DeviceAccessToken>>, HttpError>;

    /// Delete an access token of the caller's
    ///
    /// From the answer on it is good for nothing.
    #[endpoint {
        method = DELETE,
        path = "/v1/me/access-tokens/{token_id}",
        tags = ["tokens"],
    }]
    async fn current_user_access_token_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<TokenPath>,
    ) -> Result<HttpResponseDeleted, HttpError>;

    /// Log in to the console
    ///
    /// 401 if the name or the password is wrong; 429 if it was guessed too often.
    #[endpoint {
        method = POST,
        path = "/v1/login/{silo_name}/local",
        tags = ["login"],
    }]
    async fn login_local(
        rqctx: RequestContext<Self::Context>,
        path: Path<LoginPath>,
        body: TypedBody<UsernamePasswordCredentials>,
    ) -> Result<
        HttpResponseHeaders<HttpResponseUpdatedNoContent, SetCookie>,
        HttpError,
    >;

    /// Log out of the console
    ///
    /// Whether or not one was logged in.
    #[endpoint {
        method = POST,
        path = "/v1/logout",
        tags = ["login"],
    }]
    async fn logout(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<
        HttpResponseHeaders<HttpResponseUpdatedNoContent, SetCookie>,
        HttpError,
    >;

    /// Ask for a device to be let in (RFC 8628)
    ///
    /// Answers two codes: one for the device, and one for its user to type on
    /// the page `/device/verify` of this server. They are good for ten minutes.
    #[endpoint {
        method = POST,
        path = "/device/auth",
        tags = ["login"],
        content_type = "application/x-www-form-urlencoded",
    }]
    async fn device_auth_request(
        rqctx: RequestContext<Self::Context>,
        body: Form<DeviceAuthRequest>,
    ) -> Result<Response<Body>, HttpError>;

    /// Ask for the token of a device that was let in (RFC 8628)
    ///
    /// To be asked every five seconds, until the answer is a token or an `error`
    /// other than `authorization_pending` and `slow_down`. There is one token for
    /// a device. If the answer was lost, it is given again within a minute.
    #[endpoint {
        method = POST,
        path = "/device/token",
        tags = ["login"],
        content_type = "application/x-www-form-urlencoded",
    }]
    async fn device_access_token(
        rqctx: RequestContext<Self::Context>,
        body: Form<DeviceAccessTokenRequest>,
    ) -> Result<Response<Body>, HttpError>;

    /// Let a device in, as the caller
    ///
    /// The device's token is the caller's, and never good for longer than the
    /// token, if it is one, by which this is asked.
    #[endpoint {
        method = POST,
        path = "/device/confirm",
        tags = ["login"],
    }]
    async fn device_auth_confirm(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<DeviceAuthVerify>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Fetch who has which role on the caller's silo
    #[endpoint {
        method = GET,
        path = "/v1/policy",
        tags = ["silos"],
    }]
    async fn policy_view(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<Policy<SiloRole>>, HttpError>;

    /// Replace who has which role on the caller's silo
    #[endpoint {
        method = PUT,
        path = "/v1/policy",
        tags = ["silos"],
    }]
    async fn policy_update(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<Policy<SiloRole>>,
    ) -> Result<HttpResponseOk<Policy<SiloRole>>, HttpError>;

    /// Fetch who has which role on a project
    #[endpoint {
        method = GET,
        path = "/v1/projects/{project}/policy",
        tags = ["projects"],
    }]
    async fn project_policy_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<ProjectPath>,
    ) -> Result<HttpResponseOk<Policy<ProjectRole>>, HttpError>;

    /// Replace who has which role on a project
    #[endpoint {
        method = PUT,
        path = "/v1/projects/{project}/policy",
        tags = ["projects"],
    }]
    async fn project_policy_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<ProjectPath>,
        body: TypedBody<Policy<ProjectRole>>,
    ) -> Result<HttpResponseOk<Policy<ProjectRole>>, HttpError>;

    /// Fetch who has which role on the fleet
    #[endpoint {
        method = GET,
        path = "/v1/system/policy",
        tags = ["policy"],
    }]
    async fn system_policy_view(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<Policy<FleetRole>>, HttpError>;

    /// Replace who has which role on the fleet
    ///
    /// At least one user must be an admin.
    #[endpoint {
        method = PUT,
        path = "/v1/system/policy",
        tags = ["policy"],
    }]
    async fn system_policy_update(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<Policy<FleetRole>>,
    ) -> Result<HttpResponseOk<Policy<FleetRole>>, HttpError>;

    /// Fetch who has which role on a silo
    #[endpoint {
        method = GET,
        path = "/v1/system/silos/{silo}/policy",
        tags = ["system/silos"],
    }]
    async fn silo_policy_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
    ) -> Result<HttpResponseOk<Policy<SiloRole>>, HttpError>;

    /// Replace who has which role on a silo
    #[endpoint {
        method = PUT,
        path = "/v1/system/silos/{silo}/policy",
        tags = ["system/silos"],
    }]
    async fn silo_policy_update(
        rqctx: RequestContext<Self::Context>,
        path: Path<SiloPath>,
        body: TypedBody<Policy<SiloRole>>,
    ) -> Result<HttpResponseOk<Policy<SiloRole>>, HttpError>;
}
