//! What `up` shows at the end: where it is, the token, and lines to paste.

use crate::manifest::Manifest;
use crate::say::say;
use crate::settings::Hypervisor;
use crate::stack::Stack;

const GIB: u64 = 1 << 30;
/// The largest instance that the API takes.
const MAX_NCPUS: u32 = 254;

pub(crate) fn show(stack: &Stack, manifest: &Manifest) {
    say(text(stack, manifest));
}

fn text(stack: &Stack, manifest: &Manifest) -> String {
    let settings = &stack.settings;
    let api = manifest.api.first().map_or("", String::as_str);
    let token = &manifest.token;
    let too_much = GIB * (u64::from(settings.sled_memory_gib) + 1);
    let first = instance("first", 2, 4 * GIB);
    let too_big = instance("toobig", MAX_NCPUS, too_much);
    let post = r#"curl -sw '\n' -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json'"#;
    let get = r#"curl -sw '\n' -H "Authorization: Bearer $TOKEN""#;
    format!(
        r#"
Nexus is up: {api}
Sleds:       {sleds}, each of {vcpus} vCPUs and {memory} GiB
Guests:      {guests}
Token:       {token}
Console:     user "admin" of silo "main"; its password is in {password}
Details:     {details}; logs in {logs}

To try it, paste these: a project, an instance, one too large for any sled,
and then what runs and why the other one does not.

API={api} TOKEN={token}
{post} $API/v1/projects -d '{{"name":"demo","description":"first steps"}}'
{post} "$API/v1/instances?project=demo" -d '{first}'
{post} "$API/v1/instances?project=demo" -d '{too_big}'
sleep 1; {get} "$API/v1/instances?project=demo" "$API/v1/start-failures?project=demo"
"#,
        password = stack.home.password(),
        sleds = settings.sleds,
        guests = match settings.hypervisor {
            Hypervisor::Simulated => "simulated",
            Hypervisor::Qemu => "real, with QEMU; all on this machine",
        },
        vcpus = settings.sled_vcpus,
        memory = settings.sled_memory_gib,
        details = stack.home.manifest(),
        logs = stack.home.logs(),
    )
}

fn instance(name: &str, ncpus: u32, memory: u64) -> String {
    format!(
        r#"{{"name":"{name}","description":"","hostname":"{name}","ncpus":{ncpus},"memory":{memory},"start":true}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_to_paste_are_json() {
        let body: serde_json::Value =
            serde_json::from_str(&instance("first", 2, 4 * GIB)).unwrap();
        assert_eq!(body.get("memory").unwrap(), 4_294_967_296_u64);
        assert_eq!(body.get("start").unwrap(), true);
    }
}
