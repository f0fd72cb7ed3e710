//! What can go wrong with a request: the choices that its caller has.
//!
//! Each variant's text is for whoever made the request. What only an operator
//! may read is a source, and a source is never part of the text.

use std::error::Error as StdError;

use db_model::NameOrId;

/// Any error, to be logged and not to be branched on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why Nexus did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody known asks: show a valid token.
    #[error("credentials missing or invalid")]
    Unauthenticated,

    /// Somebody shows a password, and it is not right: try another.
    #[error("user name or password wrong")]
    WrongPassword,

    /// It was asked too often: wait.
    #[error("{message}")]
    TooManyRequests {
        /// What was asked too often.
        message: String,
        /// When it makes sense to ask again.
        retry_after_secs: u32,
    },

    /// Somebody known asks, and may not.
    #[error("not allowed to {action}: one must be {needs}")]
    Forbidden {
        /// What was asked, as in "not allowed to list sleds".
        action: &'static str,
        /// Who may, as in "viewer of the fleet".
        needs: &'static str,
    },

    /// Another site's page had the caller's browser ask: ask oneself.
    #[error(
        "this request comes from another site's page, so it was not done: a \
         browser may ask for changes only from this server's own pages"
    )]
    CrossSite,

    /// There is no such thing, or the caller may not know of it.
    #[error("not found: {kind} with {lookup}")]
    NotFound {
        /// What was looked for, as in "instance".
        kind: &'static str,
        /// By what it was looked for, as in `name "db-1"`.
        lookup: String,
    },

    /// What is asked of a thing that is there, is not.
    #[error("{message}")]
    NotThere {
        /// What is not there, and why.
        message: String,
    },

    /// The name is taken: choose another.
    #[error("already exists: {kind} \"{name}\"")]
    AlreadyExists {
        /// What bears the name.
        kind: &'static str,
        /// The name.
        name: String,
    },

    /// The request as a whole makes no sense, now or ever.
    #[error("{message}")]
    InvalidRequest {
        /// What is wrong and what would be right.
        message: String,
    },

    /// One value of the request is not acceptable: change it.
    #[error("{field}: {message}")]
    InvalidValue {
        /// Where it stands in the request.
        field: &'static str,
        /// The value and what would be right.
        message: String,
    },

    /// It contradicts what is going on: wait for that to end, or end it.
    #[error("{message}")]
    Conflict {
        /// What is in the way.
        message: String,
    },

    /// It is known what is asked, and we do not do it.
    #[error(
        "{operation} is not implemented: this server does not have what it is \
         about"
    )]
    NotImplemented {
        /// As Oxide's API calls it, as in "vpc_create".
        operation: String,
    },

    /// It cannot be done for the moment: ask again later.
    #[error("{message}")]
    Unavailable {
        /// What cannot be reached, in words that give nothing away.
        message: String,
        /// When it makes sense to ask again.
        retry_after_secs: u32,
        /// Why, for the log.
        #[source]
        source: Option<BoxError>,
    },

    /// We are at fault.
    #[error("internal error")]
    Internal {
        /// Why, for the log.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// There is no `kind` with this name or id.
    pub fn not_found(kind: &'static str, which: &NameOrId) -> Self {
        let lookup = match which {
            NameOrId::Id(id) => format!("id \"{id}\""),
            NameOrId::Name(name) => format!("name \"{name}\""),
        };
        Self::NotFound { kind, lookup }
    }

    /// The value of `field` is not acceptable.
    pub fn invalid_value(
        field: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::InvalidValue { field, message: message.into() }
    }

    /// We are at fault, and `source` says how.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal { source: source.into() }
    }
}

/// An error and all its sources, for the log, outermost first.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use db_model::Name;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_not_found_is_named_as_it_was_asked_for() {
        let name = "db-1".parse::<Name>().expect("a name");
        assert_eq!(
            Error::not_found("instance", &name.into()).to_string(),
            "not found: instance with name \"db-1\"",
        );
        assert_eq!(
            Error::not_found("sled", &Uuid::nil().into()).to_string(),
            "not found: sled with id \"00000000-0000-0000-0000-000000000000\"",
        );
    }

    #[test]
    fn a_source_is_in_the_chain_and_not_in_the_text() {
        let source = Error::Unavailable {
            message: "the database cannot be reached".to_owned(),
            retry_after_secs: 1,
            source: Some("10.0.0.1 refused".into()),
        };
        assert_eq!(source.to_string(), "the database cannot be reached");
        assert_eq!(
            chain(&Error::internal(source)),
            "internal error: the database cannot be reached: 10.0.0.1 refused",
        );
    }
}
