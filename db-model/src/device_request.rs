//! Devices that want to log in (RFC 8628), and the codes by which users tell
//! them apart.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};
use uuid::Uuid;

use crate::schema::device_auth_request;
use crate::{DeviceRequestId, SiloUserId};

/// A device that wants to log in. Without `Debug`, so that its id, which goes
/// into its token, is in no log.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = device_auth_request)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct DeviceRequest {
    pub id: DeviceRequestId,
    pub client_id: Uuid,
    pub device_code_hash: String,
    pub user_code: String,
    pub ttl_secs: Option<i64>,
    pub time_created: DateTime<Utc>,
    pub time_expires: DateTime<Utc>,
    pub time_last_polled: Option<DateTime<Utc>>,
    pub silo_user_id: Option<SiloUserId>,
    pub time_confirmed: Option<DateTime<Utc>>,
    pub token_expires_by: Option<DateTime<Utc>>,
    pub time_denied: Option<DateTime<Utc>>,
    pub time_used: Option<DateTime<Utc>>,
}

/// What a user types to say which device is meant: eight letters in two groups,
/// as in `WDJB-MJHT`.
///
/// No vowels, so that it is no word; no letter that looks like a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserCode(String);

/// The letters of a code: 20^8 of them are hard to guess in ten minutes.
const LETTERS: [char; 20] = [
    'B', 'C', 'D', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S',
    'T', 'V', 'W', 'X', 'Z',
];

/// How many letters.
const LENGTH: usize = 8;

/// It is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code has eight letters, as in WDJB-MJHT, and no vowels among them")]
pub struct NoUserCode;

impl UserCode {
    /// A code made of random bytes, of which each letter uses one or more;
    /// `None` if they do not suffice.
    pub fn from_random(bytes: &[u8]) -> Option<UserCode> {
        // The letters must be equally likely: what is beyond the last multiple
        // of their number is thrown away.
        let letters: String = bytes
            .iter()
            .filter(|byte| **byte < 240)
            .filter_map(|byte| LETTERS.get(usize::from(*byte) % LETTERS.len()))
            .take(LENGTH)
            .collect();
        UserCode::of_letters(&letters)
    }

    fn of_letters(letters: &str) -> Option<UserCode> {
        let (first, second) = letters.split_at_checked(LENGTH / 2)?;
        (second.len() == LENGTH / 2)
            .then(|| UserCode(format!("{first}-{second}")))
    }

    /// As it is kept and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// However it is typed: small letters, without the dash, with spaces.
impl FromStr for UserCode {
    type Err = NoUserCode;

    fn from_str(text: &str) -> Result<UserCode, NoUserCode> {
        let mut letters = String::new();
        for c in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let c = c.to_ascii_uppercase();
            if !LETTERS.contains(&c) || letters.len() == LENGTH {
                return Err(NoUserCode);
            }
            letters.push(c);
        }
        UserCode::of_letters(&letters).ok_or(NoUserCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        for text in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "W-D-J-BMJHT"] {
            let code: UserCode = text.parse().expect(text);
            assert_eq!(code.as_str(), "WDJB-MJHT");
        }
        for text in
            ["", "WDJB-MJH", "WDJB-MJHTT", "WDJB-MJHA", "WDJB-MJH0", "ẞ"]
        {
            assert_eq!(text.parse::<UserCode>(), Err(NoUserCode), "{text}");
        }
    }

    #[test]
    fn a_code_is_made_of_random_bytes_and_each_letter_is_as_likely() {
        let code = UserCode::from_random(&[0, 19, 20, 255, 39, 1, 2, 3, 4])
            .expect("enough");
        assert_eq!(code.as_str(), "BZBZ-CDFG");
        assert_eq!(code.as_str().parse(), Ok(code));
        assert_eq!(UserCode::from_random(&[240; 64]), None);
        assert_eq!(UserCode::from_random(&[1; 7]), None);
        assert_eq!(240 % LETTERS.len(), 0);
    }
}
