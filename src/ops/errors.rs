//! Errors of the API server as a closed set of words, for metrics and for what to do next.

/// Why a request to the API server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorReason {
    /// The object has changed since it was read.
    Conflict,
    /// The object, or its kind, does not exist.
    NotFound,
    /// A permission is missing.
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
    /// The word, as metrics carry it.
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

/// What the API server says, without the whole of its answer: one line for a log.
#[must_use]
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
