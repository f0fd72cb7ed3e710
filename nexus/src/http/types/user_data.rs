//! What a user gives the guest of a new instance for its first boot.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::Error;

/// As much as is taken, before it is put in base64.
const USER_DATA_MAX_BYTES: usize = 32 << 10;

/// Refuses what is no base64, or too much.
pub(super) fn check_user_data(base64: &str) -> Result<(), Error> {
    let refused = |why: String| Err(Error::invalid_value("user_data", why));
    match BASE64.decode(base64) {
        Ok(data) if data.len() <= USER_DATA_MAX_BYTES => Ok(()),
        Ok(data) => refused(format!(
            "{} bytes are too many: at most {USER_DATA_MAX_BYTES}",
            data.len(),
        )),
        Err(error) => refused(format!(
            "it must be base64 (with + and /, and padded), and is not: {error}",
        )),
    }
}
