//! What a user sees of an instance's state: computed here, stored nowhere.

use crate::{
    Instance, InstanceState, InstanceView, IntendedState, Vmm, VmmState,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of an instance as its users see it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It is being made.
    Creating,
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It does not run, as asked.
    Stopped,
    /// Its guest is being reset.
    Rebooting,
    /// It is moving between hosts.
    Migrating,
    /// It should run and does not.
    Failed,
    /// It is gone.
    Destroyed,
}

impl InstanceView {
    /// The state that a user sees.
    pub fn run_state(&self) -> RunState {
        run_state(&self.instance, self.vmm.as_ref())
    }
}

/// The state that a user sees of `instance`, whose linked VMM is `vmm`.
pub fn run_state(instance: &Instance, vmm: Option<&Vmm>) -> RunState {
    let wanted = match instance.intended_state {
        IntendedState::Running => true,
        IntendedState::Stopped
        | IntendedState::GuestShutdown
        | IntendedState::Destroyed => false,
    };
    let pending = instance.pending_start_attempt_id.is_some();
    match (instance.state, vmm.map(|v| v.state)) {
        (InstanceState::Creating, _) => RunState::Creating,
        (InstanceState::Destroyed, _) => RunState::Destroyed,
        (_, None) if instance.time_deleted.is_some() => RunState::Destroyed,
        (_, None) if pending => RunState::Starting,
        (_, None) if wanted => RunState::Failed,
        (_, None) => RunState::Stopped,
        (_, Some(_)) if !wanted => RunState::Stopping,
        (_, Some(VmmState::Creating | VmmState::Starting)) => {
            RunState::Starting
        }
        (_, Some(VmmState::Running)) => RunState::Running,
        (_, Some(VmmState::Rebooting)) => RunState::Rebooting,
        (_, Some(VmmState::Migrating)) => RunState::Migrating,
        (_, Some(VmmState::Stopping | VmmState::Stopped)) => RunState::Stopping,
        // Ended, and to be started again as soon as it is unlinked.
        (
            _,
            Some(VmmState::Failed | VmmState::Destroyed | VmmState::Abandoned),
        ) if pending => RunState::Starting,
        (
            _,
            Some(VmmState::Failed | VmmState::Destroyed | VmmState::Abandoned),
        ) => RunState::Stopping,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::requests;
    use crate::{
        ByteCount, InstanceId, NewInstance, ProjectId, SiloUserId, SledId,
        StartAttemptId, VcpuCount, VmmId,
    };
    use IntendedState::{Destroyed, GuestShutdown, Running, Stopped};
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(1);

    /// All that `run_state` looks at.
    fn instance(
        state: InstanceState,
        intended_state: IntendedState,
        pending: bool,
        deleted: bool,
    ) -> Instance {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let new = NewInstance {
            boot_disk: None,
            name: "db".parse().unwrap(),
            description: String::new(),
            hostname: "db".parse().unwrap(),
            ncpus: VcpuCount::new(2),
            memory: ByteCount::GIB,
            user_data: String::new(),
            ssh_public_keys: None,
            network_interfaces: serde_json::Value::Null,
            auto_restart_policy: None,
            cpu_platform: None,
            anti_affinity_groups: Vec::new(),
            disks: Vec::new(),
            start: true,
        };
        let (id, project) = (InstanceId(ID), ProjectId(ID));
        let attempt = Some((StartAttemptId(ID), SiloUserId(ID)));
        let (row, _) = requests::create(&new, id, project, attempt, now);
        Instance {
            state,
            intended_state,
            pending_start_attempt_id: row
                .pending_start_attempt_id
                .filter(|_| pending),
            time_deleted: deleted.then_some(now),
            ..row
        }
    }

    fn vmm(state: VmmState) -> Vmm {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let (id, sled) = (VmmId(ID), SledId(ID));
        let attempt = StartAttemptId(ID);
        let vmm = Vmm::new(id, InstanceId(ID), sled, attempt, now);
        Vmm { state, ..vmm }
    }

    #[test]
    fn what_a_user_sees_follows_from_the_intent_the_attempt_and_the_vmm() {
        use RunState as See;
        let table = [
            // The linked VMM; what is seen of an instance that is wanted,
            // with an attempt pending, not wanted.
            (None, See::Failed, See::Starting, See::Stopped),
            (
                Some(VmmState::Creating),
                See::Starting,
                See::Starting,
                See::Stopping,
            ),
            (
                Some(VmmState::Starting),
                See::Starting,
                See::Starting,
                See::Stopping,
            ),
            (
                Some(VmmState::Running),
                See::Running,
                See::Running,
                See::Stopping,
            ),
            (
                Some(VmmState::Rebooting),
                See::Rebooting,
                See::Rebooting,
                See::Stopping,
            ),
            (
                Some(VmmState::Migrating),
                See::Migrating,
                See::Migrating,
                See::Stopping,
            ),
            (
                Some(VmmState::Stopping),
                See::Stopping,
                See::Stopping,
                See::Stopping,
            ),
            (
                Some(VmmState::Stopped),
                See::Stopping,
                See::Stopping,
                See::Stopping,
            ),
            // Ended, and not yet unlinked.
            (
                Some(VmmState::Failed),
                See::Stopping,
                See::Starting,
                See::Stopping,
            ),
            (
                Some(VmmState::Destroyed),
                See::Stopping,
                See::Starting,
                See::Stopping,
            ),
            (
                Some(VmmState::Abandoned),
                See::Stopping,
                See::Starting,
                See::Stopping,
            ),
        ];
        assert_eq!(table.len(), 1 + VmmState::ALL.len());
        for (state, wanted, pending, unwanted) in table {
            let linked = state.map(vmm);
            let at = match linked {
                Some(_) => InstanceState::Vmm,
                None => InstanceState::NoVmm,
            };
            let see = |intent, attempt| {
                let row = instance(at, intent, attempt, false);
                run_state(&row, linked.as_ref())
            };
            assert_eq!(see(Running, false), wanted, "{state:?}, wanted");
            assert_eq!(see(Running, true), pending, "{state:?}, pending");
            for intent in [Stopped, GuestShutdown, Destroyed] {
                assert_eq!(see(intent, false), unwanted, "{state:?}, {intent}");
            }
        }
    }

    #[test]
    fn what_is_being_made_or_is_gone_shows_as_that_whatever_else_holds() {
        let vmms: Vec<Option<Vmm>> = VmmState::ALL
            .iter()
            .map(|state| Some(vmm(*state)))
            .chain([None])
            .collect();
        for intent in IntendedState::ALL {
            for pending in [false, true] {
                for linked in &vmms {
                    for (state, seen) in [
                        (InstanceState::Creating, RunState::Creating),
                        (InstanceState::Destroyed, RunState::Destroyed),
                    ] {
                        for deleted in [false, true] {
                            let row =
                                instance(state, *intent, pending, deleted);
                            assert_eq!(run_state(&row, linked.as_ref()), seen);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_deleted_is_gone_at_once() {
        for state in [InstanceState::NoVmm, InstanceState::Failed] {
            let row = instance(state, Destroyed, false, true);
            assert_eq!(run_state(&row, None), RunState::Destroyed);
        }
    }

    #[test]
    fn failed_is_a_state_of_its_own_and_says_that_it_should_run() {
        let row = instance(InstanceState::Failed, Running, false, false);
        assert_eq!(run_state(&row, None), RunState::Failed);
    }
}
