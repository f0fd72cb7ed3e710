//! What a guest finds at its first boot: a small disk with which cloud-init's
//! data source NoCloud configures it.
//!
//! | file | says |
//! |---|---|
//! | `meta-data` | which instance it is, its name, who may log in |
//! | `user-data` | what its user gave, byte for byte |
//!
//! There is no `network-config`: without one cloud-init asks for an address by
//! DHCP on the first network card, and waits for none if there is no card.
//!
//! cloud-init does its work once for each instance id, so the same seed at each
//! boot is right.

mod fat;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::Utf8Path;
use serde::Serialize;
use sled_agent_client::VmmRegister;
use std::io;

/// By this name cloud-init finds the disk.
const LABEL: [u8; 11] = *b"CIDATA     ";

/// What cloud-init is told when the user has nothing to say: that this is a
/// configuration, and an empty one. The name and the keys are in the meta-data.
const NOTHING: &str = "#cloud-config\n";

/// JSON, which is YAML.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData<'a> {
    instance_id: String,
    local_hostname: &'a str,
    public_keys: &'a [String],
}

/// Writes the disk of this VMM: whole or not at all, over what is there. The
/// same VMM gets the same bytes.
///
/// *Errors*: the file cannot be written; or (`InvalidData`) the user data is no
/// base64, or all of it together is more than the disk holds.
pub(crate) fn write(path: &Utf8Path, spec: &VmmRegister) -> io::Result<()> {
    let image = image(spec)?;
    let half = path.with_extension("tmp");
    std::fs::write(&half, image)?;
    std::fs::rename(&half, path)
}

fn image(spec: &VmmRegister) -> io::Result<Vec<u8>> {
    let meta_data = serde_json::to_vec_pretty(&MetaData {
        instance_id: spec.instance_id.to_string(),
        local_hostname: &spec.hostname,
        public_keys: &spec.ssh_public_keys,
    })?;
    let mut user_data = BASE64
        .decode(&spec.user_data)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if user_data.is_empty() {
        user_data = NOTHING.into();
    }
    let files = [
        fat::File {
            name: "meta-data",
            alias: *b"META-D~1   ",
            bytes: &meta_data,
        },
        fat::File {
            name: "user-data",
            alias: *b"USER-D~1   ",
            bytes: &user_data,
        },
    ];
    fat::image(LABEL, &files)
}

#[cfg(test)]
mod tests;
