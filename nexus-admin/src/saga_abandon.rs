//! `saga abandon`: nobody runs it any more, and the reconciler goes on from
//! what it leaves.

use crate::confirm::confirm;
use crate::database::Database;
use crate::failure::Failure;
use crate::report::Report;
use crate::saga::{in_a_word, read};
use crate::words::{set_in, when};
use db_model::{InstanceId, SagaId};
use db_queries::{Error, SagaRecord};
use nexus::saga::Saga;
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::instance_delete::InstanceDelete;
use nexus::saga::instance_start::InstanceStart;
use nexus::saga::instance_update::InstanceUpdate;
use serde::Serialize;

/// What `saga abandon` answers.
#[derive(Serialize)]
pub(crate) struct Abandoned {
    id: SagaId,
    name: String,
    instance_id: InstanceId,
    follows: &'static str,
}

/// Abandons a saga, once it is confirmed by its name.
pub(crate) async fn abandon(
    database: &Database,
    id: SagaId,
    yes: bool,
) -> Result<Abandoned, Failure> {
    let SagaRecord { saga, lease, now, .. } = read(database, id).await?;
    if let Some(ended) = saga.time_ended {
        return Err(Failure::failed(format!(
            "saga {id} is {} since {}: there is nothing to abandon",
            saga.state,
            when(ended, now)
        )));
    }
    let runner = in_a_word(lease.map(|lease| lease.state(now)));
    let follows = follows(&saga.name);
    let about = format!(
        "Saga {id} ({}, {}, of instance {}) is to be abandoned. Its runner's \
         lease: {runner}.\nThis says that it will not end by itself. It goes \
         no further, neither forward nor back, whoever runs it: the next thing \
         that it would write is refused. Then {follows}.\n",
        saga.name, saga.state, saga.instance_id,
    );
    confirm(&about, "name", &saga.name, yes)?;
    match database.datastore.saga_abandon(id).await {
        Ok(()) => Ok(Abandoned {
            id,
            name: saga.name,
            instance_id: saga.instance_id,
            follows,
        }),
        Err(Error::NotFound) => Err(Failure::failed(format!(
            "saga {id} has ended in the meantime: there is nothing to abandon"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// What the reconciler makes of what such a saga leaves.
fn follows(name: &str) -> &'static str {
    match name {
        InstanceCreate::NAME => {
            "the instance is deleted, as if its creation had failed"
        }
        InstanceStart::NAME => {
            "its attempt fails as `internal`, unless its VMM was told to run \
             and comes up; what is left at the sled is unregistered; and the \
             instance is started again if its restart policy allows it"
        }
        InstanceUpdate::NAME => {
            "another instance_update parts the instance from its ended VMM"
        }
        InstanceDelete::NAME => "another instance_delete cleans up after it",
        _ => "its instance is looked at",
    }
}

impl Report for Abandoned {
    fn text(&self) -> String {
        let text = format!(
            "Saga {} is abandoned. What follows, as soon as a Nexus lives: \
             {}.\n`nexus-admin instance show {}` shows it.",
            self.id, self.follows, self.instance_id
        );
        set_in(&text, 0)
    }
}
