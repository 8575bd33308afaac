//! Errors of the API server as a closed set of reasons (for metrics and decisions), and as one line of text.

use std::{error::Error, iter::successors};

/// Why a request to the API server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorReason {
    /// The object has changed since it was read.
    Conflict,
    /// The object, or its kind, does not exist.
    NotFound,
    /// The client lacks a permission, or is not authenticated.
    Forbidden,
    /// The object was refused as invalid.
    Invalid,
    /// The API server has too much to do.
    Overloaded,
    /// The API server does not answer.
    Unreachable,
    /// The answer could not be decoded.
    Undecodable,
    /// Anything else.
    Other,
}

impl ErrorReason {
    /// The value of the metric label `reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorReason::Conflict => "conflict",
            ErrorReason::NotFound => "not-found",
            ErrorReason::Forbidden => "forbidden",
            ErrorReason::Invalid => "invalid",
            ErrorReason::Overloaded => "overloaded",
            ErrorReason::Unreachable => "unreachable",
            ErrorReason::Undecodable => "undecodable",
            ErrorReason::Other => "other",
        }
    }
}

impl From<&kube::Error> for ErrorReason {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => ErrorReason::Conflict,
                404 | 410 => ErrorReason::NotFound,
                401 | 403 => ErrorReason::Forbidden,
                400 | 422 => ErrorReason::Invalid,
                429 | 503 | 504 => ErrorReason::Overloaded,
                _ => ErrorReason::Other,
            },
            kube::Error::SerdeError(_) => ErrorReason::Undecodable,
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                ErrorReason::Unreachable
            }
            _ => ErrorReason::Other,
        }
    }
}

impl From<&kube::runtime::watcher::Error> for ErrorReason {
    fn from(error: &kube::runtime::watcher::Error) -> Self {
        use kube::runtime::watcher::Error;
        match error {
            Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
                error.into()
            }
            Error::WatchError(status) if status.code == 410 => ErrorReason::NotFound,
            _ => ErrorReason::Other,
        }
    }
}

/// One line for a log: the message of the API server's answer if there is one, else the error with its [`causes`].
#[must_use]
pub fn brief(error: &(dyn Error + 'static)) -> String {
    let answer = chain(error).find_map(|error| match error.downcast_ref()? {
        kube::Error::Api(status) => Some(status.message.clone()),
        _ => None,
    });
    answer.unwrap_or_else(|| causes(error))
}

/// The error and its sources, joined by `: `. A source that the text already contains is left out: many errors include
/// their source in their own message.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        known if known.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use kube::{core::Status, runtime::watcher};
    use thiserror::Error as ThisError;

    use super::*;

    #[derive(Debug, ThisError)]
    #[error("{message}")]
    struct Link {
        message: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain_of(messages: &[&'static str]) -> Option<Box<Link>> {
        let (message, rest) = messages.split_first()?;
        Some(Box::new(Link { message, source: chain_of(rest) }))
    }

    #[test]
    fn a_cause_that_was_named_is_not_repeated() {
        let lines = |messages| causes(&*chain_of(messages).unwrap());
        assert_eq!(lines(&["no cluster", "connect", "refused"]), "no cluster: connect: refused");
        assert_eq!(lines(&["no cluster: not there", "not there", "os error 2"]), "no cluster: not there: os error 2");
    }

    #[test]
    fn the_brief_form_is_the_message_of_the_api_server() {
        let status = Status::failure("hosts is forbidden", "Forbidden").with_code(403);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()));
        assert_eq!(brief(&error), "hosts is forbidden");
        assert_eq!(brief(&*chain_of(&["connect", "refused"]).unwrap()), "connect: refused");
    }
}
