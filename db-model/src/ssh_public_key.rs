//! An SSH public key, as it stands in `id_….pub` and `authorized_keys`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::str::FromStr;

/// The longest line that is taken: an RSA key of 16,384 bits has 2,800
/// characters, and a comment may follow.
pub const MAX_SSH_PUBLIC_KEY_BYTES: usize = 8192;

/// The types of keys that guests may be expected to know, each with the number
/// of fields (RFC 4253, 5656, 8709, and OpenSSH's own) that a key of it has
/// after its type.
const TYPES: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// One line: the type, the key in base64, and a comment or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshPublicKey(String);

/// Why a text is no public key, in a sentence that does not repeat it: it may
/// be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshPublicKeyError {
    /// It was meant for nobody's eyes.
    #[error(
        "this is a private key, which nobody else may know: paste the public \
         one, of the file that ends in .pub. Whoever has seen a private key \
         can use it, so consider making another pair"
    )]
    Private,
    /// It is not one key.
    #[error(
        "a public key is one line, such as \"ssh-ed25519 AAAAC3Nza… comment\""
    )]
    NotOneLine,
    /// See [`MAX_SSH_PUBLIC_KEY_BYTES`].
    #[error("it is longer than {MAX_SSH_PUBLIC_KEY_BYTES} bytes")]
    TooLong,
    /// It begins with something else than a type.
    #[error("it must begin with the type of the key, one of {}", known_types())]
    UnknownType,
    /// The second word cannot be decoded, or says something else.
    #[error(
        "what follows the type is no key of that type in base64: a part of it \
         may be missing"
    )]
    Broken,
}

impl SshPublicKey {
    /// The line, without what was around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SshPublicKey {
    type Err = SshPublicKeyError;

    fn from_str(text: &str) -> Result<Self, SshPublicKeyError> {
        use SshPublicKeyError as Error;
        let line = text.trim();
        if line.contains("PRIVATE KEY") || line.starts_with("PuTTY-User-Key") {
            return Err(Error::Private);
        }
        if line.is_empty() || line.chars().any(char::is_control) {
            return Err(Error::NotOneLine);
        }
        if line.len() > MAX_SSH_PUBLIC_KEY_BYTES {
            return Err(Error::TooLong);
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let named = words.next().unwrap_or_default();
        let (name, fields) = TYPES
            .into_iter()
            .find(|(name, _)| *name == named)
            .ok_or(Error::UnknownType)?;
        let key = words.next().and_then(|word| BASE64.decode(word).ok());
        if key.is_some_and(|key| is_key(&key, name, fields)) {
            return Ok(Self(line.to_string()));
        }
        Err(Error::Broken)
    }
}

/// Whether these bytes are a type's name, and so many fields that are not
/// empty, and nothing more. Each is preceded by its length.
fn is_key(key: &[u8], name: &str, fields: usize) -> bool {
    let Some((inner, mut rest)) = field(key) else { return false };
    if inner != name.as_bytes() {
        return false;
    }
    for _ in 0..fields {
        match field(rest) {
            Some((value, after)) if !value.is_empty() => rest = after,
            Some(_) | None => return false,
        }
    }
    rest.is_empty()
}

/// The first field, and what comes after it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

fn known_types() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lS\
                           xYV4mA0TQzJm5l9Z3kq1mQyqzqkz3m1v";

    fn parse(text: &str) -> Result<String, SshPublicKeyError> {
        text.parse::<SshPublicKey>().map(|key| key.as_str().to_string())
    }

    /// A key of a type, of these fields.
    fn made(outer: &str, inner: &str, fields: &[&[u8]]) -> String {
        let mut bytes = Vec::new();
        for field in [inner.as_bytes()].iter().chain(fields) {
            let length = u32::try_from(field.len()).unwrap();
            bytes.extend(length.to_be_bytes());
            bytes.extend(*field);
        }
        format!("{outer} {}", BASE64.encode(bytes))
    }

    #[test]
    fn a_key_of_each_known_type_is_taken_as_its_line() {
        assert_eq!(parse(ED25519), Ok(ED25519.to_string()));
        for (name, fields) in TYPES {
            let key = made(name, name, &vec![&b"\x01\x02"[..]; fields]);
            assert_eq!(parse(&key), Ok(key.clone()), "{name}");
            let commented = format!("  {key} me@home, at night\r\n");
            assert_eq!(parse(&commented), Ok(commented.trim().to_string()));
        }
    }

    #[test]
    fn a_key_that_is_not_what_it_says_is_refused() {
        let ed = "ssh-ed25519";
        for broken in [
            ed.to_string(),
            format!("{ed} not-base64!"),
            ED25519[..ED25519.len() - 4].to_string(),
            made(ed, "ssh-rsa", &[b"1"]),
            made(ed, ed, &[]),
            made(ed, ed, &[b""]),
            made(ed, ed, &[b"1", b"2"]),
            made("ssh-rsa", "ssh-rsa", &[b"1"]),
        ] {
            let error = parse(&broken);
            assert_eq!(error, Err(SshPublicKeyError::Broken), "{broken}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_told_what_it_is() {
        use SshPublicKeyError::*;
        let begin = |kind| format!("-----BEGIN {kind}PRIVATE KEY-----\nb3Bl\n");
        let two = format!("{ED25519}\n{ED25519}");
        for (text, error) in [
            (begin("OPENSSH "), Private),
            (begin(""), Private),
            ("PuTTY-User-Key-File-3: ssh-ed25519".to_string(), Private),
            (String::new(), NotOneLine),
            (two, NotOneLine),
            (format!("{ED25519} a\tb"), NotOneLine),
            (format!("{ED25519} {}", "x".repeat(8192)), TooLong),
            (format!("no-pty {ED25519}"), UnknownType),
            ("ssh-dss AAAA".to_string(), UnknownType),
        ] {
            assert_eq!(parse(&text), Err(error), "{text}");
        }
        let message = UnknownType.to_string();
        assert!(message.contains("ssh-ed25519, ssh-rsa, "), "{message}");
    }
}
