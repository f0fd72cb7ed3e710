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
