//! Whether everything answers: each Nexus, each sled-agent, and Nexus about
//! its sleds.

use crate::failure::{Failure, Result};
use crate::http;
use crate::process::Process;
use crate::stack::Stack;

/// What is not ready yet, and in whose log to look.
pub(crate) struct Lack {
    pub(crate) process: Process,
    pub(crate) what: String,
}

/// # Errors
/// When waiting cannot help.
pub(crate) fn lack(
    stack: &Stack,
    token: &str,
) -> Result<std::result::Result<(), Lack>> {
    let ports = stack.settings.ports()?;
    for (i, process) in (0..).zip(&stack.nexus) {
        let ping = http::get(ports.nexus_external(i), "/v1/ping", None);
        if ping.is_none_or(|answer| answer.status != 200) {
            let what = format!("{} does not answer", process.name);
            return Ok(Err(Lack { process: process.clone(), what }));
        }
    }
    for (j, process) in (0..).zip(&stack.sled_agents) {
        if !http::listens(ports.sled(j)) {
            let what = format!("{} does not listen", process.name);
            return Ok(Err(Lack { process: process.clone(), what }));
        }
    }
    let Some(nexus) = stack.nexus.first() else { return Ok(Ok(())) };
    let path = "/v1/system/hardware/sleds?limit=1000";
    let answer = http::get(ports.nexus_external(0), path, Some(token));
    let what = match answer {
        Some(answer) if answer.status == 200 => {
            let sleds = count_items(&answer.body);
            if sleds >= usize::from(stack.settings.sleds) {
                return Ok(Ok(()));
            }
            format!("{sleds} of {} sleds registered", stack.settings.sleds)
        }
        Some(answer) if answer.status == 401 => {
            return Err(Failure::new(format!(
                "Nexus does not take the token in {} any more. Remove that \
                 file, and the next `up` makes a new one.",
                stack.home.token()
            )));
        }
        Some(answer) => {
            format!("Nexus answers {} to {path}", answer.status)
        }
        None => format!("Nexus does not answer {path}"),
    };
    Ok(Err(Lack { process: nexus.clone(), what }))
}

fn count_items(body: &str) -> usize {
    serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|page| Some(page.get("items")?.as_array()?.len()))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleds_are_counted_in_a_page() {
        assert_eq!(count_items(r#"{"items":[{},{}],"next_page":null}"#), 2);
        assert_eq!(count_items("nonsense"), 0);
    }
}
